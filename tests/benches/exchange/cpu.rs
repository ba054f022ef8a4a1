//! CPU time, as the kernel counts it.

use std::{fs, ops::Range, process, time::Duration};

use crate::servers::Servers;

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
    pub(crate) fn now(servers: &Servers) -> Self {
        Self::now_by(servers, process::id())
    }

    /// By a client that is a process of its own.
    pub(crate) fn now_by(servers: &Servers, client: u32) -> Self {
        Self {
            servers: servers.cpu(),
            client: of_process(client),
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
pub(crate) fn of_process(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    of_stat(&stat, 11..13)
}

/// Of a process, the children that it has, and those that it had.
pub(crate) fn of_family(parent: u32) -> Duration {
    let living = children(parent).into_iter().filter_map(|child| {
        // One that has ended since counts with the parent at the next look.
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        Some(of_stat(&stat, 11..13))
    });
    let living: Duration = living.sum();
    let parent = fs::read_to_string(format!("/proc/{parent}/stat")).unwrap();
    living + of_stat(&parent, 11..15)
}

pub(crate) fn children(parent: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let children = children.split_whitespace();
    children.map(|child| child.parse().unwrap()).collect()
}

/// From 11 on stand user and system time, then the same of the children that have ended.
fn of_stat(stat: &str, times: Range<usize>) -> Duration {
    // The name, in parentheses, may hold anything; the state follows it as the third field.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    ticks(&fields[times])
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
