//! What is measured, in its order.

use std::{env, sync::Arc, time::Duration};

use crate::{
    Arguments,
    alternative::{self, Record},
    cold_start, disk,
    empty::{self, EmptyCall, EmptyServer},
    growth, idle,
    load::{Measured, Operation, measure},
    machine,
    operation::{
        Verb,
        audit_query::AuditQuery,
        evaluate::Evaluate,
        intake::Intake,
        list::{List, Referrals, Versions},
        read::Read,
        release::{ReadAndRelease, Release},
        submit::Submit,
    },
    report::{Report, Row},
    servers::Servers,
    soak,
    stage::{Engine, Stage},
};

/// What `--only` may name.
pub(crate) const ALL: [&str; 15] = [
    Read::NAME,
    Submit::NAME,
    Release::NAME,
    ReadAndRelease::NAME,
    Evaluate::NAME,
    Intake::NAME,
    List::<Referrals>::NAME,
    List::<Versions>::NAME,
    AuditQuery::NAME,
    DISK,
    ALTERNATIVES,
    COLD_START,
    IDLE,
    GROWTH,
    SOAK,
];
const DISK: &str = "disk";
const ALTERNATIVES: &str = "alternatives";
const COLD_START: &str = "cold start";
const IDLE: &str = "idle";
const GROWTH: &str = "growth";
const SOAK: &str = "soak";
/// How many cases are read in turn.
const CASES: usize = 64;
/// The numbers that hold at the most load.
pub(crate) const MANY: usize = 64;

