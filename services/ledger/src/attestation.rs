//! What a log's key says of something that is neither entry nor tree, a backup say: a signed note that no reader
//! takes for a checkpoint.

use crate::{Hash, LedgerError, LogSigner, LogVerifier};

/// Signs that a `subject`, one line as in `amanat-backup/v1`, has this hash.
///
/// # Errors
/// [`LedgerError::Signing`].
pub fn attest(signer: &LogSigner, subject: &str, sha256: &[u8; 32]) -> Result<String, LedgerError> {
    signer.note(&text(signer.origin(), subject, sha256))
}

/// # Errors
/// [`LedgerError::Attestation`] unless this log's key signed that the `subject` has this hash.
pub fn verify_attestation(
    log: &LogVerifier,
    note: &str,
    subject: &str,
    sha256: &[u8; 32],
) -> Result<(), LedgerError> {
    let said = log.signed(note).map_err(|_| LedgerError::Attestation)?;
    if said.text() == text(log.origin(), subject, sha256).as_bytes() {
        Ok(())
    } else {
        Err(LedgerError::Attestation)
    }
}

/// INVARIANT: the first line has a space, which no origin has, so that it is never that of a checkpoint.
fn text(origin: &str, subject: &str, sha256: &[u8; 32]) -> String {
    format!("{subject} of {origin}\n{}\n", Hash(*sha256))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};

    use super::*;
    use crate::{Head, sign};

    fn signer(origin: &str) -> LogSigner {
        let key = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
        LogSigner::from_pkcs8(origin, key.as_ref()).unwrap()
    }

    #[test]
    fn it_holds_for_its_log_subject_and_hash_alone() {
        let (log, other) = (signer("log.example/a"), signer("log.example/a"));
        let note = attest(&log, "backup/v1", &[7; 32]).unwrap();
        let verify = |log: &LogSigner, subject, hash| {
            verify_attestation(log.verifier(), &note, subject, &[hash; 32])
        };
        assert_eq!(verify(&log, "backup/v1", 7), Ok(()));
        for refused in [
            verify(&other, "backup/v1", 7),
            verify(&log, "backup/v2", 7),
            verify(&log, "backup/v1", 8),
        ] {
            assert_eq!(refused, Err(LedgerError::Attestation));
        }
    }

    #[test]
    fn neither_it_nor_a_checkpoint_is_taken_for_the_other() {
        let log = signer("log.example/a");
        let note = attest(&log, "backup/v1", &[0; 32]).unwrap();
        assert!(log.verifier().open(&note).is_err());
        let checkpoint = sign(&log, Head::EMPTY).unwrap().text;
        let taken = verify_attestation(log.verifier(), &checkpoint, "backup/v1", &[0; 32]);
        assert_eq!(taken, Err(LedgerError::Attestation));
    }
}
