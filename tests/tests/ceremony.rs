//! The ceremony by its commands: what each makes, shows and refuses.

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
    process::{Command, Stdio},
};

use amanat_identity::{Directory, Registrars};
use amanat_schema::{directory, statement::Envelope};
use amanat_seal::statement::SigningKey;
use amanat_tests::cli::Told;
use prost::Message as _;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const TABLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/policies/decision-table.txt"
);
const EXCHANGE: [&str; 2] = ["--exchange", "pilot.amanat.example"];
const REGISTRARS: [&str; 4] = [
    "--registrar",
    "one/registrar.card.toml",
    "--registrar",
    "two/registrar.card.toml",
];
const FIRST: &str = "1.draft";

/// The folders of everybody, side by side.
struct Ceremony(TempDir);

impl Ceremony {
    /// Everybody has made their keys, and a draft lists the servers and the police.
    fn drafted() -> Self {
        let ceremony = Self(TempDir::new().unwrap());
        for name in ["one", "two", "stranger"] {
            ceremony.does(&["keys", "init", "registrar", "--name", name, "--out", name]);
        }
        ceremony.server("gateway", &[]);
        ceremony.server("custodian", &["--gateway", "https://127.0.0.1:8443"]);
        ceremony.agency("police", "PROVINCIAL_POLICE", &["--display-name", "Police"]);
        ceremony.agency("shelter", "DARUL_AMAN", &[]);
        ceremony.does(
            &[
                &["directory", "draft"][..],
                &EXCHANGE,
                &REGISTRARS,
                &["--gateway", "gateway/gateway.card.toml"],
                &["--custodian", "custodian/custodian.card.toml"],
                &["--table", TABLE, "--out", FIRST],
            ]
            .concat(),
        );
        ceremony.enrols("police", FIRST);
        ceremony
    }

    /// The draft is signed by both, and published.
    fn published() -> Self {
        let ceremony = Self::drafted();
        ceremony.signs("one", FIRST, &[]);
        ceremony.signs("two", FIRST, &[]);
        ceremony.does(&[
            "directory",
            "publish",
            FIRST,
            "--to",
            "public",
            "--table",
            TABLE,
        ]);
        ceremony
    }

    fn server(&self, kind: &str, more: &[&str]) {
        let name = format!("{kind}.pilot.amanat.example");
        self.does(
            &[
                &["keys", "init", kind, "--server-name", &name][..],
                &[
                    "--listen",
                    "127.0.0.1:8443",
                    "--public",
                    "public",
                    "--out",
                    kind,
                ],
                &EXCHANGE,
                &REGISTRARS,
                more,
            ]
            .concat(),
        );
    }

    fn agency(&self, name: &str, kind: &str, more: &[&str]) {
        let told = self.founds(name, kind, more);
        assert_eq!(told.code, 0, "{}", told.err);
    }

    fn founds(&self, name: &str, kind: &str, more: &[&str]) -> Told {
        self.run(
            &[
                &["keys", "init", "agency", "--name", name, "--kind", kind][..],
                &["--province", "PUNJAB", "--public", "public", "--out", name],
                &["--gateway", "https://127.0.0.1:8443"],
                &["--custodian", "https://127.0.0.1:8444"],
                &["--development-officer", "default=CASE_WORKER@Lahore"],
                &EXCHANGE,
                &REGISTRARS,
                more,
            ]
            .concat(),
        )
    }

    fn enrols(&self, agency: &str, draft: &str) -> Value {
        let card = format!("{agency}/agency.card.toml");
        self.tells(&["agency", "enrol", &card, "--draft", draft])
    }

    fn signs(&self, registrar: &str, draft: &str, more: &[&str]) -> Value {
        let key = format!("{registrar}/registrar.key");
        let sign = ["directory", "sign", draft, "--key", &key, "--yes"];
        self.tells(&[&sign[..], more].concat())
    }

    /// Drafts the next version after the published one.
    fn drafts(&self, draft: &str) {
        self.does(&[
            "directory",
            "draft",
            "--from",
            "public/directory.bin",
            "--out",
            draft,
        ]);
    }

    fn publishes(&self, draft: &str) {
        for registrar in ["one", "two"] {
            self.signs(registrar, draft, &["--in-use", "public/directory.bin"]);
        }
        self.does(&["directory", "publish", draft, "--to", "public"]);
    }

    fn run(&self, arguments: &[&str]) -> Told {
        let mut command = Command::new(PROGRAM);
        command
            .current_dir(self.0.path())
            .args(arguments)
            .stdin(Stdio::null());
        Told::by(&mut command)
    }

