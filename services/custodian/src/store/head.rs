//! The gateway's log as it was seen from here: the observed head only ever moves along a proof, and two
//! words of the gateway that cannot both be true freeze the custodian until a person acts.

use std::collections::BTreeMap;

use amanat_desk::Rules;
use amanat_journal::{Ruling, damaged};
use amanat_ledger::{Hash, Head, SignedCheckpoint};
use amanat_schema::Time;
use amanat_server::Refusal;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Objection, Reply, Ruled, alarm};

/// How many observed heads are kept, so that a smaller checkpoint needs no new proof.
const RETAINED: i64 = 1024;

/// The verbs of the one who follows the gateway's log; none is an act of a caller.
pub(crate) enum HeadCall {
    /// What was seen: the head, and the heads of these sizes.
    Look(Vec<u64>),
    Observe(Observe),
    Freeze(Contradiction),
}

/// Checkpoints that were proved consistent with the head and with each other.
pub(crate) struct Observe {
    /// The size of the head that the proofs start from or lead to; 0 for none.
    pub(crate) from: u64,
    pub(crate) checkpoints: Vec<SignedCheckpoint>,
}

/// Two signed notes of the gateway that cannot both be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contradiction {
    pub(crate) why: &'static str,
    pub(crate) ours: String,
    pub(crate) theirs: String,
}

/// A checkpoint that was proved to continue all before.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observation {
    pub(crate) head: Head,
    pub(crate) note: String,
    pub(crate) at: Time,
}

/// The head and other observed heads, by size.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    observations: BTreeMap<u64, Observation>,
    pub(crate) frozen: bool,
}

/// How a signed checkpoint stands to what was seen.
#[derive(Debug, PartialEq)]
pub(crate) enum Standing<'a> {
    Known,
    Unknown,
    /// The same size was observed with another root.
    Contradicted(&'a Observation),
}

#[derive(Default)]
pub(crate) struct HeadFacts {
    seen: Seen,
    added: Vec<Observation>,
    contradiction: Option<(Contradiction, Time)>,
}

impl Seen {
    /// The largest; `None` before the first.
    pub(crate) fn head(&self) -> Option<&Observation> {
        self.observations.values().next_back()
    }

    pub(crate) fn standing(&self, head: &Head) -> Standing<'_> {
        match self.observations.get(&head.size) {
            None => Standing::Unknown,
            Some(seen) if seen.head == *head => Standing::Known,
            Some(seen) => Standing::Contradicted(seen),
        }
    }

    /// Whether it tells how a checkpoint of this size stands: of what is larger than the head nothing was seen.
    pub(crate) fn tells(&self, size: u64) -> bool {
        size > self.size() || self.observations.contains_key(&size)
    }

    fn size(&self) -> u64 {
        self.head().map_or(0, |seen| seen.head.size)
    }
}

/// Decides one verb and leaves its changes in the facts.
pub(super) fn decide(facts: &mut HeadFacts, rules: &Rules, call: &HeadCall, now: Time) -> Ruled {
    match call {
        HeadCall::Look(_) => quiet(Ok(Reply::Seen(facts.seen.clone()))),
        HeadCall::Observe(call) => quiet(facts.observe(call, now)),
        HeadCall::Freeze(_) if facts.seen.frozen => quiet(Ok(Reply::Done)),
        HeadCall::Freeze(contradiction) => {
            tracing::error!(why = contradiction.why, "ALARM: the custodian is frozen");
            let mut draft = alarm(rules, &Refusal::log_inconsistent(), contradiction.why);
            draft.body.observed_size = facts.seen.size();
            facts.seen.frozen = true;
            facts.contradiction = Some((contradiction.clone(), now));
            Ruling {
                answer: Ok(Reply::Done),
                draft: Some(draft),
                remember: None,
            }
        }
    }
}

/// No act of a caller, so no entry.
fn quiet(answer: Result<Reply, Refusal>) -> Ruled {
    Ruling {
        answer,
        draft: None,
        remember: None,
    }
}

