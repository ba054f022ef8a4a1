//! A token counts if the agency's own issuer signed it, for this server, this certificate and now.

use std::time::Duration;

use amanat_identity::{Directory, Officer, TokenError, TokenVerifier, token::Audience};
use amanat_schema::{Time, policy::Right};
use aws_lc_rs::{hmac, signature::Ed25519KeyPair};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::{Agency, Exchange, now, officer};

const MINUTE: Duration = Duration::from_secs(60);

fn header() -> Value {
    json!({"alg": "EdDSA", "typ": "amanat-officer+jwt", "kid": "key-1"})
}

/// What the shelter's issuer says of its officer.
fn claims(exchange: &Exchange) -> Value {
    let shelter = &exchange.shelter;
    json!({
        "iss": shelter.issuer_name(),
        "sub": "officer 7",
        "aud": ["amanat-gateway", "amanat-custodian"],
        "exp": now().seconds() + 900,
        "nbf": now().seconds(),
        "jti": "01",
        "cnf": {"x5t#S256": BASE64_URL_SAFE_NO_PAD.encode(shelter.client.sha256())},
        "rights": ["CASE_WORKER"],
        "station": "Lahore 3",
    })
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn signed(agency: &Agency, header: &Value, claims: &Value) -> String {
    let text = unsigned(header, claims);
    let key = Ed25519KeyPair::from_pkcs8(&agency.issuer_key).unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()));
    format!("{text}.{signature}")
}

/// Presented to the gateway as the shelter, over its connection.
fn present(exchange: &Exchange, token: &str) -> Result<Officer, TokenError> {
    let tokens = TokenVerifier::new(Audience::Gateway);
    present_at(exchange, &tokens, token, now())
}

fn present_at(
    exchange: &Exchange,
    tokens: &TokenVerifier,
    token: &str,
    at: Time,
) -> Result<Officer, TokenError> {
    let shelter = &exchange.shelter;
    let directory = exchange.directory();
    tokens
        .verify_presented(token, shelter.id, &shelter.client.sha256(), &directory, at)
        .map(|officer| Officer::clone(&officer))
}

fn with_header(exchange: &Exchange, name: &str, value: Value) -> Result<Officer, TokenError> {
    let mut header = header();
    header[name] = value;
    present(
        exchange,
        &signed(&exchange.shelter, &header, &claims(exchange)),
    )
}

fn with_claim(exchange: &Exchange, name: &str, value: Value) -> Result<Officer, TokenError> {
    let mut claims = claims(exchange);
    claims[name] = value;
    present(exchange, &signed(&exchange.shelter, &header(), &claims))
}

#[test]
fn a_good_token_names_the_officer() {
    let exchange = Exchange::new();
    let expected = officer(&[Right::CaseWorker]);
    let by_hand = signed(&exchange.shelter, &header(), &claims(&exchange));
    assert!(present(&exchange, &by_hand) == Ok(expected.clone()));
    let issued = exchange.shelter.token(&expected, now());
    assert!(present(&exchange, &issued) == Ok(expected));
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let exchange = Exchange::new();
    let claims = claims(&exchange);
    for alg in ["none", "None", "NONE", ""] {
        let mut header = header();
        header["alg"] = json!(alg);
        let token = format!("{}.", unsigned(&header, &claims));
        assert_eq!(
            present(&exchange, &token),
            Err(TokenError::Malformed),
            "{alg}"
        );
    }
    let token = format!("{}.", unsigned(&header(), &claims));
    assert_eq!(present(&exchange, &token), Err(TokenError::Signature));
}

#[test]
fn the_public_key_is_no_secret_key() {
    let exchange = Exchange::new();
    let mut header = header();
    header["alg"] = json!("HS256");
    let text = unsigned(&header, &claims(&exchange));
    let public_key = exchange.shelter.issuer_public_key();
    for secret in [
        public_key.to_vec(),
        BASE64_URL_SAFE_NO_PAD.encode(public_key).into_bytes(),
    ] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), text.as_bytes());
        let token = format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(present(&exchange, &token), Err(TokenError::Signature));
    }
}

#[test]
fn another_algorithm_in_the_header_is_refused() {
    let exchange = Exchange::new();
    for alg in ["RS256", "PS512", "ES256", "ES384", "HS512"] {
        let refused = with_header(&exchange, "alg", json!(alg));
        assert_eq!(refused, Err(TokenError::Signature), "{alg}");
    }
    for alg in [json!("Ed448"), json!("eddsa"), json!(null), json!(1)] {
        assert_eq!(
            with_header(&exchange, "alg", alg),
            Err(TokenError::Malformed)
        );
    }
}

