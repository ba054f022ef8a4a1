//! A closed loop: so many calls in flight, each followed by the next.

use std::{
    error::Error,
    future::Future,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{cpu::Used, servers::Servers};

/// Before each cell, calls run until this is over: connections, caches and branch predictors are warm then.
const WARM_UP: Duration = Duration::from_millis(500);

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// What is measured. What it takes to ask is made before; only the asking is timed.
pub(crate) trait Operation: Send + Sync + 'static {
    type Request: Send + 'static;

    /// Makes requests, each good for one call.
    fn prepare(self: &Arc<Self>, count: usize) -> impl Future<Output = Vec<Self::Request>> + Send;

    /// One call, of the worker of this number. What is not allowed is a failure.
    fn call(
        &self,
        worker: usize,
        request: Self::Request,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What a cell came to.
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    /// Of each call, the shortest first.
    latencies: Vec<Duration>,
    pub(crate) used: Used,
    /// Of the servers, at the end.
    pub(crate) memory_mib: Option<f64>,
}

impl Measured {
    pub(crate) fn new(
        elapsed: Duration,
        mut latencies: Vec<Duration>,
        used: Used,
        memory_mib: Option<f64>,
    ) -> Self {
        latencies.sort_unstable();
        Self {
            elapsed,
            latencies,
            used,
            memory_mib,
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.latencies.len()
    }

    pub(crate) fn rate(&self) -> f64 {
        self.calls() as f64 / self.elapsed.as_secs_f64()
    }

    /// Which latency this many of a hundred calls did not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        self.latencies[(self.calls() * percent).div_ceil(100).max(1) - 1]
    }

    /// Of all the cores' time.
    pub(crate) fn others_percent(&self) -> f64 {
        let cores = thread::available_parallelism().unwrap().get();
        100.0 * self.used.others().as_secs_f64() / self.elapsed.as_secs_f64() / cores as f64
    }
}

/// Warms up, prepares as much as the rate of the warm-up asks for and half as much again, and measures.
pub(crate) async fn measure<O: Operation>(
    operation: &Arc<O>,
    in_flight: usize,
    longest: Duration,
    servers: &Servers,
) -> Measured {
    let begin = Instant::now();
    let mut count = 16 * in_flight;
    loop {
        let requests = operation.prepare(count).await;
        let warm = run(operation, in_flight, requests, WARM_UP, servers).await;
        count = suffices(&warm, WARM_UP).max(in_flight);
        if begin.elapsed() > WARM_UP {
            count = suffices(&warm, longest);
            break;
        }
    }
    let requests = operation.prepare(count.max(in_flight)).await;
    eprint!("measuring … ");
    run(operation, in_flight, requests, longest, servers).await
}

/// How many requests it takes to last so long.
fn suffices(warm: &Measured, longest: Duration) -> usize {
    let count = warm.calls() as u128 * longest.as_micros() * 3 / (warm.elapsed.as_micros() * 2);
    usize::try_from(count).unwrap()
}

/// Ends when the time is over or the requests are, whichever is first.
async fn run<O: Operation>(
    operation: &Arc<O>,
    in_flight: usize,
    requests: Vec<O::Request>,
    longest: Duration,
    servers: &Servers,
) -> Measured {
    let requests = Arc::new(Mutex::new(requests.into_iter()));
    let mut workers = JoinSet::new();
    let before = Used::now(servers);
    let begin = Instant::now();
    for worker in 0..in_flight {
        let (operation, requests) = (Arc::clone(operation), Arc::clone(&requests));
        workers.spawn(async move {
            let mut latencies = Vec::new();
            while begin.elapsed() < longest {
                let Some(request) = requests.lock().unwrap().next() else {
                    break;
                };
                let sent = Instant::now();
                operation.call(worker, request).await?;
                latencies.push(sent.elapsed());
            }
            Ok::<_, Failure>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(worker) = workers.join_next().await {
        latencies.extend(worker.unwrap().unwrap());
    }
    let elapsed = begin.elapsed();
    let used = Used::now(servers).since(before);
    Measured::new(elapsed, latencies, used, servers.memory_mib())
}
