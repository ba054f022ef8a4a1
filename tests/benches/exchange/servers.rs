//! The processes that answer, and what they take of the machine.

use std::{fs, time::Duration};

use crate::cpu;

/// Those that have a part in the calls of a cell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Servers {
    processes: Vec<u32>,
    /// A PostgreSQL, whose other processes are this one's children.
    postmaster: Option<u32>,
}

impl Servers {
    pub(crate) fn new(processes: impl Into<Vec<u32>>, postmaster: Option<u32>) -> Self {
        Self {
            processes: processes.into(),
            postmaster,
        }
    }

    /// `None` if there are none.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let processes = self.processes.iter().copied().map(cpu::of_process);
        let postgres = self.postmaster.map(cpu::of_family);
        processes.chain(postgres).reduce(|a, b| a + b)
    }

    /// `None` if there are none.
    pub(crate) fn memory_mib(&self) -> Option<f64> {
        let processes = self.processes.iter().copied().map(resident_mib);
        let postgres = self.postmaster.map(postgres_mib);
        processes.chain(postgres).reduce(|a, b| a + b)
    }
}

/// What a process has of the machine's memory, its program's pages among it.
pub(crate) fn resident_mib(process: u32) -> f64 {
    mib_of(&format!("/proc/{process}/status"), "VmRSS:").unwrap()
}

/// All processes of a PostgreSQL, what they share counted once.
pub(crate) fn postgres_mib(postmaster: u32) -> f64 {
    family_mib(postmaster, "Pss:")
}

/// The same without what they share, which grows up to `shared_buffers` and no further.
pub(crate) fn postgres_private_mib(postmaster: u32) -> f64 {
    family_mib(postmaster, "Pss_Anon:")
}

fn family_mib(postmaster: u32, what: &str) -> f64 {
    // One that has ended since takes nothing.
    let of = |process: u32| mib_of(&format!("/proc/{process}/smaps_rollup"), what);
    let own = of(postmaster).unwrap();
    own + cpu::children(postmaster)
        .into_iter()
        .filter_map(of)
        .sum::<f64>()
}

/// From a line as in `VmRSS:   23456 kB`; `None` where the file is gone.
fn mib_of(path: &str, what: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(what))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