impl HeadFacts {
    pub(super) async fn load(
        connection: &mut SqliteConnection,
        sizes: &[u64],
    ) -> Result<Self, sqlx::Error> {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT EXISTS (SELECT 1 FROM evidence), size, root, note, observe_time \
             FROM (SELECT 1) LEFT JOIN observed_heads \
             ON size = (SELECT max(size) FROM observed_heads)",
        );
        if !sizes.is_empty() {
            query
                .push(" OR size IN (SELECT value FROM json_each(")
                .push_bind(serde_json::to_string(sizes).map_err(damaged)?)
                .push("))");
        }
        let mut facts = Self::default();
        for row in query.build().fetch_all(connection).await? {
            facts.seen.frozen = row.try_get(0)?;
            if let Some(seen) = parse(&row)? {
                facts.seen.observations.insert(seen.head.size, seen);
            }
        }
        Ok(facts)
    }

    /// Goes on unless the custodian is frozen.
    pub(super) fn running(&self) -> Result<(), Objection> {
        if self.seen.frozen {
            Err(Objection::quiet(Refusal::log_inconsistent(), "frozen"))
        } else {
            Ok(())
        }
    }

    /// Goes on if the checkpoint was observed; whoever asks has had it followed before.
    pub(super) fn has_seen(&self, head: &Head) -> Result<(), Objection> {
        match self.seen.standing(head) {
            Standing::Known => Ok(()),
            Standing::Unknown | Standing::Contradicted(_) => Err(Objection::quiet(
                Refusal::audit_unavailable(),
                "the checkpoint was not proved to continue the observed head",
            )),
        }
    }

    /// Of the observed head.
    pub(super) fn size(&self) -> u64 {
        self.seen.size()
    }

    /// The compare-and-swap: the proofs are good for the head that they were made for, and no other.
    ///
    /// INVARIANT: one follower observes, and only sizes that it looked for and did not find.
    fn observe(&mut self, call: &Observe, now: Time) -> Result<Reply, Refusal> {
        if self.seen.frozen {
            return Err(Refusal::log_inconsistent());
        }
        if call.from != self.seen.size() {
            return Err(Refusal::audit_unavailable());
        }
        for checkpoint in &call.checkpoints {
            let seen = Observation {
                head: checkpoint.head,
                note: checkpoint.text.clone(),
                at: now,
            };
            self.seen.observations.insert(seen.head.size, seen.clone());
            self.added.push(seen);
        }
        Ok(Reply::Seen(self.seen.clone()))
    }

    pub(super) async fn write(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if !self.added.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO observed_heads (size, root, note, observe_time) ",
            )
            .push_values(&self.added, |mut row, seen| {
                row.push_bind(i64::try_from(seen.head.size).unwrap_or(i64::MAX))
                    .push_bind(seen.head.root.0.to_vec())
                    .push_bind(seen.note.as_str())
                    .push_bind(seen.at.millis());
            })
            .build()
            .execute(&mut *connection)
            .await?;
            // The newest observations, not the largest: what was just proved is about to be needed.
            sqlx::query(
                "DELETE FROM observed_heads \
                 WHERE seq <= (SELECT max(seq) FROM observed_heads) - $1 \
                 AND size < (SELECT max(size) FROM observed_heads)",
            )
            .bind(RETAINED)
            .execute(&mut *connection)
            .await?;
        }
        if let Some((contradiction, at)) = self.contradiction {
            sqlx::query(
                "INSERT INTO evidence (why, ours, theirs, find_time) VALUES ($1, $2, $3, $4)",
            )
            .bind(contradiction.why)
            .bind(contradiction.ours)
            .bind(contradiction.theirs)
            .bind(at.millis())
            .execute(connection)
            .await?;
        }
        Ok(())
    }
}

/// `None` before the first.
fn parse(row: &SqliteRow) -> Result<Option<Observation>, sqlx::Error> {
    let Some(size) = row.try_get::<Option<i64>, _>(1)? else {
        return Ok(None);
    };
    let root: Vec<u8> = row.try_get(2)?;
    Ok(Some(Observation {
        head: Head {
            size: u64::try_from(size).map_err(damaged)?,
            root: root
                .try_into()
                .map(Hash)
                .map_err(|_| sqlx::Error::RowNotFound)?,
        },
        note: row.try_get(3)?,
        at: Time::from_millis(row.try_get(4)?).map_err(damaged)?,
    }))
}
