//! The table, for people and as JSON.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{Arguments, load::Measured};

/// Above this the others have a part in what was measured.
const DISTURBED_PERCENT: f64 = 5.0;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: BTreeMap<String, String>,
    pub(crate) seconds: f64,
    pub(crate) connections: usize,
    pub(crate) rows: Vec<Row>,
}

/// One operation at so many in flight. Times in microseconds a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) operation: String,
    pub(crate) in_flight: usize,
    pub(crate) calls: usize,
    pub(crate) seconds: f64,
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// `None` where no server has a part.
    pub(crate) server_cpu_us: Option<f64>,
    pub(crate) client_cpu_us: f64,
    pub(crate) others_percent: f64,
    pub(crate) to_empty: Option<f64>,
}

impl Row {
    pub(crate) fn new(
        operation: &str,
        in_flight: usize,
        measured: &Measured,
        to_empty: Option<f64>,
    ) -> Self {
        let calls = measured.calls();
        let us = |time: std::time::Duration| time.as_secs_f64() * 1e6;
        Self {
            operation: operation.to_owned(),
            in_flight,
            calls,
            seconds: measured.elapsed.as_secs_f64(),
            rate: measured.rate(),
            p50_us: us(measured.percentile(50)),
            p99_us: us(measured.percentile(99)),
            server_cpu_us: measured.used.servers.map(|time| us(time) / calls as f64),
            client_cpu_us: us(measured.used.client) / calls as f64,
            others_percent: measured.others_percent(),
            to_empty,
        }
    }

    fn is_disturbed(&self) -> bool {
        self.others_percent > DISTURBED_PERCENT
    }
}

impl Report {
    pub(crate) fn new(machine: BTreeMap<String, String>, arguments: &Arguments) -> Self {
        Self {
            machine,
            seconds: arguments.seconds,
            connections: arguments.connections,
            rows: Vec::new(),
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

    /// How the rows stand to those of an earlier run.
    pub(crate) fn compared(&self, before: &Self) -> String {
        let mut table = format!(
            "{:44} {:>9} {:>12} {:>12}\n",
            "new / old", "in flight", "rate", "to empty"
        );
        for row in &self.rows {
            let same = |old: &&Row| {
                name(&old.operation) == name(&row.operation) && old.in_flight == row.in_flight
            };
            let Some(old) = before.rows.iter().find(same) else {
                continue;
            };
            let to_empty = row.to_empty.zip(old.to_empty).map(|(new, old)| new / old);
            table += &format!(
                "{:44} {:>9} {:>12.2} {:>12}{}\n",
                name(&row.operation),
                row.in_flight,
                row.rate / old.rate,
                ratio(to_empty),
                if row.is_disturbed() || old.is_disturbed() {
                    " !"
                } else {
                    ""
                }
            );
        }
        table
    }
}

/// Without the sizes, which may differ between two versions.
fn name(operation: &str) -> String {
    match operation.split_once(':') {
        Some((name, _)) => format!("{name})"),
        None => operation.to_owned(),
    }
}

fn ratio(of: Option<f64>) -> String {
    of.map_or_else(String::new, |of| format!("{of:.3}"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, fact) in &self.machine {
            writeln!(f, "{name}: {fact}")?;
        }
        let Self {
            seconds,
            connections,
            ..
        } = self;
        writeln!(f, "{seconds} s a cell, {connections} connections a server")?;
        writeln!(
            f,
            "\n{:44} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>8} {:>7}",
            "operation",
            "in flight",
            "rate/s",
            "p50 ms",
            "p99 ms",
            "server µs",
            "client µs",
            "to empty",
            "others"
        )?;
        let mut disturbed = false;
        for row in &self.rows {
            disturbed |= row.is_disturbed();
            writeln!(
                f,
                "{:44} {:>9} {:>9.0} {:>9.2} {:>9.2} {:>10} {:>10.0} {:>8} {:>5.0} %{}",
                row.operation,
                row.in_flight,
                row.rate,
                row.p50_us / 1e3,
                row.p99_us / 1e3,
                row.server_cpu_us
                    .map_or_else(String::new, |us| format!("{us:.0}")),
                row.client_cpu_us,
                ratio(row.to_empty),
                row.others_percent,
                if row.is_disturbed() { " !" } else { "" }
            )?;
        }
        if disturbed {
            writeln!(
                f,
                "! other processes took more than {DISTURBED_PERCENT} % of the machine: measure again"
            )?;
        }
        Ok(())
    }
}
