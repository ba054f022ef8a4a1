//! The same operations on few records and on many: what grows faster than the logarithm of their number is a mistake.

use std::{env, path::Path, sync::Arc};

use crate::{
    bench::{Bench, MANY, verify},
    operation::{
        Verb,
        audit_query::AuditQuery,
        list::{List, Referrals, Versions},
        read::Read,
        release::Release,
        submit::Submit,
    },
    report::{Figure, Row},
    stage::{Engine, Stage},
};

/// How many records there are, if nobody says otherwise.
pub(crate) const SIZES: [usize; 2] = [1_000, 100_000];
/// What a record takes with its consent and referral, its entries in both logs, their indexes and some reads, and half
/// as much again.
const KIB_A_RECORD: u64 = 90;
/// The write-ahead logs, and what is measured.
const KIB_BESIDE: u64 = 4 << 20;

/// # Errors
/// That there is no room.
pub(crate) async fn measure(
    bench: &mut Bench<'_>,
    engine: Engine,
    sizes: &[usize],
) -> Result<(), String> {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    has_room(&env::temp_dir(), *sizes.last().unwrap())?;
    let mut stage = Arc::new(Stage::set(engine, bench.arguments.connections, |_, _| ()));
    for size in sizes {
        stage.load(size).await;
        cell::<Read>(bench, &stage).await;
        cell::<Release>(bench, &stage).await;
        cell::<List<Referrals>>(bench, &stage).await;
        cell::<List<Versions>>(bench, &stage).await;
        cell::<AuditQuery>(bench, &stage).await;
        // The last: its records come on top.
        cell::<Submit>(bench, &stage).await;
        bench.cold_start(&mut stage).await;
        let disk = engine.of(&format!("on the disk, {size} records and those put since"));
        let figure = Figure::new(&disk, stage.disk_mib(), "MiB");
        bench.report.figures.push(figure);
    }
    verify(&stage).await;
    Ok(())
}

async fn cell<V: Verb>(bench: &mut Bench<'_>, stage: &Arc<Stage>) {
    let name = stage.engine.of(V::NAME);
    let entries = stage.entries().await.unwrap();
    let verb = Arc::new(V::on(Arc::clone(stage)).await);
    let measured = bench.cell(&verb, &name, MANY, &V::servers(stage)).await;
    bench.report.growth.push(Row {
        records: Some(stage.cases.len()),
        entries: Some(entries),
        ..Row::new(&name, MANY, &measured)
    });
}

fn has_room(folder: &Path, records: usize) -> Result<(), String> {
    let gib = |kib: u64| kib as f64 / f64::from(1 << 20);
    let needed = records as u64 * KIB_A_RECORD + KIB_BESIDE;
    let disk = rustix::fs::statvfs(folder).unwrap();
    let free = disk.f_bavail * disk.f_frsize / 1024;
    if free < needed {
        return Err(format!(
            "{records} records need {:.0} GiB in {}, which has {:.0}: set TMPDIR to a folder with more room",
            gib(needed),
            folder.display(),
            gib(free)
        ));
    }
    eprintln!(
        "{records} records will take up to {:.0} GiB in {}",
        gib(needed),
        folder.display()
    );
    Ok(())
}
