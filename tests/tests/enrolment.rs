//! Which card the directory takes, from whom, in the place of which, and what it remembers of a party's old keys.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{fs, process::Command};

use amanat_identity::Signed;
use amanat_schema::{
    AgencyId, Time, directory,
    statement::{Consent, StatementHead},
};
use amanat_seal::statement::{SigningKey, key_id};
use amanat_tests::{
    ceremony::{Ceremony, EXCHANGE, FIRST, REGISTRARS, TABLE},
    party::now,
};
use prost::Message as _;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const POLICE: &str = "police/agency.card.toml";
const SINCE: &str = "2026-03-01T09:30:00Z";

fn enrol<'a>(card: &'a str, draft: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["agency", "enrol", card, "--draft", draft], more].concat()
}

/// A published exchange whose police replaced their statement key; the old one, hexadecimal.
fn rotated() -> (Ceremony, String) {
    let ceremony = Ceremony::published(PROGRAM);
    let old = police(&ceremony).statement_keys.remove(0);
    ceremony.does(&["keys", "rotate", "statements", "police"]);
    ceremony.drafts("2.draft");
    ceremony.enrols("police", "2.draft");
    ceremony.publishes("2.draft");
    copy(&ceremony, "police", "police-then");
    ceremony.does(&["keys", "rotate", "statements", "police", "--finish"]);
    ceremony.drafts("3.draft");
    ceremony.enrols("police", "3.draft");
    ceremony.publishes("3.draft");
    (ceremony, hex::encode(old))
}

fn police(ceremony: &Ceremony) -> directory::Agency {
    ceremony.in_use().agencies.remove(0)
}

/// With links and modes as they are.
fn copy(ceremony: &Ceremony, from: &str, to: &str) {
    let mut command = Command::new("cp");
    command
        .arg("-a")
        .args([ceremony.path(from), ceremony.path(to)]);
    assert!(command.status().unwrap().success());
}

/// The draft as a drafter with another tool hands it round.
fn forges(ceremony: &Ceremony, draft: &str, edit: impl FnOnce(&mut directory::Directory)) {
    let mut envelope = ceremony.envelope(draft);
    let mut content = directory::Directory::decode(envelope.payload.as_slice()).unwrap();
    edit(&mut content);
    envelope.payload = content.encode_to_vec();
    fs::write(ceremony.path("forged.draft"), envelope.encode_to_vec()).unwrap();
}

#[test]
fn a_draft_that_forgets_what_is_known_of_keys_is_not_signed() {
    type Edit = fn(&mut directory::Directory);
    let sign = ["directory", "sign", "forged.draft", "--yes"];
    let more = ["--key", "one/registrar.key", "--in-use"];
    let sign = [&sign[..], &more, &["public/directory.bin"]].concat();
    let back: Edit = |d| {
        let old = d.agencies[0].retired_statement_keys.remove(0);
        d.agencies[0].statement_keys.push(old.public_key);
    };
    let (ceremony, old) = rotated();
    let id = hex::encode(police(&ceremony).agency_id);
    ceremony.drafts("4.draft");
    forges(&ceremony, "4.draft", back);
    ceremony.refuses(1, "DRAFT_REFUSED", "is in force again", &sign);

    let since = ["--compromised-since", SINCE, "--compromised-key", &old];
    ceremony.does(&enrol(POLICE, "4.draft", &since));
    ceremony.enrols("shelter", "4.draft");
    ceremony.publishes("4.draft");
    let shelter = hex::encode(&ceremony.in_use().agencies[1].agency_id);
    ceremony.drafts("5.draft");
    ceremony.does(&["agency", "revoke", &shelter, "--draft", "5.draft"]);
    ceremony.publishes("5.draft");

    ceremony.drafts("6.draft");
    let edits: [(&str, &str, Edit); 10] = [
        (&id, "is in force again", back),
        (&id, "is missing, and not retired", |d| {
            d.agencies[0].retired_statement_keys.clear();
        }),
        (&id, "is missing, and not retired", |d| {
            d.agencies[0].statement_keys = vec![vec![9; 32]];
        }),
        (&id, "was retired earlier", |d| {
            let retired = &mut d.agencies[0].retired_statement_keys[0];
            retired.retired_time.as_mut().unwrap().seconds += 1;
        }),
        (&id, "is marked compromised", |d| {
            let retired = &mut d.agencies[0].retired_statement_keys[0];
            retired.compromised_since_time = None;
        }),
        (&id, "is marked compromised", |d| {
            let retired = &mut d.agencies[0].retired_statement_keys[0];
            retired.compromised_since_time.as_mut().unwrap().seconds += 1;
        }),
        (&id, "neither listed nor a former", |d| d.agencies.clear()),
        (&shelter, "neither listed nor a former", |d| {
            d.former_agencies.clear();
        }),
        (&id, "its card is older", |d| {
            d.agencies[0].card_time.as_mut().unwrap().seconds -= 1;
        }),
        ("the gateway", "its card is older", |d| {
            d.gateway.as_mut().unwrap().card_time = None;
        }),
    ];
    for (of, says, edit) in edits {
        forges(&ceremony, "6.draft", edit);
        ceremony.refuses(1, "DRAFT_REFUSED", says, &sign);
        ceremony.refuses(1, "DRAFT_REFUSED", of, &sign);
    }
    forges(&ceremony, "6.draft", |_| ());
    ceremony.does(&sign);
}

