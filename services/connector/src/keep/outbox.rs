//! Jobs until they are answered. What an answer leaves behind is kept in one transaction with the job's progress:
//! after a crash a step was made with all that it came to, or is made again.

use amanat_schema::{CaseId, Time};
use sqlx::{Row as _, SqliteConnection};

use super::{Evidence, Keep, SubjectRow, VersionRow};
use crate::ConnectorError;

const WAITING: &str = "SELECT seq, kind, subject, progress FROM jobs \
                       WHERE progress < steps AND refused = '' ORDER BY seq";
const REFUSED: &str = "SELECT seq, kind, subject, refused FROM jobs \
                       WHERE progress < steps AND refused <> '' ORDER BY seq";

/// A job to keep.
pub(crate) struct SealedJob<'a> {
    pub(crate) kind: &'static str,
    pub(crate) subject: &'a str,
    pub(crate) sealed: Vec<u8>,
    pub(crate) steps: u32,
    /// When it was handed in.
    pub(crate) accepted: Time,
}

/// A job as it waits.
pub(crate) struct JobRow {
    pub(crate) seq: i64,
    pub(crate) kind: String,
    pub(crate) subject: String,
    /// Sealed.
    pub(crate) job: Vec<u8>,
    pub(crate) answers: Vec<Vec<u8>>,
}

/// A step of a job that was answered.
pub(crate) struct StepRow<'a> {
    pub(crate) seq: i64,
    /// From 0.
    pub(crate) step: usize,
    pub(crate) evidence: &'a Evidence,
    pub(crate) answer: &'a [u8],
    /// What is left to send, sealed; with the last step the job's contents are erased.
    pub(crate) rest: &'a [u8],
    pub(crate) learnt: &'a Learnt,
}

/// What an answer says beside that it was done.
pub(crate) enum Learnt {
    Nothing,
    /// The gateway took a version.
    Version(VersionRow),
    /// Whose record it is.
    Subject(CaseId, SubjectRow),
}

