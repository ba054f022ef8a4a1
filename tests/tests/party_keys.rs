//! A party's own keys and certificates renewed, revoked and replaced, and the party itself closed, by commands.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use amanat::ceremony::{Party, Step, statements};
use amanat_schema::directory;
use amanat_seal::statement::SigningKey;
use amanat_tests::{ceremony::Ceremony, party::now};
use prost::Message as _;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");

#[test]
fn a_shelter_is_never_shown_by_name() {
    let ceremony = Ceremony::drafted(PROGRAM);
    let told = ceremony.founds("home", "NGO_SHELTER", &["--display-name", "The Home"]);
    assert_eq!(told.code, 3, "{}", told.out);
    assert!(told.err.contains("shelter"), "{}", told.err);
    assert!(!ceremony.path("home").exists());
}

#[test]
fn no_server_is_given_the_keys_of_its_authority() {
    let ceremony = Ceremony::drafted(PROGRAM);
    for party in ["gateway", "custodian", "police"] {
        let names = |folder: &str| {
            let files = fs::read_dir(ceremony.path(party).join(folder)).unwrap();
            let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            names.collect::<BTreeSet<_>>()
        };
        assert_eq!(names("ca"), ["ca.key", "ca.pem"].map(str::to_owned).into());
        assert!(names("keys").is_disjoint(&names("ca")));
    }
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let compose = fs::read_to_string(deploy.join("containers/compose.yaml")).unwrap();
    for server in ["gateway", "custodian"] {
        let unit = deploy.join(format!("systemd/amanat-{server}.service"));
        let hidden = format!("\nInaccessiblePaths=-/etc/amanat/{server}/ca\n");
        assert!(fs::read_to_string(unit).unwrap().contains(&hidden));
        let source = format!("source: ./{server}");
        let sources = compose.lines().map(str::trim);
        let mounted = sources.filter_map(|line| line.strip_prefix(&source));
        let config = format!("/{server}.toml");
        assert_eq!(
            mounted.collect::<Vec<_>>(),
            [config.as_str(), "/keys", "/tls"]
        );
    }
}

