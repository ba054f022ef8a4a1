//! How much waits in the outbox, and for how long; nothing of what it is.

use amanat_schema::Time;
use sqlx::Row as _;

use super::Keep;
use crate::{Connector, ConnectorError};

/// What is in the outbox, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Deliveries that wait.
    pub waiting: i64,
    /// Deliveries that a server refused, until somebody drops them.
    pub refused: i64,
    /// When the oldest one that waits was handed in; `None` if none waits.
    pub oldest: Option<Time>,
}

/// A metric of the outbox, with its help.
pub struct BacklogMetric {
    pub name: &'static str,
    pub help: &'static str,
}

pub const BACKLOG_JOBS: BacklogMetric = BacklogMetric {
    name: "amanat_outbox_jobs",
    help: "Deliveries in this agency's outbox, by state: waiting, or refused by a server",
};

pub const BACKLOG_OLDEST: BacklogMetric = BacklogMetric {
    name: "amanat_outbox_oldest_seconds",
    help: "How long the oldest one that waits has been waiting; 0 if none waits",
};

impl Backlog {
    /// As a Prometheus node exporter reads it from a text file.
    pub fn to_openmetrics(&self, now: Time) -> String {
        let Self {
            waiting, refused, ..
        } = self;
        // One that was handed in by a clock that ran ahead has waited for nothing yet.
        let age = self.oldest.filter(|oldest| *oldest < now);
        let age = age.map_or(0, |oldest| oldest.distance(now).as_secs());
        let head = |metric: &BacklogMetric| {
            let BacklogMetric { name, help } = metric;
            format!("# HELP {name} {help}\n# TYPE {name} gauge\n")
        };
        let (jobs, oldest) = (&BACKLOG_JOBS, &BACKLOG_OLDEST);
        let (jobs_head, oldest_head) = (head(jobs), head(oldest));
        let (jobs, oldest) = (jobs.name, oldest.name);
        format!(
            "{jobs_head}{jobs}{{state=\"waiting\"}} {waiting}\n{jobs}{{state=\"refused\"}} {refused}\n\
             {oldest_head}{oldest} {age}\n# EOF"
        )
    }
}

impl Connector {
    /// How much waits, and since when.
    ///
    /// # Errors
    /// [`ConnectorError::Keep`].
    pub async fn backlog(&self) -> Result<Backlog, ConnectorError> {
        self.keep.backlog().await
    }
}

impl Keep {
    async fn backlog(&self) -> Result<Backlog, ConnectorError> {
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE refused = ''), count(*) FILTER (WHERE refused <> ''), \
             min(accept_time) FILTER (WHERE refused = '') \
             FROM jobs WHERE progress < steps",
        )
        .fetch_one(&self.readers)
        .await?;
        let oldest: Option<i64> = row.try_get(2)?;
        let damaged = |_| ConnectorError::Keep("a time in the outbox is out of range".to_owned());
        Ok(Backlog {
            waiting: row.try_get(0)?,
            refused: row.try_get(1)?,
            oldest: oldest.map(Time::from_millis).transpose().map_err(damaged)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_told_in_numbers_alone() {
        let now = Time::from_millis(1_772_357_400_000).unwrap();
        let mut backlog = Backlog {
            waiting: 2,
            refused: 1,
            oldest: Some(Time::from_millis(1_772_357_400_000 - 90_500).unwrap()),
        };
        assert_eq!(
            backlog.to_openmetrics(now),
            "# HELP amanat_outbox_jobs Deliveries in this agency's outbox, by state: waiting, or refused by a server\n\
             # TYPE amanat_outbox_jobs gauge\n\
             amanat_outbox_jobs{state=\"waiting\"} 2\n\
             amanat_outbox_jobs{state=\"refused\"} 1\n\
             # HELP amanat_outbox_oldest_seconds How long the oldest one that waits has been waiting; 0 if none waits\n\
             # TYPE amanat_outbox_oldest_seconds gauge\n\
             amanat_outbox_oldest_seconds 90\n\
             # EOF"
        );
        backlog.oldest = Some(Time::from_millis(1_772_357_400_000 + 90_500).unwrap());
        assert!(backlog.to_openmetrics(now).contains("oldest_seconds 0\n"));
    }
}
