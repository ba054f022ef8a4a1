//! What the exchange costs: the real gateway and custodian, as processes of their own with SQLite and with PostgreSQL
//! on a real disk, called over mutual TLS by the same machine. `cargo bench -p amanat-tests -- --help` says how to
//! read it.
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

mod alternative;
mod bench;
mod beside;
mod cold_start;
mod cpu;
mod disk;
mod empty;
mod growth;
mod idle;
mod load;
mod loading;
mod machine;
mod operation;
mod report;
mod servers;
mod soak;
mod stage;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{bench::Bench, report::Report, stage::Engine};

/// As the servers': an empty call must not be dearer, nor an idle connection larger, for another allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const READING: &str = "\
How to read it:
  rate        answered calls a second; every one of them was allowed
  p50, p99    from just before a call is sent to its whole answer
  server CPU  user and system time of the server processes for each call; client CPU: of this process
  MiB         memory of the server processes when the cell ends; of PostgreSQL what is shared counts once
  to empty    the rate over the rate of an empty call with the same payload and as many in flight
              (the alternatives have none: pgbench calls them, with a connection for each call in flight)
  others      the share of the machine that other processes took meanwhile; above a few per cent, measure again

Rows of servers on PostgreSQL are called so, and PostgreSQL's processes are among their servers.
Ratios are what to trust: client and servers share this machine's cores.";

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
    /// Which databases the servers are measured on
    #[arg(long, value_delimiter = ',', value_enum, default_values = ["sqlite", "postgres"], value_name = "NAME")]
    engine: Vec<Engine>,
    /// Measures only these
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = bench::ALL)]
    only: Vec<String>,
    /// Measures growth, 10,000 idle connections and a soak of ten minutes too
    #[arg(long)]
    full: bool,
    /// Measures operations at these numbers of records, as in 1000,100000
    #[arg(long, value_delimiter = ',', value_name = "N")]
    growth: Vec<usize>,
    /// How many connections idle; 1000, or 10,000 with --full
    #[arg(long, value_name = "N")]
    idle: Option<usize>,
    /// Measures a mixed load for so many minutes on each engine; fails if the servers' memory grows
    #[arg(long, value_name = "MINUTES")]
    soak: Option<f64>,
    /// Writes the table, with what is known of the machine, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Prints how each row stands to the same row of an earlier `--json` file
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Serves empty calls by a gateway's configuration: how this program starts itself
    #[arg(long, hide = true, value_name = "CONFIG")]
    serve_empty: Option<PathBuf>,
    /// Holds connections by it
    #[arg(long, hide = true, value_name = "CONFIG")]
    serve_tls: Option<PathBuf>,
    /// Cargo says so to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        if let Some(config) = &arguments.serve_empty {
            empty::serve(config).await;
        } else if let Some(config) = &arguments.serve_tls {
            idle::serve_tls(config).await;
        } else {
            return run(&arguments).await;
        }
        ExitCode::SUCCESS
    })
}

async fn run(arguments: &Arguments) -> ExitCode {
    let before = arguments.compare.as_deref().map(Report::read);
    let mut bench = Bench::new(arguments);
    bench.run().await;
    let report = bench.report;
    println!("{report}");
    if let Some(before) = before {
        println!("{}", report.compared(&before));
    }
    if let Some(path) = &arguments.json {
        report.write(path);
    }
    if report.is_flat() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
