//! What the exchange as a whole owes.

use std::time::Duration;

use amanat_desk::Desk;
use amanat_telemetry::{Kind, Metric};

use crate::store::{Exchange, counts};

const EACH_MINUTE: Duration = Duration::from_secs(60);

pub(crate) const REFERRALS_OVERDUE: Metric = Metric {
    name: "amanat.referrals.overdue",
    kind: Kind::Gauge,
    unit: "{referral}",
    attributes: &[],
    help: "Referrals whose recipient owed its answer by now and has given none, of the agencies that the \
           directory lists; `amanat refer list --overdue` shows each agency its own",
};

pub(crate) const RECORDS: Metric = Metric {
    name: "amanat.records",
    kind: Kind::Gauge,
    unit: "{version}",
    attributes: &[],
    help: "Record versions that are stored",
};

/// All of this room.
pub const METRICS: &[&Metric] = &[&REFERRALS_OVERDUE, &RECORDS];

/// Counts each minute, beside the writer's way; until it is aborted.
pub(crate) async fn count(desk: Desk<Exchange>) {
    let (overdue, records) = (REFERRALS_OVERDUE.gauge(), RECORDS.gauge());
    let mut ticks = tokio::time::interval(EACH_MINUTE);
    loop {
        ticks.tick().await;
        let agencies = desk
            .rules
            .current()
            .directory
            .agencies()
            .map(|agency| agency.id)
            .collect();
        match counts::count(&desk.reader, agencies, (desk.guard.clock)()).await {
            Ok(counts) => {
                overdue.record(counts.overdue, &[]);
                records.record(counts.records, &[]);
            }
            Err(error) => tracing::error!(%error, "overdue referrals could not be counted"),
        }
    }
}
