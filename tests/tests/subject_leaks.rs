//! Where identifiers, tokens, the keys that make them and the pseudonyms stand after every kind of work with
//! them, logged at trace: each where it belongs, and nowhere else in the whole exchange.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use amanat_schema::{
    identifier::Identifier,
    subject::{IdentifierDomain, SubjectIdentifierType},
};
use amanat_seal::pseudonym::Pseudonym;
use amanat_tests::{
    Running, cli,
    forge::Books,
    needles::{Needles, files},
    oprf::{Secrets, cnic, phone},
    party::Party,
    story::{NGO, OVERSIGHT, POLICE, SHELTER},
    tables::{as_files, column, columns},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const CANARY: &str = "00000-7654321-0";
/// As officers write what leads to somebody.
const WRITTEN: [&str; 9] = [
    "00000-1234567-8",
    "۰۰۰۰۰-۱۲۳۴۵۶۷-۸",
    "0300 0000117",
    CANARY,
    "ZZ-4471190",
    "Gulmeena Example",
    "Sher Zaman Example",
    "گل مینہ",
    "شیر زمان",
];

/// What was found at all, by name, and in which files.
type Places = BTreeMap<String, BTreeSet<PathBuf>>;

/// A whole exchange after its work, its servers killed.
struct Worked {
    running: Running,
    secrets: Secrets,
    /// Of whom the agencies' identifiers are.
    identifiers: Vec<Identifier>,
    /// Random bytes that went over the wire and belong nowhere.
    passing: Vec<(&'static str, Vec<u8>)>,
    pseudonyms: BTreeMap<&'static str, BTreeSet<Pseudonym>>,
}

impl Worked {
    async fn start() -> Self {
        let running = Running::start(PROGRAM, "trace");
        let secrets = Secrets::of(&running.exchange);
        let mut worked = Self {
            secrets,
            running,
            identifiers: vec![
                cnic(CANARY),
                Identifier::parse(SubjectIdentifierType::Passport, "ZZ-4471190").unwrap(),
            ],
            passing: Vec::new(),
            pseudonyms: BTreeMap::new(),
        };
        worked.meet();
        worked.ask_raw().await;
        worked.merge();
        worked.find(POLICE, &json!({ "cnic": CANARY }));
        let running = &mut worked.running;
        // What is under way is answered, and what is stored is read again by another process.
        assert!(running.gateway.stop() && running.custodian.stop());
        running.gateway.start();
        running.custodian.start();
        worked.find(SHELTER, &json!({ "cnic": WRITTEN[0] }));
        worked.running.verify().await;
        fs::remove_file(worked.running.path("written.json")).unwrap();
        worked.running.gateway.kill();
        worked.running.custodian.kill();
        worked
    }

    /// Intakes and searches by every kind of identifier.
    fn meet(&mut self) {
        let mut by_card = cli::case_file();
        by_card["subject"]["cnic"] = WRITTEN[0].into();
        by_card["subject"]["mobile_phone"] = WRITTEN[2].into();
        let by_name = |name: &str, father: &str| {
            json!({
                "subject": {
                    "gender": "FEMALE", "given_name": name, "father_or_husband_name": father,
                    "birth_date": "1994-03-02",
                },
                "case": { "urgency": "URGENT" },
            })
        };
        let mut by_passport = by_name("Gulmeena Example", "Sher Zaman Example");
        by_passport["subject"]["identity_document"] =
            json!({ "type": "PASSPORT", "number": "ZZ-4471190" });
        for (agency, file) in [
            (POLICE, &by_card),
            (NGO, &by_passport),
            (SHELTER, &by_name("گل مینہ", "شیر زمان")),
        ] {
            let parsed = amanat_schema::case_file::parse(file)
                .map_err(|_| "valid")
                .unwrap();
            self.identifiers.extend(parsed.identifiers());
            let file = self.running.write(file);
            self.told(agency, &["case", "submit", &file]);
        }
        self.find(NGO, &json!({ "cnic": WRITTEN[1] }));
    }

    /// The calls behind it, of which every byte is known here.
    async fn ask_raw(&mut self) {
        let canary = self.secrets.presented(&[cnic(CANARY)]);
        let oversight = Party::open(&self.running, OVERSIGHT);
        oversight.plant(&canary[0]).await;
        let police = Party::open(&self.running, POLICE);
        let about = [cnic(WRITTEN[0]), phone("+923000000118")];
        let listed = self.running.exchange.published().unwrap().oprf_keys;
        let domain = IdentifierDomain::Victim;
        let key = listed.iter().find(|key| key.domain() == domain).unwrap();
        let public_key = key.public_key.as_slice().try_into().unwrap();
        let walked = police.evaluate(&public_key, domain, &about[0]).await;
        self.passing.extend([
            ("blinded", walked.blinded.to_vec()),
            ("evaluated", walked.evaluated),
            ("token", walked.token.to_vec()),
        ]);
        let question = self.secrets.question(&about);
        self.passing.push(("nonce", question.nonce.clone()));
        let found = police.find(question).await.unwrap();
        self.knows(POLICE, &found.pseudonym);
        self.identifiers.extend(about);
    }

    /// Two of the police's are said to be one, listed, and said to be two again.
    fn merge(&mut self) {
        let pair = ["+923000000119", "+923000000120"].map(|number| {
            self.identifiers.push(phone(number));
            self.find(POLICE, &json!({ "phone": number }))
        });
        let [into, from] = [pair[0].as_str(), pair[1].as_str()];
        self.running
            .tell_json(POLICE, &["subject", "merge", into, from]);
        self.running.tell_json(POLICE, &["subject", "merges"]);
        self.running
            .tell_json(POLICE, &["subject", "split", into, from]);
    }

    /// A search; returns the pseudonym.
    fn find(&mut self, agency: &'static str, identifiers: &Value) -> String {
        let file = self.running.write(identifiers);
        self.told(agency, &["subject", "find", "--file", &file])
    }

    /// Runs a command that prints a pseudonym, and returns it.
    fn told(&mut self, agency: &'static str, arguments: &[&str]) -> String {
        let told: Value = self.running.tell_json(agency, arguments);
        let pseudonym = told["pseudonym"].as_str().unwrap();
        self.knows(agency, pseudonym);
        pseudonym.to_owned()
    }

    fn knows(&mut self, agency: &'static str, pseudonym: &str) {
        let known = self.pseudonyms.entry(agency).or_default();
        known.insert(pseudonym.parse().unwrap());
    }

    /// Where it is in all of the exchange: both servers, every agency, what is public, the registrars.
    async fn places(&self, needles: &Needles) -> Places {
        let mut places = Places::new();
        let mut searched = files(self.running.folder());
        let exchange = &self.running.exchange;
        for server in [&exchange.gateway, &exchange.custodian] {
            let (database, data) = (Books::of(server).database, server.folder.join("data"));
            searched.extend(as_files(&database, &data).await);
        }
        for found in needles.find_in(&searched) {
            let file = found.file.strip_prefix(self.running.folder()).unwrap();
            places
                .entry(found.name)
                .or_default()
                .insert(file.to_owned());
        }
        places
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identifiers_and_tokens_stand_nowhere_keys_in_their_files_and_pseudonyms_at_their_agency() {
    let worked = Worked::start().await;
    let exchange = &worked.running.exchange;
    for (server, name) in [
        (&exchange.gateway, "gateway.log"),
        (&exchange.custodian, "custodian.log"),
    ] {
        let size = fs::metadata(server.folder.join(name)).unwrap().len();
        assert!(size > 100_000, "trace says much");
    }

    let mut nowhere = Needles::default();
    for text in WRITTEN {
        nowhere.add(text, text.as_bytes());
    }
    let mut kinds = BTreeSet::new();
    for identifier in &worked.identifiers {
        let kind = identifier.kind().as_str_name();
        kinds.insert(kind);
        nowhere.add(
            kind,
            identifier.canonical().trim_start_matches('+').as_bytes(),
        );
        let mut domains = vec![identifier.domain()];
        if identifier.domain() == IdentifierDomain::Victim {
            domains.push(IdentifierDomain::Suspect);
        }
        for domain in domains {
            nowhere.add("token", &worked.secrets.token(domain, identifier));
        }
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    for (name, bytes) in &worked.passing {
        nowhere.add(name, bytes);
    }
    assert_eq!(worked.places(&nowhere).await, Places::new());

    // A server's own secrets, each in its one file.
    let secrets = worked.secrets.all();
    for expected in [
        "oprf-victim-1",
        "oprf-suspect-1",
        "oprf-composite-1",
        "pepper-1",
        "pseudonym",
    ] {
        let is_there = |(path, _): &(PathBuf, _)| path.file_stem().unwrap() == expected;
        assert!(secrets.iter().any(is_there), "{expected}");
    }
    let mut keys = Needles::default();
    let mut own = Places::new();
    for (path, secret) in &secrets {
        let file = path.strip_prefix(worked.running.folder()).unwrap();
        keys.add(file.to_str().unwrap(), secret);
        own.insert(file.to_str().unwrap().to_owned(), [file.to_owned()].into());
    }
    assert_eq!(worked.places(&keys).await, own);

    for (agency, pseudonyms) in &worked.pseudonyms {
        let mut needles = Needles::default();
        for pseudonym in pseudonyms {
            needles.add("bytes", pseudonym.as_bytes());
            needles.add("text", pseudonym.to_string().as_bytes());
        }
        let places = worked.places(&needles).await;
        let places: BTreeSet<_> = places.values().flatten().collect();
        let outbox = PathBuf::from(format!("agencies/{agency}/outbox"));
        let store = |file: &PathBuf| file.starts_with("gateway/data");
        assert!(
            places
                .iter()
                .all(|file| file.starts_with(&outbox) || store(file)),
            "{agency}: {places:?}"
        );
        assert!(
            places.iter().any(|file| file.starts_with(&outbox)),
            "{agency}: {places:?}"
        );
        assert!(
            places.iter().any(|file| store(file)),
            "{agency}: {places:?}"
        );
    }
    only_subjects_rows_name_pseudonyms(&worked).await;
}

/// Within the gateway's store no entry of the log, no remembered answer and no other table has one.
async fn only_subjects_rows_name_pseudonyms(worked: &Worked) {
    let mut needles = Needles::default();
    let all: BTreeSet<_> = worked.pseudonyms.values().flatten().collect();
    for pseudonym in &all {
        needles.add("pseudonym", pseudonym.as_bytes());
        needles.add("pseudonym", pseudonym.to_string().as_bytes());
    }
    let columns = columns(&Books::of(&worked.running.exchange.gateway).database).await;
    let holds = |values: &Vec<Vec<u8>>| values.iter().any(|value| !needles.find(value).is_empty());
    let holding: BTreeSet<_> = columns
        .iter()
        .filter(|(_, values)| holds(values))
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!(holding, [column("subjects", "pseudonym")].into());
    let kept = &columns[&column("subjects", "pseudonym")];
    assert!(
        all.iter()
            .all(|pseudonym| kept.iter().any(|bytes| bytes == pseudonym.as_bytes()))
    );
}
