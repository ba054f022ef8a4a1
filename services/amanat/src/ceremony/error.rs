//! What stops a ceremony. Files that were made until then are left as they are.

use std::{io, path::PathBuf};

use amanat_identity::DirectoryError;
use amanat_schema::{AgencyId, Time};

#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    #[error("{path} is not empty; choose another folder")]
    NotEmpty { path: PathBuf },
    #[error("{path} holds a party's keys already; choose another folder")]
    HoldsKeys { path: PathBuf },
    #[error("there is a file {path} already; name another")]
    FileThere { path: PathBuf },
    #[error("there is no folder {path}; make it, or name the one that is meant")]
    NoFolder { path: PathBuf },
    #[error("cannot make, read or write {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    File(#[from] amanat_config::FileError),
    #[error(transparent)]
    Config(#[from] amanat_config::ConfigError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("{path} does not hold what this program put there; restore it")]
    Changed { path: PathBuf },
    #[error("a certificate, its key or a revocation list cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error(transparent)]
    Key(#[from] amanat_seal::SealError),
    #[error(transparent)]
    Oprf(#[from] amanat_seal::oprf::OprfError),
    #[error(transparent)]
    Log(#[from] amanat_ledger::LedgerError),
    #[error("{path} cannot be written as TOML: {source}")]
    Toml {
        path: PathBuf,
        source: toml::ser::Error,
    },
    #[error("{path}: {fault}")]
    Card { path: PathBuf, fault: CardFault },
    /// A card with settings that are none.
    #[error(transparent)]
    CardForm(amanat_config::ConfigError),
    #[error("{path}: {fault}")]
    Draft { path: PathBuf, fault: DraftFault },
    #[error("{folder}: {fault}")]
    Rotation {
        folder: PathBuf,
        fault: RotationFault,
    },
    #[error("{0}")]
    Suspension(SuspensionRefusal),
    #[error("name two different registrars' cards, or more, each once with --registrar")]
    TooFewRegistrars,
    #[error(
        "{registrars} registrars were named: let 2 to {registrars} of them sign, with --threshold"
    )]
    Threshold { registrars: usize },
    #[error("standard input cannot be read: {0}")]
    Confirmation(io::Error),
}

/// Why a card is not taken.
#[derive(Debug, thiserror::Error)]
pub enum CardFault {
    #[error("this is no card, or not a whole one; name the file that ends in .card.toml")]
    NoCard,
    #[error("the card is not of {expected}; take the card that `keys init` of that party made")]
    Party { expected: &'static str },
    #[error("it is not a {kind}'s card; take the one that `keys init {kind}` made")]
    Server { kind: &'static str },
    #[error("the card is of exchange {found:?}, not of {expected:?}")]
    Exchange { expected: String, found: String },
    #[error(
        "the card's signatures do not hold: it was changed, or its maker does not hold its keys; ask for it again"
    )]
    Signature,
    #[error("the fingerprint in the card is not that of what the card says; ask for it again")]
    Fingerprint,
    #[error("a shelter's card has no display_name: the directory never shows where one is")]
    ShelterNamed,
    #[error(
        "the card is not signed by any statement key that the directory lists for its party now; if its keys are \
         lost, make sure with the party itself and add --keys-lost, for a server as in --keys-lost gateway"
    )]
    Discontinuous,
    #[error("the card does not say when it was made; ask for it again")]
    Undated,
    #[error(
        "the card was made at {0}, which is in the future; check the clock here and where it was made"
    )]
    Early(Time),
    #[error(
        "the card was made at {made}, and the directory lists what its party said at {listed}: an older card \
         brings back what was given up; ask the party for its newest one, and find out who handed in this one"
    )]
    Older { made: Time, listed: Time },
    #[error(
        "the card names the statement key {0}, which is listed as compromised and never comes back; the agency \
         makes a new one with `keys rotate statements`"
    )]
    CompromisedKey(String),
    #[error(
        "the card names the statement key {0}, which is listed as retired and does not come back; the agency makes a \
         new one with `keys rotate statements`, or, if it has lost those that are listed, is removed with one \
         directory and taken back with the next"
    )]
    RetiredKey(String),
    #[error(
        "the agency was removed in this very draft; to list it after all, draft anew with `directory draft`"
    )]
    RemovedHere,
    #[error(
        "the agency was removed from the directory before; to take it back, make sure of the card with the agency \
         itself and add --keys-lost: its old statement keys are then listed as retired"
    )]
    Former,
    #[error(
        "--compromised-since marks nothing: the card leaves out no statement key that is listed; name a retired \
         key with --compromised-key"
    )]
    NothingDropped,
    #[error(
        "{0} is no retired statement key of the agency; while a key is in force the agency replaces it first, with \
         `keys rotate statements`"
    )]
    NotRetired(String),
    #[error(
        "--compromised-since {0} is in the future, so it marks nothing, and no later directory can move it; say since \
         when somebody else may have used the key, and check the clock"
    )]
    CompromisedLater(Time),
    #[error(
        "{key} is listed as compromised since {since} already; only an earlier time can take its place"
    )]
    Marked { key: String, since: Time },
}