#[test]
fn a_retired_key_comes_back_only_with_its_agency() {
    let (ceremony, _) = rotated();
    ceremony.does(&["keys", "rotate", "authority", "police-then"]);
    ceremony.drafts("4.draft");
    for more in [&[][..], &["--keys-lost"]] {
        let old = enrol("police-then/agency.card.toml", "4.draft", more);
        ceremony.refuses(3, "CARD_INVALID", "retired and does not come back", &old);
    }
}

#[test]
fn what_an_agency_signs_while_its_removal_is_drafted_counts_when_it_is_back() {
    let ceremony = Ceremony::published(PROGRAM);
    let key = fs::read(ceremony.path("police/keys/statement.key")).unwrap();
    let key = SigningKey::from_pem(&key).unwrap();
    ceremony.does(&["keys", "rotate", "statements", "police"]);
    ceremony.drafts("2.draft");
    ceremony.enrols("police", "2.draft");
    ceremony.publishes("2.draft");
    ceremony.does(&["keys", "rotate", "statements", "police", "--finish"]);
    let id = police(&ceremony).agency_id;
    ceremony.drafts("3.draft");
    let by_id = ["agency", "revoke", &hex::encode(&id)];
    ceremony.does(&[&by_id[..], &["--draft", "3.draft"]].concat());

    let signed = key.sign(&Consent {
        head: Some(StatementHead {
            exchange_id: EXCHANGE[1].to_owned(),
            statement_id: vec![1; 16],
            agency_id: id,
            case_id: vec![2; 16],
            signed_time: Some(now().to_timestamp()),
            ..StatementHead::default()
        }),
        ..Consent::default()
    });
    let counts = || Signed::<Consent>::verify_envelope(&signed, &ceremony.directory());
    assert!(counts().is_ok(), "the directory in use lists it");
    ceremony.publishes("3.draft");
    assert!(counts().is_err(), "it is gone");
    ceremony.drafts("4.draft");
    ceremony.does(&enrol(POLICE, "4.draft", &["--keys-lost"]));
    ceremony.publishes("4.draft");
    let listed = police(&ceremony);
    let [old] = &listed.retired_statement_keys[..] else {
        panic!("{listed:?}");
    };
    assert_eq!(old.public_key, key.public_key());
    assert!(counts().is_ok(), "{:?}", counts().err());
}

