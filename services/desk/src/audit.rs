//! Reading the log: bodies by right, each reading an entry itself; checkpoints, entries and proofs for
//! anyone. Gateway and custodian serve the same calls over their own logs.

mod service;

use std::collections::HashMap;

use amanat_database::{Connection, Error};
use amanat_journal::{Access, EntryFilter, Ruling, StoredEntry};
use amanat_schema::{
    audit,
    policy::{AgencyKind, Right},
};
use amanat_server::Refusal;

use crate::{Act, Rules};

pub use service::AuditDesk;

/// The verbs.
pub enum AuditCall {
    List { act: Act, filter: EntryFilter },
    Get { act: Act, idx: u64 },
}

/// What the verbs answer.
#[derive(Debug)]
pub enum AuditReply {
    Listed {
        entries: Vec<SeenEntry>,
        /// The index that the next page begins at.
        next: Option<i64>,
    },
    Got(Box<SeenEntry>),
}

/// One entry and whether its reader may see what it is about.
#[derive(Debug)]
pub struct SeenEntry {
    pub stored: StoredEntry,
    pub linkage: Linkage,
}

/// Whether the ids of the case stand beside an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linkage {
    /// For the agency that acted.
    Shown,
    /// For auditors.
    Withheld,
}

/// The entries that a batch's readings need, by what was asked: two officers of one agency may ask in the
/// same words with different rights.
#[derive(Default)]
pub struct AuditFacts {
    listed: HashMap<EntryFilter, Vec<StoredEntry>>,
    got: HashMap<u64, Option<StoredEntry>>,
}

impl AuditCall {
    pub fn act(&self) -> &Act {
        match self {
            Self::List { act, .. } | Self::Get { act, .. } => act,
        }
    }

    pub fn access(&self) -> Access {
        Access::default()
    }
}

impl AuditFacts {
    /// # Errors
    /// Of the driver.
    pub async fn load(connection: &mut Connection, calls: &[&AuditCall]) -> Result<Self, Error> {
        let mut facts = Self::default();
        for call in calls {
            match call {
                AuditCall::List { filter, .. } => {
                    let page = amanat_journal::page(connection, filter).await?;
                    facts.listed.insert(filter.clone(), page);
                }
                AuditCall::Get { idx, .. } => {
                    let entry = amanat_journal::stored_entry(connection, *idx).await?;
                    facts.got.insert(*idx, entry);
                }
            }
        }
        Ok(facts)
    }

    /// Decides one verb.
    pub fn decide(
        &mut self,
        rules: &Rules,
        call: &AuditCall,
    ) -> Ruling<Result<AuditReply, Refusal>> {
        // Entries are cloned, not taken: the same question can stand twice in a batch.
        let (act, action, answer) = match call {
            AuditCall::List { act, filter } => {
                let found = self.listed.get(filter).into_iter().flatten().cloned();
                let entries: Vec<_> = found.filter_map(|stored| see(act, stored)).collect();
                let full = u64::from(filter.limit) == u64::try_from(entries.len()).unwrap_or(0);
                let last = entries.last().filter(|_| full);
                let next = last.and_then(|entry| i64::try_from(entry.stored.idx + 1).ok());
                (
                    act,
                    audit::Action::ListEntries,
                    Ok(AuditReply::Listed { entries, next }),
                )
            }
            AuditCall::Get { act, idx } => {
                let found = self.got.get(idx).cloned().flatten();
                let seen = found.and_then(|stored| see(act, stored));
                let answer = seen.map(|entry| AuditReply::Got(Box::new(entry)));
                (
                    act,
                    audit::Action::GetEntry,
                    answer.ok_or_else(Refusal::access),
                )
            }
        };
        let linkage = audit::Linkage::default();
        let draft = match &answer {
            Ok(_) => act.allowed(rules, action, linkage),
            Err(refusal) => act.refused(
                rules,
                action,
                linkage,
                refusal,
                "absent or another agency's",
            ),
        };
        Ruling {
            answer,
            draft: Some(draft),
            remember: None,
        }
    }
}

/// Whether an officer reads all entries: of the oversight body, with the auditor's right.
pub(crate) fn reads_all(act: &Act) -> bool {
    act.kind == AgencyKind::Oversight && act.officer.has_any(&[Right::Auditor])
}

fn see(act: &Act, stored: StoredEntry) -> Option<SeenEntry> {
    if stored.agency == act.agency.as_bytes() {
        Some(SeenEntry {
            stored,
            linkage: Linkage::Shown,
        })
    } else {
        reads_all(act).then_some(SeenEntry {
            stored,
            linkage: Linkage::Withheld,
        })
    }
}