pub(crate) struct Bench<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) report: Report,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(arguments: &'a Arguments) -> Self {
        Self {
            arguments,
            report: Report::new(machine::facts(&env::temp_dir()), arguments),
        }
    }

    pub(crate) async fn run(&mut self) {
        let engines = self.engines();
        let apart = [IDLE, GROWTH, SOAK];
        if ALL
            .iter()
            .any(|name| !apart.contains(name) && self.wants(name))
        {
            self.operations(&engines).await;
        }
        if self.wants(IDLE) {
            self.idle(engines[0]).await;
        }
        let Arguments { growth, soak, .. } = self.arguments;
        if !growth.is_empty() || self.asks_for(GROWTH) {
            for engine in &engines {
                self.growth(*engine).await;
            }
        }
        if soak.is_some() || self.asks_for(SOAK) {
            for engine in &engines {
                self.soak(*engine).await;
            }
        }
    }

    fn engines(&mut self) -> Vec<Engine> {
        let mut engines = self.arguments.engine.clone();
        engines.retain(|engine| match engine.is_here() {
            Ok(()) => true,
            Err(missing) => {
                self.report.skipped.push(missing);
                false
            }
        });
        assert!(!engines.is_empty(), "{:?}", self.report.skipped);
        engines
    }

    fn wants(&self, name: &str) -> bool {
        self.arguments.only.is_empty() || self.arguments.only.iter().any(|only| only == name)
    }

    /// Of what takes longer than a run that was asked for nothing else.
    fn asks_for(&self, name: &str) -> bool {
        self.wants(name) && (self.arguments.full || !self.arguments.only.is_empty())
    }

    async fn operations(&mut self, engines: &[Engine]) {
        let mut stages = Vec::new();
        for engine in engines {
            let mut stage = Arc::new(Stage::set(*engine, self.arguments.connections, |_, _| ()));
            stage.load(CASES).await;
            stages.push(stage);
        }
        let empty = Arc::new(EmptyServer::start(&stages[0]));
        let both = (stages.as_slice(), &empty);
        self.verb::<Read>(both).await;
        self.verb::<Submit>(both).await;
        self.verb::<Release>(both).await;
        self.verb::<ReadAndRelease>(both).await;
        self.verb::<Evaluate>(both).await;
        self.verb::<Intake>(both).await;
        self.verb::<List<Referrals>>(both).await;
        self.verb::<List<Versions>>(both).await;
        self.verb::<AuditQuery>(both).await;
        if self.wants(DISK) {
            let rows = disk::measure(stages[0].running.folder(), self.longest()).await;
            self.report.rows.extend(rows);
        }
        if self.wants(ALTERNATIVES) {
            self.alternatives(&stages[0]).await;
        }
        for mut stage in stages {
            if self.wants(COLD_START) {
                self.cold_start(&mut stage).await;
            }
            verify(&stage).await;
        }
    }

    async fn alternatives(&mut self, stage: &Arc<Stage>) {
        let submit = Submit::new(Arc::clone(stage));
        let read = Read::new(Arc::clone(stage));
        let put = submit.deposited(0).await.unwrap();
        let answer = read.ask(0, read.request(0)).await.unwrap();
        let record = Record::of(&put, &answer);
        match alternative::measure(&record, &self.arguments.in_flight, self.longest()) {
            Ok(alternative) => {
                self.report.rows.extend(alternative.rows);
                let fact = ("alternatives".to_owned(), alternative.description);
                self.report.machine.extend([fact]);
            }
            Err(missing) => self.report.skipped.push(format!(
                "alternatives: {missing}; on Debian: apt install postgresql postgresql-NN-pgaudit"
            )),
        }
    }

    async fn idle(&mut self, engine: Engine) {
        let Arguments { idle, full, .. } = self.arguments;
        let connections = idle.unwrap_or(if *full { 10_000 } else { 1_000 });
        match idle::measure(engine, connections).await {
            Ok(figures) => self.report.figures.extend(figures),
            Err(missing) => self.report.skipped.push(format!("idle: {missing}")),
        }
    }

    async fn growth(&mut self, engine: Engine) {
        let asked = &self.arguments.growth;
        let sizes = if asked.is_empty() {
            growth::SIZES.to_vec()
        } else {
            asked.clone()
        };
        if let Err(missing) = growth::measure(self, engine, &sizes).await {
            let name = engine.of("growth");
            self.report.skipped.push(format!("{name}: {missing}"));
        }
    }

    async fn soak(&mut self, engine: Engine) {
        let minutes = self.arguments.soak.unwrap_or(10.0);
        let soak = soak::soak(engine, minutes, self.arguments.connections).await;
        self.report.soaks.push(soak);
    }

    /// Restarts the servers of a stage that nobody asks anything.
    pub(crate) async fn cold_start(&mut self, stage: &mut Arc<Stage>) {
        let figures = cold_start::measure(stage.alone()).await;
        self.report.figures.extend(figures);
    }

    /// On each engine, each cell right after the empty calls that it is compared with.
    async fn verb<V: Verb>(&mut self, (stages, empty): (&[Arc<Stage>], &Arc<EmptyServer>)) {
        if !self.wants(V::NAME) {
            return;
        }
        let mut verbs = Vec::new();
        for stage in stages {
            let verb = Arc::new(V::on(Arc::clone(stage)).await);
            verbs.push((stage.engine.of(V::NAME), verb, V::servers(stage)));
        }
        let (_, first, _) = &verbs[0];
        let payloads = first.payloads().await;
        let empty_name = format!("empty ({}: {})", V::NAME, empty::described(&payloads));
        let call = Arc::new(EmptyCall::new(Arc::clone(empty), &payloads));
        for &in_flight in &self.arguments.in_flight {
            let nothing = self
                .cell(&call, &empty_name, in_flight, &empty.servers())
                .await;
            let row = Row::new(&empty_name, in_flight, &nothing);
            self.report.rows.push(row);
            for (name, verb, servers) in &verbs {
                let measured = self.cell(verb, name, in_flight, servers).await;
                self.report.rows.push(Row {
                    to_empty: Some(measured.rate() / nothing.rate()),
                    ..Row::new(name, in_flight, &measured)
                });
            }
        }
    }

    pub(crate) async fn cell<O: Operation>(
        &self,
        operation: &Arc<O>,
        name: &str,
        in_flight: usize,
        servers: &Servers,
    ) -> Measured {
        eprint!("{name}, {in_flight} in flight: ");
        let measured = measure(operation, in_flight, self.longest(), servers).await;
        eprintln!("{:.0}/s", measured.rate());
        measured
    }

    fn longest(&self) -> Duration {
        Duration::from_secs_f64(self.arguments.seconds)
    }
}

/// That both logs hold what was answered.
pub(crate) async fn verify(stage: &Stage) {
    eprintln!("verifying both logs, from the first entry to the last");
    stage.running.verify().await;
}
