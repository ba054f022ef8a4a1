//! Checkpoints: signed, opened, and every other text refused.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use amanat_ledger::{
    Hash, Head, LedgerError, LogSigner, LogVerifier, MAX_SIZE, SignedCheckpoint, sha256, sign,
};
use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use proptest::prelude::*;
use signed_note::{Note, Signature, StandardVerifier, Verifier as _, VerifierList};

const ORIGIN: &str = "gateway.example/log";

fn signer(origin: &str) -> LogSigner {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    LogSigner::from_pkcs8(origin, key.as_ref()).unwrap()
}

fn head(size: u64) -> Head {
    Head {
        size,
        root: Hash(sha256(&size.to_be_bytes())),
    }
}

/// A log with the private key at hand, to sign what our own signer never would.
struct Forger {
    key: Ed25519KeyPair,
    log: LogVerifier,
}

impl Forger {
    fn new() -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let log = LogSigner::from_pkcs8(ORIGIN, key.to_pkcs8().unwrap().as_ref()).unwrap();
        Self {
            key,
            log: log.verifier().clone(),
        }
    }

    fn note(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes()).as_ref().to_vec();
        let signature = Signature::new(ORIGIN.to_owned(), self.log.key_id(), signature).unwrap();
        // Not through `Note`, which refuses some of the texts.
        format!(
            "{text}\n{}",
            String::from_utf8(signature.to_bytes()).unwrap()
        )
    }

    fn opens(&self, text: &str) -> Result<SignedCheckpoint, LedgerError> {
        self.log.open(&self.note(text))
    }
}

fn root() -> String {
    head(7).root.to_string()
}

#[test]
fn a_signed_head_opens_as_itself() {
    let signer = signer(ORIGIN);
    for head in [Head::EMPTY, head(1), head(12_345), head(MAX_SIZE)] {
        let checkpoint = sign(&signer, head).unwrap();
        assert_eq!(checkpoint.head, head);
        assert_eq!(signer.verifier().open(&checkpoint.text), Ok(checkpoint));
    }
}

#[test]
fn a_foreign_reader_of_the_public_formats_accepts_it() {
    let signer = signer(ORIGIN);
    let checkpoint = sign(&signer, head(7)).unwrap();
    let foreign = StandardVerifier::new(&signer.verifier_key()).unwrap();
    let note = Note::from_bytes(checkpoint.text.as_bytes()).unwrap();
    note.verify(&VerifierList::new(vec![Box::new(foreign)]))
        .unwrap();
    assert_eq!(note.text(), format!("{ORIGIN}\n7\n{}\n", root()).as_bytes());
}

#[test]
fn a_verifier_key_has_one_spelling() {
    let key = signer(ORIGIN).verifier_key();
    assert_eq!(
        LogVerifier::from_verifier_key(&key).unwrap().verifier_key(),
        key
    );

    let known = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    assert_eq!(
        LogVerifier::from_verifier_key(known)
            .unwrap()
            .verifier_key(),
        known
    );
    for bad in [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a3+",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n",
        "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ] {
        assert_eq!(
            LogVerifier::from_verifier_key(bad),
            Err(LedgerError::VerifierKey),
            "{bad}"
        );
    }
}

#[test]
fn a_log_without_a_proper_name_or_key_is_refused() {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    for origin in [
        "",
        "two words",
        "a+b",
        "line\nbreak",
        "bell\u{7}",
        "delete\u{7f}",
    ] {
        let refused = LogSigner::from_pkcs8(origin, key.as_ref()).err();
        assert_eq!(refused, Some(LedgerError::Origin), "{origin:?}");
    }
    let refused = LogSigner::from_pkcs8(ORIGIN, b"no key").err();
    assert_eq!(refused, Some(LedgerError::SigningKey));
}

#[test]
fn a_tree_too_large_is_not_signed() {
    assert_eq!(
        sign(&signer(ORIGIN), head(MAX_SIZE + 1)),
        Err(LedgerError::NoSuchTree)
    );
}

#[test]
fn another_key_or_name_does_not_open_it() {
    let checkpoint = sign(&signer(ORIGIN), head(7)).unwrap();
    for other in [signer(ORIGIN), signer("custodian.example/log")] {
        let refused = other.verifier().open(&checkpoint.text);
        assert_eq!(refused, Err(LedgerError::CheckpointSignature));
    }
}