    fn does(&self, arguments: &[&str]) {
        let told = self.run(arguments);
        assert_eq!(told.code, 0, "{arguments:?}: {}", told.err);
    }

    fn tells(&self, arguments: &[&str]) -> Value {
        let told = self.run(&[&["--json"], arguments].concat());
        assert_eq!(told.code, 0, "{arguments:?}: {}", told.err);
        serde_json::from_str(&told.out).unwrap()
    }

    /// It is refused for this reason, and says so.
    fn refuses(&self, code: i32, reason: &str, says: &str, arguments: &[&str]) {
        let told = self.run(arguments);
        assert_eq!(told.code, code, "{arguments:?}: {}{}", told.out, told.err);
        assert!(told.err.contains(reason), "{arguments:?}: {}", told.err);
        assert!(told.err.contains(says), "{arguments:?}: {}", told.err);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn changes(&self, file: &str, from: &str, to: &str) {
        let text = self.text(file);
        assert!(text.contains(from), "{file}: {text}");
        fs::write(self.path(file), text.replace(from, to)).unwrap();
    }

    fn envelope(&self, file: &str) -> Envelope {
        Envelope::decode(fs::read(self.path(file)).unwrap().as_slice()).unwrap()
    }

    fn in_use(&self) -> directory::Directory {
        let envelope = self.envelope("public/directory.bin");
        directory::Directory::decode(envelope.payload.as_slice()).unwrap()
    }

    /// As a party that pins both registrars sees it.
    fn directory(&self) -> Directory {
        let keys = self.in_use().registrars.into_iter();
        let keys = keys.map(|listed| listed.public_key.try_into().unwrap());
        let registrars = Registrars {
            keys: keys.collect(),
            threshold: 2,
        };
        Directory::verify(&self.envelope("public/directory.bin"), &registrars).unwrap()
    }
}

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
    let ceremony = Ceremony::published();
    let directory = ceremony.directory();
    assert_eq!(directory.version(), 1);
    assert_eq!(directory.agencies().count(), 1);
    for folder in ["crls", "suspensions"] {
        assert!(ceremony.path("public").join(folder).is_dir());
    }
    let shown = ceremony
        .run(&["directory", "show", "public/directory.bin"])
        .out;
    assert!(shown.contains("signed by: one, two"), "{shown}");
    assert!(shown.contains("PROVINCIAL_POLICE"), "{shown}");
}

#[test]
fn every_file_that_is_made_is_told_and_private_ones_are_their_owners_alone() {
    let ceremony = Ceremony::drafted();
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
    let ceremony = Ceremony::drafted();
    let key = ceremony.text("one/registrar.key");
    let again = ["keys", "init", "registrar", "--name", "one", "--out", "one"];
    ceremony.refuses(3, "INPUT_INVALID", "is not empty", &again);
    assert_eq!(ceremony.text("one/registrar.key"), key);
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
    ceremony.refuses(3, "FILE_UNUSABLE", FIRST, &again);
    assert_eq!(fs::read(ceremony.path(FIRST)).unwrap(), draft);
}

