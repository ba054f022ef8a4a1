//! What stands in the servers' files and logs after every kind of work, logged at trace: no value, no key, no
//! token, and no ciphertext where the keys are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
};

use amanat::development::{self, Blueprint};
use amanat_connector::{Acting, Connector, ConsentFile, EntryQuery, Profile, ReadRequest, Server};
use amanat_database::{Engine, Sql};
use amanat_schema::{
    AgencyId, CaseId, RecordId, case_file,
    catalogue::{self, FIELDS},
    policy::Purpose,
    record::SealedFields,
    statement::{Envelope, RecordHeader},
};
use amanat_seal::{Binding, WrapKey};
use amanat_tests::{
    Running,
    forge::Books,
    markers,
    needles::{Found, Needles, files, forms},
    postgres::{Cluster, is_here, query},
    sharing::{self, Shared, share},
    tables::as_files,
};
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;

const POLICE: &str = "police-lahore";
const SHELTER: &str = "darul-aman-lahore";
const STRANGERS: [&str; 2] = ["fia-ahtc-lahore", "ngo-shelter"];

/// Two servers that did all kinds of work at trace, and then were killed.
struct Worked {
    running: Running,
    /// Values, officers and tokens.
    personal: Needles,
    /// Record keys and all field keys.
    keys: Needles,
    /// What the gateway stores.
    ciphertexts: Needles,
}

impl Worked {
    /// With each server's configuration changed.
    async fn start(change: impl FnMut(&str, &mut toml::Table)) -> Self {
        let mut running = Running::start_with(env!("CARGO_BIN_EXE_amanat"), "trace", change);
        let mut personal = Needles::default();
        let public = fs::read(&running.exchange.directory).unwrap();
        for file in [
            sharing::file("police-case"),
            sharing::file("shelter-case"),
            markers::every_leaf(),
            sharing::file("consent-police-to-shelter")["evidence"].clone(),
            sharing::file("consent-shelter-to-police")["evidence"].clone(),
        ] {
            for text in markers::texts(&file) {
                // Of what the signed directory says of the agencies themselves nothing is a secret.
                if !public
                    .windows(text.len())
                    .any(|window| window == text.as_bytes())
                {
                    personal.add(&text, text.as_bytes());
                    personal.add(&text, text.trim_start_matches('+').as_bytes());
                }
            }
        }

        for file in [sharing::file("police-case"), markers::every_leaf()] {
            let file = case_file::parse(&file).map_err(|_| "valid").unwrap();
            let identifiers = file.identifiers();
            assert!(!identifiers.is_empty());
            for identifier in identifiers {
                let name = format!("canonical {}", identifier.kind().as_str_name());
                personal.add(&name, identifier.canonical().as_bytes());
            }
        }

        let mut connectors = BTreeMap::new();
        for name in running.exchange.agencies.keys() {
            // One token for all that it does, so that it is known.
            let token = running.connector(name).await.token().unwrap();
            let officer = &profile(&running, name).officers["default"].id;
            personal.add(&format!("officer of {name}"), officer.as_bytes());
            let (_, secret) = token.split_once('.').unwrap();
            personal.add(&format!("token of {name}"), secret.as_bytes());
            let connector = running.acting(name, Acting::Token(token.clone())).await;
            connectors.insert(name.as_str(), (connector, token));
        }
        let agency = |name: &str| &connectors[name].0;

        let shared = work(agency(POLICE), agency(SHELTER)).await;
        for stranger in STRANGERS {
            assert_eq!(
                refused(agency(stranger), &shared.request).await,
                "ACCESS_DENIED"
            );
        }
        refuse_nonsense(&running, agency(POLICE), &shared).await;
        let anothers = Acting::Token(connectors[POLICE].1.clone());
        let swapped = running.acting(SHELTER, anothers).await;
        assert_eq!(
            refused(&swapped, &shared.request).await,
            "CREDENTIAL_INVALID"
        );
        let oversight = agency("oversight");
        for server in [Server::Gateway, Server::Custodian] {
            let query = EntryQuery {
                limit: 1000,
                ..EntryQuery::default()
            };
            assert!(
                !oversight
                    .list_entries(server, &query)
                    .await
                    .unwrap()
                    .is_empty()
            );
            oversight.verify_log(server, |_, _| {}).await.unwrap();
        }
        drop(connectors);
        running.gateway.kill();
        running.custodian.kill();

        let mut worked = Self {
            running,
            personal,
            keys: Needles::default(),
            ciphertexts: Needles::default(),
        };
        worked.take_keys_and_ciphertexts().await;
        worked
    }