#[test]
fn a_key_whose_theft_is_learnt_late_is_marked_after_it_was_retired() {
    let (ceremony, old) = rotated();
    ceremony.drafts("4.draft");
    let since = ["--compromised-since", SINCE];
    let nothing = enrol(POLICE, "4.draft", &since);
    ceremony.refuses(3, "CARD_INVALID", "marks nothing", &nothing);
    let current = hex::encode(&police(&ceremony).statement_keys[0]);
    for key in [current, "00".repeat(32)] {
        let other = [&nothing[..], &["--compromised-key", &key]].concat();
        ceremony.refuses(3, "CARD_INVALID", "no retired statement key", &other);
    }
    let tomorrow = (now() + std::time::Duration::from_secs(24 * 3600)).to_string();
    let later = ["--compromised-since", &tomorrow, "--compromised-key", &old];
    let later = enrol(POLICE, "4.draft", &later);
    ceremony.refuses(3, "CARD_INVALID", "is in the future", &later);
    let named = [&nothing[..], &["--compromised-key", &old]].concat();
    let told = ceremony.tells(&named);
    let mut changes = told["changes"].as_array().unwrap().iter();
    let marked = format!("compromised since {}", "2026-03-01T09:30:00.000Z");
    assert!(
        changes.any(|change| change["value"].as_str().unwrap().ends_with(&marked)),
        "{told}"
    );
    ceremony.refuses(3, "CARD_INVALID", "only an earlier time", &named);
    ceremony.publishes("4.draft");

    let listed = police(&ceremony);
    let id = AgencyId::parse(&listed.agency_id).unwrap();
    let key: [u8; 32] = hex::decode(&old).unwrap().try_into().unwrap();
    let retired = &listed.retired_statement_keys[0];
    let since = Time::parse(retired.compromised_since_time.as_ref()).unwrap();
    assert!(!ceremony.directory().is_own_word(id, &key_id(&key), since));
}

#[test]
fn an_agency_that_comes_back_brings_its_old_keys_and_what_is_known_of_them() {
    let (ceremony, old) = rotated();
    let id = hex::encode(police(&ceremony).agency_id);
    ceremony.drafts("4.draft");
    let since = ["--compromised-since", SINCE, "--compromised-key", &old];
    ceremony.does(&enrol(POLICE, "4.draft", &since));
    ceremony.publishes("4.draft");
    let before = police(&ceremony);

    ceremony.drafts("5.draft");
    ceremony.does(&["agency", "revoke", &id, "--draft", "5.draft"]);
    for more in [&[][..], &["--keys-lost"]] {
        let again = enrol(POLICE, "5.draft", more);
        ceremony.refuses(3, "CARD_INVALID", "removed in this very draft", &again);
    }
    ceremony.publishes("5.draft");
    let left = ceremony.in_use();
    assert!(left.agencies.is_empty());
    assert_eq!(left.former_agencies[0].statement_keys.len(), 2);

    ceremony.drafts("6.draft");
    let plain = enrol(POLICE, "6.draft", &[]);
    ceremony.refuses(3, "CARD_INVALID", "add --keys-lost", &plain);
    ceremony.does(&[&plain[..], &["--keys-lost"]].concat());
    ceremony.publishes("6.draft");
    assert_eq!(police(&ceremony), before, "as if it had never left");
    assert!(ceremony.in_use().former_agencies.is_empty());
}

#[test]
fn a_compromised_key_never_comes_back() {
    let (ceremony, old) = rotated();
    ceremony.drafts("4.draft");
    let since = ["--compromised-since", SINCE, "--compromised-key", &old];
    ceremony.does(&enrol(POLICE, "4.draft", &since));
    // Who took the folder then makes a card of today.
    ceremony.does(&["keys", "rotate", "authority", "police-then"]);
    let stolen = enrol("police-then/agency.card.toml", "4.draft", &[]);
    ceremony.refuses(3, "CARD_INVALID", "never comes back", &stolen);
}