#[test]
fn a_renewed_certificate_fits_its_key_and_a_revocation_keeps_the_earlier_ones() {
    let ceremony = Ceremony::published(PROGRAM);
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
fn the_certificate_in_use_is_revoked_only_when_it_is_said() {
    let ceremony = Ceremony::published(PROGRAM);
    let list = |party: &str| {
        let lists = fs::read_dir(ceremony.path(party)).unwrap();
        let mut lists = lists.map(|entry| entry.unwrap().path());
        let list = lists.find(|file| file.extension().is_some_and(|e| e == "crl"));
        fs::read(list.unwrap()).unwrap()
    };
    for (party, certificate) in [
        ("police", "police/keys/connector.pem"),
        ("gateway", "gateway/tls/1/server.pem"),
    ] {
        let before = list(party);
        let revoke = ["keys", "revoke", party, "--certificate", certificate];
        ceremony.refuses(1, "ROTATION_REFUSED", "renew first", &revoke);
        let renewed = ceremony.tells(&["keys", "renew", party]);
        let old = renewed["old_serial"].as_str().unwrap();
        let renewed = ceremony.tells(&["keys", "renew", party]);
        let in_between = renewed["old_serial"].as_str().unwrap();
        let current = ceremony.path(party).join(match party {
            "police" => "keys/connector.pem",
            _ => "keys/server.pem",
        });
        let current = CertificateDer::from_pem_file(current).unwrap();
        let current = webpki::EndEntityCert::try_from(&current).unwrap();
        let by_serial = hex::encode(current.serial());
        let revoke = ["keys", "revoke", party, "--serial", &by_serial];
        ceremony.refuses(1, "ROTATION_REFUSED", "renew first", &revoke);
        assert_eq!(list(party), before);
        for serial in [old, in_between] {
            ceremony.does(&["keys", "revoke", party, "--serial", serial]);
        }
        ceremony.does(&[&revoke[..], &["--in-use"]].concat());
        assert_ne!(list(party), before);
    }
}

#[test]
fn a_profile_remembers_the_directory_apart_from_what_is_backed_up() {
    let ceremony = Ceremony::drafted(PROGRAM);
    let profile = ceremony.text("police/profile.toml");
    assert!(
        profile.contains("seen = \"state/directory.seen\""),
        "{profile}"
    );
    assert!(ceremony.path("police/state").is_dir());
}

#[test]
fn a_statement_key_is_replaced_with_an_overlap_and_the_old_one_is_retired() {
    let ceremony = Ceremony::published(PROGRAM);
    let rotate = ["keys", "rotate", "statements", "police"];
    let finish = [&rotate[..], &["--finish"]].concat();
    ceremony.refuses(1, "ROTATION_REFUSED", "without --finish", &finish);
    ceremony.does(&rotate);
    ceremony.refuses(1, "ROTATION_REFUSED", "made already", &rotate);
    ceremony.refuses(1, "ROTATION_REFUSED", "does not list", &finish);

    ceremony.drafts("2.draft");
    let enrolled = ceremony.enrols("police", "2.draft");
    let changes = enrolled["changes"].as_array().unwrap().iter();
    let what: Vec<_> = changes
        .map(|change| change["what"].as_str().unwrap())
        .collect();
    assert_eq!(what, ["card made", "card made", "statement key"]);
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
fn a_card_made_by_a_clock_far_ahead_does_not_keep_out_those_after_it() {
    let ceremony = Ceremony::published(PROGRAM);
    let years = Duration::from_secs(3 * 365 * 24 * 3600);
    for party in ["police", "gateway"] {
        let mut party = Party::open(&ceremony.path(party)).unwrap();
        statements(&mut party, Step::Begin, now() + years).unwrap();
    }
    ceremony.drafts("2.draft");
    let card = "police/agency.card.toml";
    let enrol = ["agency", "enrol", card, "--draft", "2.draft"];
    ceremony.refuses(3, "CARD_INVALID", "in the future", &enrol);

    // The same once more dates the card anew, and so does whatever else is changed.
    let rotate = ["keys", "rotate", "statements", "police"];
    ceremony.does(&rotate);
    ceremony.refuses(1, "ROTATION_REFUSED", "made already", &rotate);
    ceremony.does(&enrol);
    ceremony.does(&["keys", "rotate", "authority", "gateway"]);
    let draft = ["directory", "draft", "--from", "public/directory.bin"];
    let gateway = ["--gateway", "gateway/gateway.card.toml"];
    ceremony.does(&[&draft[..], &gateway, &["--out", "gateway.draft"]].concat());
    ceremony.publishes("2.draft");
    ceremony.does(&[&rotate[..], &["--finish"]].concat());
}

#[test]
fn a_token_key_is_replaced_with_an_overlap_in_the_profile_too() {
    let ceremony = Ceremony::published(PROGRAM);
    let profile = "police/profile.toml";
    ceremony.changes(profile, "[tokens]", "# Kept.\n[tokens]");
    let path = ceremony.path(profile);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
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
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "whom its owner shut out stays out");
    ceremony.drafts("3.draft");
    ceremony.enrols("police", "3.draft");
    ceremony.publishes("3.draft");
    let issuers = ceremony.in_use().agencies.remove(0).token_issuers;
    assert_eq!(issuers.len(), 1);
    assert_eq!(issuers[0].key_id, "key-2");
}

#[test]
fn an_authority_is_replaced_with_an_overlap_and_lists_of_both() {
    let ceremony = Ceremony::published(PROGRAM);
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
    let new = CertificateDer::from_pem_file(ceremony.path("gateway/ca/ca-2.pem")).unwrap();
    assert_eq!(listed, [new.to_vec()]);
}

#[test]
fn a_card_that_no_listed_key_signed_is_taken_for_lost_keys_only_when_it_is_said() {
    let ceremony = Ceremony::published(PROGRAM);
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
    let ceremony = Ceremony::published(PROGRAM);
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
    let count = || {
        fs::read_dir(ceremony.path("public/suspensions"))
            .unwrap()
            .count()
    };
    assert_eq!(count(), 1);

    let by_card = |card: &'static str| {
        let mut arguments = suspend("--card", "one/registrar.key");
        arguments.insert(3, card.to_owned());
        run(arguments).code
    };
    assert_eq!(by_card("shelter/agency.card.toml"), 3, "not listed");
    assert_eq!(by_card("gateway/gateway.card.toml"), 3, "no agency");
    assert_eq!(by_card("police/agency.card.toml"), 0);
    assert_eq!(count(), 2);
}

#[test]
fn an_agency_leaves_with_the_next_directory_and_the_difference_says_so() {
    let ceremony = Ceremony::published(PROGRAM);
    let id = hex::encode(&ceremony.in_use().agencies[0].agency_id);
    ceremony.drafts("2.draft");
    let by_card = ["agency", "revoke", "--card", "police/agency.card.toml"];
    ceremony.does(&[&by_card[..], &["--draft", "2.draft"]].concat());
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