    /// From copies, so that opening them changes nothing of what is searched.
    async fn take_keys_and_ciphertexts(&mut self) {
        let copy = TempDir::new().unwrap();
        let exchange = &self.running.exchange;
        let [gateway, custodian] = [&exchange.gateway, &exchange.custodian]
            .map(|server| Books::of(server).apart(copy.path()));
        let digits = fs::read_to_string(exchange.custodian.folder.join("keys/kek.key")).unwrap();
        let kek = WrapKey::from_bytes(&hex::decode(digits.trim()).unwrap()).unwrap();
        let mut custodian = custodian.connect().await.unwrap();
        let select = Sql::new("SELECT source, record_id, version, header, wrapped FROM deposits");
        for row in select.fetch_all(&mut custodian).await.unwrap() {
            let bytes = |column| row.get::<Vec<u8>>(column).unwrap();
            let (source, record) = (bytes(0), bytes(1));
            let version: u32 = row.get(2).unwrap();
            let header = Envelope::decode(bytes(3).as_slice()).unwrap();
            let header = RecordHeader::decode(header.payload.as_slice()).unwrap();
            let binding = Binding {
                case: CaseId::parse(&header.head.unwrap().case_id).unwrap(),
                record: RecordId::parse(&record).unwrap(),
                version,
                source: AgencyId::parse(&source).unwrap(),
            };
            let context: [&[u8]; 3] = [&source, &record, &version.to_be_bytes()];
            let key = kek
                .unwrap("amanat/record-key/v1", &context, &bytes(4))
                .unwrap();
            let key = amanat_seal::RecordKey::from_bytes(&key).unwrap();
            assert!(key.fits(&binding, &header.key_commitment.try_into().unwrap()));
            self.keys
                .add(&format!("key of {record:02x?}"), key.expose());
            for field in catalogue::sealed() {
                let name = format!("key of {} of {record:02x?}", field.path);
                self.keys
                    .add(&name, key.field_key(&binding, field.id).expose());
            }
        }
        let mut gateway = gateway.connect().await.unwrap();
        let select = Sql::new("SELECT sealed FROM records");
        for row in select.fetch_all(&mut gateway).await.unwrap() {
            let sealed: Vec<u8> = row.get(0).unwrap();
            for slot in SealedFields::decode(sealed.as_slice()).unwrap().slots {
                self.ciphertexts
                    .add_raw(&format!("slot {}", slot.field), &slot.ciphertext);
            }
        }
        let sealed = catalogue::sealed().count();
        assert_eq!(self.keys.len(), 3 * (1 + sealed), "three records");
        assert_eq!(self.ciphertexts.len(), 3 * sealed);
    }

    async fn gateway(&self) -> Vec<(PathBuf, Vec<u8>)> {
        stored(&self.running.exchange.gateway).await
    }

    async fn custodian(&self) -> Vec<(PathBuf, Vec<u8>)> {
        stored(&self.running.exchange.custodian).await
    }
}

/// All that a server has: its files, and what it has on PostgreSQL.
async fn stored(server: &development::Server) -> Vec<(PathBuf, Vec<u8>)> {
    let data = server.folder.join("data");
    let tables = as_files(&Books::of(server).database, &data).await;
    [files(&server.folder), tables].concat()
}

