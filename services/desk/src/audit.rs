//! Reading the log: bodies by right, each reading an entry itself; checkpoints, entries and proofs for
//! anyone. Gateway and custodian serve the same calls over their own logs.

mod service;

use amanat_journal::{Access, Ruling, StoredEntry};
use amanat_schema::{
    audit,
    policy::{AgencyKind, Right},
};
use amanat_server::Refusal;

use crate::{Act, Rules};

pub use service::AuditDesk;

/// The verbs, with what was found: entries never change, so they are looked for beside the batch, in which everyone
/// would wait for that. Nobody is shown them before the reading is an entry itself.
pub enum AuditCall {
    List {
        act: Act,
        /// As many are asked for.
        limit: u32,
        page: Vec<StoredEntry>,
    },
    Get {
        act: Act,
        found: Option<Box<StoredEntry>>,
    },
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

impl AuditCall {
    pub fn act(&self) -> &Act {
        match self {
            Self::List { act, .. } | Self::Get { act, .. } => act,
        }
    }

    pub fn access(&self) -> Access {
        Access::default()
    }

    /// Decides who sees what was found.
    pub fn decide(&self, rules: &Rules) -> Ruling<Result<AuditReply, Refusal>> {
        // Entries are cloned, not taken: a batch that fails is decided again.
        let (act, action, answer) = match self {
            Self::List { act, limit, page } => {
                let found = page.iter().cloned();
                let entries: Vec<_> = found.filter_map(|stored| see(act, stored)).collect();
                let full = u32::try_from(entries.len()).is_ok_and(|count| count == *limit);
                let last = entries.last().filter(|_| full);
                let next = last.and_then(|entry| i64::try_from(entry.stored.idx + 1).ok());
                (
                    act,
                    audit::Action::ListEntries,
                    Ok(AuditReply::Listed { entries, next }),
                )
            }
            Self::Get { act, found } => {
                let found = found.as_deref().cloned();
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
