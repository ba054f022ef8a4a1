//! The gateway's log as it was seen from here: the observed head only ever moves along a proof, and two
//! words of the gateway that cannot both be true freeze the custodian until a person acts.

use std::collections::{BTreeMap, BTreeSet};

use amanat_database::{
    Column::{Bytes, Number, Text},
    Connection, Error, Insert, Row, Sql, damaged,
};
use amanat_desk::Rules;
use amanat_journal::Ruling;
use amanat_ledger::{Hash, Head, SignedCheckpoint};
use amanat_schema::Time;
use amanat_server::Refusal;

use super::{Objection, Reply, Ruled, Unseen, alarm, quiet};

/// How many observed heads are kept, so that a smaller checkpoint needs no new proof: more than all replicas observe
/// while one of their calls waits to be decided.
const RETAINED: i64 = 4096;

/// The verbs of the one who follows the gateway's log; none is an act of a caller.
pub(crate) enum HeadCall {
    /// What was seen: the head, and the heads of these sizes.
    Look(Vec<u64>),
    Observe(Observe),
    Freeze(Contradiction),
}

/// Checkpoints that were proved consistent with a head and with each other.
pub(crate) struct Observe {
    /// The observed head that the proofs start from or lead to; [`Head::EMPTY`] for none.
    pub(crate) from: Head,
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
    /// The other sizes that were looked for.
    looked_for: BTreeSet<u64>,
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

impl Observe {
    pub(super) fn sizes(&self) -> Vec<u64> {
        let new = self.checkpoints.iter().map(|new| new.head.size);
        new.chain([self.from.size]).collect()
    }
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
        size > self.size()
            || self.observations.contains_key(&size)
            || self.looked_for.contains(&size)
    }

    /// Of the head; 0 before the first.
    pub(crate) fn size(&self) -> u64 {
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

impl HeadFacts {
    pub(super) async fn load(connection: &mut Connection, sizes: &[u64]) -> Result<Self, Error> {
        let mut query = Sql::new(
            "SELECT EXISTS (SELECT 1 FROM evidence), size, root, note, observe_time \
             FROM (SELECT 1) AS always LEFT JOIN observed_heads \
             ON size = (SELECT max(size) FROM observed_heads)",
        );
        if !sizes.is_empty() {
            let sizes = sizes.iter().map(|size| signed(*size));
            query = query.push(" OR ").is_one_of(Number("size"), sizes);
        }
        let mut facts = Self::default();
        for row in query.fetch_all(connection).await? {
            facts.seen.frozen = row.get(0)?;
            if let Some(seen) = parse(&row)? {
                facts.seen.observations.insert(seen.head.size, seen);
            }
        }
        facts.seen.looked_for.extend(sizes);
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
    pub(super) fn has_seen(&self, head: &Head, unseen: Unseen) -> Result<(), Objection> {
        match self.seen.standing(head) {
            Standing::Known => Ok(()),
            Standing::Unknown | Standing::Contradicted(_) => Err(Objection::unseen(unseen)),
        }
    }

    /// Of the observed head.
    pub(super) fn size(&self) -> u64 {
        self.seen.size()
    }

    /// The compare-and-swap: takes what its proofs are good for, and leaves the rest to be proved again, for another
    /// replica has moved the head meanwhile. A proof that leads up from a head is good for that one only; one that
    /// leads to a head is good for all that continue it.
    ///
    /// INVARIANT: the head was proved to continue all others that stand here.
    fn observe(&mut self, call: &Observe, now: Time) -> Result<Reply, Refusal> {
        if self.seen.frozen {
            return Err(Refusal::log_inconsistent());
        }
        let head = self.seen.head().map_or(Head::EMPTY, |seen| seen.head);
        let is_continued = self.seen.standing(&call.from) == Standing::Known;
        let is_proved = |size| call.from == head || (is_continued && size < call.from.size);
        for checkpoint in &call.checkpoints {
            // One that contradicts what another replica observed is found out when it is followed again.
            let is_new = self.seen.standing(&checkpoint.head) == Standing::Unknown;
            if is_new && is_proved(checkpoint.head.size) {
                let seen = Observation {
                    head: checkpoint.head,
                    note: checkpoint.text.clone(),
                    at: now,
                };
                self.seen.observations.insert(seen.head.size, seen.clone());
                self.added.push(seen);
            }
        }
        Ok(Reply::Seen(self.seen.clone()))
    }

    pub(super) async fn write(self, connection: &mut Connection) -> Result<(), Error> {
        if !self.added.is_empty() {
            let added = self.added.iter().map(|seen| {
                [
                    signed(seen.head.size).into(),
                    (&seen.head.root.0).into(),
                    seen.note.as_str().into(),
                    seen.at.millis().into(),
                ]
            });
            let columns = [
                Number("size"),
                Bytes("root"),
                Text("note"),
                Number("observe_time"),
            ];
            Insert::into("observed_heads", columns, added)
                .execute(connection)
                .await?;
            // The newest observations, not the largest: what was just proved is about to be needed.
            Sql::new(
                "DELETE FROM observed_heads WHERE seq <= (SELECT max(seq) FROM observed_heads) - ",
            )
            .bind(RETAINED)
            .push(" AND size < (SELECT max(size) FROM observed_heads)")
            .execute(connection)
            .await?;
        }
        if let Some((Contradiction { why, ours, theirs }, at)) = self.contradiction {
            let columns = [
                Text("why"),
                Text("ours"),
                Text("theirs"),
                Number("find_time"),
            ];
            let found = [why.into(), ours.into(), theirs.into(), at.millis().into()];
            Insert::into("evidence", columns, [found])
                .execute(connection)
                .await?;
        }
        Ok(())
    }
}

/// The databases' integers are signed; no log reaches their end.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// `None` before the first.
fn parse(row: &Row) -> Result<Option<Observation>, Error> {
    let Some(size) = row.get::<Option<i64>>(1)? else {
        return Ok(None);
    };
    Ok(Some(Observation {
        head: Head {
            size: u64::try_from(size).map_err(damaged)?,
            root: Hash(row.get(2)?),
        },
        note: row.get(3)?,
        at: Time::from_millis(row.get(4)?).map_err(damaged)?,
    }))
}
