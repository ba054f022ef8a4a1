use amanat_schema::AgencyId;
use amanat_seal::{
    SealError,
    pseudonym::{HandleKey, Peppers, Pseudonym, PseudonymError, PseudonymKey},
};
use zeroize::Zeroizing;

const A: AgencyId = AgencyId::new([0xa9; 16]);
const B: AgencyId = AgencyId::new([0xb0; 16]);
/// Crockford's, and the five that only a check can be.
const SYMBOLS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U";
const WRITTEN: &str = "5CS50JNP511137Q4ZECDK714KMP";

fn peppers(bytes: &[u8]) -> Peppers {
    let keys = bytes.iter().map(|byte| Zeroizing::new([*byte; 32]));
    Peppers::from_keys(keys.collect()).unwrap()
}

fn pseudonym_key(bytes: &[u8]) -> PseudonymKey {
    PseudonymKey::from_bytes(bytes).unwrap()
}

fn handle_key(bytes: &[u8]) -> HandleKey {
    HandleKey::from_bytes(bytes).unwrap()
}

/// Spread over all values, so that no test rests on one.
fn samples() -> impl Iterator<Item = Pseudonym> {
    let key = pseudonym_key(&[3; 32]);
    let made = (0..40).map(move |subject| key.pseudonym(A, &[subject; 16]));
    made.chain([[0; 16], [0xff; 16]].map(Pseudonym::from_bytes))
}

#[test]
fn what_is_stored_of_a_token_is_brought_under_a_later_pepper_without_the_token() {
    let token = &[5; 64];
    let (one, three) = (peppers(&[1]), peppers(&[1, 2, 3]));
    assert_eq!((one.count(), three.count()), (1, 3));
    let forms = [
        |of: &Peppers, token: &[u8; 64]| of.stored(A, token),
        |of: &Peppers, token: &[u8; 64]| of.canary(token),
    ];
    for form in forms {
        let (stored, newest) = (form(&one, token), form(&three, token));
        assert_eq!(three.advance(&stored, 1), newest);
        let half_way = form(&peppers(&[1, 2]), token);
        assert_eq!(three.advance(&half_way, 2), newest);
        assert_eq!(three.advance(&newest, 3), newest);
    }
}

#[test]
fn what_is_stored_depends_on_every_pepper_their_order_the_agency_and_the_token() {
    let all = [
        peppers(&[1]).stored(A, &[5; 64]),
        peppers(&[2]).stored(A, &[5; 64]),
        peppers(&[1, 2]).stored(A, &[5; 64]),
        peppers(&[2, 1]).stored(A, &[5; 64]),
        peppers(&[1, 2]).stored(A, &[6; 64]),
        peppers(&[1, 2]).stored(B, &[5; 64]),
        peppers(&[1, 2]).canary(&[5; 64]),
        peppers(&[1, 2]).canary(&[6; 64]),
        peppers(&[2, 1]).canary(&[5; 64]),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(!all[..at].contains(one), "{at}");
    }
}

#[test]
fn without_a_pepper_nothing_is_stored() {
    assert_eq!(Peppers::from_keys(vec![]).err(), Some(SealError::NoPepper));
}

#[test]
fn only_32_bytes_make_a_pseudonym_key_or_a_handle_key() {
    for length in [0, 31, 33] {
        let bytes = vec![0; length];
        let refused = Some(SealError::KeyLength);
        assert_eq!(PseudonymKey::from_bytes(&bytes).err(), refused);
        assert_eq!(HandleKey::from_bytes(&bytes).err(), refused);
    }
}

#[test]
fn a_pseudonym_is_of_one_agency_one_subject_and_one_key() {
    let (key, other) = (pseudonym_key(&[3; 32]), pseudonym_key(&[4; 32]));
    let one = key.pseudonym(A, &[1; 16]);
    assert_eq!(one, key.pseudonym(A, &[1; 16]));
    assert_ne!(one, key.pseudonym(B, &[1; 16]));
    assert_ne!(one, key.pseudonym(A, &[2; 16]));
    assert_ne!(one, other.pseudonym(A, &[1; 16]));
}

