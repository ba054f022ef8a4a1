//! A statement counts as the agency's whose key signed it, with the officer whose token it carries.

use std::time::Duration;

use amanat_identity::{
    Signed, SignedError, TokenError, TokenVerifier, statement::AgencyStatement, token::Audience,
};
use amanat_schema::{
    Time,
    policy::Right,
    statement::{Consent, Referral, Statement, StatementHead, Withdrawal},
};
use amanat_seal::statement::StatementError;

use crate::support::{Exchange, now, officer};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

fn verify<M: AgencyStatement>(
    exchange: &Exchange,
    statement: &Statement,
    now: Time,
) -> Result<Signed<M>, SignedError> {
    let tokens = TokenVerifier::new(Audience::Gateway);
    Signed::verify(statement, &exchange.directory(), &tokens, now)
}

/// A withdrawal by the shelter, spoiled before it is signed.
fn withdrawal(exchange: &Exchange, spoil: impl FnOnce(&mut StatementHead)) -> Statement {
    let token = exchange
        .shelter
        .token(&officer(&[Right::CaseWorker]), now());
    let mut head = exchange.shelter.head(1, &token, now());
    spoil(&mut head);
    let message = Withdrawal {
        head: Some(head),
        consent_id: vec![0xc0; 16],
    };
    exchange.shelter.sign(&message, &token)
}

fn refused(exchange: &Exchange, statement: &Statement) -> SignedError {
    verify::<Withdrawal>(exchange, statement, now())
        .err()
        .expect("refused")
}

#[test]
fn a_good_statement_tells_signer_officer_and_case() {
    let exchange = Exchange::new();
    let statement = withdrawal(&exchange, |_| {});
    let signed = verify::<Withdrawal>(&exchange, &statement, now()).unwrap();
    assert_eq!(signed.head().agency, exchange.shelter.id);
    assert_eq!(signed.head().follows, None);
    assert_eq!(signed.officer().unwrap().id, "officer 7");
    let envelope = statement.envelope.unwrap();
    assert_eq!(
        *signed.payload_sha256(),
        amanat_seal::sha256(&envelope.payload)
    );
    let again = Signed::<Withdrawal>::verify_envelope(&envelope, &exchange.directory()).unwrap();
    assert!(
        again.officer().is_none(),
        "the envelope alone names no officer"
    );
}

#[test]
fn a_head_with_a_bad_field_is_refused_by_that_field() {
    type Spoil = fn(&mut StatementHead);
    let spoils: [(&str, Spoil); 5] = [
        ("head.statement_id", |head| head.statement_id.truncate(15)),
        ("head.agency_id", |head| head.agency_id.clear()),
        ("head.case_id", |head| head.case_id.push(0)),
        ("head.follows", |head| head.follows = vec![1; 31]),
        ("head.signed_time", |head| head.signed_time = None),
    ];
    let exchange = Exchange::new();
    for (name, spoil) in spoils {
        let why = refused(&exchange, &withdrawal(&exchange, spoil));
        assert!(
            matches!(why, SignedError::Field(field) if field == name),
            "{name}: {why}"
        );
    }
}

#[test]
fn a_statement_of_another_exchange_is_refused() {
    let exchange = Exchange::new();
    let other = withdrawal(&exchange, |head| {
        head.exchange_id = "other.example".to_owned()
    });
    assert!(matches!(refused(&exchange, &other), SignedError::Exchange));
}

#[test]
fn a_signer_that_the_directory_does_not_list_is_refused() {
    let exchange = Exchange::new();
    let stranger = withdrawal(&exchange, |head| head.agency_id = vec![0x99; 16]);
    assert!(matches!(refused(&exchange, &stranger), SignedError::Signer));
}

#[test]
fn an_agency_cannot_sign_as_another() {
    let exchange = Exchange::new();
    let token = exchange.police.token(&officer(&[Right::CaseWorker]), now());
    let head = StatementHead {
        agency_id: exchange.shelter.id.to_vec(),
        ..exchange.police.head(1, &token, now())
    };
    let message = Withdrawal {
        head: Some(head),
        consent_id: vec![0xc0; 16],
    };
    let forged = exchange.police.sign(&message, &token);
    let why = refused(&exchange, &forged);
    assert!(matches!(
        why,
        SignedError::Signature(StatementError::UnknownSigner)
    ));
}