/// Why a draft is not edited, signed or published.
#[derive(Debug, thiserror::Error)]
pub enum DraftFault {
    #[error("it is not a directory, nor a draft of one")]
    Malformed,
    #[error(
        "it has a signature, so it cannot be edited; draft anew with `directory draft`, under another name"
    )]
    IsSigned,
    #[error("agency {0} is not listed in it")]
    UnknownAgency(AgencyId),
    #[error("it is of exchange {found:?}, not of {expected:?}")]
    Exchange { expected: String, found: String },
    #[error(
        "it is version {found}; after the version {in_use} that is in use the next is {}",
        in_use + 1
    )]
    Version { in_use: u64, found: u64 },
    #[error("version {in_use} is published already; only a later one takes its place")]
    Superseded { in_use: u64 },
    #[error("it names other registrars, or another threshold, than the directory in use")]
    Registrars,
    #[error(
        "of {of} it forgets what the directory in use says: {forgotten}; do not sign it, and find out who drafted it"
    )]
    History { of: String, forgotten: Forgotten },
    #[error("the directory in use must be given with --in-use: it is version {0}, not the first")]
    InUseMissing(u64),
    #[error(
        "the name of its registrar with the public key {0} is not in lower-case letters, digits and hyphens; do \
         not sign it, and find out who drafted it"
    )]
    RegistrarName(String),
    #[error("its time ended at {0}; draft anew")]
    Expired(Time),
    #[error(
        "this key is not of a registrar whom it lists; use the key whose card was named at the first draft"
    )]
    UnknownRegistrar,
    #[error("this registrar has signed it already")]
    SignedAlready,
    #[error(
        "its signatures do not hold, or are not all by registrars; do not sign it, and find out who changed it"
    )]
    Signatures,
    #[error("it is not signed by {threshold} registrars")]
    Unsigned { threshold: u32 },
    #[error(
        "nothing was signed: type the first 8 digits of the digest at a terminal, or say --yes after reading \
         what changes"
    )]
    Unconfirmed,
    #[error("{table} is not the decision table whose hash it names; give that one with --table")]
    OtherTable { table: PathBuf },
    #[error("{table} is not a decision table: {message}")]
    NoTable { table: PathBuf, message: String },
}

/// What a draft leaves out, or says otherwise, that the next directory must keep.
#[derive(Debug, thiserror::Error)]
pub enum Forgotten {
    #[error("it was listed, and is neither listed nor a former agency")]
    Entry,
    #[error("its card is older than the one that is listed, or undated")]
    Card,
    #[error("the statement key {0} is missing, and not retired")]
    Key(String),
    #[error("the statement key {0}, which is retired, is in force again")]
    InForce(String),
    #[error("the statement key {0} was retired earlier")]
    Retired(String),
    #[error("the statement key {0} is marked compromised, since an earlier time")]
    Compromised(String),
}

/// Why keys are not changed.
#[derive(Debug, thiserror::Error)]
pub enum RotationFault {
    #[error("there is no card of a party here; name the folder that `keys init` made")]
    NoParty,
    #[error("only {0} can do this")]
    OtherParty(&'static str),
    #[error("a new one is made already; have its card enrolled, then say --finish")]
    UnderWay,
    #[error("no new one is made yet; start without --finish")]
    NotBegun,
    #[error(
        "the directory does not list the new one yet: have the card enrolled, signed and published, and fetch \
         the directory; then say --finish again"
    )]
    NotListed,
    #[error("the serial number is not one: hexadecimal digits are expected")]
    Serial,
    #[error("the certificate was not issued by this party's authority")]
    Foreign,
    #[error(
        "the certificate is in use; renew first, with `keys renew`, then revoke the old one; --in-use revokes it \
         all the same, and the party is refused everywhere until it has renewed"
    )]
    InUse,
    #[error(
        "{0}: the agency's identity provider issues its tokens; say its new key with --token-key-id and \
         --token-public-key"
    )]
    Provider(&'static str),
}

/// Why nothing is suspended.
#[derive(Debug, thiserror::Error)]
pub enum SuspensionRefusal {
    #[error("the directory lists no agency {0}")]
    UnknownAgency(AgencyId),
    #[error("the directory lists no such statement key for agency {0}")]
    UnknownKey(AgencyId),
    #[error("this key is not of a registrar whom the directory lists")]
    UnknownRegistrar,
}