/// Three records, shared and read, a consent withdrawn.
async fn work(police: &Connector, shelter: &Connector) -> Shared {
    let consent = sharing::consent_file("consent-police-to-shelter");
    let shared = share(
        police,
        shelter,
        &sharing::file("police-case"),
        &consent,
        None,
    )
    .await;
    shared.read(shelter).await.unwrap();

    let consent = sharing::consent_file("consent-shelter-to-police");
    let file = sharing::file("shelter-case");
    let told = share(shelter, police, &file, &consent, Some(shared.case)).await;
    told.read(police).await.unwrap();
    let deport = told.asking(Purpose::ImmigrationEnforcement, &["subject.given_name"]);
    assert_eq!(refused(police, &deport).await, "NOTHING_RELEASABLE");
    shelter.withdraw_consent(told.consent).await.unwrap();
    assert_eq!(refused(police, &told.request).await, "NOTHING_RELEASABLE");

    let sealed: Vec<&str> = catalogue::sealed().map(|field| field.path).collect();
    let consent = json!({
        "recipient": SHELTER, "purpose": "SHELTER", "mode": "WRITTEN", "paths": sealed,
        "valid_days": 7,
        "evidence": { "collected_by": "counsellor 4" },
    });
    let consent: ConsentFile = serde_json::from_value(consent).unwrap();
    let every = share(police, shelter, &markers::every_leaf(), &consent, None).await;
    let opened = every.read(shelter).await.unwrap();
    assert!(!opened.released.is_empty() && !opened.withheld.is_empty());
    let paths: Vec<&str> = FIELDS.iter().map(|field| field.path).collect();
    let whole = police
        .read_case(&every.asking(Purpose::Investigation, &paths))
        .await
        .unwrap();
    assert_eq!(
        whole.released.len(),
        paths.len(),
        "its source reads all of it"
    );
    for text in markers::texts(&markers::every_leaf()) {
        assert!(holds(&whole.record, &text), "{text}");
    }
    shared
}

/// Requests that are refused before anything is decided, with values where none belong.
async fn refuse_nonsense(running: &Running, police: &Connector, shared: &Shared) {
    let names = shared.asking(Purpose::Shelter, &["Ghulam Mustafa", "0000012345678"]);
    assert_eq!(refused(police, &names).await, "FIELD_INVALID");

    let elsewhere = TempDir::new().unwrap();
    let clock = amanat::system_clock();
    let other = development::make(elsewhere.path(), &clock, &Blueprint::pilot()).unwrap();
    let mut foreign = profile(running, POLICE);
    foreign.tls = Profile::load(&other.agencies[POLICE].folder).unwrap().tls;
    let acting = Acting::Officer("default".to_owned());
    let foreign = Connector::open(foreign, acting, clock).await.unwrap();
    // Which of a refused handshake and a closed connection it is called does not matter here.
    refused(&foreign, &shared.request).await;

    for address in [
        running.exchange.gateway.address,
        running.exchange.custodian.address,
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET /Ghulam%20Mustafa/0000012345678 HTTP/1.1\r\n\r\n")
            .unwrap();
        // An alert, or nothing: in either case the end.
        stream.read_to_end(&mut Vec::new()).ok();
    }
}

async fn refused(connector: &Connector, request: &ReadRequest) -> String {
    connector
        .read_case(request)
        .await
        .err()
        .unwrap()
        .reason()
        .to_owned()
}

fn profile(running: &Running, name: &str) -> Profile {
    Profile::load(&running.exchange.agencies[name].folder).unwrap()
}