#[test]
fn exactly_one_signature_over_exactly_these_bytes_counts() {
    let exchange = Exchange::new();
    let good = withdrawal(&exchange, |_| {});
    let mut two = good.clone();
    exchange
        .shelter
        .statement_key
        .cosign(two.envelope.as_mut().unwrap());
    let mut both = good.clone();
    exchange
        .police
        .statement_key
        .cosign(both.envelope.as_mut().unwrap());
    let mut none = good.clone();
    none.envelope.as_mut().unwrap().signatures.clear();
    for statement in [&two, &both, &none] {
        let why = refused(&exchange, statement);
        assert!(matches!(
            why,
            SignedError::Signature(StatementError::OneSignature)
        ));
    }
    let mut tampered = good.clone();
    // The last byte is of the consent's id.
    *tampered
        .envelope
        .as_mut()
        .unwrap()
        .payload
        .last_mut()
        .unwrap() ^= 1;
    let why = refused(&exchange, &tampered);
    assert!(matches!(
        why,
        SignedError::Signature(StatementError::Signature)
    ));
}

#[test]
fn a_statement_of_one_type_is_none_of_another() {
    let exchange = Exchange::new();
    let good = withdrawal(&exchange, |_| {});
    let as_consent = verify::<Consent>(&exchange, &good, now()).err().unwrap();
    assert!(matches!(
        as_consent,
        SignedError::Signature(StatementError::Type { .. })
    ));
    let mut swapped = good;
    "amanat.statement.v1.Consent".clone_into(&mut swapped.envelope.as_mut().unwrap().payload_type);
    let as_consent = verify::<Consent>(&exchange, &swapped, now()).err().unwrap();
    assert!(matches!(
        as_consent,
        SignedError::Signature(StatementError::Signature)
    ));
}

#[test]
fn only_the_token_that_was_signed_with_counts() {
    let exchange = Exchange::new();
    let mut other = withdrawal(&exchange, |_| {});
    other.officer_token = exchange
        .shelter
        .token(&officer(&[Right::Supervisor]), now());
    assert!(matches!(
        refused(&exchange, &other),
        SignedError::TokenBinding
    ));
    let mut none = withdrawal(&exchange, |_| {});
    none.officer_token.clear();
    assert!(matches!(
        refused(&exchange, &none),
        SignedError::TokenBinding
    ));
}

#[test]
fn another_agencys_officer_does_not_count() {
    let exchange = Exchange::new();
    let token = exchange.police.token(&officer(&[Right::CaseWorker]), now());
    let head = exchange.shelter.head(1, &token, now());
    let message = Withdrawal {
        head: Some(head),
        consent_id: vec![0xc0; 16],
    };
    let why = refused(&exchange, &exchange.shelter.sign(&message, &token));
    assert!(matches!(
        why,
        SignedError::Token(TokenError::Issuer | TokenError::Signature)
    ));
}

#[test]
fn the_token_must_have_been_valid_when_the_statement_was_signed() {
    let exchange = Exchange::new();
    let signed_at = |at: Time| {
        verify::<Withdrawal>(
            &exchange,
            &withdrawal(&exchange, |head| head.signed_time = Some(at.to_timestamp())),
            now() + DAY,
        )
    };
    assert!(
        signed_at(now()).is_ok(),
        "delivered a day later, when the token is long over"
    );
    assert!(signed_at(now() + MINUTE * 14).is_ok());
    for at in [now() + MINUTE * 15, now() - MINUTE] {
        let why = signed_at(at).err().unwrap();
        assert!(matches!(why, SignedError::Token(TokenError::Time)), "{why}");
    }
}

#[test]
fn a_statement_is_delivered_within_seven_days_and_not_before_it_was_signed() {
    let exchange = Exchange::new();
    let token = exchange
        .shelter
        .token(&officer(&[Right::CaseWorker]), now());
    let head = Some(exchange.shelter.head(1, &token, now()));
    let statement = exchange.shelter.sign(
        &Referral {
            head,
            ..Referral::default()
        },
        &token,
    );
    let at = |at| verify::<Referral>(&exchange, &statement, at);
    for good in [now() - MINUTE / 2, now(), now() + DAY * 7] {
        assert!(at(good).is_ok());
    }
    for bad in [now() - MINUTE, now() + DAY * 7 + Duration::from_millis(1)] {
        assert!(matches!(at(bad).err().unwrap(), SignedError::Age));
    }
}

#[test]
fn a_withdrawal_is_never_too_late_and_still_not_from_the_future() {
    let exchange = Exchange::new();
    let statement = withdrawal(&exchange, |_| {});
    let at = |at| verify::<Withdrawal>(&exchange, &statement, at);
    assert!(at(now() + DAY * 25).is_ok());
    assert!(matches!(
        at(now() - MINUTE).err().unwrap(),
        SignedError::Age
    ));
}

#[test]
fn an_empty_statement_is_malformed() {
    let exchange = Exchange::new();
    let headless = exchange.shelter.sign(&Withdrawal::default(), "");
    let mut noise = headless.clone();
    noise.envelope.as_mut().unwrap().payload = vec![0xff; 9];
    for statement in [Statement::default(), headless, noise] {
        assert!(matches!(
            refused(&exchange, &statement),
            SignedError::Malformed
        ));
    }
}
