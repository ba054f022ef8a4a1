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
    /// the contradiction alone is kept, and the step counts as not made. Answers whether the job still stood at
    /// that step: if not, another process made the step or dropped the job, and of this one the receipt alone is
    /// kept.
    ///
    /// # Errors
    /// [`ConnectorError::Verify`] for such a receipt, and for every later one of its log.
    pub(crate) async fn answered(&self, step: &StepRow<'_>) -> Result<bool, ConnectorError> {
        let mut transaction = self.begin().await?;
        let contradiction = step.evidence.keep(&mut transaction).await?;
        let advanced = contradiction.is_none() && step.advance(&mut transaction).await?;
        transaction.commit().await?;
        step.evidence.stands(contradiction)?;
        Ok(advanced)
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
    /// INVARIANT: what was erased with a step, or with a job that was dropped, is never written back.
    async fn advance(&self, connection: &mut SqliteConnection) -> Result<bool, ConnectorError> {
        let step = u32::try_from(self.step).unwrap_or(u32::MAX);
        let advanced = sqlx::query(
            "UPDATE jobs SET progress = $2 + 1, \
             job = CASE WHEN $2 + 1 >= steps THEN x'' ELSE $3 END \
             WHERE seq = $1 AND progress = $2",
        )
        .bind(self.seq)
        .bind(step)
        .bind(self.rest)
        .execute(&mut *connection)
        .await?;
        if advanced.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("INSERT INTO answers (seq, step, answer) VALUES ($1, $2, $3)")
            .bind(self.seq)
            .bind(step)
            .bind(self.answer)
            .execute(&mut *connection)
            .await?;
        match self.learnt {
            Learnt::Nothing => {}
            Learnt::Version(version) => version.keep(connection).await?,
            Learnt::Subject(case, subject) => subject.keep(connection, self.seq, *case).await?,
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use amanat_ledger::{Edge, LogEntry, LogSigner, body, inclusion_proof, receipt, sign};
    use amanat_schema::audit::{Action, EntryBody, Receipt};
    use prost::Message as _;
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

    /// That an entry stands at a place in a log of this size, whose other entries are what `tree` says.
    fn evidence(at: u64, tree: u8, size: u64) -> Evidence {
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
        for index in 0..size {
            let entry = if index == at { body.as_slice() } else { &other };
            nodes.extend(edge.append(&LogEntry::new(&salt, entry)));
        }
        let proof = inclusion_proof(at, size, |node| nodes.get(&node).copied()).unwrap();
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
            seen: Time::from_millis(5).unwrap(),
        }
    }

    async fn answered(keep: &Keep, seq: i64, evidence: &Evidence) -> Result<bool, ConnectorError> {
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

    /// Answers the place it names, and what it says of it.
    async fn contradicts(keep: &Keep, seq: i64, evidence: &Evidence) -> (Option<u64>, String) {
        let told = answered(keep, seq, evidence).await.unwrap_err();
        assert_eq!(told.reason(), "LOG_INCONSISTENT");
        let ConnectorError::Verify(error) = told else {
            panic!("{told}");
        };
        assert_eq!(error.fault, Fault::Contradiction);
        for words in ["kept in this outbox", "duty contact", "a new outbox"] {
            assert!(error.what.contains(words), "{}", error.what);
        }
        (error.index, error.what)
    }

    async fn contradictions(keep: &Keep) -> Vec<(String, String, Vec<u8>, Vec<u8>, i64)> {
        sqlx::query_as("SELECT origin, kind, ours, theirs, seen_time FROM contradictions")
            .fetch_all(&keep.readers)
            .await
            .unwrap()
    }

    /// A log that went on from the other of its two words signs well, and holds the entry that was asked for.
    async fn nothing_more_is_believed(keep: &Keep, later: i64, fork: &[Evidence]) {
        let receipts = keep.receipted(ORIGIN).await.unwrap();
        let last = keep.last_checkpoint(ORIGIN).await.unwrap();
        let proof = contradictions(keep).await;
        for evidence in fork {
            let (index, what) = contradicts(keep, later, evidence).await;
            assert_eq!(index, None);
            assert!(what.contains("1970-01-01T00:00:00.005Z"), "{what}");
            let (log, checkpoint) = (&evidence.log, &evidence.proven.checkpoint);
            let told = keep.checkpoint(log, checkpoint, evidence.seen).await;
            assert!(told.unwrap().is_some());
        }
        assert!(keep.contradiction(ORIGIN).await.unwrap().is_some());
        assert!(keep.contradiction("another/log").await.unwrap().is_none());
        assert_eq!(keep.receipted(ORIGIN).await.unwrap(), receipts);
        assert_eq!(keep.last_checkpoint(ORIGIN).await.unwrap(), last);
        assert_eq!(contradictions(keep).await, proof);
        let job = keep.open_job(later).await.unwrap().unwrap();
        assert_eq!((job.job, job.answers), (vec![1], vec![]));
    }

    #[tokio::test]
    async fn two_receipts_of_one_place_are_kept_and_nothing_of_their_log_is_believed_again() {
        let (keep, _folder) = keep().await;
        let [seq, later] = [handed_in(&keep).await, handed_in(&keep).await];
        let [ours, theirs] = [evidence(0, 1, 2), evidence(0, 9, 2)];
        assert!(answered(&keep, seq, &ours).await.unwrap());
        let (index, what) = contradicts(&keep, later, &theirs).await;
        assert_eq!(index, Some(0));
        assert!(what.starts_with("another entry"), "{what}");
        let [ours, theirs] = [ours, theirs].map(|evidence| evidence.receipt.encode_to_vec());
        let kind = "receipts".to_owned();
        let proof = (ORIGIN.to_owned(), kind, ours, theirs, 5);
        assert_eq!(contradictions(&keep).await, [proof]);
        nothing_more_is_believed(&keep, later, &[evidence(1, 9, 2), evidence(1, 9, 3)]).await;
    }

    #[tokio::test]
    async fn two_trees_of_one_size_are_kept_and_a_larger_one_settles_nothing() {
        let (keep, _folder) = keep().await;
        let [seq, later] = [handed_in(&keep).await, handed_in(&keep).await];
        let [ours, theirs] = [evidence(0, 1, 2), evidence(1, 9, 2)];
        assert!(answered(&keep, seq, &ours).await.unwrap());
        let (index, what) = contradicts(&keep, later, &theirs).await;
        assert_eq!(index, Some(1));
        assert!(what.starts_with("another tree"), "{what}");
        let [ours, theirs] =
            [ours, theirs].map(|evidence| evidence.receipt.checkpoint.into_bytes());
        let kind = "checkpoints".to_owned();
        let proof = (ORIGIN.to_owned(), kind, ours, theirs, 5);
        assert_eq!(contradictions(&keep).await, [proof]);
        // The same entry again, in a larger tree.
        nothing_more_is_believed(&keep, later, &[evidence(1, 9, 3)]).await;
    }

    #[tokio::test]
    async fn two_trees_of_one_size_are_kept_if_no_receipt_shows_them() {
        let (keep, _folder) = keep().await;
        let [ours, theirs] = [evidence(0, 1, 2), evidence(0, 9, 2)];
        for (evidence, is_first) in [(&ours, true), (&ours, true), (&theirs, false)] {
            let checkpoint = &evidence.proven.checkpoint;
            let told = keep
                .checkpoint(&evidence.log, checkpoint, evidence.seen)
                .await;
            assert_eq!(told.unwrap().is_none(), is_first);
        }
        assert_eq!(contradictions(&keep).await.len(), 1);
        assert_eq!(
            keep.last_checkpoint(ORIGIN).await.unwrap(),
            Some(ours.receipt.checkpoint)
        );
    }

    #[tokio::test]
    async fn what_a_process_knew_of_a_job_that_ended_meanwhile_is_not_written_back() {
        let (keep, _folder) = keep().await;
        let [done, dropped] = [handed_in(&keep).await, handed_in(&keep).await];
        let receipt = evidence(0, 1, 2);
        for step in 0..3 {
            let step = StepRow {
                seq: done,
                step,
                evidence: &receipt,
                answer: &[4],
                rest: &[5],
                learnt: &Learnt::Nothing,
            };
            assert!(keep.answered(&step).await.unwrap());
        }
        keep.refused(dropped, "FIELD_INVALID").await.unwrap();
        assert!(keep.drop_refused(dropped).await.unwrap());
        let rows = async || -> Vec<(i64, Vec<u8>, i64, i64)> {
            let rows = sqlx::query_as(
                "SELECT seq, job, progress, (SELECT count(*) FROM answers WHERE answers.seq = jobs.seq) \
                 FROM jobs ORDER BY seq",
            );
            rows.fetch_all(&keep.readers).await.unwrap()
        };
        let ended = [(done, vec![], 3, 3), (dropped, vec![], 3, 0)];
        assert_eq!(rows().await, ended);
        for seq in [done, dropped] {
            assert!(!answered(&keep, seq, &receipt).await.unwrap());
        }
        assert_eq!(rows().await, ended);
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
