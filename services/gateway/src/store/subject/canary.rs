//! Invented persons' identifiers: who asks for one walks identifiers. Whoever asks is answered as ever; the
//! alarm is raised by another call.

use std::collections::{BTreeMap, HashMap};

use amanat_desk::{Act, Page, Rules};
use amanat_journal::{Access, ConflictKey, Draft, Touch};
use amanat_schema::{
    AgencyId, Time,
    audit::{Action, EntryBody, Linkage},
    policy::Decision,
};

use super::{FindSubject, Identifier, Lists, Peppered, SubjectReply};
use crate::store::{Reply, Ruled, done};

pub(crate) struct PlantCanary {
    pub(crate) act: Act,
    pub(crate) identifier: Identifier,
    pub(crate) label: String,
}

pub(crate) struct ListCanaryHits {
    pub(crate) act: Act,
    pub(crate) page: Page,
}

/// Whether anybody was answered since canaries were looked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    SinceTheLast,
    /// As far as this process knows.
    NotSince,
}

/// As oversight sees it.
#[derive(Clone)]
pub(crate) struct SeenHit {
    pub(crate) label: String,
    pub(crate) agency: AgencyId,
    pub(crate) officer_handle: Vec<u8>,
    pub(crate) at: Time,
}

#[derive(Default)]
pub(super) struct CanaryFacts {
    /// Of those that the batch asks for.
    pub(super) labels: HashMap<Peppered, String>,
    pub(super) lists: Lists<SeenHit>,
    /// Hits that no alarm has counted yet.
    pub(super) waiting: Vec<i64>,
    pub(super) planted: BTreeMap<Peppered, (String, Time)>,
    pub(super) hits: Vec<SeenHit>,
    /// Those counted now, when.
    pub(super) alarmed: Vec<(i64, Time)>,
}

impl PlantCanary {
    pub(super) fn access(&self) -> Access {
        let tokens = self.identifier.tokens.iter();
        let keys = tokens.filter_map(|(_, Peppered(stored))| {
            Some(ConflictKey {
                kind: "canary",
                id: *stored.first_chunk()?,
            })
        });
        Access {
            keys: keys.collect(),
            touch: Touch::Changes,
            request: self.act.request_key(),
        }
    }
}

impl CanaryFacts {
    /// One hit for each identifier that is a canary's.
    pub(super) fn sight(&mut self, call: &FindSubject, now: Time) {
        for identifier in &call.identifiers {
            let mut tokens = identifier.tokens.iter();
            let label = tokens.find_map(|(_, stored)| self.labels.get(stored));
            self.hits.extend(label.map(|label| SeenHit {
                label: label.clone(),
                agency: call.act.agency,
                officer_handle: call.officer_handle.to_vec(),
                at: now,
            }));
        }
    }
}

/// Planting one again, under a new epoch's key say, gives it the newer label.
pub(super) fn plant(
    facts: &mut CanaryFacts,
    rules: &Rules,
    call: &PlantCanary,
    now: Time,
) -> Ruled {
    for (_, stored) in &call.identifier.tokens {
        facts.labels.insert(*stored, call.label.clone());
        facts.planted.insert(*stored, (call.label.clone(), now));
    }
    done(
        call.act
            .allowed(rules, Action::PlantCanary, Linkage::default()),
    )
}

pub(super) fn hits(facts: &CanaryFacts, rules: &Rules, call: &ListCanaryHits) -> Ruled {
    let key = (call.act.agency, call.act.request_sha256);
    let rows = facts.lists.get(&key).map_or(&[][..], Vec::as_slice);
    let next = call.page.next(rows.len(), rows.last().map(|row| row.0));
    let hits = rows.iter().map(|(_, hit)| hit.clone()).collect();
    Ruled {
        answer: Ok(SubjectReply::Hits { hits, next }.into()),
        draft: Some(
            call.act
                .allowed(rules, Action::ListCanaryHits, Linkage::default()),
        ),
        remember: None,
    }
}

/// One entry for all that were asked for since the last, ALARM if a canary was among them. It names no
/// agency, or the agency would find it among its own entries; and there is one after answers without a
/// canary too, or whoever asks would see by the log's growth what he ran into.
pub(super) fn check(facts: &mut CanaryFacts, rules: &Rules, asked: Asked, now: Time) -> Ruled {
    let hits = std::mem::take(&mut facts.waiting);
    let draft = (!hits.is_empty() || asked == Asked::SinceTheLast).then(|| {
        let count = hits.len();
        let (action, why) = if hits.is_empty() {
            (Action::CheckCanaries, "no canary was asked for")
        } else {
            tracing::error!(count, "ALARM: somebody walks identifiers");
            (Action::Alarm, "a canary was asked for")
        };
        let body = EntryBody {
            action: action.into(),
            // It was answered like any other.
            decision: Decision::Allow.into(),
            directory_sha256: rules.directory.sha256().to_vec(),
            table_sha256: rules.table_sha256.to_vec(),
            count: count.try_into().unwrap_or(u64::MAX),
            ..EntryBody::default()
        };
        Draft {
            body,
            linkage: Linkage::default(),
            officer: String::new(),
            reasons: why.to_owned(),
        }
    });
    facts.alarmed.extend(hits.into_iter().map(|hit| (hit, now)));
    Ruled {
        answer: Ok(Reply::Done),
        draft,
        remember: None,
    }
}
