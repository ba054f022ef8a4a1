//! What was measured, for people and as JSON.

mod table;

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Arguments, load::Measured};

/// Above this the others have a part in what was measured.
const DISTURBED_PERCENT: f64 = 5.0;
/// What the memory of a server may have grown to between a fifth of a soak and its end.
const FLAT: f64 = 1.1;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: BTreeMap<String, String>,
    pub(crate) seconds: f64,
    pub(crate) connections: usize,
    pub(crate) rows: Vec<Row>,
    /// At several numbers of records.
    #[serde(default)]
    pub(crate) growth: Vec<Row>,
    #[serde(default)]
    pub(crate) figures: Vec<Figure>,
    #[serde(default)]
    pub(crate) soaks: Vec<Soak>,
    /// What was asked for and could not be measured here, and why.
    #[serde(default)]
    pub(crate) skipped: Vec<String>,
}

/// One operation at so many in flight. Times in microseconds a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) operation: String,
    pub(crate) in_flight: usize,
    /// In the database before; `None` where there are but a few.
    #[serde(default)]
    pub(crate) records: Option<usize>,
    /// In the gateway's log before.
    #[serde(default)]
    pub(crate) entries: Option<u64>,
    pub(crate) calls: usize,
    pub(crate) seconds: f64,
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// `None` where no server has a part.
    pub(crate) server_cpu_us: Option<f64>,
    pub(crate) client_cpu_us: f64,
    /// Of the servers.
    #[serde(default)]
    pub(crate) memory_mib: Option<f64>,
    pub(crate) others_percent: f64,
    pub(crate) to_empty: Option<f64>,
}

/// What is no rate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
}

/// A mixed load for long.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Soak {
    pub(crate) name: String,
    pub(crate) minutes: f64,
    pub(crate) calls: u64,
    /// Found no server, and were sent again.
    pub(crate) again: u64,
    pub(crate) rate: f64,
    /// In the queue of each server's log, of all that it told its collector.
    pub(crate) most_waiting: [f64; 2],
    pub(crate) servers: Vec<Grown>,
}

/// A server's memory in the course of a soak.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Grown {
    pub(crate) server: String,
    pub(crate) samples_mib: Vec<f64>,
}

impl Row {
    pub(crate) fn new(operation: &str, in_flight: usize, measured: &Measured) -> Self {
        let calls = measured.calls();
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        Self {
            operation: operation.to_owned(),
            in_flight,
            records: None,
            entries: None,
            calls,
            seconds: measured.elapsed.as_secs_f64(),
            rate: measured.rate(),
            p50_us: us(measured.percentile(50)),
            p99_us: us(measured.percentile(99)),
            server_cpu_us: measured.used.servers.map(|time| us(time) / calls as f64),
            client_cpu_us: us(measured.used.client) / calls as f64,
            memory_mib: measured.memory_mib,
            others_percent: measured.others_percent(),
            to_empty: None,
        }
    }

    fn is_disturbed(&self) -> bool {
        self.others_percent > DISTURBED_PERCENT
    }

    fn is_of(&self, other: &Self) -> bool {
        name(&self.operation) == name(&other.operation)
            && self.in_flight == other.in_flight
            && self.records == other.records
    }
}

/// Without the sizes, which may differ between two versions.
fn name(operation: &str) -> String {
    match operation.split_once(':') {
        Some((name, _)) => format!("{name})"),
        None => operation.to_owned(),
    }
}

impl Figure {
    pub(crate) fn new(what: &str, value: f64, unit: &str) -> Self {
        Self {
            what: what.to_owned(),
            value,
            unit: unit.to_owned(),
        }
    }
}

impl Soak {
    fn is_flat(&self) -> bool {
        self.servers.iter().all(|server| server.ratio() <= FLAT)
    }
}

impl Grown {
    pub(crate) fn new(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            samples_mib: Vec::new(),
        }
    }

    fn after_fifth(&self) -> f64 {
        self.around(self.samples_mib.len() / 5)
    }

    fn at_end(&self) -> f64 {
        self.around(self.samples_mib.len())
    }

    fn ratio(&self) -> f64 {
        self.at_end() / self.after_fifth()
    }

    /// The mean of up to three looks before this one.
    fn around(&self, end: usize) -> f64 {
        let looks = &self.samples_mib[end.saturating_sub(3)..end.max(1)];
        looks.iter().sum::<f64>() / looks.len() as f64
    }
}

impl Report {
    pub(crate) fn new(machine: BTreeMap<String, String>, arguments: &Arguments) -> Self {
        Self {
            machine,
            seconds: arguments.seconds,
            connections: arguments.connections,
            rows: Vec::new(),
            growth: Vec::new(),
            figures: Vec::new(),
            soaks: Vec::new(),
            skipped: Vec::new(),
        }
    }

    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn write(&self, path: &Path) {
        let text = serde_json::to_string_pretty(self).unwrap();
        fs::write(path, text + "\n").unwrap();
    }

    /// Whether no soak let the memory grow.
    pub(crate) fn is_flat(&self) -> bool {
        self.soaks.iter().all(Soak::is_flat)
    }
}