#[test]
fn an_officer_has_one_handle_in_an_agency() {
    let (key, other) = (handle_key(&[3; 32]), handle_key(&[4; 32]));
    let one = key.handle(A, "officer-7");
    assert_eq!(one, key.handle(A, "officer-7"));
    assert_ne!(one, key.handle(A, "officer-8"));
    assert_ne!(one, key.handle(B, "officer-7"));
    assert_ne!(one, other.handle(A, "officer-7"));
    assert_ne!(
        key.handle(A, &"x".repeat(70_000)),
        key.handle(A, &"x".repeat(70_001))
    );
}

#[test]
fn a_pseudonym_reads_back_as_it_was_written() {
    for pseudonym in samples() {
        let written = pseudonym.to_string();
        assert_eq!(written.len(), 27);
        assert!(
            written[..26]
                .bytes()
                .all(|b| SYMBOLS.as_bytes()[..32].contains(&b))
        );
        assert_eq!(written.parse(), Ok(pseudonym));
    }
    assert_eq!(
        Pseudonym::from_bytes([0; 16]).to_string(),
        "000000000000000000000000000"
    );
    assert_eq!(
        Pseudonym::from_bytes([0xff; 16]).to_string(),
        "7ZZZZZZZZZZZZZZZZZZZZZZZZZ*"
    );
}

#[test]
fn a_pseudonym_may_be_copied_by_hand() {
    let pseudonym: Pseudonym = WRITTEN.parse().unwrap();
    for text in [
        "5cs50jnp511137q4zecdk714kmp",
        "5CS5-0JNP-5111-37Q4-ZECD-K714-KMP",
        "5CS5oJNP5IlL37Q4ZECDK7i4KMP",
        "5cs5OJNP51i137q4zecdk7L4kmp",
    ] {
        assert_eq!(text.parse(), Ok(pseudonym), "{text}");
    }
}

#[test]
fn every_single_wrong_character_is_told() {
    for pseudonym in samples() {
        let written = pseudonym.to_string();
        for at in 0..27 {
            for symbol in SYMBOLS.chars() {
                let mut wrong: Vec<_> = written.chars().collect();
                wrong[at] = symbol;
                let wrong: String = wrong.into_iter().collect();
                let read = wrong.parse::<Pseudonym>();
                assert_eq!(read.is_ok(), wrong == written, "{written} {wrong}");
            }
        }
    }
}

#[test]
fn every_two_neighbours_swapped_are_told() {
    for pseudonym in samples() {
        let written = pseudonym.to_string();
        for at in 0..26 {
            let mut swapped: Vec<_> = written.chars().collect();
            swapped.swap(at, at + 1);
            let swapped: String = swapped.into_iter().collect();
            let read = swapped.parse::<Pseudonym>();
            assert_eq!(read.is_ok(), swapped == written, "{written} {swapped}");
        }
    }
}

/// What the check symbol cannot do: 37 in base 32 is 15, and leaves no remainder, as 0 does not.
#[test]
fn two_wrong_characters_may_make_another_pseudonym() {
    let right = "000000000000000000000000000".parse::<Pseudonym>();
    let wrong = "000000000000000000000000150".parse::<Pseudonym>();
    assert!(right.is_ok() && wrong.is_ok());
    assert_ne!(right, wrong);
}

#[test]
fn what_is_no_pseudonym_is_refused_and_not_repeated() {
    for (text, refused) in [
        ("", PseudonymError::Form),
        ("-", PseudonymError::Form),
        ("5CS50JNP511137Q4ZECDK714KM", PseudonymError::Form),
        ("05CS50JNP511137Q4ZECDK714KMP", PseudonymError::Form),
        ("8ZZZZZZZZZZZZZZZZZZZZZZZZZ0", PseudonymError::Form),
        ("5CS50JNP511137Q4ZECDK714KU0", PseudonymError::Form),
        ("5CS50JNP511137Q4ZECDK714K*0", PseudonymError::Form),
        ("5CS50JNP511137Q4ZECDK714KM ", PseudonymError::Form),
        ("5CS50JNP511137Q4ZECDK714KM۵", PseudonymError::Form),
        ("5CS50JNP511137Q4ZECDK714KMU", PseudonymError::Check),
    ] {
        assert_eq!(text.parse::<Pseudonym>(), Err(refused), "{text}");
        assert!(!refused.to_string().contains("5CS5"));
    }
}

#[test]
fn a_pseudonym_shows_in_no_debug_output() {
    let pseudonym: Pseudonym = WRITTEN.parse().unwrap();
    assert_eq!(format!("{:?}", [pseudonym]), "[Pseudonym(..)]");
}