#[test]
fn an_older_card_does_not_bring_back_what_was_given_up() {
    let ceremony = Ceremony::published(PROGRAM);
    let gateway = "gateway/gateway.card.toml";
    for (card, old) in [
        (POLICE, "police-old.card.toml"),
        (gateway, "gateway-old.card.toml"),
    ] {
        fs::copy(ceremony.path(card), ceremony.path(old)).unwrap();
    }
    ceremony.does(&["keys", "rotate", "tokens", "police"]);
    ceremony.does(&["keys", "rotate", "authority", "gateway"]);
    let draft = |card| {
        let from = ["directory", "draft", "--from", "public/directory.bin"];
        [&from[..], &["--gateway", card, "--out"]].concat()
    };
    ceremony.does(&[&draft(gateway)[..], &["2.draft"]].concat());
    ceremony.enrols("police", "2.draft");
    ceremony.publishes("2.draft");

    let old = [&draft("gateway-old.card.toml")[..], &["3.draft"]].concat();
    ceremony.refuses(3, "CARD_INVALID", "an older card", &old);
    ceremony.does(&[&draft(gateway)[..], &["3.draft"]].concat());
    for more in [&[][..], &["--keys-lost"]] {
        let old = enrol("police-old.card.toml", "3.draft", more);
        ceremony.refuses(3, "CARD_INVALID", "an older card", &old);
    }
    let same = ceremony.enrols("police", "3.draft");
    assert_eq!(same["changes"].as_array().unwrap().len(), 0, "{same}");
    // Nor once the agency was gone.
    let id = hex::encode(police(&ceremony).agency_id);
    ceremony.does(&["agency", "revoke", &id, "--draft", "3.draft"]);
    ceremony.publishes("3.draft");
    ceremony.drafts("4.draft");
    let old = enrol("police-old.card.toml", "4.draft", &["--keys-lost"]);
    ceremony.refuses(3, "CARD_INVALID", "an older card", &old);
}

#[test]
fn a_strangers_server_card_is_taken_for_lost_keys_only_when_it_is_said() {
    let ceremony = Ceremony::published(PROGRAM);
    for kind in ["gateway", "custodian"] {
        let other = format!("other-{kind}");
        let name = format!("{kind}.pilot.amanat.example");
        let place = ["--public", "public", "--out", &other];
        let more = ["--gateway", "https://127.0.0.1:8443"];
        let more = if kind == "custodian" { &more[..] } else { &[] };
        ceremony.does(
            &[
                &["keys", "init", kind, "--server-name", &name][..],
                &["--listen", "127.0.0.1:8443"],
                &place,
                &EXCHANGE,
                &REGISTRARS,
                more,
            ]
            .concat(),
        );
        let (option, card) = (format!("--{kind}"), format!("{other}/{kind}.card.toml"));
        let draft = format!("{kind}.draft");
        let draft = [
            &["directory", "draft", "--from", "public/directory.bin"][..],
            &[&option, &card, "--out", &draft],
        ]
        .concat();
        ceremony.refuses(3, "CARD_INVALID", "--keys-lost", &draft);
        let mut server = ["gateway", "custodian"].into_iter();
        let another = server.find(|name| *name != kind).unwrap();
        // What is said of one server says nothing of the other.
        for lost in [&[another][..], &[]] {
            let lost = [&draft[..], &["--keys-lost"], lost].concat();
            assert_eq!(ceremony.run(&lost).code, 2, "{lost:?}");
        }
        let (option, card) = (
            format!("--{another}"),
            format!("{another}/{another}.card.toml"),
        );
        let both = [&draft[..], &[&option, &card]].concat();
        let lost = [&both[..], &["--keys-lost", another]].concat();
        ceremony.refuses(3, "CARD_INVALID", &format!("{other}/"), &lost);
        ceremony.does(&[&both[..], &["--keys-lost", kind]].concat());
    }
}

