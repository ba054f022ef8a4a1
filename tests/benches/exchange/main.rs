//! What the exchange costs: the real gateway and custodian, as processes of their own with SQLite on a real disk,
//! called over mutual TLS by the same machine. `cargo bench -p amanat-tests -- --help` says how to read it.
//!
//! Beside each operation stands an **empty call**: the same listener, TLS, guard and layers, a real officer's token
//! that is verified, requests and answers of the operation's own size, and a service that decides and stores
//! nothing. It runs as a process of its own, so client and server share the cores as they do with the real ones.
//! Only calls that were allowed are counted: the first that fails ends the run. After the last, an auditor verifies
//! both logs from their first entry.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot go on ends, and what it measured is printed"
)]

mod cpu;
mod disk;
mod empty;
mod load;
mod machine;
mod operation;
mod report;
mod stage;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Parser;

use crate::{
    empty::{EmptyCall, Payload},
    load::{Measured, Operation, measure},
    operation::{evaluate::Evaluate, intake::Intake, read::Read, release::Release, submit::Submit},
    report::{Report, Row},
    stage::Stage,
};

const READING: &str = "\
How to read it:
  rate        answered calls a second; every one of them was allowed
  p50, p99    from just before a call is sent to its whole answer
  server CPU  user and system time of the server processes for each call; client CPU: of this process
  to empty    the rate over the rate of an empty call with the same payload and as many in flight
  others      the share of the machine that other processes took meanwhile; above a few per cent, measure again

Ratios are what to trust: client and servers share this machine's cores.";

/// In the order in which they are measured.
const OPERATIONS: [&str; 7] = [
    "read",
    "submit",
    "release",
    "read and release",
    "evaluate",
    "intake",
    "disk",
];

/// Measures the exchange on this machine
#[derive(Debug, Parser)]
#[command(after_help = READING)]
struct Arguments {
    /// How long each row is measured, in seconds
    #[arg(long, default_value_t = 3.0, value_name = "N")]
    seconds: f64,
    /// How many calls are in flight; each operation is measured with each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64], value_name = "N")]
    in_flight: Vec<usize>,
    /// How many TLS connections to each server share them
    #[arg(long, default_value_t = 8, value_name = "N")]
    connections: usize,
    /// Measures only these operations
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = OPERATIONS)]
    only: Vec<String>,
    /// Writes the table, with what is known of the machine, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Prints how each row stands to the same row of an earlier `--json` file
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Serves empty calls by a gateway's configuration: how this program starts itself
    #[arg(long, hide = true, value_name = "CONFIG")]
    serve_empty: Option<PathBuf>,
    /// Cargo says so to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        match &arguments.serve_empty {
            Some(config) => empty::serve(config).await,
            None => run(&arguments).await,
        }
    });
}

async fn run(arguments: &Arguments) {
    let before = arguments.compare.as_deref().map(Report::read);
    let stage = Arc::new(Stage::set(arguments.connections).await);
    let mut bench = Bench {
        arguments,
        stage: Arc::clone(&stage),
        report: Report::new(machine::facts(stage.running.folder()), arguments),
    };
    bench.run().await;
    eprintln!("verifying that both logs hold what was answered");
    stage.running.verify().await;
    let report = bench.report;
    println!("{report}");
    if let Some(before) = before {
        println!("{}", report.compared(&before));
    }
    if let Some(path) = &arguments.json {
        report.write(path);
    }
}

struct Bench<'a> {
    arguments: &'a Arguments,
    stage: Arc<Stage>,
    report: Report,
}

impl Bench<'_> {
    async fn run(&mut self) {
        let stage = Arc::clone(&self.stage);
        let both = [stage.gateway(), stage.custodian()];
        let read = Arc::new(Read::new(Arc::clone(&stage)));
        let submit = Arc::new(Submit::new(Arc::clone(&stage)));
        let release = Arc::new(Release::new(Arc::clone(&stage)));
        if self.wants("read") {
            let payload = read.payload().await;
            self.beside_empty("read", vec![payload], &read, &[stage.gateway()])
                .await;
        }
        if self.wants("submit") {
            let payload = submit.payload().await;
            self.beside_empty("submit", vec![payload], &submit, &[stage.gateway()])
                .await;
        }
        if self.wants("release") {
            // The custodian fetches proofs from the gateway for it.
            let payload = release.payload().await;
            self.beside_empty("release", vec![payload], &release, &both)
                .await;
        }
        if self.wants("read and release") {
            let payloads = vec![read.payload().await, release.payload().await];
            let both_calls = Arc::new(operation::release::ReadAndRelease::new(Arc::clone(&stage)));
            self.beside_empty("read and release", payloads, &both_calls, &both)
                .await;
        }
        if self.wants("evaluate") {
            let evaluate = Arc::new(Evaluate::new(Arc::clone(&stage)));
            let payload = evaluate.payload().await;
            self.beside_empty(
                "evaluate 10",
                vec![payload],
                &evaluate,
                &[stage.custodian()],
            )
            .await;
        }
        if self.wants("intake") {
            let intake = Arc::new(Intake::new(Arc::clone(&stage)).await);
            let payloads = intake.payloads().await;
            self.beside_empty("intake", payloads, &intake, &both).await;
        }
        if self.wants("disk") {
            let seconds = Duration::from_secs_f64(self.arguments.seconds);
            let rows = disk::measure(stage.running.folder(), seconds).await;
            self.report.rows.extend(rows);
        }
    }

    fn wants(&self, name: &str) -> bool {
        let only = &self.arguments.only;
        only.is_empty() || only.iter().any(|only| only == name)
    }

    /// Each cell right after the empty calls that it is compared with.
    async fn beside_empty<O: Operation>(
        &mut self,
        name: &str,
        payloads: Vec<Payload>,
        operation: &Arc<O>,
        servers: &[u32],
    ) {
        let empty_name = format!("empty ({name}: {})", empty::described(&payloads));
        let empty = Arc::new(EmptyCall::new(&self.stage, payloads));
        for &in_flight in &self.arguments.in_flight {
            let empty = self
                .cell(&empty, &empty_name, in_flight, &[self.stage.empty.id()])
                .await;
            let real = self.cell(operation, name, in_flight, servers).await;
            let to_empty = real.rate() / empty.rate();
            self.report
                .rows
                .push(Row::new(&empty_name, in_flight, &empty, None));
            self.report
                .rows
                .push(Row::new(name, in_flight, &real, Some(to_empty)));
        }
    }

    async fn cell<O: Operation>(
        &self,
        operation: &Arc<O>,
        name: &str,
        in_flight: usize,
        servers: &[u32],
    ) -> Measured {
        eprint!("{name}, {in_flight} in flight: ");
        let longest = Duration::from_secs_f64(self.arguments.seconds);
        let measured = measure(operation, in_flight, longest, servers).await;
        eprintln!("{:.0}/s", measured.rate());
        measured
    }
}
