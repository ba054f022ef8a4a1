//! What a thief makes of stolen stores: the gateway's with the OPRF key but no pepper, two agencies' side by
//! side; and what an agency learns from an answer about others: nothing, not by its size either.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::collections::{BTreeMap, BTreeSet};

use amanat_database::Place;
use amanat_identity::request_sha256;
use amanat_schema::{
    AgencyId, case_file,
    identifier::Identifier,
    subject::{FindSubjectRequest, IdentifierDomain, SubjectIdentifierType},
};
use amanat_seal::{oprf::OprfKey, pseudonym::Peppers, sha256};
use amanat_tests::{
    Running,
    forge::Books,
    needles::{Found, Needles, files},
    oprf::{Secrets, cnic, phone},
    party::Party,
    sharing,
    story::{NGO, POLICE, SHELTER, police_case},
    tables::{Column, as_files, column, columns},
};
use aws_lc_rs::{digest, hmac};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");
const FIA: &str = "fia-ahtc-lahore";
const CNIC: &str = "0000012345678";
const PHONE: &str = "+923000000117";
const VICTIM: IdentifierDomain = IdentifierDomain::Victim;

fn running() -> Running {
    Running::start(PROGRAM, "info")
}

/// A case file of the woman whom the police's names, and no more of her.
fn known_by_numbers() -> case_file::CaseFile {
    let file = json!({
        "subject": { "gender": "FEMALE", "cnic": "00000 1234567 8", "mobile_phone": "0300-0000117" },
        "case": { "urgency": "URGENT" },
    });
    case_file::parse(&file).map_err(|_| "valid").unwrap()
}

/// Somebody without document, phone or name.
fn nobody_known() -> case_file::CaseFile {
    let file = json!({ "subject": { "gender": "FEMALE" }, "case": { "urgency": "URGENT" } });
    case_file::parse(&file).map_err(|_| "valid").unwrap()
}

/// A database, as a thief reads it.
type Store = BTreeMap<Column, Vec<Vec<u8>>>;

fn database(running: &Running) -> Place {
    Books::of(&running.exchange.gateway).database
}

fn outbox(running: &Running, agency: &str) -> Place {
    let folder = &running.exchange.agencies[agency].folder;
    Place::Sqlite(folder.join("outbox/outbox.sqlite"))
}

/// All that a thief tries for one token: the token, and every digest that he can compute with what he holds.
/// `salts` is whatever stands in the store, each tried as a key, before and after the token.
fn guesses(token: &[u8; 64], salts: &BTreeSet<Vec<u8>>, agencies: &[AgencyId]) -> Vec<Vec<u8>> {
    let sha512 = |bytes: &[u8]| digest::digest(&digest::SHA512, bytes).as_ref().to_vec();
    let mut guesses = vec![
        token.to_vec(),
        sha256(token).to_vec(),
        sha256(&sha256(token)).to_vec(),
        sha256(&token[..32]).to_vec(),
        sha512(token),
        sha256(hex::encode(token).as_bytes()).to_vec(),
    ];
    for salt in salts {
        let key = hmac::Key::new(hmac::HMAC_SHA256, salt);
        guesses.push(hmac::sign(&key, token).as_ref().to_vec());
        guesses.push(sha256(&[salt.as_slice(), token].concat()).to_vec());
        guesses.push(sha256(&[token.as_slice(), salt].concat()).to_vec());
        // The gateway's own way, with what he holds for a pepper.
        if let Ok(pepper) = <[u8; 32]>::try_from(salt.as_slice()) {
            let peppers = Peppers::from_keys(vec![pepper.into()]).unwrap();
            guesses.push(peppers.canary(token).to_vec());
            let stored = agencies.iter().map(|agency| peppers.stored(*agency, token));
            guesses.extend(stored.map(Vec::from));
        }
    }
    guesses
}

