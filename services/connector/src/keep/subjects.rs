//! Which of this agency's cases bear which pseudonym, as far as this connector handed them in.

use amanat_schema::{CaseId, RecordId, Time};
use amanat_seal::pseudonym::Pseudonym;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::Keep;
use crate::ConnectorError;

/// A person in a case of this agency.
pub(crate) struct SubjectRow {
    pub(crate) record: RecordId,
    pub(crate) pseudonym: Pseudonym,
    pub(crate) found: Time,
}

impl SubjectRow {
    /// What a job was answered; the same again changes nothing.
    pub(super) async fn keep(
        &self,
        connection: &mut SqliteConnection,
        seq: i64,
        case: CaseId,
    ) -> Result<(), ConnectorError> {
        sqlx::query(
            "INSERT OR IGNORE INTO subjects (seq, pseudonym, case_id, record_id, found) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(seq)
        .bind(self.pseudonym.as_bytes().as_slice())
        .bind(case.to_vec())
        .bind(self.record.to_vec())
        .bind(self.found.millis())
        .execute(connection)
        .await?;
        Ok(())
    }
}

impl Keep {
    /// In which case a job asked, and what it was answered, if it was.
    pub(crate) async fn subject_of_job(
        &self,
        seq: i64,
    ) -> Result<Option<(CaseId, Pseudonym)>, ConnectorError> {
        let row = sqlx::query("SELECT case_id, pseudonym FROM subjects WHERE seq = $1")
            .bind(seq)
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| Ok((case(&row, 0)?, pseudonym(&row, 1)?)))
            .transpose()
    }

