//! Receipts: the proof that an entry stands on a log, which its holder can show to anyone.

use amanat_schema::audit::{EntryBody, Linkage, Receipt};

use crate::{
    LedgerError, LogEntry, LogVerifier, Salt, SignedCheckpoint, body, commitment, parse_proof,
    verify_inclusion,
};

/// What a good receipt proves. Only [`verify`] makes one, so to hold one is to have checked it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Proven {
    pub index: u64,
    pub entry: LogEntry,
    pub body: EntryBody,
    /// `None` if the holder was not shown it.
    pub linkage: Option<Linkage>,
    /// Signed by the log. Whether it fits the checkpoints seen before is for the caller to find out.
    pub checkpoint: SignedCheckpoint,
}

/// Why a receipt proves nothing: one variant a check, in the order of the checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error("the receipt's checkpoint is not good")]
    Checkpoint(#[source] LedgerError),
    #[error("the receipt's salt is not 32 bytes")]
    Salt,
    #[error("the receipt's inclusion proof is malformed")]
    Proof(#[source] LedgerError),
    #[error("the entry is not in the tree under this index")]
    NotIncluded,
    #[error("the receipt's body is not good")]
    Body(#[source] LedgerError),
    #[error("the body was written for another log")]
    Origin,
    #[error("the receipt's linkage is not the one committed")]
    LinkageOpening,
    #[error("the receipt's linkage is not good")]
    Linkage(#[source] LedgerError),
}

/// Verifies that the body stands on this log, under the receipt's index, in a tree that the log signed.
///
/// # Errors
/// [`ReceiptError`], at the first check that fails.
pub fn verify(receipt: &Receipt, log: &LogVerifier) -> Result<Proven, ReceiptError> {
    verify_in(receipt, log, |note| log.open(note))
}

/// The same, by whoever has opened the log's notes before: `open` is [`LogVerifier::open`] of this log, or what
/// it came to.
///
/// # Errors
/// As [`verify`].
pub fn verify_in(
    receipt: &Receipt,
    log: &LogVerifier,
    open: impl FnOnce(&str) -> Result<SignedCheckpoint, LedgerError>,
) -> Result<Proven, ReceiptError> {
    let checkpoint = open(&receipt.checkpoint).map_err(ReceiptError::Checkpoint)?;
    let salt = <&Salt>::try_from(receipt.salt.as_slice()).map_err(|_| ReceiptError::Salt)?;
    let proof = parse_proof(&receipt.inclusion_proof).map_err(ReceiptError::Proof)?;
    let entry = LogEntry::new(salt, &receipt.body);
    verify_inclusion(entry.leaf_hash(), receipt.index, &proof, &checkpoint.head)
        .map_err(|_| ReceiptError::NotIncluded)?;

    let body = body::parse(&receipt.body).map_err(ReceiptError::Body)?;
    if body.origin != log.origin() {
        return Err(ReceiptError::Origin);
    }
    let linkage = match &receipt.linkage {
        None => None,
        Some(opening)
            if commitment::opens(commitment::linkage, opening, &body.linkage_commitment) =>
        {
            Some(body::parse_linkage(&opening.value).map_err(ReceiptError::Linkage)?)
        }
        Some(_) => return Err(ReceiptError::LinkageOpening),
    };
    Ok(Proven {
        index: receipt.index,
        entry,
        body,
        linkage,
        checkpoint,
    })
}