fn holds(record: &Value, text: &str) -> bool {
    markers::texts(record).iter().any(|value| value == text)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_no_token_and_no_key_stands_where_it_must_not() {
    let worked = Worked::start(|_, _| {}).await;
    stands_where_it_may(&worked).await;
    every_plant_is_found(&worked, &worked.gateway().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_no_token_and_no_key_stands_in_any_file_of_a_postgresql_server() {
    if !is_here("leaks: the files of a PostgreSQL server") {
        return;
    }
    let cluster = Cluster::start();
    let worked = Worked::start(|_, config| {
        config["log"]["database"] = cluster.fresh_schema().into();
    })
    .await;
    stands_where_it_may(&worked).await;

    query(&cluster.superuser_url(), "CHECKPOINT");
    let mut all = files(&cluster.path().join("data"));
    all.push(("server.log".into(), cluster.log().into_bytes()));
    let nothing: [Found; 0] = [];
    assert_eq!(worked.personal.find_in(&all), nothing, "values");
    assert_eq!(worked.keys.find_in(&all), nothing, "keys");
    // The search is no empty gesture.
    assert_eq!(fields_found_in(&worked, &all), catalogue::sealed().count());
}

async fn stands_where_it_may(worked: &Worked) {
    let nothing: [Found; 0] = [];
    let (gateway, custodian) = (worked.gateway().await, worked.custodian().await);
    let engine = Books::of(&worked.running.exchange.gateway)
        .database
        .engine();
    for (folder, name) in [(&gateway, "gateway"), (&custodian, "custodian")] {
        let logged = |end: &str| {
            folder
                .iter()
                .find(|(path, _)| path.ends_with(end))
                .unwrap()
                .1
                .len()
        };
        assert!(logged(&format!("{name}.log")) > 100_000, "trace says much");
        let stored = match engine {
            // Killed with its WAL.
            Engine::Sqlite => &format!("data/{name}.sqlite-wal"),
            Engine::Postgres => "data/entries/body",
        };
        assert!(logged(stored) > 0, "{stored} is searched too");
    }

    assert_eq!(
        worked.personal.find_in(&gateway),
        nothing,
        "values at the gateway"
    );
    assert_eq!(
        worked.personal.find_in(&custodian),
        nothing,
        "values at the custodian"
    );
    assert_eq!(
        worked.keys.find_in(&gateway),
        nothing,
        "keys at the gateway"
    );
    assert_eq!(
        worked.keys.find_in(&custodian),
        nothing,
        "keys at the custodian"
    );
    assert_eq!(
        worked.ciphertexts.find_in(&custodian),
        nothing,
        "ciphertexts at the custodian"
    );
    for (name, agency) in &worked.running.exchange.agencies {
        let outbox = files(&agency.folder.join("outbox"));
        assert!(!outbox.is_empty());
        assert_eq!(
            worked.keys.find_in(&outbox),
            nothing,
            "keys in the outbox of {name}"
        );
        assert_eq!(
            worked.personal.find_in(&outbox),
            nothing,
            "values in the outbox of {name}"
        );
    }
    // The ciphertexts are found where they are, so they would be elsewhere.
    assert_eq!(
        fields_found_in(worked, &gateway),
        catalogue::sealed().count()
    );
}

/// Of how many fields a ciphertext is found.
fn fields_found_in(worked: &Worked, files: &[(PathBuf, Vec<u8>)]) -> usize {
    let found = worked.ciphertexts.find_in(files);
    let names: BTreeSet<_> = found.iter().map(|found| &found.name).collect();
    names.len()
}

/// The search is no empty gesture: a value planted in the middle of any of the files is found there.
fn every_plant_is_found(worked: &Worked, files: &[(PathBuf, Vec<u8>)]) {
    for plant in ["Ghulam Mustafa", "0000012345678"] {
        for form in forms(plant.as_bytes()) {
            for (path, bytes) in files {
                let (before, after) = bytes.split_at(bytes.len() / 2);
                let planted = (path.clone(), [before, &form, after].concat());
                let found = worked.personal.find_in([&planted]);
                assert!(
                    found.iter().any(|found| found.name == plant),
                    "{}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn a_needle_is_found_in_every_form_and_place() {
    let key: Vec<u8> = (0..32).map(|n| n * 7 + 3).collect();
    let mut needles = Needles::default();
    needles.add("key", &key);
    needles.add("name", b"Gulnar");
    for (name, bytes) in [("key", key.as_slice()), ("name", b"Gulnar")] {
        for form in forms(bytes) {
            for (before, after) in [(0, 0), (1, 0), (0, 1), (70, 70)] {
                let haystack = [vec![b'.'; before], form.clone(), vec![b'.'; after]].concat();
                assert_eq!(needles.find(&haystack), BTreeSet::from([name]), "{form:?}");
            }
        }
    }
    assert!(needles.find(b"Gulna, Gulne and Gul nar").is_empty());
    assert!(needles.find(&key[..16][1..]).is_empty());
}
