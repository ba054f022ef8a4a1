//! CPU time, as the kernel counts it.

use std::{fs, time::Duration};

/// The kernel shows times in hundredths of a second, whatever its own clock (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// What processes have used until now, and what the machine has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// `None` if there are none.
    pub(crate) servers: Option<Duration>,
    pub(crate) client: Duration,
    machine: Duration,
}

impl Used {
    pub(crate) fn now(servers: &[u32]) -> Self {
        let of = |process: &str| of_process(&format!("/proc/{process}/stat"));
        Self {
            servers: servers
                .iter()
                .map(|id| of(&id.to_string()))
                .reduce(|a, b| a + b),
            client: of("self"),
            machine: of_machine(),
        }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            servers: self
                .servers
                .zip(before.servers)
                .map(|(now, then)| now - then),
            client: self.client - before.client,
            machine: self.machine - before.machine,
        }
    }

    /// By processes that are no part of the measurement.
    pub(crate) fn others(self) -> Duration {
        self.machine
            .saturating_sub(self.servers.unwrap_or_default() + self.client)
    }
}

/// User and system time of all threads.
fn of_process(path: &str) -> Duration {
    let stat = fs::read_to_string(path).unwrap();
    // The name, in parentheses, may hold anything; the state follows it as the third field.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    ticks(&[fields[11], fields[12]])
}

/// All that was not idle, stolen by the host too: user, nice, system, irq, softirq, steal.
fn of_machine() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<&str> = stat.lines().next().unwrap().split_whitespace().collect();
    ticks(&[
        fields[1], fields[2], fields[3], fields[6], fields[7], fields[8],
    ])
}

fn ticks(fields: &[&str]) -> Duration {
    let count: u32 = fields
        .iter()
        .map(|field| field.parse::<u32>().unwrap())
        .sum();
    TICK * count
}
