//! Which card the directory takes, from whom, in the place of which, and what it remembers of a party's old keys.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{fs, process::Command};

use amanat_schema::{AgencyId, Time, directory};
use amanat_seal::statement::key_id;
use amanat_tests::ceremony::{Ceremony, EXCHANGE, FIRST, REGISTRARS, TABLE};
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
        ceremony.does(&[&draft[..], &["--keys-lost"]].concat());
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
