//! Known answers, computed by another implementation (Python's hmac, hashlib and cryptography) from the
//! table in the crate's documentation. A change here changes what stored records mean.

use amanat_schema::{
    AgencyId,
    audit::Opening,
    identifier::Identifier,
    record::RoutingValue,
    statement::RecordHeader,
    subject::{IdentifierDomain, SubjectIdentifierType},
};
use amanat_seal::{
    FieldKey, Header, RecordKey, SealError,
    oprf::{Blinding, OprfInput, OprfKey},
    pseudonym::{HandleKey, Peppers, PseudonymKey},
    sha256,
    statement::pae,
};
use zeroize::Zeroizing;

use crate::fixture::{BINDING, Sealed, full, leaf};

const PATH: &str = "subject.given_name";
const KEY_COMMITMENT: &str = "27732543a33e82e2245c7818d7bcc69bd18683cfcd532b7681b595b3c700a2b7";
const FIELD_KEY: &str = "1b1916365558cddb02448c94d2704084264755f234dff655cc9cbe96345a3ded";
const FIELD_COMMITMENT: &str = "7d58a4ccdd1c89d0375dce5ecc151c5dbe544938d0b3ff6aadbafabbbbf997b8";
const ROUTING_COMMITMENT: &str = "e1d76dca820000ae0d02a01f1393a96d8090f0bdda65530b3c9b86229323fa74";
const CIPHERTEXT: &str = "202122232425262728292a2b38deefef3a56cc14e2d67628a64fb5de4317c810a68a89f4\
    9c7dfd37d702a8d69ba1469b18e83a9cf0febfef22aa70a2f31789c16081f59129d99c198b92f7b058fb30ac71c9d121\
    5b38bd7f85d75d4e";
/// Passes AES-256-GCM, bound to the same place, under the field key and under 32 bytes of 2.
const TWO_KEY_CIPHERTEXT: &str = "202122232425262728292a2b38deefef3a56cc14e2d67628a64fb5de4317c810\
    a68a89f49c7dfd37d702a8d69ba1469b18e83a9cf0febfef22aa70a2cee9a0e0cb3fa9c616ad62e2c74572c4b5d6fbc3\
    4405d0f699e5caba7eeba9b5";

