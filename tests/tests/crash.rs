//! Servers that die, and servers that are told to stop, under load.
//!
//! `AMANAT_SEED` repeats a run's moments of death: the seed of each run is printed. `AMANAT_KILLS`
//! raises the number of deaths, 10 by default, as in
//! `AMANAT_KILLS=50 cargo test -p amanat-tests --test crash`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed step is a failed test, and the seed is for whoever runs it"
)]

use std::{env, fs, path::Path, time::Duration};

use amanat_tests::{Process, Running, forge::Books, load::Load};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_answered_survives_the_gateways_deaths() {
    let mut running = Running::start_for_load(PROGRAM);
    let load = Load::start(&running).await;
    die_repeatedly(&mut running.gateway).await;
    check(&running, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_answered_survives_the_custodians_deaths() {
    let mut running = Running::start_for_load(PROGRAM);
    let load = Load::start(&running).await;
    die_repeatedly(&mut running.custodian).await;
    check(&running, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_told_to_stop_answers_what_is_under_way_and_leaves_nothing_to_recover() {
    let mut running = Running::start_for_load(PROGRAM);
    let load = Load::start(&running).await;
    for (server, books) in [
        (&mut running.gateway, Books::of(&running.exchange.gateway)),
        (
            &mut running.custodian,
            Books::of(&running.exchange.custodian),
        ),
    ] {
        load.shares(10).await;
        assert!(
            tokio::task::block_in_place(|| server.stop()),
            "it ends with exit code 0"
        );
        let log = fs::read_to_string(&server.log).unwrap();
        assert!(
            log.contains("every request under way was answered"),
            "{log}"
        );
        if let Some(file) = books.database.file() {
            assert_eq!(
                journals(file.parent().unwrap()),
                [""; 0],
                "the database is whole in its one file"
            );
        }
        tokio::task::block_in_place(|| server.start());
    }
    check(&running, load).await;
}

/// Dies at random moments, each 20 to 400 ms after it answered again.
async fn die_repeatedly(server: &mut Process) {
    let mut dice = Dice::new();
    let kills = env::var("AMANAT_KILLS").map_or(10, |kills| kills.parse().unwrap());
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(dice.between(20, 400))).await;
        tokio::task::block_in_place(|| {
            server.kill();
            server.start();
        });
    }
}

async fn check(running: &Running, load: Load) {
    let settled = load.settle().await;
    let done = &settled.done;
    println!(
        "acknowledged: {} submissions, {} consents, {} acceptances, {} reads; {} calls cut off",
        done.submissions.len(),
        done.consents.len(),
        done.accepted.len(),
        done.reads.len(),
        done.cut_off.len(),
    );
    assert!(
        !done.cut_off.is_empty(),
        "the load met a server that was down"
    );
    settled.check(&running.connector("oversight").await).await;
}

/// The files beside a server's database that hold what is not in it yet.
fn journals(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.ends_with("-wal") || name.ends_with("-journal"))
        .collect()
}

/// Numbers that a seed repeats (SplitMix64).
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = env::var("AMANAT_SEED").map_or_else(
            |_| u64::try_from(amanat::system_clock()().millis()).unwrap(),
            |seed| seed.parse().unwrap(),
        );
        println!("AMANAT_SEED={seed}");
        Self(seed)
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        least + (mixed ^ (mixed >> 31)) % (most - least + 1)
    }
}
