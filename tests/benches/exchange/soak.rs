//! A day's mix for long: memory stays as it is, and nothing piles up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use amanat_tests::{collector::Collector, pause};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::{
    bench::{MANY, verify},
    load::{Failure, Operation},
    operation::{
        Verb as _,
        audit_query::AuditQuery,
        evaluate::Evaluate,
        list::{List, Referrals, Versions},
        read::Read,
        release::ReadAndRelease,
        submit::Submit,
    },
    report::{Grown, Soak},
    servers::{postgres_private_mib, resident_mib},
    stage::{Engine, Stage},
};

const CASES: usize = 1_000;
/// Between two looks at the memory; shorter for a soak that has few of them.
const LOOK: Duration = Duration::from_secs(10);
const FEWEST_LOOKS: u32 = 30;
/// How often one call may find a server unreachable: a connection that is an hour old is closed, and made anew.
const ATTEMPTS: usize = 5;

/// What is asked, over and over.
struct Mix {
    read: Read,
    both: Arc<ReadAndRelease>,
    submit: Submit,
    evaluate: Arc<Evaluate>,
    referrals: Arc<List<Referrals>>,
    versions: Arc<List<Versions>>,
    audit: Arc<AuditQuery>,
    calls: AtomicU64,
    again: AtomicU64,
}

pub(crate) async fn soak(engine: Engine, minutes: f64, connections: usize) -> Soak {
    let collector = Collector::default();
    let otlp = collector.serve().await;
    let mut stage = Arc::new(Stage::set(engine, connections, |_, config| {
        let telemetry = config["telemetry"].as_table_mut().unwrap();
        telemetry.insert("otlp".to_owned(), otlp.as_str().into());
        telemetry.insert("sample_ratio".to_owned(), 0.0.into());
        telemetry.insert("export_s".to_owned(), 5.into());
    }));
    stage.load(CASES).await;
    let length = Duration::from_secs_f64(minutes * 60.0);
    eprintln!("{}, {minutes} min", engine.of("soak"));
    let mix = Arc::new(Mix::of(&stage).await);
    let begin = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..MANY {
        let mix = Arc::clone(&mix);
        workers.spawn(async move { mix.work(worker, begin, length).await });
    }
    let servers = look(&stage, begin, length).await;
    for worker in workers.join_all().await {
        worker.unwrap();
    }
    let lasted = begin.elapsed();
    let (calls, again) = (&mix.calls, &mix.again);
    let (calls, again) = (calls.load(Ordering::Relaxed), again.load(Ordering::Relaxed));
    let collected = collector.collected();
    let most_waiting = ["amanat-gateway", "amanat-custodian"].map(|service| {
        let points = collected.points.iter();
        let waiting =
            points.filter(|point| point.service == service && point.metric == "amanat.log.waiting");
        waiting.map(|point| point.value).fold(0.0, f64::max)
    });
    verify(&stage).await;
    Soak {
        name: engine.of("soak"),
        minutes,
        calls,
        again,
        rate: calls as f64 / lasted.as_secs_f64(),
        most_waiting,
        servers,
    }
}

/// At each server's memory, until the end.
async fn look(stage: &Stage, begin: Instant, length: Duration) -> Vec<Grown> {
    let id = |server: &amanat_tests::Process| server.id().unwrap();
    let (gateway, custodian) = (id(&stage.running.gateway), id(&stage.running.custodian));
    let mut servers = vec![Grown::new("gateway"), Grown::new("custodian")];
    if stage.postmaster().is_some() {
        servers.push(Grown::new("PostgreSQL, not shared"));
    }
    let mut looks = tokio::time::interval(LOOK.min(length / FEWEST_LOOKS));
    while begin.elapsed() < length {
        looks.tick().await;
        let engine = stage.postmaster().map(postgres_private_mib);
        let mib = [resident_mib(gateway), resident_mib(custodian)];
        for (server, mib) in servers.iter_mut().zip(mib.into_iter().chain(engine)) {
            server.samples_mib.push(mib);
        }
    }
    servers
}

impl Mix {
    async fn of(stage: &Arc<Stage>) -> Self {
        let on = || Arc::clone(stage);
        Self {
            read: Read::new(on()),
            both: Arc::new(ReadAndRelease::on(on()).await),
            submit: Submit::new(on()),
            evaluate: Arc::new(Evaluate::on(on()).await),
            referrals: Arc::new(List::on(on()).await),
            versions: Arc::new(List::on(on()).await),
            audit: Arc::new(AuditQuery::on(on()).await),
            calls: AtomicU64::new(0),
            again: AtomicU64::new(0),
        }
    }

    async fn work(&self, worker: usize, begin: Instant, length: Duration) -> Result<(), Failure> {
        for turn in worker.. {
            if begin.elapsed() > length {
                break;
            }
            let mut attempts = 1;
            while let Err(failure) = self.turn(worker, turn).await {
                let status = failure.downcast_ref::<Status>();
                let is_away = status.is_some_and(|status| status.code() == Code::Unavailable);
                if !is_away || attempts == ATTEMPTS {
                    return Err(failure);
                }
                attempts += 1;
                self.again.fetch_add(1, Ordering::Relaxed);
                pause().await;
            }
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Of sixteen: what is read and opened, what is handed in, what is looked for.
    async fn turn(&self, worker: usize, turn: usize) -> Result<(), Failure> {
        match turn % 16 {
            0..8 => {
                let request = self.read.request(self.read.take(1).start);
                self.both.call(worker, request).await
            }
            8..12 => {
                let request = self.submit.deposited(worker).await?;
                self.submit.ask(worker, request).await.map(drop)
            }
            12 => one(&self.referrals, worker).await,
            13 => one(&self.versions, worker).await,
            14 => {
                let request = self.audit.requests(1).await?.remove(0);
                self.audit.call(worker, request).await
            }
            _ => one(&self.evaluate, worker).await,
        }
    }
}

async fn one<O: Operation>(operation: &Arc<O>, worker: usize) -> Result<(), Failure> {
    let mut requests = operation.prepare(1).await;
    operation.call(worker, requests.remove(0)).await
}