#[test]
fn a_registrars_name_draws_nothing_on_a_terminal_and_is_not_signed() {
    let ceremony = Ceremony::published(PROGRAM);
    ceremony.drafts("2.draft");
    let mut draft = ceremony.envelope("2.draft");
    let mut content = directory::Directory::decode(draft.payload.as_slice()).unwrap();
    content.registrars[0].name = "one\", \"two\u{1b}[2K\n  + kind OVERSIGHT \u{202e}".to_owned();
    draft.payload = content.encode_to_vec();
    fs::write(ceremony.path("2.draft"), draft.encode_to_vec()).unwrap();
    let sign = ["directory", "sign", "2.draft", "--key", "one/registrar.key"];
    let yes = ["--yes", "--in-use", "public/directory.bin"];
    let sign = [&sign[..], &yes].concat();
    ceremony.refuses(1, "DRAFT_REFUSED", "the name of its registrar", &sign);

    // Signed by hand, it is shown with nothing of its own making.
    let key = fs::read(ceremony.path("one/registrar.key")).unwrap();
    let key = amanat_seal::statement::SigningKey::from_pem(&key).unwrap();
    key.cosign(&mut draft);
    fs::write(ceremony.path("2.draft"), draft.encode_to_vec()).unwrap();
    let shown = ceremony.run(&["directory", "show", "2.draft"]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    let (_, signed) = shown.out.split_once("signed by").unwrap();
    let public_key = hex::encode(key.public_key());
    let name = r#""one\", \"two\u{1b}[2K\n  + kind OVERSIGHT \u{202e}""#;
    assert_eq!(signed.trim_end(), format!("\n  {public_key} {name}"));
    for drawn in ["\u{1b}", "\u{202e}", "\n  + kind"] {
        assert!(!shown.out.contains(drawn), "{}", shown.out);
    }
}

#[test]
fn a_servers_card_is_taken_under_its_own_option_only() {
    let ceremony = Ceremony::published(PROGRAM);
    let [gateway, custodian] = ["gateway/gateway.card.toml", "custodian/custodian.card.toml"];
    let first = [
        &["directory", "draft", "--table", TABLE, "--out", "new.draft"][..],
        &EXCHANGE,
        &REGISTRARS,
    ]
    .concat();
    let next = [
        "directory",
        "draft",
        "--from",
        "public/directory.bin",
        "--out",
        "new.draft",
    ];
    for (draft, cards, says) in [
        (
            &first[..],
            &["--gateway", gateway, "--custodian", gateway][..],
            "a custodian's card",
        ),
        (
            &first,
            &["--gateway", custodian, "--custodian", custodian],
            "a gateway's card",
        ),
        (&next, &["--gateway", custodian], "a gateway's card"),
        (&next, &["--custodian", gateway], "a custodian's card"),
    ] {
        ceremony.refuses(3, "CARD_INVALID", says, &[draft, cards].concat());
    }
    assert!(!ceremony.path("new.draft").exists());
    ceremony.does(&[&next[..], &["--gateway", gateway, "--custodian", custodian]].concat());
}

#[test]
fn what_is_no_card_is_told_so_and_a_card_is_no_configuration() {
    let ceremony = Ceremony::published(PROGRAM);
    for file in [
        "police/profile.toml",
        "police/keys/statement.key",
        "public/directory.bin",
    ] {
        ceremony.refuses(
            3,
            "CARD_INVALID",
            "this is no card",
            &enrol(file, FIRST, &[]),
        );
    }
    let missing = enrol("nobody.card.toml", FIRST, &[]);
    ceremony.refuses(3, "FILE_UNUSABLE", "nobody.card.toml", &missing);
    for card in [POLICE, "gateway/gateway.card.toml"] {
        let told = ceremony.run(&["config", "check", card]);
        assert_eq!(told.code, 3, "{}", told.out);
        let says = "this is a card, not a configuration";
        assert_eq!(told.err.matches(card).count(), 1, "{}", told.err);
        assert!(told.err.contains(says), "{}", told.err);
    }
}

#[test]
fn a_card_that_changes_nothing_is_told_so() {
    let ceremony = Ceremony::drafted(PROGRAM);
    let told = ceremony.run(&enrol(POLICE, FIRST, &[]));
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.out.ends_with("\nnothing changes\n"), "{}", told.out);
}
