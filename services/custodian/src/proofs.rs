//! What is shown with a release, verified: a checkpoint serves many receipts, and a referral many reads.

use std::sync::Arc;

use amanat_desk::Remembered;
use amanat_identity::{Directory, Signed, SignedError};
use amanat_ledger::{LogVerifier, SignedCheckpoint, receipt};
use amanat_policy::parse_referral;
use amanat_schema::{
    Time,
    audit::Receipt,
    statement::{Envelope, Referral},
};
use prost::Message as _;

use crate::store::Shown;

/// Of all together; a checkpoint is half a kilobyte, if nobody adds signature lines that nothing judges.
const CHECKPOINTS_MIB: usize = 4;
/// Of all together; a referral is some two kilobytes.
const REFERRALS_MIB: usize = 32;

/// Signatures that were found good. Those that were not are looked at again.
pub(crate) struct Proofs {
    /// By the note's text. A process works with one log key for all its life.
    checkpoints: Remembered<String, SignedCheckpoint>,
    /// By the SHA-256 of the envelope and of the directory.
    referrals: Remembered<([u8; 32], [u8; 32]), Signed<Referral>>,
}

impl Default for Proofs {
    fn default() -> Self {
        Self {
            // As the key and in the value.
            checkpoints: Remembered::holding(CHECKPOINTS_MIB, |checkpoint| {
                2 * checkpoint.text.len()
            }),
            // As the envelope and as the message, which is larger than what it decodes from.
            referrals: Remembered::holding(REFERRALS_MIB, |signed| {
                4 * signed.envelope().encoded_len()
            }),
        }
    }
}

impl Proofs {
    /// A receipt of the gateway's log.
    pub(crate) fn receipt(&self, receipt: &Receipt, log: &LogVerifier) -> Shown {
        receipt::verify_in(receipt, log, |note| {
            if let Some(opened) = self.checkpoints.get(&note.to_owned()) {
                return Ok(SignedCheckpoint::clone(&opened));
            }
            let opened = log.open(note)?;
            self.checkpoints
                .keep(note.to_owned(), Arc::new(opened.clone()));
            Ok(opened)
        })
    }

    /// A referral as its sender signed it.
    pub(crate) fn referral(
        &self,
        envelope: &Envelope,
        directory: &Directory,
        now: Time,
    ) -> Result<Arc<Signed<Referral>>, SignedError> {
        let key = (
            amanat_seal::sha256(&envelope.encode_to_vec()),
            *directory.sha256(),
        );
        let signed = match self.referrals.get(&key) {
            Some(signed) => signed,
            None => {
                let signed = Arc::new(Signed::verify_envelope(envelope, directory)?);
                // Whoever signs may sign a list of a hundred thousand empty paths, which in memory is ten times
                // what it was on the wire: what is no referral is not worth remembering.
                if parse_referral(signed.message()).is_ok() {
                    self.referrals.keep(key, Arc::clone(&signed));
                }
                signed
            }
        };
        signed.counts_when_shown(directory, now)?;
        Ok(signed)
    }
}
