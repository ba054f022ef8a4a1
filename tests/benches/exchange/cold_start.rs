//! From the start of a server's process, on the database that is there, until it has answered a caller; and what it
//! takes of the memory then.

use std::time::{Duration, Instant};

use amanat_schema::audit::{GetCheckpointRequest, audit_service_client::AuditServiceClient};

use crate::{
    report::Figure,
    servers::{postgres_mib, resident_mib},
    stage::Stage,
};

/// Of which the middle one counts. The files are in the system's memory after the first.
const STARTS: usize = 3;
/// Until what it does after its start is over.
const SETTLED: Duration = Duration::from_secs(2);

pub(crate) async fn measure(stage: &mut Stage) -> Vec<Figure> {
    let place = |stage: &Stage, what: &str| {
        let records = stage.cases.len();
        stage.engine.of(&format!("{what}, {records} records"))
    };
    let mut figures = Vec::new();
    for server in ["gateway", "custodian"] {
        eprintln!("starting the {server} again");
        let mut times = Vec::new();
        for _ in 0..STARTS {
            times.push(start(stage, server).await);
        }
        times.sort_unstable();
        tokio::time::sleep(SETTLED).await;
        let running = &stage.running;
        let process = match server {
            "gateway" => &running.gateway,
            _ => &running.custodian,
        };
        let idle = resident_mib(process.id().unwrap());
        let ms = times[STARTS / 2].as_secs_f64() * 1e3;
        let cold_start = place(stage, &format!("cold start, {server}"));
        figures.push(Figure::new(&cold_start, ms, "ms"));
        let memory = place(stage, &format!("idle memory, {server}"));
        figures.push(Figure::new(&memory, idle, "MiB"));
    }
    if let Some(postmaster) = stage.postmaster() {
        let memory = place(stage, "idle memory, the engine's own");
        figures.push(Figure::new(&memory, postgres_mib(postmaster), "MiB"));
    }
    figures
}

async fn start(stage: &mut Stage, name: &str) -> Duration {
    let (running, reader) = (&mut stage.running, &stage.reader);
    let (process, server) = match name {
        "gateway" => (&mut running.gateway, &running.exchange.gateway),
        _ => (&mut running.custodian, &running.exchange.custodian),
    };
    assert!(process.stop(), "the {name} did not end well");
    let begin = Instant::now();
    process.start();
    let asked = reader.asked(GetCheckpointRequest {});
    AuditServiceClient::new(reader.channel(name, server))
        .get_checkpoint(asked)
        .await
        .unwrap();
    begin.elapsed()
}