fn record_key() -> RecordKey {
    let bytes: Vec<u8> = (0..32).collect();
    RecordKey::from_bytes(&bytes).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// A header that names `ciphertext`, and commits to `key`, for the first field.
fn header(key: &FieldKey, ciphertext: &[u8]) -> Header {
    let mut wire: RecordHeader = Sealed::new(&BINDING, &full()).wire;
    wire.key_commitment = bytes(KEY_COMMITMENT);
    wire.fields[0].key_commitment = key.commitment().to_vec();
    wire.fields[0].ciphertext_sha256 = sha256(ciphertext).to_vec();
    Header::parse(&wire).unwrap()
}

#[test]
fn keys_and_commitments_are_derived_as_documented() {
    let key = record_key();
    assert_eq!(key.commitment(&BINDING).as_slice(), bytes(KEY_COMMITMENT));
    let field_key = key.field_key(&BINDING, leaf(PATH));
    assert_eq!(field_key.expose().as_slice(), bytes(FIELD_KEY));
    assert_eq!(field_key.commitment().as_slice(), bytes(FIELD_COMMITMENT));
}

#[test]
fn a_field_sealed_elsewhere_opens_here() {
    let key = record_key().field_key(&BINDING, leaf(PATH));
    let ciphertext = bytes(CIPHERTEXT);
    let opened = header(&key, &ciphertext)
        .open(leaf(PATH), &key, &ciphertext)
        .unwrap();
    assert_eq!(opened.as_slice(), b"\x0a\x06\x0a\x04Zari");
}

#[test]
fn a_routing_value_committed_elsewhere_opens_here() {
    let mut wire = Sealed::new(&BINDING, &full()).wire;
    let urgency = leaf("case.urgency").number();
    let of = wire
        .routing
        .iter_mut()
        .find(|of| of.field == urgency)
        .unwrap();
    of.commitment = bytes(ROUTING_COMMITMENT);
    let opening = Opening {
        salt: (0x40..0x60).collect(),
        value: b"\x3a\x02\x20\x01".to_vec(),
    };
    let value = RoutingValue {
        field: urgency,
        opening: Some(opening),
    };
    assert!(Header::parse(&wire).unwrap().open_routing(&value).is_ok());
}

#[test]
fn a_ciphertext_made_for_two_keys_shows_only_the_one_committed_to() {
    let ciphertext = bytes(TWO_KEY_CIPHERTEXT);
    let committed = FieldKey::from_bytes(&bytes(FIELD_KEY)).unwrap();
    let other = FieldKey::from_bytes(&[2; 32]).unwrap();
    let open = |header: &Header, key| header.open(leaf(PATH), key, &ciphertext).err();

    // Both keys pass the cipher (what they show is no padded value), so the tag alone decides nothing.
    for key in [&committed, &other] {
        assert_eq!(
            open(&header(key, &ciphertext), key),
            Some(SealError::Padding { path: PATH })
        );
    }
    let header = header(&committed, &ciphertext);
    assert_eq!(
        open(&header, &other),
        Some(SealError::FieldKey { path: PATH })
    );
}

#[test]
fn the_pre_authentication_encoding_is_that_of_dsse() {
    // The protocol's own test vector.
    let encoded = pae("http://example.com/HelloWorld", b"hello world");
    assert_eq!(
        encoded,
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
}

#[test]
fn tokens_subjects_and_officers_are_hidden_as_documented() {
    let token = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let peppers = |count| {
        let keys = (1..=count).map(|byte| Zeroizing::new([byte; 32]));
        Peppers::from_keys(keys.collect()).unwrap()
    };
    let agency = AgencyId::new([0xa9; 16]);
    let under_one = "8fbd862fd7043e9b5206991fd0645d574ce519a2ce5ceca88a7e6c1bfe08a5c3";
    let under_two = "b25d812faa8626d26a45455f950a23bcf5704612f4689102d4af753f9159702f";
    assert_eq!(
        peppers(1).stored(agency, &token).as_slice(),
        bytes(under_one)
    );
    assert_eq!(
        peppers(2).stored(agency, &token).as_slice(),
        bytes(under_two)
    );
    let under_one = "e31e2d77db0de23cb6b89ba1edd0d98f94137538aa0e29437f78bc7900ecbba4";
    let under_two = "15bcd57dea1278b06c7c0e62acdca6c231d67d70c8db8c25715f8b55113ee0b1";
    assert_eq!(peppers(1).canary(&token).as_slice(), bytes(under_one));
    assert_eq!(peppers(2).canary(&token).as_slice(), bytes(under_two));

    let key: Vec<u8> = (0..32).collect();
    let subject = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let pseudonym = PseudonymKey::from_bytes(&key)
        .unwrap()
        .pseudonym(agency, &subject);
    assert_eq!(pseudonym.to_string(), "5CS50JNP511137Q4ZECDK714KMP");
    let handle = HandleKey::from_bytes(&key)
        .unwrap()
        .handle(agency, "officer-7");
    assert_eq!(handle.as_slice(), bytes("47744eba0d740942669bd60fd1e9c6c0"));
}

/// Of the seed of 32 bytes of 7, and of a victim's CNIC 0000012345678 under it; by libsodium's group.
const OPRF_PUBLIC_KEY: &str = "a20e4de0e143120d2019ddab68d4ab6086f45ba65e7b1d1ef533bc287c63df23";
const OPRF_TOKEN: &str = "94abaa571c84a76c6fe2f3ff4d8b40e754e4eedf072d4a9b5d17a02c7542d870\
    c7413d4bcfb905979a608d0abcbc17bd08ef444461885da422abb939c0ca6144";

#[test]
fn an_identifier_makes_the_token_that_it_always_made() {
    let key = OprfKey::from_seed(&[7; 32]).unwrap();
    assert_eq!(key.public_key().as_slice(), bytes(OPRF_PUBLIC_KEY));

    let identifier = Identifier::parse(SubjectIdentifierType::Cnic, "00000-1234567-8").unwrap();
    let input = OprfInput::new(IdentifierDomain::Victim, &identifier);
    let blinding = Blinding::new(vec![input.unwrap()]).unwrap();
    let evaluated = key.evaluate(&[blinding.elements()[0].to_vec()]).unwrap();
    let elements = [evaluated.elements[0].to_vec()];
    let tokens = blinding.finalize(&elements, &evaluated.proof, &key.public_key());
    let token = tokens.unwrap().pop().unwrap();
    assert_eq!(token.as_bytes().as_slice(), bytes(OPRF_TOKEN));
}
