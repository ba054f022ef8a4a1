//! The shared schema of an exchange: the messages and services of `proto/`, the field catalogue built
//! from the annotations there, the ids, case files, and the canonical spelling of identifiers.
//!
//! The wire types are dumb; the other rooms turn them into checked ones. [`catalogue`] is the one list of
//! what a record may hold and how much harm each field can do.

pub mod case_file;
pub mod catalogue;
pub mod clock;
mod id;
pub mod identifier;
pub mod methods;
mod sensitive;
mod time;
mod violation;

pub use id::{
    AgencyId, BootId, CaseId, ConsentId, EntryId, IdError, RecordId, ReferralId, RequestId,
    StatementId,
};
pub use time::{Time, TimeError};
pub use violation::Violation;

/// The generated code, in the folders of `proto/`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unreachable_pub,
    reason = "generated from proto/ by tonic-prost-build; not ours to style"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/services.rs"));
}

pub use generated::amanat::{
    audit::v1 as audit, consent::v1 as consent, directory::v1 as directory, error::v1 as error,
    key::v1 as key, policy::v1 as policy, record::v1 as record, referral::v1 as referral,
    statement::v1 as statement, subject::v1 as subject,
};

/// The compiled schema, without its comments: who has the same bytes exchanges the same messages.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schema.bin"));