#[test]
fn another_type_or_a_critical_extension_is_refused() {
    let exchange = Exchange::new();
    for typ in [
        json!("JWT"),
        json!("at+jwt"),
        json!("AMANAT-OFFICER+JWT"),
        json!(null),
    ] {
        assert_eq!(with_header(&exchange, "typ", typ), Err(TokenError::Type));
    }
    let critical = with_header(&exchange, "crit", json!(["exp"]));
    assert!(matches!(
        critical,
        Err(TokenError::Type | TokenError::Malformed)
    ));
}

#[test]
fn a_key_that_the_directory_does_not_list_is_refused() {
    let exchange = Exchange::new();
    for kid in [json!(null), json!("key-2"), json!("")] {
        assert_eq!(with_header(&exchange, "kid", kid), Err(TokenError::Issuer));
    }
    let smuggled = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA",
        "x": BASE64_URL_SAFE_NO_PAD.encode(exchange.police.issuer_public_key())});
    let mut header = header();
    header["jwk"] = smuggled;
    let token = signed(&exchange.police, &header, &claims(&exchange));
    assert_eq!(present(&exchange, &token), Err(TokenError::Signature));
}

#[test]
fn another_agencys_issuer_is_refused() {
    let exchange = Exchange::new();
    let theirs = exchange.police.token(&officer(&[Right::CaseWorker]), now());
    assert_eq!(present(&exchange, &theirs), Err(TokenError::Signature));
    let name = json!(exchange.police.issuer_name());
    assert_eq!(with_claim(&exchange, "iss", name), Err(TokenError::Issuer));
    assert_eq!(
        with_claim(&exchange, "iss", json!([])),
        Err(TokenError::Malformed)
    );
}

#[test]
fn a_token_for_another_audience_is_refused() {
    let exchange = Exchange::new();
    for aud in [json!([]), json!(["amanat"]), json!(["amanat-custodian"])] {
        assert_eq!(with_claim(&exchange, "aud", aud), Err(TokenError::Audience));
    }
    let custodians = with_claim(&exchange, "aud", json!(["amanat-gateway"]));
    assert!(custodians.is_ok());
    assert_eq!(
        with_claim(&exchange, "aud", json!("amanat-gateway")),
        Err(TokenError::Malformed),
        "a list, as the profile says"
    );
}

#[test]
fn a_token_bound_to_another_certificate_is_refused() {
    let exchange = Exchange::new();
    let other = BASE64_URL_SAFE_NO_PAD.encode(exchange.police.client.sha256());
    for x5t in [json!(other), json!(""), json!("!"), json!("AAAA")] {
        let refused = with_claim(&exchange, "cnf", json!({"x5t#S256": x5t}));
        assert_eq!(refused, Err(TokenError::Binding));
    }
    for cnf in [json!({}), json!(null), json!({"jkt": "AAAA"})] {
        assert_eq!(
            with_claim(&exchange, "cnf", cnf),
            Err(TokenError::Malformed)
        );
    }
}

#[test]
fn a_token_counts_within_its_own_time_only() {
    let exchange = Exchange::new();
    let token = signed(&exchange.shelter, &header(), &claims(&exchange));
    let tokens = TokenVerifier::new(Audience::Gateway);
    let at = |at| present_at(&exchange, &tokens, &token, at);
    let second = Duration::from_secs(1);
    for good in [now() - second * 30, now(), now() + MINUTE * 15 - second] {
        assert!(at(good).is_ok());
    }
    // Remembered by now, and still judged by the clock.
    for bad in [
        now() - second * 31,
        now() + MINUTE * 15,
        now() + MINUTE * 60,
    ] {
        assert_eq!(at(bad), Err(TokenError::Time));
    }
}

#[test]
fn a_token_lives_fifteen_minutes_at_most() {
    let exchange = Exchange::new();
    let seconds = now().seconds();
    for exp in [seconds + 901, seconds, seconds - 1, u64::MAX] {
        assert_eq!(
            with_claim(&exchange, "exp", json!(exp)),
            Err(TokenError::Time),
            "{exp}"
        );
    }
    assert_eq!(
        with_claim(&exchange, "nbf", json!(0)),
        Err(TokenError::Time)
    );
}