#[test]
fn a_checkpoint_of_another_origin_is_refused_even_if_this_key_signed_it() {
    let refused = Forger::new().opens(&format!("other.example/log\n7\n{}\n", root()));
    assert_eq!(refused, Err(LedgerError::CheckpointOrigin));
}

#[test]
fn a_second_spelling_is_refused_even_if_signed() {
    let (forger, root) = (Forger::new(), root());
    assert!(forger.opens(&format!("{ORIGIN}\n7\n{root}\n")).is_ok());
    for text in [
        format!("{ORIGIN}\r\n7\r\n{root}\r\n"),
        format!("{ORIGIN}\n07\n{root}\n"),
        format!("{ORIGIN}\n+7\n{root}\n"),
        format!("{ORIGIN}\n 7\n{root}\n"),
        format!("{ORIGIN}\n-7\n{root}\n"),
        format!("{ORIGIN}\n0x7\n{root}\n"),
        format!("{ORIGIN}\n{}\n{root}\n", MAX_SIZE + 1),
        format!("{ORIGIN}\n18446744073709551616\n{root}\n"),
        format!("{ORIGIN}\n7\n{}\n", root.trim_end_matches('=')),
        format!("{ORIGIN}\n7\n{root}=\n"),
        format!("{ORIGIN}\n7\n{}\n", root.replacen('=', "", 1) + "A"),
        format!("{ORIGIN}\n7\n{root}\nextension\n"),
        format!("{ORIGIN}\n7\n{root}\n\nextension\n"),
        format!("{ORIGIN}\n7\n{root}\n\n"),
        format!("{ORIGIN}\n7\n{root}"),
        format!("{ORIGIN}\n7\n"),
        format!("\n{ORIGIN}\n7\n{root}\n"),
        // A tree without entries has one root.
        format!("{ORIGIN}\n0\n{root}\n"),
    ] {
        assert_eq!(
            forger.opens(&text),
            Err(LedgerError::Checkpoint),
            "{text:?}"
        );
    }
}

#[test]
fn witnesses_may_sign_too_but_not_a_hundred_and_not_beyond_16_kib() {
    let signer = signer(ORIGIN);
    let note = sign(&signer, head(7)).unwrap().text;
    let witness = |name: &str| {
        let line = Signature::new(name.to_owned(), 1, vec![0; 72])
            .unwrap()
            .to_bytes();
        String::from_utf8(line).unwrap()
    };
    let open = |text: &str| signer.verifier().open(text);
    let signed_by = |others: usize| note.clone() + &witness("w").repeat(others);

    assert_eq!(open(&signed_by(99)).unwrap().head, head(7));
    assert!(signed_by(100).len() < 16 * 1024);
    assert_eq!(
        open(&signed_by(100)),
        Err(LedgerError::Checkpoint),
        "101 signatures"
    );
    let long = note.clone() + &witness(&"w".repeat(16 * 1024));
    assert_eq!(open(&long), Err(LedgerError::Checkpoint));
}

#[test]
fn no_byte_can_be_changed_left_out_or_added() {
    let signer = signer(ORIGIN);
    let checkpoint = sign(&signer, head(12_345)).unwrap();
    let note = checkpoint.text.as_bytes();
    let refused = |bytes: &[u8]| {
        if let Ok(text) = str::from_utf8(bytes) {
            assert!(signer.verifier().open(text).is_err(), "{text:?}");
        }
    };
    for at in 0..note.len() {
        let (before, after) = note.split_at(at);
        refused(before);
        let (byte, after) = after.split_first().unwrap();
        refused(&[before, after].concat());
        for other in (0..=u8::MAX).filter(|other| other != byte) {
            refused(&[before, &[other], after].concat());
        }
        for added in *b"\r\n =A0+" {
            refused(&[before, &[added, *byte], after].concat());
        }
    }
    refused(&[note, b"\n"].concat());
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(gateway\\.example/log|.{0,9})\n[0-9+]{0,21}\n[A-Za-z0-9+/=]{0,44}\n(.{0,9}\n){0,3}\n?(— .{0,30}\n){0,3}") {
        let forger = Forger::new();
        prop_assert!(forger.log.open(&text).is_err());
        if let Ok(checkpoint) = forger.opens(&text) {
            prop_assert_eq!(checkpoint.text, forger.note(&text));
        }
        prop_assert!(LogVerifier::from_verifier_key(&text).is_err());
    }
}
