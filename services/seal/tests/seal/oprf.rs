use amanat_schema::{
    identifier::Identifier,
    subject::{IdentifierDomain, SubjectIdentifierType as Type},
};
use amanat_seal::oprf::{Blinding, Evaluated, MAX_BATCH, OprfError, OprfInput, OprfKey};

use crate::fixture::flipped;

const CNIC: &str = "0000012345678";

fn key() -> OprfKey {
    OprfKey::from_seed(&[7; 32]).unwrap()
}

fn input(domain: IdentifierDomain, kind: Type, text: &str) -> OprfInput {
    let identifier = Identifier::parse(kind, text).unwrap();
    OprfInput::new(domain, &identifier).unwrap()
}

fn victim(text: &str) -> OprfInput {
    input(IdentifierDomain::Victim, Type::Cnic, text)
}

fn blinding(inputs: Vec<OprfInput>) -> Blinding {
    Blinding::new(inputs).unwrap()
}

fn wire<const N: usize>(elements: &[[u8; N]]) -> Vec<Vec<u8>> {
    elements.iter().map(|element| element.to_vec()).collect()
}

fn asked(blinding: &Blinding, key: &OprfKey) -> Evaluated {
    key.evaluate(&wire(&blinding.elements())).unwrap()
}

fn answered(
    blinding: Blinding,
    evaluated: &Evaluated,
    key: &OprfKey,
) -> Result<Vec<[u8; 64]>, OprfError> {
    let elements = wire(&evaluated.elements);
    let tokens = blinding.finalize(&elements, &evaluated.proof, &key.public_key())?;
    Ok(tokens.iter().map(|token| *token.as_bytes()).collect())
}

fn tokens(inputs: Vec<OprfInput>, key: &OprfKey) -> Vec<[u8; 64]> {
    let blinding = blinding(inputs);
    let evaluated = asked(&blinding, key);
    answered(blinding, &evaluated, key).unwrap()
}

fn token(input: OprfInput) -> [u8; 64] {
    tokens(vec![input], &key())[0]
}

#[test]
fn the_same_cnic_dashed_spaced_and_in_urdu_digits_is_the_same_token() {
    let plain = token(victim(CNIC));
    for text in [
        "00000-1234567-8",
        "00000 1234567 8",
        "۰۰۰۰۰-۱۲۳۴۵۶۷-۸",
        "٠٠٠٠٠١٢٣٤٥٦٧٨",
    ] {
        assert_eq!(token(victim(text)), plain, "{text}");
    }
}

#[test]
fn a_token_is_of_one_person_one_type_one_domain_and_one_key() {
    let suspect = input(IdentifierDomain::Suspect, Type::Cnic, CNIC);
    let por = input(IdentifierDomain::Victim, Type::AfghanPor, CNIC);
    let other_key = OprfKey::from_seed(&[8; 32]).unwrap();
    let tokens = [
        token(victim(CNIC)),
        token(victim("0000012345679")),
        token(por),
        token(suspect),
        tokens(vec![victim(CNIC)], &other_key)[0],
    ];
    for (at, one) in tokens.iter().enumerate() {
        assert!(!tokens[..at].contains(one), "{at}");
    }
}

#[test]
fn a_girl_with_a_b_form_is_the_same_person_when_she_has_her_card() {
    let b_form = input(IdentifierDomain::Victim, Type::BForm, CNIC);
    assert_eq!(token(b_form), token(victim(CNIC)));
}

#[test]
fn a_batch_gives_each_input_the_token_that_it_has_alone() {
    let phone = || input(IdentifierDomain::Victim, Type::Phone, "03000000001");
    let together = tokens(vec![victim(CNIC), phone(), victim(CNIC)], &key());
    assert_eq!(
        together,
        [token(victim(CNIC)), token(phone()), token(victim(CNIC))]
    );
}