#[test]
fn a_card_that_was_changed_on_its_way_is_refused() {
    let ceremony = Ceremony::drafted();
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
    let ceremony = Ceremony::drafted();
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
fn a_shelter_is_never_shown_by_name() {
    let ceremony = Ceremony::drafted();
    let told = ceremony.founds("home", "NGO_SHELTER", &["--display-name", "The Home"]);
    assert_eq!(told.code, 3, "{}", told.out);
    assert!(told.err.contains("shelter"), "{}", told.err);
    assert!(!ceremony.path("home").exists());
}

#[test]
fn nobody_signs_unseen_and_nobody_twice() {
    let ceremony = Ceremony::drafted();
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
    let ceremony = Ceremony::drafted();
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
    let ceremony = Ceremony::drafted();
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
    let ceremony = Ceremony::drafted();
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
    let ceremony = Ceremony::published();
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
    let ceremony = Ceremony::published();
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
    let ceremony = Ceremony::published();
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

#[test]
fn a_renewed_certificate_fits_its_key_and_a_revocation_keeps_the_earlier_ones() {
    let ceremony = Ceremony::published();
    let serials = ["1", "2"].map(|number| {
        let current = ceremony.path("police/keys/connector.pem");
        let before = fs::read(&current).unwrap();
        let renewed = ceremony.tells(&["keys", "renew", "police"]);
        assert_ne!(fs::read(&current).unwrap(), before);
        let pair = rcgen::KeyPair::from_pem(&ceremony.text("police/keys/connector.key")).unwrap();
        let leaf = CertificateDer::from_pem_file(&current).unwrap();
        let raw = pair.public_key_raw();
        assert!(leaf.windows(raw.len()).any(|bytes| bytes == raw));
        let old = format!("police/tls/{number}/connector.pem");
        assert_eq!(fs::read(ceremony.path(&old)).unwrap(), before);
        ceremony.does(&["keys", "revoke", "police", "--certificate", &old]);
        renewed["old_serial"].as_str().unwrap().to_owned()
    });
    ceremony.does(&["keys", "revoke", "police", "--renew"]);
    let told = ceremony.tells(&["keys", "revoke", "police", "--serial", &serials[0]]);
    let list = fs::read(told["files"][0].as_str().unwrap()).unwrap();
    let list = rustls_pki_types::CertificateRevocationListDer::from_pem_slice(&list).unwrap();
    for serial in &serials {
        let serial = hex::decode(serial).unwrap();
        let found = list.windows(serial.len()).filter(|bytes| *bytes == serial);
        assert_eq!(found.count(), 1, "each stands in the list once");
    }
    let foreign = [
        "keys",
        "revoke",
        "shelter",
        "--certificate",
        "police/keys/connector.pem",
    ];
    ceremony.refuses(1, "ROTATION_REFUSED", "not issued by this party", &foreign);
}

#[test]
fn a_statement_key_is_replaced_with_an_overlap_and_the_old_one_is_retired() {
    let ceremony = Ceremony::published();
    let rotate = ["keys", "rotate", "statements", "police"];
    let finish = [&rotate[..], &["--finish"]].concat();
    ceremony.refuses(1, "ROTATION_REFUSED", "without --finish", &finish);
    ceremony.does(&rotate);
    ceremony.refuses(1, "ROTATION_REFUSED", "made already", &rotate);
    ceremony.refuses(1, "ROTATION_REFUSED", "does not list", &finish);

    ceremony.drafts("2.draft");
    let enrolled = ceremony.enrols("police", "2.draft");
    let changes = enrolled["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{enrolled}");
    assert_eq!(changes[0]["what"], "statement key");
    ceremony.publishes("2.draft");
    let both = ceremony.in_use().agencies.remove(0).statement_keys;
    assert_eq!(both.len(), 2);

    ceremony.does(&finish);
    ceremony.drafts("3.draft");
    ceremony.enrols("police", "3.draft");
    ceremony.publishes("3.draft");
    let listed = ceremony.in_use().agencies.remove(0);
    assert_eq!(listed.statement_keys, both[1..]);
    assert_eq!(listed.retired_statement_keys.len(), 1);
    assert_eq!(listed.retired_statement_keys[0].public_key, both[0]);
    let key = fs::read(ceremony.path("police/keys/statement.key")).unwrap();
    let key = SigningKey::from_pem(&key).unwrap();
    assert_eq!(key.public_key().to_vec(), both[1]);
}

#[test]
fn a_token_key_is_replaced_with_an_overlap_in_the_profile_too() {
    let ceremony = Ceremony::published();
    let profile = "police/profile.toml";
    ceremony.changes(profile, "[tokens]", "# Kept.\n[tokens]");
    ceremony.does(&["keys", "rotate", "tokens", "police"]);
    ceremony.drafts("2.draft");
    ceremony.enrols("police", "2.draft");
    ceremony.publishes("2.draft");
    assert!(ceremony.text(profile).contains("key_id = \"key-1\""));
    ceremony.does(&["keys", "rotate", "tokens", "police", "--finish"]);
    let text = ceremony.text(profile);
    assert!(
        text.contains("key_id = \"key-2\"") && text.contains("# Kept."),
        "{text}"
    );
    assert!(
        text.contains("signing_key = \"keys/issuer-2.key\""),
        "{text}"
    );
    ceremony.drafts("3.draft");
    ceremony.enrols("police", "3.draft");
    ceremony.publishes("3.draft");
    let issuers = ceremony.in_use().agencies.remove(0).token_issuers;
    assert_eq!(issuers.len(), 1);
    assert_eq!(issuers[0].key_id, "key-2");
}

#[test]
fn an_authority_is_replaced_with_an_overlap_and_lists_of_both() {
    let ceremony = Ceremony::published();
    let told = ceremony.tells(&["keys", "rotate", "authority", "gateway"]);
    let lists = ceremony.text("gateway/gateway.crl");
    assert_eq!(lists.matches("BEGIN X509 CRL").count(), 2, "{told}");
    let draft = [
        "directory",
        "draft",
        "--from",
        "public/directory.bin",
        "--gateway",
        "gateway/gateway.card.toml",
        "--out",
    ];
    ceremony.does(&[&draft[..], &["2.draft"]].concat());
    ceremony.publishes("2.draft");
    assert_eq!(ceremony.in_use().gateway.unwrap().issuing_cas.len(), 2);
    let before = ceremony.text("gateway/keys/server.pem");
    ceremony.does(&["keys", "rotate", "authority", "gateway", "--finish"]);
    assert_ne!(ceremony.text("gateway/keys/server.pem"), before);
    ceremony.does(&[&draft[..], &["3.draft"]].concat());
    ceremony.publishes("3.draft");
    let listed = ceremony.in_use().gateway.unwrap().issuing_cas;
    let new = CertificateDer::from_pem_file(ceremony.path("gateway/keys/ca-2.pem")).unwrap();
    assert_eq!(listed, [new.to_vec()]);
}

#[test]
fn a_card_that_no_listed_key_signed_is_taken_for_lost_keys_only_when_it_is_said() {
    let ceremony = Ceremony::published();
    // The police have made everything anew, under the id that is listed.
    let id = |card: &str| {
        let line = card.lines().find(|line| line.starts_with("id = "));
        line.unwrap().to_owned()
    };
    let listed = id(&ceremony.text("police/agency.card.toml"));
    ceremony.drafts("2.draft");
    let mut draft = ceremony.envelope("2.draft");
    let mut content = directory::Directory::decode(draft.payload.as_slice()).unwrap();
    let shelter = id(&ceremony.text("shelter/agency.card.toml"));
    let bytes = |line: &str| hex::decode(line.split('"').nth(1).unwrap()).unwrap();
    assert_eq!(content.agencies[0].agency_id, bytes(&listed));
    content.agencies[0].agency_id = bytes(&shelter);
    draft.payload = content.encode_to_vec();
    fs::write(ceremony.path("2.draft"), draft.encode_to_vec()).unwrap();

    let enrol = [
        "agency",
        "enrol",
        "shelter/agency.card.toml",
        "--draft",
        "2.draft",
    ];
    ceremony.refuses(3, "CARD_INVALID", "--keys-lost", &enrol);
    let since = ["--keys-lost", "--compromised-since", "2026-03-01"];
    let told = ceremony.tells(&[&enrol[..], &since].concat());
    let changes = told["changes"].as_array().unwrap();
    let retired = changes
        .iter()
        .find(|change| change["what"] == "retired statement key");
    let retired = retired.unwrap()["value"].as_str().unwrap();
    assert!(
        retired.ends_with("compromised since 2026-03-01T00:00:00.000Z"),
        "{retired}"
    );
}

#[test]
fn one_registrar_suspends_whom_the_directory_lists_and_nobody_else() {
    let ceremony = Ceremony::published();
    let id = hex::encode(&ceremony.in_use().agencies[0].agency_id);
    let suspend = |id: &str, key: &str| {
        [
            "agency",
            "suspend",
            id,
            "--key",
            key,
            "--directory",
            "public/directory.bin",
            "--out",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain(["public/suspensions".to_owned()])
        .collect::<Vec<_>>()
    };
    let run = |arguments: Vec<String>| {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        ceremony.run(&arguments)
    };
    let nobody = "00".repeat(16);
    for (id, key) in [
        (id.as_str(), "stranger/registrar.key"),
        (nobody.as_str(), "one/registrar.key"),
    ] {
        assert_eq!(run(suspend(id, key)).code, 3);
    }
    assert_eq!(run(suspend(&id, "one/registrar.key")).code, 0);
    let files = fs::read_dir(ceremony.path("public/suspensions")).unwrap();
    assert_eq!(files.count(), 1);
}

#[test]
fn an_agency_leaves_with_the_next_directory_and_the_difference_says_so() {
    let ceremony = Ceremony::published();
    let id = hex::encode(&ceremony.in_use().agencies[0].agency_id);
    ceremony.drafts("2.draft");
    ceremony.does(&["agency", "revoke", &id, "--draft", "2.draft"]);
    let again = ["agency", "revoke", &id, "--draft", "2.draft"];
    ceremony.refuses(1, "DRAFT_REFUSED", "not listed", &again);
    let shown = ceremony.tells(&["directory", "diff", "public/directory.bin", "2.draft"]);
    let of_agency = format!("agency {id}");
    let changes = shown.as_array().unwrap().iter();
    let mut of_agency = changes.filter(|change| change["of"] == of_agency.as_str());
    assert!(of_agency.all(|change| change["change"] == "goes"));
    ceremony.publishes("2.draft");
    assert_eq!(ceremony.directory().agencies().count(), 0);
}
