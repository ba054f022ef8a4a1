//! The tables.

use std::fmt::{self, Display, Formatter};

use super::{DISTURBED_PERCENT, FLAT, Figure, Grown, Report, Row, Soak, name};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, fact) in &self.machine {
            writeln!(f, "{name}: {fact}")?;
        }
        let (seconds, connections) = (self.seconds, self.connections);
        writeln!(f, "{seconds} s a cell, {connections} connections a server")?;
        if !self.rows.is_empty() {
            rows(f, &self.rows)?;
        }
        if !self.growth.is_empty() {
            growth(f, &self.growth)?;
        }
        if !self.figures.is_empty() {
            writeln!(f)?;
        }
        for Figure { what, value, unit } in &self.figures {
            writeln!(f, "{what:64} {value:>9.1} {unit}")?;
        }
        for each in &self.soaks {
            soak(f, each)?;
        }
        if self.rows.iter().chain(&self.growth).any(Row::is_disturbed) {
            writeln!(
                f,
                "! other processes took more than {DISTURBED_PERCENT} % of the machine: measure again"
            )?;
        }
        for skipped in &self.skipped {
            writeln!(f, "SKIPPED, NOT MEASURED: {skipped}")?;
        }
        Ok(())
    }
}

fn rows(f: &mut Formatter<'_>, rows: &[Row]) -> fmt::Result {
    writeln!(
        f,
        "\n{:47} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>6} {:>8} {:>7}",
        "operation",
        "in flight",
        "rate/s",
        "p50 ms",
        "p99 ms",
        "server µs",
        "client µs",
        "MiB",
        "to empty",
        "others"
    )?;
    for row in rows {
        writeln!(
            f,
            "{:47} {:>9} {:>9.0} {:>9.2} {:>9.2} {:>10} {:>10.0} {:>6} {:>8} {:>5.0} %{}",
            row.operation,
            row.in_flight,
            row.rate,
            row.p50_us / 1e3,
            row.p99_us / 1e3,
            whole(row.server_cpu_us),
            row.client_cpu_us,
            whole(row.memory_mib),
            ratio(row.to_empty),
            row.others_percent,
            mark(row.is_disturbed())
        )?;
    }
    Ok(())
}

/// Each number of records beside the fewest.
fn growth(f: &mut Formatter<'_>, rows: &[Row]) -> fmt::Result {
    writeln!(
        f,
        "\n{:32} {:>9} {:>10} {:>9} {:>9} {:>10} {:>6} {:>12} {:>11}",
        "growth, 64 in flight",
        "records",
        "entries",
        "rate/s",
        "p99 ms",
        "server µs",
        "MiB",
        "rate to few",
        "p99 to few"
    )?;
    for row in rows {
        let of_few = rows.iter().find(|few| few.operation == row.operation);
        let few = of_few.unwrap_or(row);
        writeln!(
            f,
            "{:32} {:>9} {:>10} {:>9.0} {:>9.2} {:>10} {:>6} {:>12.3} {:>11.3}{}",
            row.operation,
            row.records.unwrap_or_default(),
            row.entries.unwrap_or_default(),
            row.rate,
            row.p99_us / 1e3,
            whole(row.server_cpu_us),
            whole(row.memory_mib),
            row.rate / few.rate,
            row.p99_us / few.p99_us,
            mark(row.is_disturbed())
        )?;
    }
    Ok(())
}

fn soak(f: &mut Formatter<'_>, soak: &Soak) -> fmt::Result {
    let Soak {
        name,
        minutes,
        calls,
        again,
        rate,
        most_waiting: [gateway, custodian],
        servers,
    } = soak;
    writeln!(
        f,
        "\n{name}: {minutes} min, {calls} calls, {rate:.0}/s, {again} sent again; \
         at most {gateway} waited at the gateway's log, {custodian} at the custodian's"
    )?;
    writeln!(
        f,
        "{:32} {:>15} {:>9} {:>9}",
        "MiB", "after a fifth", "at end", "ratio"
    )?;
    for server in servers {
        let (fifth, end, ratio) = (server.after_fifth(), server.at_end(), server.ratio());
        let fails = if ratio > FLAT { "  FAILED: grows" } else { "" };
        let name = &server.server;
        writeln!(f, "{name:32} {fifth:>15.1} {end:>9.1} {ratio:>9.3}{fails}")?;
    }
    Ok(())
}

fn whole(of: Option<f64>) -> String {
    of.map_or_else(String::new, |of| format!("{of:.0}"))
}

fn ratio(of: Option<f64>) -> String {
    of.map_or_else(String::new, |of| format!("{of:.3}"))
}

fn mark(is_disturbed: bool) -> &'static str {
    if is_disturbed { " !" } else { "" }
}

impl Report {
    /// How everything stands to the same of an earlier run.
    pub(crate) fn compared(&self, before: &Self) -> String {
        let mut table = format!(
            "{:64} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
            "new / old", "in flight", "value", "p99", "MiB", "to empty"
        );
        for (new, old) in [(&self.rows, &before.rows), (&self.growth, &before.growth)] {
            for row in new {
                if let Some(old) = old.iter().find(|old| old.is_of(row)) {
                    table += &row_compared(row, old);
                }
            }
        }
        for figure in &self.figures {
            let same = |old: &&Figure| old.what == figure.what && old.unit == figure.unit;
            if let Some(old) = before.figures.iter().find(same) {
                table += &value_compared(&figure.what, figure.value / old.value);
            }
        }
        for soak in &self.soaks {
            if let Some(old) = before.soaks.iter().find(|old| old.name == soak.name) {
                table += &soak_compared(soak, old);
            }
        }
        table
    }
}

fn row_compared(row: &Row, old: &Row) -> String {
    let over =
        |of: fn(&Row) -> Option<f64>| ratio(of(row).zip(of(old)).map(|(new, old)| new / old));
    let records = row.records.map(|records| format!(", {records} records"));
    format!(
        "{:64} {:>9} {:>9} {:>9} {:>9} {:>9}{}\n",
        name(&row.operation) + &records.unwrap_or_default(),
        row.in_flight,
        over(|row| Some(row.rate)),
        over(|row| Some(row.p99_us)),
        over(|row| row.memory_mib),
        over(|row| row.to_empty),
        mark(row.is_disturbed() || old.is_disturbed())
    )
}

fn soak_compared(soak: &Soak, old: &Soak) -> String {
    let end = |soak: &Soak| soak.servers.iter().map(Grown::at_end).sum::<f64>();
    value_compared(&format!("{}, rate", soak.name), soak.rate / old.rate)
        + &value_compared(
            &format!("{}, memory at its end", soak.name),
            end(soak) / end(old),
        )
}

fn value_compared(name: &str, value: f64) -> String {
    format!("{name:64} {:>9} {value:>9.3}\n", "")
}