#[test]
fn every_asking_is_blinded_afresh_and_the_token_stays() {
    let [one, two] = [(); 2].map(|()| blinding(vec![victim(CNIC), victim(CNIC)]));
    let mut seen = [one.elements(), two.elements()].concat();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(
        seen.len(),
        4,
        "equal inputs cannot be told by their elements"
    );

    let (first, second) = (asked(&one, &key()), asked(&two, &key()));
    assert_ne!(first.elements, second.elements);
    assert_eq!(
        answered(one, &first, &key()).unwrap(),
        answered(two, &second, &key()).unwrap()
    );
}

#[test]
fn a_key_comes_from_its_seed_and_from_32_bytes_only() {
    assert_eq!(key().public_key(), key().public_key());
    assert_ne!(
        key().public_key(),
        OprfKey::from_seed(&[8; 32]).unwrap().public_key()
    );
    for length in [0, 31, 33, 64] {
        let refused = OprfKey::from_seed(&vec![7; length]).err();
        assert_eq!(refused, Some(OprfError::Seed), "{length} bytes");
    }
}

#[test]
fn a_composite_stays_in_its_own_domain_and_nothing_else_enters_it() {
    let composite = Identifier::composite("Amina", "Aslam", 2000).unwrap();
    let cnic = Identifier::parse(Type::Cnic, CNIC).unwrap();
    for (domain, identifier, taken) in [
        (IdentifierDomain::Composite, &composite, true),
        (IdentifierDomain::Victim, &composite, false),
        (IdentifierDomain::Suspect, &composite, false),
        (IdentifierDomain::Composite, &cnic, false),
        (IdentifierDomain::Unspecified, &cnic, false),
        (IdentifierDomain::Unspecified, &composite, false),
    ] {
        let refused = OprfInput::new(domain, identifier).err();
        assert_eq!(refused, (!taken).then_some(OprfError::Domain), "{domain:?}");
    }
}

#[test]
fn a_batch_has_1_to_100_elements() {
    let cnics = |count| (0..count).map(|_| victim(CNIC)).collect::<Vec<_>>();
    for count in [0, MAX_BATCH + 1] {
        assert_eq!(
            Blinding::new(cnics(count)).err(),
            Some(OprfError::Batch),
            "{count}"
        );
        let element = blinding(cnics(1)).elements()[0].to_vec();
        let refused = key().evaluate(&vec![element; count]).err();
        assert_eq!(refused, Some(OprfError::Batch), "{count}");
    }
    assert_eq!(tokens(cnics(MAX_BATCH), &key()).len(), MAX_BATCH);
}

/// No element of the group: the identity, encodings that are not canonical, other lengths.
fn no_elements() -> Vec<(&'static str, Vec<u8>)> {
    let good = blinding(vec![victim(CNIC)]).elements()[0].to_vec();
    let mut prime = vec![0xff; 32];
    (prime[0], prime[31]) = (0xed, 0x7f);
    // The prime of the field plus 4, and 4 is an element: only its spelling is wrong.
    let mut above_prime = prime.clone();
    above_prime[0] = 0xf1;
    let mut high_bit = good.clone();
    high_bit[31] |= 0x80;
    let mut negative = good.clone();
    negative[0] |= 1;
    vec![
        ("the identity", vec![0; 32]),
        ("the field's prime, the identity again", prime),
        ("above the field's prime", above_prime),
        ("the highest bit", high_bit),
        ("a negative field element", negative),
        ("all ones", vec![0xff; 32]),
        ("31 bytes", good[..31].to_vec()),
        ("33 bytes", [good.as_slice(), &[0]].concat()),
        ("nothing", vec![]),
    ]
}

#[test]
fn the_key_evaluates_nothing_that_is_no_element_and_names_its_place() {
    let good = blinding(vec![victim(CNIC)]).elements()[0].to_vec();
    for (what, bad) in no_elements() {
        let refused = key().evaluate(&[good.clone(), bad]).err();
        assert_eq!(refused, Some(OprfError::Element { at: 1 }), "{what}");
    }
}

