use amanat_schema::{
    directory::Directory,
    statement::{DepositReceipt, Envelope, Withdrawal},
};
use amanat_seal::{
    SealError, sha256,
    statement::{SigningKey, StatementError, key_id, verify, verify_decoded, verify_threshold},
};

use crate::fixture::flipped;

fn signing_key() -> SigningKey {
    SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap()
}

fn receipt() -> DepositReceipt {
    DepositReceipt {
        exchange_id: "exchange.test".into(),
        version: 3,
        ..DepositReceipt::default()
    }
}

fn refusal(envelope: &Envelope, keys: &[[u8; 32]]) -> StatementError {
    verify::<DepositReceipt>(envelope, keys).unwrap_err()
}

#[test]
fn a_statement_verifies_as_the_bytes_that_were_signed() {
    let (signer, other) = (signing_key(), signing_key());
    let envelope = signer.sign(&receipt());
    assert_eq!(envelope.payload_type, "amanat.statement.v1.DepositReceipt");

    let verified = verify::<DepositReceipt>(&envelope, &[other.public_key(), signer.public_key()]);
    let verified = verified.unwrap();
    assert_eq!(*verified.message(), receipt());
    assert_eq!(*verified.payload_sha256(), sha256(&envelope.payload));
    assert_eq!(verified.into_message(), receipt());
}

#[test]
fn another_type_is_refused_even_where_its_bytes_decode() {
    let signer = signing_key();
    let envelope = signer.sign(&Withdrawal::default());
    let refused = refusal(&envelope, &[signer.public_key()]);
    assert_eq!(
        refused,
        StatementError::Type {
            expected: "amanat.statement.v1.DepositReceipt".into()
        }
    );

    let relabelled = Envelope {
        payload_type: "amanat.statement.v1.DepositReceipt".into(),
        ..envelope
    };
    assert_eq!(
        refusal(&relabelled, &[signer.public_key()]),
        StatementError::Signature
    );
}

#[test]
fn only_the_keys_named_count() {
    let (signer, other) = (signing_key(), signing_key());
    let envelope = signer.sign(&receipt());
    assert_eq!(
        refusal(&envelope, &[other.public_key()]),
        StatementError::UnknownSigner
    );
    assert_eq!(refusal(&envelope, &[]), StatementError::UnknownSigner);

    let mut posing = envelope;
    posing.signatures[0].key_id = key_id(&other.public_key()).to_vec();
    assert_eq!(
        refusal(&posing, &[other.public_key()]),
        StatementError::Signature
    );
}

#[test]
fn a_byte_changed_anywhere_is_refused() {
    let signer = signing_key();
    let envelope = signer.sign(&receipt());
    for at in 0..envelope.payload.len() {
        let edited = Envelope {
            payload: flipped(&envelope.payload, at),
            ..envelope.clone()
        };
        assert_eq!(
            refusal(&edited, &[signer.public_key()]),
            StatementError::Signature
        );
    }
    for at in 0..64 {
        let mut edited = envelope.clone();
        edited.signatures[0].signature = flipped(&edited.signatures[0].signature, at);
        assert_eq!(
            refusal(&edited, &[signer.public_key()]),
            StatementError::Signature
        );
    }
}

#[test]
fn exactly_one_signature_is_a_statement() {
    let (signer, other) = (signing_key(), signing_key());
    let keys = [signer.public_key(), other.public_key()];
    let mut envelope = signer.sign(&receipt());
    other.cosign(&mut envelope);
    assert_eq!(refusal(&envelope, &keys), StatementError::OneSignature);

    envelope.signatures.clear();
    assert_eq!(refusal(&envelope, &keys), StatementError::OneSignature);
}

#[test]
fn a_payload_with_a_field_unknown_here_is_refused() {
    let signer = signing_key();
    let mut envelope = signer.sign(&receipt());
    // Field 100, the varint 1.
    envelope.payload.extend([0xa0, 0x06, 0x01]);
    let mut resigned = Envelope {
        signatures: vec![],
        ..envelope
    };
    signer.cosign(&mut resigned);
    let refused = refusal(&resigned, &[signer.public_key()]);
    assert_eq!(
        refused,
        StatementError::Payload {
            expected: "amanat.statement.v1.DepositReceipt".into()
        }
    );
}

/// Who decoded the payload first, to learn whose keys count, cannot slip in another message.
#[test]
fn a_message_that_is_not_the_payloads_is_refused() {
    let signer = signing_key();
    let (envelope, keys) = (signer.sign(&receipt()), [signer.public_key()]);
    let verified = verify_decoded(&envelope, receipt(), &keys).unwrap();
    assert_eq!(*verified.message(), receipt());
    let other = DepositReceipt {
        version: 4,
        ..receipt()
    };
    assert_eq!(
        verify_decoded(&envelope, other, &keys).unwrap_err(),
        StatementError::Payload {
            expected: "amanat.statement.v1.DepositReceipt".into()
        }
    );
}

#[test]
fn a_directory_needs_its_threshold_of_different_registrars() {
    let registrars = [(); 3].map(|()| signing_key());
    let [first, second, third] = &registrars;
    let keys = registrars.each_ref().map(SigningKey::public_key);
    let check = |envelope: &Envelope, keys: &[[u8; 32]], threshold| {
        verify_threshold::<Directory>(envelope, keys, threshold).map(|_| ())
    };
    let mut envelope = first.sign(&Directory {
        version: 7,
        ..Directory::default()
    });
    assert_eq!(
        check(&envelope, &keys, 2),
        Err(StatementError::Threshold { threshold: 2 })
    );

    let mut twice = envelope.clone();
    first.cosign(&mut twice);
    assert_eq!(check(&twice, &keys, 2), Err(StatementError::RepeatedSigner));
    let repeated = [keys[0], keys[0]];
    assert_eq!(
        check(&twice, &repeated, 2),
        Err(StatementError::RepeatedSigner)
    );

    second.cosign(&mut envelope);
    assert_eq!(check(&envelope, &keys, 2), Ok(()));
    assert_eq!(
        check(&envelope, &keys, 3),
        Err(StatementError::Threshold { threshold: 3 })
    );
    assert_eq!(
        check(&envelope, &keys[..1], 1),
        Err(StatementError::UnknownSigner)
    );

    third.cosign(&mut envelope);
    assert_eq!(check(&envelope, &keys, 2), Ok(()));
    envelope.signatures[2].signature = flipped(&envelope.signatures[2].signature, 0);
    assert_eq!(check(&envelope, &keys, 2), Err(StatementError::Signature));

    envelope.signatures.clear();
    assert_eq!(
        check(&envelope, &keys, 0),
        Err(StatementError::Threshold { threshold: 0 })
    );
}

#[test]
fn a_signing_key_is_read_from_pem_and_nothing_else_is_one() {
    // The private key of RFC 8410, section 10.3.
    let pem = b"-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    let key = SigningKey::from_pem(pem).unwrap();
    assert_eq!(key.public_key()[..4], [0x19, 0xbf, 0x44, 0x09]);
    assert_eq!(key.key_id(), sha256(&key.public_key()));

    for not_a_key in [
        &b""[..],
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        assert_eq!(
            SigningKey::from_pem(not_a_key).err(),
            Some(SealError::SigningKey)
        );
        assert_eq!(
            SigningKey::from_pkcs8(not_a_key).err(),
            Some(SealError::SigningKey)
        );
    }
}
