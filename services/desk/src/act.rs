//! Who acts, by which rules, and what the log keeps of it.

use std::sync::Arc;

use amanat_identity::{Directory, InForce, Officer};
use amanat_journal::{Draft, RequestKey};
use amanat_policy::DecisionTable;
use amanat_schema::{
    AgencyId, RequestId, Time,
    audit::{Action, EntryBody, Linkage},
    policy::{AgencyKind, Decision},
};
use amanat_server::Refusal;
use arc_swap::ArcSwap;

/// What every decision is made by; the log names both by hash.
pub struct Rules {
    pub directory: Arc<Directory>,
    pub table: DecisionTable,
    pub table_sha256: [u8; 32],
    /// When this process took them into use.
    pub since: Time,
    /// What they took the place of; `None` in a process that has just started.
    pub previous: Option<Superseded>,
}

/// Rules that are no longer in use, as entries of the log name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superseded {
    pub directory_sha256: [u8; 32],
    pub table_sha256: [u8; 32],
}

impl Rules {
    pub fn superseded(&self) -> Superseded {
        Superseded {
            directory_sha256: *self.directory.sha256(),
            table_sha256: self.table_sha256,
        }
    }

    /// What is suspended now, in a line; `none` if nothing is.
    pub(crate) fn suspended(&self, now: Time) -> String {
        joined(self.directory.suspensions().in_force(now))
    }

    /// Tells the operator that they are in use, and what of them stands in no file any more.
    pub(crate) fn tell(&self, now: Time) {
        let (version, suspended) = (self.directory.version(), self.suspended(now));
        let in_force = self.directory.suspensions().in_force(now);
        let unfiled: Vec<_> = in_force.filter(|suspended| !suspended.is_filed).collect();
        if unfiled.is_empty() {
            tracing::info!(
                version,
                suspended,
                "directory, revocation lists and suspensions are in use as they are in their files"
            );
        } else {
            let without_file = joined(unfiled);
            tracing::warn!(
                version,
                suspended,
                without_file,
                "directory and revocation lists are in use as they are in their files; a suspension without its \
                 file stays in force to its end, unless a newer directory lifts it"
            );
        }
    }
}

fn joined(suspended: impl IntoIterator<Item = InForce>) -> String {
    let suspended = suspended.into_iter().map(|suspended| suspended.to_string());
    let suspended: Vec<_> = suspended.collect();
    if suspended.is_empty() {
        return "none".to_owned();
    }
    suspended.join("; ")
}

/// The rules in use now; shared by a server's handlers and its book, and replaced as a whole when a newer
/// directory comes.
#[derive(Clone)]
pub struct Rulebook(Arc<ArcSwap<Rules>>);

impl Rulebook {
    pub fn new(rules: Rules) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(rules)))
    }

    /// What is decided now is decided by these, to its end.
    pub fn current(&self) -> Arc<Rules> {
        self.0.load_full()
    }

    pub fn replace(&self, rules: Rules) {
        self.0.store(Arc::new(rules));
    }
}

/// One request of one officer, as far as it is known before it is decided.
#[derive(Debug, Clone)]
pub struct Act {
    pub agency: AgencyId,
    /// From the directory.
    pub kind: AgencyKind,
    /// Of the connection's certificate.
    pub certificate_sha256: [u8; 32],
    pub officer: Arc<Officer>,
    /// Of method and request.
    pub request_sha256: [u8; 32],
    /// The method and the caller's id of a mutation.
    pub request: Option<(&'static str, RequestId)>,
}

impl Act {
    /// Whether the rules in use when it is decided do not know its agency any more, or as another, or have it
    /// suspended: they may be newer than those that let the request in.
    pub fn is_shut_out(&self, rules: &Rules, now: Time) -> bool {
        let directory = &rules.directory;
        let listed = directory.agency(self.agency);
        listed.is_none_or(|agency| agency.kind != self.kind)
            || directory.is_suspended(self.agency, now)
    }

    /// Under what a mutation is remembered; `None` for reads.
    pub fn request_key(&self) -> Option<RequestKey> {
        self.request.map(|(method, request_id)| RequestKey {
            agency: self.agency,
            method,
            request_id,
            request_sha256: self.request_sha256,
        })
    }

    /// The entry of an allowed act.
    pub fn allowed(&self, rules: &Rules, action: Action, linkage: Linkage) -> Draft {
        Draft {
            body: EntryBody {
                action: action.into(),
                decision: Decision::Allow.into(),
                agency_id: self.agency.to_vec(),
                agency_kind: self.kind.into(),
                certificate_sha256: self.certificate_sha256.to_vec(),
                directory_sha256: rules.directory.sha256().to_vec(),
                table_sha256: rules.table_sha256.to_vec(),
                ..EntryBody::default()
            },
            linkage: Linkage {
                request_sha256: self.request_sha256.to_vec(),
                ..linkage
            },
            officer: self.officer.id.clone(),
            reasons: String::new(),
        }
    }

    /// The entry of a refused act: the public reason in clear, the true one committed.
    pub fn refused(
        &self,
        rules: &Rules,
        action: Action,
        linkage: Linkage,
        refusal: &Refusal,
        truth: &str,
    ) -> Draft {
        let mut draft = self.allowed(rules, action, linkage);
        draft.body.decision = Decision::Deny.into();
        refusal.reason().clone_into(&mut draft.body.public_reason);
        truth.clone_into(&mut draft.reasons);
        draft
    }
}