    /// What was answered last for a record of this agency's.
    pub(crate) async fn subject_of_record(
        &self,
        record: RecordId,
    ) -> Result<Option<Pseudonym>, ConnectorError> {
        let row = sqlx::query(
            "SELECT pseudonym FROM subjects WHERE record_id = $1 ORDER BY seq DESC LIMIT 1",
        )
        .bind(record.to_vec())
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| pseudonym(&row, 0)).transpose()
    }

    /// Whether a pseudonym is another, or stands for it since they were merged.
    pub(crate) async fn stands_for(
        &self,
        standing: Pseudonym,
        other: Pseudonym,
    ) -> Result<bool, ConnectorError> {
        let row = sqlx::query(
            "WITH RECURSIVE same (pseudonym) AS (\
             SELECT $1 UNION SELECT absorbed FROM merged JOIN same ON standing = pseudonym) \
             SELECT count(*) FROM same WHERE pseudonym = $2",
        )
        .bind(standing.as_bytes().as_slice())
        .bind(other.as_bytes().as_slice())
        .fetch_one(&self.readers)
        .await?;
        Ok(row.try_get::<i64, _>(0)? > 0)
    }

    /// The people in a case, in the order in which they were answered.
    pub(crate) async fn subjects_of(
        &self,
        case: CaseId,
    ) -> Result<Vec<SubjectRow>, ConnectorError> {
        let rows = sqlx::query(
            "SELECT record_id, pseudonym, found FROM subjects WHERE case_id = $1 ORDER BY seq",
        )
        .bind(case.to_vec())
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let record: Vec<u8> = row.try_get(0)?;
                Ok(SubjectRow {
                    record: RecordId::parse(&record).map_err(|_| damaged())?,
                    pseudonym: pseudonym(row, 1)?,
                    found: Time::from_millis(row.try_get(2)?).map_err(|_| damaged())?,
                })
            })
            .collect()
    }

    /// The cases that bear a pseudonym, or one that it stands for since they were merged; oldest first.
    pub(crate) async fn cases_of(
        &self,
        pseudonym: Pseudonym,
    ) -> Result<Vec<CaseId>, ConnectorError> {
        let rows = sqlx::query(
            "WITH RECURSIVE same (pseudonym) AS (\
             SELECT $1 UNION SELECT absorbed FROM merged JOIN same ON standing = pseudonym) \
             SELECT case_id FROM subjects WHERE pseudonym IN (SELECT pseudonym FROM same) \
             GROUP BY case_id ORDER BY min(seq)",
        )
        .bind(pseudonym.as_bytes().as_slice())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| case(row, 0)).collect()
    }

    /// From now on `into` is answered for `from` too.
    pub(crate) async fn merged(
        &self,
        into: Pseudonym,
        from: Pseudonym,
    ) -> Result<(), ConnectorError> {
        sqlx::query(
            "INSERT INTO merged (absorbed, standing) VALUES ($1, $2) \
             ON CONFLICT (absorbed) DO UPDATE SET standing = excluded.standing",
        )
        .bind(from.as_bytes().as_slice())
        .bind(into.as_bytes().as_slice())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// They are two persons, whichever stood for both.
    pub(crate) async fn split(
        &self,
        one: Pseudonym,
        other: Pseudonym,
    ) -> Result<(), ConnectorError> {
        sqlx::query("DELETE FROM merged WHERE absorbed IN ($1, $2) AND standing IN ($1, $2)")
            .bind(one.as_bytes().as_slice())
            .bind(other.as_bytes().as_slice())
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

fn case(row: &SqliteRow, column: usize) -> Result<CaseId, ConnectorError> {
    let bytes: Vec<u8> = row.try_get(column)?;
    CaseId::parse(&bytes).map_err(|_| damaged())
}

fn pseudonym(row: &SqliteRow, column: usize) -> Result<Pseudonym, ConnectorError> {
    let bytes: Vec<u8> = row.try_get(column)?;
    let bytes = bytes.try_into().map_err(|_| damaged())?;
    Ok(Pseudonym::from_bytes(bytes))
}

fn damaged() -> ConnectorError {
    ConnectorError::Keep("a kept pseudonym cannot be read".into())
}

#[cfg(test)]
mod tests {
    use amanat_schema::AgencyId;
    use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
    use tempfile::TempDir;

    use super::*;
    use crate::keep::SealedJob;

    struct Kept {
        keep: Keep,
        _folder: TempDir,
    }

    fn pseudonym(byte: u8) -> Pseudonym {
        Pseudonym::from_bytes([byte; 16])
    }

    fn case(byte: u8) -> CaseId {
        CaseId::new([byte; 16])
    }

    impl Kept {
        async fn new() -> Self {
            let folder = TempDir::new().unwrap();
            Self {
                keep: Keep::open(&folder.path().join("outbox.sqlite"))
                    .await
                    .unwrap(),
                _folder: folder,
            }
        }

        /// A person who came in under a case.
        async fn comes(&self, person: u8, at: u8) -> i64 {
            let job = SealedJob {
                kind: "subject",
                subject: "",
                sealed: vec![1],
                steps: 1,
                accepted: Time::from_millis(at.into()).unwrap(),
            };
            let seq = self.keep.add_jobs(&[job]).await.unwrap()[0];
            self.answered(seq, person, at).await;
            seq
        }

        async fn answered(&self, seq: i64, person: u8, at: u8) {
            let row = SubjectRow {
                record: RecordId::new([at; 16]),
                pseudonym: pseudonym(person),
                found: Time::from_millis(1_790_000_000_000).unwrap(),
            };
            let mut connection = self.keep.writer.acquire().await.unwrap();
            row.keep(&mut connection, seq, case(at)).await.unwrap();
        }

        async fn cases(&self, person: u8) -> Vec<CaseId> {
            self.keep.cases_of(pseudonym(person)).await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_person_who_comes_again_is_known_by_her_cases_oldest_first() {
        let kept = Kept::new().await;
        kept.comes(1, 20).await;
        kept.comes(2, 15).await;
        kept.comes(1, 10).await;
        // Again in the first case: it is named once.
        kept.comes(1, 20).await;
        assert_eq!(kept.cases(1).await, [case(20), case(10)]);
        assert_eq!(kept.cases(3).await, []);
        assert_eq!(kept.keep.subjects_of(case(20)).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_job_has_one_answer_however_often_it_is_delivered() {
        let kept = Kept::new().await;
        let seq = kept.comes(1, 20).await;
        kept.answered(seq, 2, 20).await;
        let answer = kept.keep.subject_of_job(seq).await.unwrap();
        assert_eq!(answer, Some((case(20), pseudonym(1))));
        assert_eq!(kept.keep.subject_of_job(seq + 1).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_record_is_of_whom_it_was_last_answered_to_be_of() {
        let kept = Kept::new().await;
        let of_record = async || {
            let record = RecordId::new([20; 16]);
            kept.keep.subject_of_record(record).await.unwrap()
        };
        assert_eq!(of_record().await, None);
        kept.comes(1, 20).await;
        kept.comes(3, 10).await;
        assert_eq!(of_record().await, Some(pseudonym(1)));
        kept.comes(2, 20).await;
        assert_eq!(of_record().await, Some(pseudonym(2)));
    }

    #[tokio::test]
    async fn a_merge_brings_cases_together_along_a_chain_and_a_split_takes_them_apart() {
        let kept = Kept::new().await;
        for person in [1, 2, 3] {
            kept.comes(person, person).await;
        }
        kept.keep.merged(pseudonym(2), pseudonym(3)).await.unwrap();
        kept.keep.merged(pseudonym(1), pseudonym(2)).await.unwrap();
        assert_eq!(kept.cases(1).await, [case(1), case(2), case(3)]);
        assert_eq!(kept.cases(2).await, [case(2), case(3)]);
        for (standing, other, is_one) in [(1, 3, true), (3, 1, false), (3, 3, true)] {
            let told = kept
                .keep
                .stands_for(pseudonym(standing), pseudonym(other))
                .await;
            assert_eq!(told.unwrap(), is_one, "{standing} for {other}");
        }
        // Whichever is named first.
        kept.keep.split(pseudonym(2), pseudonym(1)).await.unwrap();
        assert_eq!(kept.cases(1).await, [case(1)]);
        assert_eq!(kept.cases(2).await, [case(2), case(3)]);
    }

    #[tokio::test]
    async fn a_circle_of_merges_ends() {
        let kept = Kept::new().await;
        kept.comes(1, 1).await;
        kept.keep.merged(pseudonym(1), pseudonym(2)).await.unwrap();
        kept.keep.merged(pseudonym(2), pseudonym(1)).await.unwrap();
        assert_eq!(kept.cases(2).await, [case(1)]);
    }

    #[tokio::test]
    async fn an_outbox_of_before_keeps_what_it_holds() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("outbox.sqlite");
        let job = SealedJob {
            kind: "submission",
            subject: "record",
            sealed: vec![7],
            steps: 3,
            accepted: Time::from_millis(0).unwrap(),
        };
        Keep::open(&path)
            .await
            .unwrap()
            .add_jobs(&[job])
            .await
            .unwrap();
        let options = SqliteConnectOptions::new().filename(&path);
        let mut database = SqliteConnection::connect_with(&options).await.unwrap();
        for undo in [
            "DROP TABLE subjects",
            "DROP TABLE merged",
            "DELETE FROM _sqlx_migrations WHERE version = 2",
        ] {
            sqlx::query(undo).execute(&mut database).await.unwrap();
        }
        database.close().await.unwrap();

        let keep = Keep::open(&path).await.unwrap();
        assert_eq!(keep.waiting_jobs().await.unwrap().len(), 1);
        assert_eq!(keep.cases_of(pseudonym(1)).await.unwrap(), []);
        let version = keep.version(AgencyId::new([1; 16]), RecordId::new([1; 16]));
        assert!(version.await.unwrap().is_none());
    }
}
