//! Invented persons' identifiers: who asks for one walks identifiers. Whoever asks is answered as ever; the
//! alarm is raised by another call.
//!
//! The gateway cannot tell an invented person from a survivor. So that no officer of oversight can lie in
//! wait for one, a canary is live only once two of them have planted the same identifier.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use amanat_desk::{Act, Page, Rules};
use amanat_journal::{Access, Draft, Touch};
use amanat_schema::{
    AgencyId, Time,
    audit::{Action, EntryBody, Linkage},
    policy::Decision,
    subject::IdentifierDomain,
};
use amanat_server::Refusal;

use super::{FindSubject, Identifier, Lists, Peppered, SubjectReply};
use crate::store::{Reply, Ruled, done, refuse};

/// Under one epoch of a key. Each is a row in memory whenever one is planted.
const MOST: usize = 1_000;
/// After which a hit was left behind: whoever answered would have looked long ago.
const LEFT: Duration = Duration::from_secs(60);

pub(crate) struct PlantCanary {
    pub(crate) act: Act,
    /// Whose epochs those of its tokens are.
    pub(crate) domain: IdentifierDomain,
    pub(crate) identifier: Identifier,
    pub(crate) label: String,
    pub(crate) officer_handle: [u8; 16],
}

pub(crate) struct ListCanaryHits {
    pub(crate) act: Act,
    pub(crate) page: Page,
}

/// Whether this process answered anybody since it looked for canaries last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    SinceTheLast,
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

/// An identifier of a canary under one epoch. INVARIANT: nothing of it changes but that it becomes live.
pub(super) struct Planted {
    pub(super) place: Place,
    pub(super) label: String,
    pub(super) planter: Vec<u8>,
    pub(super) planted: Time,
    /// By whom else, and when.
    pub(super) live: Option<(Vec<u8>, Time)>,
}

/// An epoch of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) domain: IdentifierDomain,
    pub(super) epoch: u32,
}

#[derive(Default)]
pub(super) struct CanaryFacts {
    /// Those that the batch asks for or plants.
    pub(super) known: HashMap<Peppered, Planted>,
    /// Where all there are stand, if one is planted.
    pub(super) places: Vec<Place>,
    /// Where the live ones stand, by label, if they are counted.
    pub(super) live: Vec<(String, Place)>,
    pub(super) lists: Lists<SeenHit>,
    /// Hits that no alarm has counted yet, each with its time.
    pub(super) waiting: Vec<(i64, Time)>,
    /// New ones, and those that became live.
    pub(super) changed: BTreeSet<Peppered>,
    pub(super) hits: Vec<SeenHit>,
    /// Those counted now, when.
    pub(super) alarmed: Vec<(i64, Time)>,
}

impl PlantCanary {
    fn place(&self, epoch: u32) -> Place {
        Place {
            domain: self.domain,
            epoch,
        }
    }

    fn rows(&self) -> impl Iterator<Item = (u32, Peppered)> {
        let epochs = self.identifier.tokens.iter().map(|(epoch, _)| *epoch);
        epochs.zip(self.identifier.as_canary.iter().copied())
    }

    pub(super) fn access(&self) -> Access {
        let tokens = self.identifier.as_canary.iter();
        let keys = tokens.filter_map(|stored| stored.conflict_key("canary"));
        Access {
            keys: keys.collect(),
            touch: Touch::Changes,
            request: self.act.request_key(),
        }
    }
}

impl CanaryFacts {
    /// One hit for each identifier that is a live canary's.
    pub(super) fn sight(&mut self, call: &FindSubject, now: Time) {
        for identifier in &call.identifiers {
            let tokens = identifier.as_canary.iter();
            let mut known = tokens.filter_map(|stored| self.known.get(stored));
            let live = known.find(|planted| planted.live.is_some());
            self.hits.extend(live.map(|planted| SeenHit {
                label: planted.label.clone(),
                agency: call.act.agency,
                officer_handle: call.officer_handle.to_vec(),
                at: now,
            }));
        }
    }

    /// What one officer plants waits for another, under each epoch by itself: a token that is added to a
    /// live canary could be anybody's. The first label stands.
    fn plant(&mut self, call: &PlantCanary, now: Time) -> Result<(), Crowded> {
        let planted: Vec<_> = call.rows().collect();
        let first = planted
            .iter()
            .find_map(|(_, stored)| self.known.get(stored));
        let label = first.map_or(&call.label, |first| &first.label).clone();
        let is_new = |stored: &Peppered| !self.known.contains_key(stored);
        let is_full = |epoch| {
            let here = call.place(epoch);
            self.places.iter().filter(|place| **place == here).count() >= MOST
        };
        if planted
            .iter()
            .any(|(epoch, of)| is_new(of) && is_full(*epoch))
        {
            return Err(Crowded);
        }
        for (epoch, stored) in planted {
            if let Some(known) = self.known.get_mut(&stored) {
                if known.live.is_none() && known.planter != call.officer_handle {
                    known.live = Some((call.officer_handle.to_vec(), now));
                    self.changed.insert(stored);
                }
                continue;
            }
            let place = call.place(epoch);
            let new = Planted {
                place,
                label: label.clone(),
                planter: call.officer_handle.to_vec(),
                planted: now,
                live: None,
            };
            self.known.insert(stored, new);
            self.places.push(place);
            self.changed.insert(stored);
        }
        Ok(())
    }
}

/// There are [`MOST`] canaries.
struct Crowded;

pub(super) fn plant(
    facts: &mut CanaryFacts,
    rules: &Rules,
    call: &PlantCanary,
    now: Time,
) -> Ruled {
    let (action, linkage) = (Action::PlantCanary, Linkage::default());
    match facts.plant(call, now) {
        Ok(()) => done(call.act.allowed(rules, action, linkage)),
        Err(Crowded) => {
            let refusal =
                Refusal::state("too many canaries: there are 1,000, and none is taken back");
            let truth = "too many canaries";
            let draft = call.act.refused(rules, action, linkage, &refusal, truth);
            refuse(refusal, draft)
        }
    }
}

/// A canary is asked for under the epochs that the directory lists; one that stands under none of them keeps
/// silent until it is planted again. By its label it is known again, for no two epochs' tokens can be
/// compared. Nobody's act, so no entry.
pub(super) fn count_lapsed(facts: &CanaryFacts, rules: &Rules) -> Ruled {
    let mut heard: BTreeMap<&str, bool> = BTreeMap::new();
    for (label, place) in &facts.live {
        let mut listed = rules.directory.oprf_keys(place.domain);
        *heard.entry(label).or_default() |= listed.any(|(epoch, _)| epoch == place.epoch);
    }
    let lapsed = heard.values().filter(|heard| !**heard).count();
    Ruled {
        answer: Ok(SubjectReply::Lapsed(lapsed).into()),
        draft: None,
        remember: None,
    }
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
/// canary too, or whoever asks would see by the log's growth what he ran into. So who answered nobody leaves what
/// is recent to the replica that did: it looks too, and two entries would tell.
pub(super) fn check(facts: &mut CanaryFacts, rules: &Rules, asked: Asked, now: Time) -> Ruled {
    let waiting = std::mem::take(&mut facts.waiting).into_iter();
    let is_due = |at: Time| asked == Asked::SinceTheLast || at + LEFT <= now;
    let hits: Vec<_> = waiting
        .filter_map(|(hit, at)| is_due(at).then_some(hit))
        .collect();
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