impl Keep {
    /// All of them durable when it returns, or none; only then may the first call be made.
    pub(crate) async fn add_jobs(
        &self,
        jobs: &[SealedJob<'_>],
    ) -> Result<Vec<i64>, ConnectorError> {
        let mut transaction = self.begin().await?;
        let mut numbers = Vec::with_capacity(jobs.len());
        for job in jobs {
            let row = sqlx::query(
                "INSERT INTO jobs (kind, subject, job, steps, progress, refused, accept_time) \
                 VALUES ($1, $2, $3, $4, 0, '', $5) RETURNING seq",
            )
            .bind(job.kind)
            .bind(job.subject)
            .bind(job.sealed.as_slice())
            .bind(job.steps)
            .bind(job.accepted.millis())
            .fetch_one(&mut *transaction)
            .await?;
            numbers.push(row.try_get(0)?);
        }
        transaction.commit().await?;
        Ok(numbers)
    }

    /// A job that is neither done nor refused, with what was answered so far.
    pub(crate) async fn open_job(&self, seq: i64) -> Result<Option<JobRow>, ConnectorError> {
        let rows = sqlx::query(
            "SELECT kind, subject, job, answer FROM jobs LEFT JOIN answers USING (seq) \
             WHERE seq = $1 AND progress < steps AND refused = '' ORDER BY step",
        )
        .bind(seq)
        .fetch_all(&self.readers)
        .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let answers = rows.iter().map(|row| row.try_get::<Option<_>, _>(3));
        Ok(Some(JobRow {
            seq,
            kind: row.try_get(0)?,
            subject: row.try_get(1)?,
            job: row.try_get(2)?,
            answers: answers
                .filter_map(Result::transpose)
                .collect::<Result<_, _>>()?,
        }))
    }

    /// The jobs that are neither done nor refused, oldest first: number, kind, subject and how many of its
    /// steps were answered.
    pub(crate) async fn waiting_jobs(
        &self,
    ) -> Result<Vec<(i64, String, String, u32)>, ConnectorError> {
        Ok(sqlx::query_as(WAITING).fetch_all(&self.readers).await?)
    }

    /// The jobs that a server refused, oldest first: number, kind, subject and reason.
    pub(crate) async fn refused_jobs(
        &self,
    ) -> Result<Vec<(i64, String, String, String)>, ConnectorError> {
        Ok(sqlx::query_as(REFUSED).fetch_all(&self.readers).await?)
    }

    /// Keeps all that a step came to, or nothing of it. Of one whose receipt contradicts what was kept before,
    /// the receipt alone is kept, and the step counts as not made.
    ///
    /// # Errors
    /// [`ConnectorError::Verify`] for such a receipt.
    pub(crate) async fn answered(&self, step: &StepRow<'_>) -> Result<(), ConnectorError> {
        let mut transaction = self.begin().await?;
        let contradiction = step.evidence.keep(&mut transaction).await?;
        if contradiction.is_none() {
            step.advance(&mut transaction).await?;
        }
        transaction.commit().await?;
        step.evidence.stands(contradiction)
    }

    /// Takes a job out of the queue, unless another process completed it; its contents stay, so that nothing
    /// handed in is lost.
    pub(crate) async fn refused(&self, seq: i64, reason: &str) -> Result<(), ConnectorError> {
        sqlx::query("UPDATE jobs SET refused = $2 WHERE seq = $1 AND progress < steps")
            .bind(seq)
            .bind(reason)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Forgets a refused job, and answers whether there was one. Its number stays taken, for a pseudonym may
    /// rest on it.
    pub(crate) async fn drop_refused(&self, seq: i64) -> Result<bool, ConnectorError> {
        let mut transaction = self.begin().await?;
        let dropped = sqlx::query(
            "UPDATE jobs SET job = x'', progress = steps, refused = '' \
             WHERE seq = $1 AND refused <> ''",
        )
        .bind(seq)
        .execute(&mut *transaction)
        .await?;
        let was_refused = dropped.rows_affected() > 0;
        if was_refused {
            sqlx::query("DELETE FROM answers WHERE seq = $1")
                .bind(seq)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(was_refused)
    }
}

impl StepRow<'_> {
    async fn advance(&self, connection: &mut SqliteConnection) -> Result<(), ConnectorError> {
        let step = u32::try_from(self.step).unwrap_or(u32::MAX);
        sqlx::query("INSERT OR IGNORE INTO answers (seq, step, answer) VALUES ($1, $2, $3)")
            .bind(self.seq)
            .bind(step)
            .bind(self.answer)
            .execute(&mut *connection)
            .await?;
        sqlx::query(
            "UPDATE jobs SET progress = max(progress, $2 + 1), \
             job = CASE WHEN $2 + 1 >= steps THEN x'' ELSE $3 END WHERE seq = $1",
        )
        .bind(self.seq)
        .bind(step)
        .bind(self.rest)
        .execute(&mut *connection)
        .await?;
        match self.learnt {
            Learnt::Nothing => Ok(()),
            Learnt::Version(version) => version.keep(connection).await,
            Learnt::Subject(case, subject) => subject.keep(connection, self.seq, *case).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use amanat_ledger::{Edge, LogEntry, LogSigner, body, inclusion_proof, receipt, sign};
    use amanat_schema::audit::{Action, EntryBody, Receipt};
    use sqlx::AssertSqlSafe;
    use tempfile::TempDir;

    use super::*;
    use crate::{Fault, Server};

    /// A private Ed25519 key in PKCS#8, but for its 32 bytes.
    const PKCS8: &str = "302e020100300506032b657004220420";
    const ORIGIN: &str = "gateway.example/log";

    async fn keep() -> (Keep, TempDir) {
        let folder = TempDir::new().unwrap();
        let keep = Keep::open(&folder.path().join("outbox.sqlite")).await;
        (keep.unwrap(), folder)
    }

    async fn handed_in(keep: &Keep) -> i64 {
        let job = SealedJob {
            kind: "submission",
            subject: "record",
            sealed: vec![1],
            steps: 3,
            accepted: Time::from_millis(0).unwrap(),
        };
        keep.add_jobs(&[job]).await.unwrap()[0]
    }

    /// That an entry stands at a place in a log of two, whose other entry is what `tree` says.
    fn evidence(at: u64, tree: u8) -> Evidence {
        let key = [hex::decode(PKCS8).unwrap(), vec![7; 32]].concat();
        let signer = LogSigner::from_pkcs8(ORIGIN, &key).unwrap();
        let body = body::encode(&EntryBody {
            format: body::FORMAT,
            entry_id: vec![tree; 16],
            origin: ORIGIN.to_owned(),
            boot_id: vec![2; 16],
            time: Some(Time::from_millis(1).unwrap().to_timestamp()),
            action: Action::PutRecord.into(),
            ..EntryBody::default()
        });
        let (salt, other) = ([tree; 32], [tree]);
        let (mut edge, mut nodes) = (Edge::empty(), BTreeMap::new());
        for index in 0..2 {
            let entry = if index == at { body.as_slice() } else { &other };
            nodes.extend(edge.append(&LogEntry::new(&salt, entry)));
        }
        let proof = inclusion_proof(at, 2, |node| nodes.get(&node).copied()).unwrap();
        let receipt = Receipt {
            index: at,
            body,
            salt: salt.to_vec(),
            linkage: None,
            inclusion_proof: proof.iter().map(|hash| hash.0.to_vec()).collect(),
            checkpoint: sign(&signer, edge.head()).unwrap().text,
        };
        let log = signer.verifier().clone();
        Evidence {
            server: Server::Gateway,
            proven: receipt::verify(&receipt, &log).unwrap(),
            log,
            receipt,
        }
    }

    async fn answered(keep: &Keep, seq: i64, evidence: &Evidence) -> Result<(), ConnectorError> {
        let step = StepRow {
            seq,
            step: 0,
            evidence,
            answer: &[2],
            rest: &[3],
            learnt: &Learnt::Nothing,
        };
        keep.answered(&step).await
    }

    #[tokio::test]
    async fn a_receipt_that_contradicts_an_earlier_one_is_kept_and_its_step_is_not_made() {
        let (keep, _folder) = keep().await;
        let [seq, later] = [handed_in(&keep).await, handed_in(&keep).await];
        answered(&keep, seq, &evidence(0, 1)).await.unwrap();
        // At the place of the other, and at one of its own.
        for (at, what, kept) in [(0, "another entry", 1), (1, "another tree", 2)] {
            let told = answered(&keep, later, &evidence(at, 9)).await.unwrap_err();
            let ConnectorError::Verify(error) = told else {
                panic!("{told}");
            };
            assert_eq!(error.fault, Fault::Contradiction);
            assert_eq!(error.index, Some(at));
            assert!(error.what.starts_with(what), "{}", error.what);
            assert_eq!(keep.receipted(ORIGIN).await.unwrap().len(), kept);
        }
        let job = keep.open_job(later).await.unwrap().unwrap();
        assert_eq!((job.job, job.answers), (vec![1], vec![]));
        let job = keep.open_job(seq).await.unwrap().unwrap();
        assert_eq!((job.job, job.answers), (vec![3], vec![vec![2]]));
        let first = evidence(0, 1).proven.checkpoint.text;
        assert_eq!(keep.last_checkpoint(ORIGIN).await.unwrap(), Some(first));
    }

    #[tokio::test]
    async fn what_waits_is_read_while_somebody_writes() {
        let (keep, _folder) = keep().await;
        let seq = handed_in(&keep).await;
        let mut writing = keep.begin().await.unwrap();
        sqlx::query("UPDATE jobs SET refused = 'FIELD_INVALID'")
            .execute(&mut *writing)
            .await
            .unwrap();
        assert!(keep.open_job(seq).await.unwrap().is_some());
        writing.commit().await.unwrap();
        assert!(keep.open_job(seq).await.unwrap().is_none());
        assert_eq!(keep.refused_jobs().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_is_open_is_found_without_reading_what_is_done() {
        let (keep, _folder) = keep().await;
        for query in [WAITING, REFUSED] {
            let plan = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"));
            let plan = sqlx::raw_sql(plan).fetch_all(&keep.readers).await.unwrap();
            let step: String = plan[0].try_get("detail").unwrap();
            assert!(step.contains("INDEX jobs_open"), "{step}");
        }
    }
}
