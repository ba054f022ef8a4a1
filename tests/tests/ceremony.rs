//! The directory comes into being by cards, drafts and signatures: what each command makes, shows and refuses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use amanat_schema::directory;
use amanat_seal::statement::SigningKey;
use amanat_tests::ceremony::{Ceremony, EXCHANGE, FIRST, REGISTRARS, TABLE};
use prost::Message as _;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn every_file(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            assert_eq!(mode(&entry.path()), 0o700, "{}", entry.path().display());
            found.extend(every_file(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn two_registrars_make_a_directory_that_every_party_accepts() {
    let ceremony = Ceremony::published(PROGRAM);
    let directory = ceremony.directory();
    assert_eq!(directory.version(), 1);
    assert_eq!(directory.agencies().count(), 1);
    for folder in ["crls", "suspensions"] {
        assert!(ceremony.path("public").join(folder).is_dir());
    }
    let shown = ceremony
        .run(&["directory", "show", "public/directory.bin"])
        .out;
    let (_, signed) = shown.split_once("signed by").unwrap();
    let keys = ceremony.in_use().registrars.into_iter();
    let lines =
        keys.map(|listed| format!("\n  {} {:?}", hex::encode(listed.public_key), listed.name));
    assert_eq!(signed.trim_end(), lines.collect::<String>());
    assert!(shown.contains("PROVINCIAL_POLICE"), "{shown}");
}

#[test]
fn every_file_that_is_made_is_told_and_private_ones_are_their_owners_alone() {
    let ceremony = Ceremony::drafted(PROGRAM);
    let told = ceremony.founds("ngo", "NGO_SHELTER", &["--json"]);
    let told: Value = serde_json::from_str(&told.out).unwrap();
    let told = told["files"].as_array().unwrap().iter();
    let told: Vec<_> = told
        .map(|file| ceremony.path(file.as_str().unwrap()))
        .collect();
    let mut there = every_file(&ceremony.path("ngo"));
    there.sort();
    assert_eq!(told, there);
    for party in ["one", "gateway", "custodian", "police"] {
        let files = every_file(&ceremony.path(party));
        assert!(files.iter().any(|file| file.extension().unwrap() == "key"));
        for file in files.iter().filter(|file| !file.is_symlink()) {
            let text = fs::read_to_string(file).unwrap();
            let is_private = file.extension().unwrap() == "key";
            assert_eq!(
                text.contains("PRIVATE KEY"),
                is_private && text.contains("BEGIN")
            );
            let expected = if is_private { 0o600 } else { 0o644 };
            assert_eq!(mode(file), expected, "{}", file.display());
        }
    }
}

#[test]
fn nothing_that_is_there_is_overwritten() {
    let ceremony = Ceremony::drafted(PROGRAM);
    let key = ceremony.text("one/registrar.key");
    let again = ["keys", "init", "registrar", "--name", "one", "--out", "one"];
    ceremony.refuses(3, "INPUT_INVALID", "holds a party's keys already", &again);
    assert_eq!(ceremony.text("one/registrar.key"), key);
    let told = ceremony.founds("police", "PROVINCIAL_POLICE", &[]);
    assert_eq!(told.code, 3, "{}", told.out);
    assert!(told.err.contains("keys already"), "{}", told.err);
    assert!(!told.err.contains("remove"), "{}", told.err);
    let draft = fs::read(ceremony.path(FIRST)).unwrap();
    let again = [
        &["directory", "draft"][..],
        &EXCHANGE,
        &REGISTRARS,
        &["--gateway", "gateway/gateway.card.toml"],
        &["--custodian", "custodian/custodian.card.toml"],
        &["--table", TABLE, "--out", FIRST],
    ]
    .concat();
    ceremony.refuses(3, "INPUT_INVALID", "1.draft already; name another", &again);
    assert_eq!(fs::read(ceremony.path(FIRST)).unwrap(), draft);
    let onto_a_file = ["keys", "init", "registrar", "--name", "one", "--out", FIRST];
    ceremony.refuses(3, "INPUT_INVALID", "name another", &onto_a_file);
}

#[test]
fn a_card_that_was_changed_on_its_way_is_refused() {
    let ceremony = Ceremony::drafted(PROGRAM);
    let enrol = [
        "agency",
        "enrol",
        "police/agency.card.toml",
        "--draft",
        FIRST,
    ];
    let card = "police/agency.card.toml";
    let whole = ceremony.text(card);
    for (from, to, says) in [
        ("PUNJAB", "SINDH", "signatures do not hold"),
        ("fingerprint = \"", "fingerprint = \"0", "fingerprint"),
        ("signatures = [\"", "signatures = [\"zz", "signatures"),
        ("kind = ", "kinds = ", "kind"),
    ] {
        ceremony.changes(card, from, to);
        let told = ceremony.run(&enrol);
        assert_eq!(told.code, 3, "{}", told.err);
        assert!(told.err.contains(says), "{}", told.err);
        fs::write(ceremony.path(card), &whole).unwrap();
    }
    // Another one's statement key, in a card that is otherwise well made.
    let foreign = ceremony.text("shelter/agency.card.toml");
    let key = |card: &str| {
        let line = card.lines().find(|line| line.starts_with("statement_keys"));
        line.unwrap().to_owned()
    };
    ceremony.changes(card, &key(&whole), &key(&foreign));
    ceremony.refuses(3, "CARD_INVALID", "signatures do not hold", &enrol);
}

#[test]
fn a_card_of_another_party_or_exchange_is_refused() {
    let ceremony = Ceremony::drafted(PROGRAM);
    let enrol = [
        "agency",
        "enrol",
        "gateway/gateway.card.toml",
        "--draft",
        FIRST,
    ];
    ceremony.refuses(3, "CARD_INVALID", "not of an agency", &enrol);
    let other = ["--exchange", "other.amanat.example"];
    let told = ceremony.run(
        &[
            &[
                "keys", "init", "agency", "--name", "far", "--kind", "HEALTH",
            ][..],
            &["--province", "SINDH", "--public", "public", "--out", "far"],
            &[
                "--gateway",
                "https://a.example",
                "--custodian",
                "https://b.example",
            ],
            &["--development-officer", "default=CASE_WORKER@Karachi"],
            &other,
            &REGISTRARS,
        ]
        .concat(),
    );
    assert_eq!(told.code, 0, "{}", told.err);
    let enrol = ["agency", "enrol", "far/agency.card.toml", "--draft", FIRST];
    ceremony.refuses(3, "CARD_INVALID", "other.amanat.example", &enrol);
}

#[test]
fn a_registrar_named_twice_is_not_two() {
    let ceremony = Ceremony::drafted(PROGRAM);
    let one = &REGISTRARS[..2];
    for registrars in [one.to_vec(), [one, one].concat()] {
        let init = [
            &[
                "keys",
                "init",
                "gateway",
                "--server-name",
                "gateway.example",
            ][..],
            &[
                "--listen",
                "127.0.0.1:8443",
                "--public",
                "public",
                "--out",
                "new",
            ],
            &EXCHANGE,
            &registrars,
        ]
        .concat();
        ceremony.refuses(3, "INPUT_INVALID", "two different registrars' cards", &init);
    }
    let told = ceremony.founds("new", "HEALTH", &["--threshold", "3"]);
    assert!(told.err.contains("let 2 to 2 of them sign"), "{}", told.err);
}

#[test]
fn a_public_folder_that_is_not_there_is_refused_before_anything_is_made() {
    let ceremony = Ceremony::drafted(PROGRAM);
    let init = [
        &[
            "keys",
            "init",
            "gateway",
            "--server-name",
            "gateway.example",
        ][..],
        &[
            "--listen",
            "127.0.0.1:8443",
            "--public",
            "pubilc",
            "--out",
            "new",
        ],
        &EXCHANGE,
        &REGISTRARS,
    ]
    .concat();
    ceremony.refuses(3, "INPUT_INVALID", "pubilc; make it", &init);
    assert!(!ceremony.path("new").exists());
}

#[test]
fn nobody_signs_unseen_and_nobody_twice() {
    let ceremony = Ceremony::drafted(PROGRAM);
    let sign = |key: &'static str| ["directory", "sign", FIRST, "--key", key];
    ceremony.refuses(
        1,
        "DRAFT_REFUSED",
        "nothing was signed",
        &sign("one/registrar.key"),
    );
    assert!(ceremony.envelope(FIRST).signatures.is_empty());

    let shown = ceremony.signs("one", FIRST, &[]);
    let changes = shown["changes"].as_array().unwrap();
    assert!(
        changes
            .iter()
            .any(|change| change["value"] == "PROVINCIAL_POLICE")
    );
    assert!(changes.iter().all(|change| change["change"] == "comes"));
    let again = [
        "directory",
        "sign",
        FIRST,
        "--key",
        "one/registrar.key",
        "--yes",
    ];
    ceremony.refuses(1, "DRAFT_REFUSED", "signed it already", &again);
    let stranger = [
        "directory",
        "sign",
        FIRST,
        "--key",
        "stranger/registrar.key",
        "--yes",
    ];
    ceremony.refuses(1, "DRAFT_REFUSED", "not of a registrar", &stranger);
    assert_eq!(ceremony.envelope(FIRST).signatures.len(), 1);
}

#[test]
fn a_draft_that_was_signed_is_edited_no_more() {
    let ceremony = Ceremony::drafted(PROGRAM);
    ceremony.signs("one", FIRST, &[]);
    let enrol = [
        "agency",
        "enrol",
        "shelter/agency.card.toml",
        "--draft",
        FIRST,
    ];
    ceremony.refuses(1, "DRAFT_REFUSED", "draft anew", &enrol);

    // Whoever edits it by hand takes the signature along, which no longer holds.
    let mut forged = ceremony.envelope(FIRST);
    let mut content = directory::Directory::decode(forged.payload.as_slice()).unwrap();
    content.agencies.clear();
    forged.payload = content.encode_to_vec();
    fs::write(ceremony.path(FIRST), forged.encode_to_vec()).unwrap();
    let sign = [
        "directory",
        "sign",
        FIRST,
        "--key",
        "two/registrar.key",
        "--yes",
    ];
    ceremony.refuses(1, "DRAFT_REFUSED", "signatures do not hold", &sign);
}

#[test]
fn one_signature_publishes_nothing() {
    let ceremony = Ceremony::drafted(PROGRAM);
    ceremony.signs("one", FIRST, &[]);
    let publish = [
        "directory",
        "publish",
        FIRST,
        "--to",
        "public",
        "--table",
        TABLE,
    ];
    ceremony.refuses(1, "DRAFT_REFUSED", "not signed by 2", &publish);
    assert!(!ceremony.path("public/directory.bin").exists());
}

#[test]
fn a_directory_is_published_with_its_own_decision_table_only() {
    let ceremony = Ceremony::drafted(PROGRAM);
    ceremony.signs("one", FIRST, &[]);
    ceremony.signs("two", FIRST, &[]);
    let without = ["directory", "publish", FIRST, "--to", "public"];
    ceremony.refuses(1, "DRAFT_REFUSED", "--table", &without);
    fs::write(ceremony.path("other.txt"), "another table").unwrap();
    let other = [&without[..], &["--table", "other.txt"]].concat();
    ceremony.refuses(1, "DRAFT_REFUSED", "not the decision table", &other);
    assert!(!ceremony.path("public/directory.bin").exists());
}

#[test]
fn the_next_directory_follows_the_one_in_use_by_one() {
    let ceremony = Ceremony::published(PROGRAM);
    ceremony.drafts("2.draft");
    ceremony.enrols("shelter", "2.draft");
    let sign = [
        "directory",
        "sign",
        "2.draft",
        "--key",
        "one/registrar.key",
        "--yes",
    ];
    ceremony.refuses(1, "DRAFT_REFUSED", "--in-use", &sign);
    let shown = ceremony.signs("one", "2.draft", &["--in-use", "public/directory.bin"]);
    let changes = shown["changes"].as_array().unwrap();
    let police = changes
        .iter()
        .filter(|change| change["value"] == "PROVINCIAL_POLICE");
    assert_eq!(police.count(), 0, "what stays is not shown as a change");
    assert!(changes.iter().any(|change| change["value"] == "DARUL_AMAN"));
    ceremony.signs("two", "2.draft", &["--in-use", "public/directory.bin"]);
    ceremony.does(&["directory", "publish", "2.draft", "--to", "public"]);
    assert_eq!(ceremony.directory().agencies().count(), 2);

    // The first is not put back, and nobody signs a version that leaves one out.
    ceremony.refuses(
        1,
        "DRAFT_REFUSED",
        "version 2 is published",
        &["directory", "publish", FIRST, "--to", "public"],
    );
    ceremony.drafts("3.draft");
    let old = [&sign[..2], &["3.draft"], &sign[3..], &["--in-use", FIRST]].concat();
    ceremony.refuses(1, "DRAFT_REFUSED", "the next is 2", &old);
}

#[test]
fn strangers_signatures_replace_no_directory() {
    let ceremony = Ceremony::published(PROGRAM);
    ceremony.drafts("2.draft");
    let mut forged = ceremony.envelope("2.draft");
    let mut content = directory::Directory::decode(forged.payload.as_slice()).unwrap();
    let [ours, theirs] = ["two", "stranger"].map(|name| {
        let key = fs::read(ceremony.path(name).join("registrar.key")).unwrap();
        SigningKey::from_pem(&key).unwrap()
    });
    content.registrars[0].public_key = theirs.public_key().to_vec();
    forged.payload = content.encode_to_vec();
    ours.cosign(&mut forged);
    theirs.cosign(&mut forged);
    fs::write(ceremony.path("2.draft"), forged.encode_to_vec()).unwrap();
    let before = fs::read(ceremony.path("public/directory.bin")).unwrap();
    let publish = ["directory", "publish", "2.draft", "--to", "public"];
    ceremony.refuses(1, "DRAFT_REFUSED", "other registrars", &publish);
    assert_eq!(
        fs::read(ceremony.path("public/directory.bin")).unwrap(),
        before
    );
}

#[test]
fn a_made_up_directory_in_use_hides_no_change() {
    let ceremony = Ceremony::published(PROGRAM);
    let key = |name: &str| {
        let key = fs::read(ceremony.path(name).join("registrar.key")).unwrap();
        SigningKey::from_pem(&key).unwrap()
    };
    let other = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap();
    let strangers = [key("stranger"), other];
    let mut made_up = ceremony.in_use();
    for (listed, stranger) in made_up.registrars[1..].iter_mut().zip(&strangers) {
        listed.public_key = stranger.public_key().to_vec();
    }
    made_up.registrars.push(directory::Registrar {
        name: "other".to_owned(),
        public_key: strangers[1].public_key().to_vec(),
    });
    let mut signed = strangers[0].sign(&made_up);
    strangers[1].cosign(&mut signed);
    fs::write(ceremony.path("made-up.bin"), signed.encode_to_vec()).unwrap();
    ceremony.does(&[
        "directory",
        "draft",
        "--from",
        "made-up.bin",
        "--out",
        "2.draft",
    ]);

    let shown = ceremony.signs("one", "2.draft", &["--in-use", "made-up.bin"]);
    let mut changes = shown["changes"].as_array().unwrap().iter();
    assert!(changes.any(|change| change["value"] == "PROVINCIAL_POLICE"));
}