/// The request that a thief supposes to have been made, under an id that he finds in the store.
fn supposed(request_id: &[u8], presented: &FindSubjectRequest, nonce: &[u8]) -> [u8; 32] {
    request_sha256(&FindSubjectRequest {
        request_id: request_id.to_vec(),
        nonce: nonce.to_vec(),
        ..presented.clone()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_the_gateway_and_the_oprf_key_match_nobody_without_the_pepper() {
    let mut running = running();
    let police = running.connector(POLICE).await;
    let ngo = running.connector(NGO).await;
    for (connector, file) in [(&police, police_case()), (&ngo, known_by_numbers())] {
        let submitted = connector.submit_case(file, None).await.unwrap();
        assert!(submitted.delivered().unwrap().pseudonym.is_some());
    }
    // And one whose every byte is known here.
    let secrets = Secrets::of(&running.exchange);
    let hers = police_case().identifiers();
    let asked = secrets.question(&hers);
    Party::open(&running, SHELTER)
        .find(asked.clone())
        .await
        .unwrap();
    running.gateway.kill();

    // The thief has the database with all that lies beside it, the log, and the OPRF keys; not the pepper.
    let gateway = &running.exchange.gateway.folder;
    let stolen: Vec<_> = ["data", "state"]
        .map(|name| files(&gateway.join(name)))
        .concat();
    let stolen = [
        stolen,
        vec![(
            running.gateway.log.clone(),
            std::fs::read(&running.gateway.log).unwrap(),
        )],
    ]
    .concat();
    let stolen = [stolen, as_files(&database(&running), gateway).await].concat();
    let tables = columns(&database(&running)).await;
    let mut salts: BTreeSet<_> = tables
        .values()
        .flatten()
        .filter(|value| value.len() <= 64)
        .cloned()
        .collect();
    salts.extend([
        vec![0; 32],
        vec![0; 64],
        Vec::new(),
        b"amanat/token/v1".to_vec(),
    ]);
    for domain in [VICTIM, IdentifierDomain::Composite] {
        let seed = secrets.seed(domain);
        let public = OprfKey::from_seed(&seed).unwrap().public_key();
        salts.extend([seed.to_vec(), public.to_vec()]);
    }
    assert_eq!(
        hers.len(),
        3,
        "her card, her phone, and her name with her father's"
    );
    let agencies = running.exchange.agencies.values();
    let agencies: Vec<_> = agencies.map(|agency| agency.id).collect();
    let pepper = [secrets.pepper().to_vec()].into();
    let (mut blind_guesses, mut with_pepper) = (Needles::default(), Needles::default());
    for identifier in &hers {
        let kind = identifier.kind().as_str_name();
        let token = secrets.token(identifier.domain(), identifier);
        blind_guesses.add(kind, identifier.canonical().as_bytes());
        for guess in guesses(&token, &salts, &agencies) {
            blind_guesses.add_raw(kind, &guess);
        }
        blind_guesses.add(kind, &token);
        for guess in guesses(&token, &pepper, &agencies) {
            with_pepper.add_raw(kind, &guess);
        }
    }
    let request_ids = &tables[&column("requests", "request_id")];
    assert_eq!(
        request_ids.len(),
        tables[&column("requests", "method")].len()
    );
    for request_id in request_ids {
        for nonce in [&[][..], &[0; 32], request_id, &request_id.repeat(2)] {
            blind_guesses.add_raw("request", &supposed(request_id, &asked, nonce));
        }
    }
    let nobody: [Found; 0] = [];
    assert_eq!(blind_guesses.find_in(&stolen), nobody);

    // With the pepper, or the nonce, each would have been found: he looks in the right way at the right place.
    let matched = with_pepper.find_in(&stolen);
    let matched: BTreeSet<_> = matched.iter().map(|found| found.name.as_str()).collect();
    let kinds = hers
        .iter()
        .map(|identifier| identifier.kind().as_str_name());
    assert_eq!(matched, kinds.collect());
    let mut with_nonce = Needles::default();
    with_nonce.add_raw(
        "request",
        &supposed(&asked.request_id, &asked, &asked.nonce),
    );
    assert!(!with_nonce.find_in(&stolen).is_empty());
    let mut of_nobody = Needles::default();
    let other = secrets.token(VICTIM, &cnic("0000087654321"));
    for agency in agencies {
        of_nobody.add_raw("nobody", &secrets.stored(agency, &other));
    }
    assert_eq!(of_nobody.find_in(&stolen), nobody);

    // Three agencies know her by the same numbers, and no value is in two agencies' rows.
    let kept = |name: &str| tables[&column("identifiers", name)].iter();
    for name in ["stored", "subject_id"] {
        let mut holders: BTreeMap<&Vec<u8>, BTreeSet<&Vec<u8>>> = BTreeMap::new();
        for (value, agency) in kept(name).zip(kept("agency")) {
            holders.entry(value).or_default().insert(agency);
        }
        assert!(
            holders.values().all(|agencies| agencies.len() == 1),
            "{name}"
        );
    }
    assert_eq!(kept("agency").collect::<BTreeSet<_>>().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agencies_stores_join_on_no_pseudonym_and_on_ids_of_exchanged_cases_only() {
    let running = running();
    let police = running.connector(POLICE).await;
    let shelter = running.connector(SHELTER).await;
    let consent = sharing::consent_file("consent-police-to-shelter");
    let exchanged = sharing::share(
        &police,
        &shelter,
        &sharing::file("police-case"),
        &consent,
        None,
    )
    .await;
    exchanged.read(&shelter).await.unwrap();
    // Both know her by the same numbers, each in a case of its own too.
    let mut own = Vec::new();
    for connector in [&police, &shelter] {
        for case in [None, Some(exchanged.case)] {
            let submitted = connector
                .submit_case(known_by_numbers(), case)
                .await
                .unwrap();
            own.push(submitted.delivered().unwrap());
        }
    }
    drop((police, shelter));
    // A third agency keeps what everybody is told: the directory, the servers' names, their logs.
    let fia = running.connector(FIA).await;
    fia.submit_case(nobody_known(), None).await.unwrap();
    running.verify().await;

    let [of_police, of_shelter, of_all] = [POLICE, SHELTER, FIA].map(|name| outbox(&running, name));
    let (of_police, of_shelter) = (columns(&of_police).await, columns(&of_shelter).await);
    let mut public = Public::default();
    public.add(columns(&of_all).await.values().flatten());
    for server in [&running.exchange.gateway, &running.exchange.custodian] {
        let tables = columns(&Books::of(server).database).await;
        public.add(&tables[&column("nodes", "hash")]);
    }
    let agencies = running.exchange.agencies.values();
    let agencies: Vec<_> = agencies.map(|agency| agency.id.to_vec()).collect();
    public.add(&agencies);

    // Of the exchanged case: its ids, written too, and the hashes of what was signed about them.
    let gateway = columns(&database(&running)).await;
    let kept = |table: &str, name: &str| gateway[&column(table, name)].clone();
    let (case, record) = (exchanged.case.to_vec(), exchanged.request.record.to_vec());
    let at = kept("records", "record_id")
        .iter()
        .position(|id| *id == record);
    let mut ids = kept("referrals", "referral_id");
    ids.extend([case.clone(), record, exchanged.consent.to_vec()]);
    let written: Vec<_> = ids.iter().map(|id| hex::encode(id).into_bytes()).collect();
    ids.extend(written);
    ids.extend(
        ["payload_sha256", "last_sha256"]
            .map(|name| kept("referrals", name))
            .concat(),
    );
    ids.push(kept("records", "header_sha256")[at.unwrap()].clone());
    ids.extend(kept("consents", "payload_sha256"));

    assert!(
        joined(&of_police, &of_shelter, &public).contains(&case),
        "what joins is found"
    );
    public.add(&ids);
    assert_eq!(joined(&of_police, &of_shelter, &public), BTreeSet::new());

    let pseudonyms: Vec<_> = own
        .into_iter()
        .map(|submitted| submitted.pseudonym.unwrap())
        .collect();
    assert_eq!(pseudonyms[0], pseudonyms[1], "the police know her by one");
    assert_eq!(pseudonyms[2], pseudonyms[3], "the shelter too");
    for (name, pseudonym) in [(POLICE, pseudonyms[0]), (SHELTER, pseudonyms[2])] {
        let mut needles = Needles::default();
        needles.add(name, pseudonym.as_bytes());
        needles.add(name, pseudonym.to_string().as_bytes());
        for holder in [POLICE, SHELTER] {
            let found = needles.find_in(&files(&running.exchange.agencies[holder].folder));
            assert_eq!(found.is_empty(), holder != name, "{name}'s at {holder}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_does_not_learn_from_its_pseudonyms_what_another_has_joined() {
    let running = running();
    let secrets = Secrets::of(&running.exchange);
    let [ngo, police] = [NGO, POLICE].map(|name| Party::open(&running, name));
    let [card, number] = [vec![cnic(CNIC)], vec![phone(PHONE)]];
    let both = || vec![cnic(CNIC), phone(PHONE)];
    let find = async |party: &Party, of: &[Identifier]| {
        let found = party.find(secrets.question(of)).await.unwrap();
        found.pseudonym
    };
    let theirs = find(&ngo, &both()).await;
    let (by_card, by_number) = (find(&police, &card).await, find(&police, &number).await);
    assert_ne!(
        by_card, by_number,
        "the shelter knows that they are one; the police do not"
    );
    assert!(![&by_card, &by_number].contains(&&theirs));
    // The shelter's own stay joined, and the police join them by what they hand in themselves.
    for alone in [&card, &number] {
        assert_eq!(find(&ngo, alone).await, theirs);
    }
    assert_eq!(
        find(&police, &both()).await,
        by_card,
        "the document decides"
    );
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_custodian_makes_one_token_of_every_spelling_and_another_of_a_suspects() {
    let running = running();
    let secrets = Secrets::of(&running.exchange);
    let police = Party::open(&running, POLICE);
    let listed = running.exchange.published().unwrap().oprf_keys;
    let key = listed.iter().find(|key| key.domain() == VICTIM).unwrap();
    let public_key = key.public_key.as_slice().try_into().unwrap();
    let evaluated = async |identifier: &Identifier| {
        let walked = police.evaluate(&public_key, VICTIM, identifier).await;
        let alone = secrets.token(VICTIM, identifier);
        assert_eq!(walked.token, alone, "as the seed alone makes it");
        walked.token
    };
    let token = evaluated(&cnic(CNIC)).await;
    for spelling in [
        "00000-1234567-8",
        "00000 1234567 8",
        "۰۰۰۰۰-۱۲۳۴۵۶۷-۸",
        "٠٠٠٠٠١٢٣٤٥٦٧٨",
    ] {
        assert_eq!(evaluated(&cnic(spelling)).await, token, "{spelling}");
    }
    // Nobody is served a suspect's yet; the key is there, and makes another of the same number.
    let of_a_suspect = secrets.token(IdentifierDomain::Suspect, &cnic(CNIC));
    assert_ne!(of_a_suspect, token);
    assert_ne!(evaluated(&cnic("0000012345679")).await, token);
    let as_a_passport = Identifier::parse(SubjectIdentifierType::Passport, CNIC).unwrap();
    assert_ne!(evaluated(&as_a_passport).await, token);
    running.verify().await;
}

/// The runs of 16 bytes that two stores share and that are not everybody's.
fn joined(one: &Store, other: &Store, public: &Public) -> BTreeSet<Vec<u8>> {
    let windows = |store: &Store| -> BTreeSet<Vec<u8>> {
        let values = store.values().flatten();
        values
            .flat_map(|value| value.windows(16))
            .map(<[u8]>::to_vec)
            .collect()
    };
    let (one, other) = (windows(one), windows(other));
    let common = one.intersection(&other);
    common
        .filter(|window| !public.has(window))
        .cloned()
        .collect()
}

/// What is no secret of any two agencies.
#[derive(Default)]
struct Public(BTreeSet<Vec<u8>>);

/// Random bytes of which so many agree are the same ones.
const ENOUGH: usize = 6;

impl Public {
    fn add<'a>(&mut self, values: impl IntoIterator<Item = &'a Vec<u8>>) {
        let windows = values.into_iter().flat_map(|value| value.windows(ENOUGH));
        self.0.extend(windows.map(<[u8]>::to_vec));
    }

    /// Whether the run begins or ends with public bytes; one that has an id at either end does not.
    fn has(&self, window: &[u8]) -> bool {
        self.0.contains(&window[..ENOUGH]) || self.0.contains(&window[window.len() - ENOUGH..])
    }
}