#[test]
fn an_answer_with_something_that_is_no_element_is_refused() {
    for (what, bad) in no_elements() {
        let blinding = blinding(vec![victim(CNIC), victim("0000000000001")]);
        let evaluated = asked(&blinding, &key());
        let elements = [evaluated.elements[0].to_vec(), bad];
        let refused = blinding.finalize(&elements, &evaluated.proof, &key().public_key());
        assert_eq!(refused.err(), Some(OprfError::Element { at: 1 }), "{what}");
    }
}

#[test]
fn a_proof_with_a_bit_flipped_cut_or_missing_is_refused() {
    let refused = |bad: fn(&[u8], usize) -> Vec<u8>, at| {
        let (blinding, evaluated) = one();
        let elements = wire(&evaluated.elements);
        let proof = bad(&evaluated.proof, at);
        let refused = blinding.finalize(&elements, &proof, &key().public_key());
        assert_eq!(refused.err(), Some(OprfError::Proof), "at {at}");
    };
    for at in [0, 15, 31, 32, 47, 63] {
        refused(flipped, at);
    }
    for length in [0, 32, 63, 65] {
        refused(
            |proof, length| proof.iter().copied().cycle().take(length).collect(),
            length,
        );
    }
    refused(|_, length| vec![0; length], 64);
}

fn one() -> (Blinding, Evaluated) {
    let blinding = blinding(vec![victim(CNIC)]);
    let evaluated = asked(&blinding, &key());
    (blinding, evaluated)
}

#[test]
fn a_proof_of_another_batch_is_refused() {
    let ((first, first_answer), (second, second_answer)) = (one(), one());
    let swapped = |elements: &Evaluated, proof: &Evaluated| Evaluated {
        elements: elements.elements.clone(),
        proof: proof.proof,
    };
    let own_elements = swapped(&first_answer, &second_answer);
    assert_eq!(
        answered(first, &own_elements, &key()),
        Err(OprfError::Proof)
    );
    // A whole good answer, but to another question.
    assert_eq!(
        answered(second, &first_answer, &key()),
        Err(OprfError::Proof)
    );
}

#[test]
fn an_answer_in_another_order_is_refused() {
    let blinding = blinding(vec![victim(CNIC), victim("0000000000001")]);
    let mut evaluated = asked(&blinding, &key());
    evaluated.elements.swap(0, 1);
    assert_eq!(
        answered(blinding, &evaluated, &key()),
        Err(OprfError::Proof)
    );
}

#[test]
fn an_answer_with_more_or_fewer_elements_is_refused() {
    for count in [0, 1, 3] {
        let blinding = blinding(vec![victim(CNIC), victim(CNIC)]);
        let mut evaluated = asked(&blinding, &key());
        evaluated.elements.resize(count, evaluated.elements[0]);
        assert_eq!(
            answered(blinding, &evaluated, &key()),
            Err(OprfError::Count),
            "{count}"
        );
    }
}

/// The custodian that marks an agency by answering it under a key of its own.
#[test]
fn an_answer_under_another_key_than_the_directorys_is_refused() {
    let other = OprfKey::from_seed(&[8; 32]).unwrap();
    let blinding_1 = blinding(vec![victim(CNIC)]);
    let evaluated = asked(&blinding_1, &other);
    assert_eq!(
        answered(blinding_1, &evaluated, &key()),
        Err(OprfError::Proof)
    );

    let (blinding, evaluated) = one();
    assert_eq!(
        answered(blinding, &evaluated, &other),
        Err(OprfError::Proof)
    );
}

#[test]
fn a_public_key_that_is_no_element_is_refused() {
    for (what, bad) in no_elements() {
        let Ok(public_key) = bad.try_into() else {
            continue;
        };
        let (blinding, evaluated) = one();
        let elements = wire(&evaluated.elements);
        let refused = blinding.finalize(&elements, &evaluated.proof, &public_key);
        assert_eq!(refused.err(), Some(OprfError::PublicKey), "{what}");
    }
}
