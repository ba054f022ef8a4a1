//! Proof that a log was signed twice over. While it stands here nothing of that log is believed: whoever signed
//! two entries for one place can go on from either, and no later receipt would show it.

use amanat_schema::Time;
use sqlx::{Row as _, SqliteConnection};

use super::Keep;
use crate::{ConnectorError, Fault, Server, VerifyError};

const KEPT: &str = "both words are kept in this outbox as proof, and nothing of this log is believed with it any \
                    more; call the duty contact, who decides whether this agency goes on, with a new outbox";

/// What is wrong with a log, in words.
pub(crate) struct Contradiction {
    /// Of the entry that shows it.
    index: Option<u64>,
    what: String,
}

impl Contradiction {
    pub(crate) fn of(self, server: Server) -> ConnectorError {
        let Self { index, what } = self;
        let fault = Fault::Contradiction;
        ConnectorError::Verify(VerifyError {
            server,
            index,
            what,
            fault,
        })
    }

    pub(super) fn at(self, index: u64) -> Self {
        Self {
            index: Some(index),
            ..self
        }
    }

    /// The one that was kept of a log.
    pub(super) async fn standing(
        connection: &mut SqliteConnection,
        origin: &str,
    ) -> Result<Option<Self>, ConnectorError> {
        let row = sqlx::query("SELECT seen_time FROM contradictions WHERE origin = $1")
            .bind(origin)
            .fetch_optional(connection)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let damaged = |_| ConnectorError::Keep("a time in the outbox is out of range".into());
        let seen = Time::from_millis(row.try_get(0)?).map_err(damaged)?;
        Ok(Some(Self {
            index: None,
            what: format!("it was seen to contradict itself at {seen}; {KEPT}"),
        }))
    }
}

/// Two words that cannot both be true.
pub(super) struct TwoWords<'a> {
    pub(super) kind: Kind,
    pub(super) ours: &'a [u8],
    pub(super) theirs: &'a [u8],
}

/// What the words are; the name is the row's `kind`.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Receipts,
    Checkpoints,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Receipts => "receipts",
            Self::Checkpoints => "checkpoints",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Receipts => "another entry was receipted at this place before",
            Self::Checkpoints => "another tree of this size was signed before",
        }
    }
}

impl TwoWords<'_> {
    /// Of a log of which none stands yet.
    pub(super) async fn keep(
        &self,
        connection: &mut SqliteConnection,
        origin: &str,
        seen: Time,
    ) -> Result<Contradiction, ConnectorError> {
        sqlx::query(
            "INSERT INTO contradictions (origin, kind, ours, theirs, seen_time) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(origin)
        .bind(self.kind.name())
        .bind(self.ours)
        .bind(self.theirs)
        .bind(seen.millis())
        .execute(connection)
        .await?;
        Ok(Contradiction {
            index: None,
            what: format!("{}; {KEPT}", self.kind.what()),
        })
    }
}

impl Keep {
    /// The contradiction of a log that was kept here, if it is to be believed no more.
    pub(crate) async fn contradiction(
        &self,
        origin: &str,
    ) -> Result<Option<Contradiction>, ConnectorError> {
        Contradiction::standing(&mut *self.readers.acquire().await?, origin).await
    }
}