#[test]
fn claims_in_another_form_are_refused() {
    let exchange = Exchange::new();
    let soon = (now().seconds() + 900).to_string();
    for (name, value) in [
        ("exp", json!(soon)),
        ("exp", json!(null)),
        ("exp", json!(-1)),
        ("exp", json!(1.5e300)),
        ("nbf", json!("0")),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("jti", json!("")),
        ("rights", json!("CASE_WORKER")),
        ("admin", json!(true)),
        ("iat", json!(now().seconds())),
    ] {
        let refused = with_claim(&exchange, name, value.clone());
        assert_eq!(refused, Err(TokenError::Malformed), "{name}: {value}");
    }
    for name in [
        "iss", "sub", "aud", "exp", "nbf", "jti", "cnf", "rights", "station",
    ] {
        let mut claims = claims(&exchange);
        claims.as_object_mut().unwrap().shift_remove(name);
        let token = signed(&exchange.shelter, &header(), &claims);
        assert!(present(&exchange, &token).is_err(), "without {name}");
    }
}

#[test]
fn a_right_that_does_not_exist_is_refused() {
    let exchange = Exchange::new();
    for right in [
        "ADMIN",
        "case_worker",
        "RIGHT_CASE_WORKER",
        "UNSPECIFIED",
        "",
    ] {
        let refused = with_claim(&exchange, "rights", json!(["CASE_WORKER", right]));
        assert_eq!(refused, Err(TokenError::Right), "{right}");
    }
    assert!(
        with_claim(&exchange, "rights", json!([]))
            .unwrap()
            .rights
            .is_empty()
    );
}

#[test]
fn a_tampered_or_oversized_token_is_refused() {
    let exchange = Exchange::new();
    let good = signed(&exchange.shelter, &header(), &claims(&exchange));
    let other = signed(&exchange.shelter, &header(), &json!({}));
    let (text, _) = good.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    assert_eq!(
        present(&exchange, &format!("{text}.{signature}")),
        Err(TokenError::Signature)
    );
    let long = with_claim(&exchange, "station", json!("x".repeat(4096)));
    assert_eq!(long, Err(TokenError::Malformed));
    for noise in [
        "",
        ".",
        "..",
        "a.b.c",
        "a.b.c.d",
        &format!("{good}.x"),
        &format!(" {good}"),
    ] {
        assert_eq!(
            present(&exchange, noise),
            Err(TokenError::Malformed),
            "{noise}"
        );
    }
}

#[test]
fn a_remembered_token_is_remembered_for_its_agency_and_judged_for_its_connection() {
    let exchange = Exchange::new();
    let (shelter, police) = (&exchange.shelter, &exchange.police);
    let directory = exchange.directory();
    let tokens = TokenVerifier::new(Audience::Gateway);
    let token = signed(shelter, &header(), &claims(&exchange));
    let present = |agency: &Agency, certificate: &Agency| {
        tokens
            .verify_presented(
                &token,
                agency.id,
                &certificate.client.sha256(),
                &directory,
                now(),
            )
            .map(drop)
    };
    assert_eq!(present(shelter, shelter), Ok(()));
    assert_eq!(present(shelter, police), Err(TokenError::Binding));
    assert_eq!(present(police, shelter), Err(TokenError::Signature));
    assert_eq!(present(shelter, shelter), Ok(()));
}

#[test]
fn neither_token_nor_officer_shows_in_debug() {
    let shown = format!("{:?}", officer(&[Right::Auditor]));
    assert_eq!(shown, "Officer({Auditor})");
}

#[test]
fn a_token_that_was_verified_before_is_judged_anew_by_a_newer_directory() {
    let exchange = Exchange::new();
    let shelter = &exchange.shelter;
    let token = shelter.token(&officer(&[Right::CaseWorker]), now());
    let tokens = TokenVerifier::new(Audience::Gateway);
    let verify = |directory: &Directory| {
        let certificate = shelter.client.sha256();
        let officer = tokens.verify_presented(&token, shelter.id, &certificate, directory, now());
        officer.map(drop)
    };
    assert_eq!(verify(&exchange.directory()), Ok(()));
    let mut newer = exchange.wire();
    newer.version += 1;
    newer.agencies[0].token_issuers.clear();
    let newer = Directory::verify(&exchange.publish(&newer), &exchange.pinned()).unwrap();
    assert_eq!(verify(&newer), Err(TokenError::Issuer));
}
