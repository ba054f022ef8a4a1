//! What the outbox shows: what waits, and what a server refused until somebody drops it.

use crate::{Connector, ConnectorError};

/// A delivery that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingJob {
    pub seq: i64,
    pub kind: String,
    /// The id of the record, consent or referral.
    pub subject: String,
    /// How many of its calls were answered.
    pub progress: u32,
}

/// A delivery that a server refused: it is not tried again, and what was handed in is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedJob {
    pub seq: i64,
    pub kind: String,
    /// The id of the record, consent or referral.
    pub subject: String,
    /// The published reason.
    pub reason: String,
}

impl Connector {
    /// What waits in the outbox, oldest first.
    ///
    /// # Errors
    /// [`ConnectorError::Keep`].
    pub async fn pending(&self) -> Result<Vec<PendingJob>, ConnectorError> {
        let jobs = self.keep.waiting_jobs().await?;
        let job = |(seq, kind, subject, progress)| PendingJob {
            seq,
            kind,
            subject,
            progress,
        };
        Ok(jobs.into_iter().map(job).collect())
    }

    /// What a server refused, oldest first.
    ///
    /// # Errors
    /// [`ConnectorError::Keep`].
    pub async fn refused(&self) -> Result<Vec<RefusedJob>, ConnectorError> {
        let jobs = self.keep.refused_jobs().await?;
        let job = |(seq, kind, subject, reason)| RefusedJob {
            seq,
            kind,
            subject,
            reason,
        };
        Ok(jobs.into_iter().map(job).collect())
    }

    /// Forgets what a server refused, contents and all.
    ///
    /// # Errors
    /// [`ConnectorError::Unfit`] if there is no such refused job: what waits is never dropped.
    pub async fn drop_refused(&self, job: i64) -> Result<(), ConnectorError> {
        if self.keep.drop_refused(job).await? {
            return Ok(());
        }
        let what = if self.keep.open_job(job).await?.is_some() {
            format!("job {job} waits; only what a server refused can be dropped")
        } else {
            format!("no job {job} was refused")
        };
        let next = "see `amanat outbox list`";
        Err(ConnectorError::Unfit { what, next })
    }
}
