//! The agency's side of an exchange: it alone holds plaintext and keys together.
//!
//! A [`Connector`] seals before anything leaves, keeps every delivery in a durable outbox until it is
//! answered, takes the gateway's receipt of a read to the custodian, and believes neither: signatures,
//! commitments, hashes and log proofs are checked before a value is shown.

mod again;
mod audit;
mod case;
mod client;
mod consent;
mod error;
mod history;
mod jobs;
mod keep;
mod pages;
mod patient;
mod profile;
mod reason;
mod referral;
mod session;
mod signer;
mod skew;
mod subject;
mod told;
mod trace;
mod transport;

use amanat_schema::{AgencyId, Time, clock::Clock};
use amanat_seal::WrapKey;

pub use audit::{EntryQuery, Fault, LogReport, SeenEntry, Server, VerifyError};
pub use case::{Read, ReadRequest, SamePerson, Submitted, Undelivered, VersionQuery, VersionSeen};
pub use consent::{ConsentFile, ConsentQuery, ConsentSeen, Granted};
pub use error::{ConnectorError, Refusal, of_directory, of_profile};
pub use history::{CaseEvent, CaseHistory, Happened};
pub use jobs::{Delivery, PendingJob, RefusedJob};
pub use profile::{FILE as PROFILE_FILE, OfficerProfile, Profile, ProfileError};
pub use reason::{Reason, Withheld, withheld};
pub use referral::{Changes, NewReferral, ReferralQuery, ReferralSeen, Referred, StepSeen};
pub use signer::Acting;
pub use subject::{
    CanaryHitSeen, DocumentFile, Found, IdentifierFile, MergeSeen, Recognised, UnusedSeen,
};

use keep::Keep;
pub use keep::{BACKLOG_JOBS, BACKLOG_OLDEST, Backlog, BacklogMetric};
use session::Sessions;

/// One agency's connector, acting for one of its officers.
pub struct Connector {
    profile: Profile,
    sessions: Sessions,
    keep: Keep,
    local: WrapKey,
    clock: Clock,
}

impl Connector {
    /// Loads a profile and its keys; connects when the first call is made. A directory, certificate or key that
    /// takes the place of another in its file is taken into use with the next call.
    ///
    /// # Errors
    /// [`ConnectorError::Profile`], [`ConnectorError::Directory`] or [`ConnectorError::Keep`], naming the
    /// file.
    pub async fn open(
        profile: Profile,
        acting: Acting,
        clock: Clock,
    ) -> Result<Self, ConnectorError> {
        let sessions = Sessions::open(&profile, acting, &clock)?;
        let keep = Keep::open(&profile.outbox).await?;
        let local = profile.local_key()?;
        Ok(Self {
            profile,
            sessions,
            keep,
            local,
            clock,
        })
    }

    pub fn agency(&self) -> AgencyId {
        self.profile.agency
    }

    /// This agency's own name for an agency, or its id where it has none.
    pub fn name_of(&self, agency: AgencyId) -> String {
        self.profile.name_of(agency)
    }

    /// The agency that this profile calls by a name or an id.
    ///
    /// # Errors
    /// [`ConnectorError::Input`] if it knows none.
    pub fn agency_named(&self, name: &str) -> Result<AgencyId, ConnectorError> {
        self.profile.agency_named(name)
    }

    /// A token of the officer that acts, for 15 minutes.
    ///
    /// # Errors
    /// [`ConnectorError::Token`].
    pub fn token(&self) -> Result<String, ConnectorError> {
        self.session()?.signer.token()
    }

    fn now(&self) -> Time {
        (self.clock)()
    }
}
