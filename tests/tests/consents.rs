//! Whose word a consent is, who may end it, and that a refusal does not tell what became of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use amanat_connector::{ConnectorError, ReadRequest, Server};
use amanat_schema::{
    CaseId, RecordId,
    audit::{EntryBody, Linkage},
    policy::Purpose,
    statement::Consent,
};
use amanat_tests::{
    Running,
    party::{Party, honest_ask, id, now, reason},
    story::{
        HOUR, NGO, PERMITTED, POLICE, SHELTER, Story, consent, record_consent, refer, submit,
        withdraw,
    },
};
use prost::Message as _;

const SERVERS: [Server; 2] = [Server::Gateway, Server::Custodian];

fn running() -> Running {
    Running::start(env!("CARGO_BIN_EXE_amanat"), "info")
}

#[tokio::test]
async fn a_consent_counts_for_the_records_of_the_agency_that_signed_it_and_no_others() {
    let running = running();
    let case = submit(&running).await.case;
    let (police, ngo) = (Party::open(&running, POLICE), Party::open(&running, NGO));
    let shelter = Party::open(&running, SHELTER);
    let referral = refer(&running, case, &["case.urgency"]).await;
    let (from, to) = (now() - HOUR, now() + HOUR);
    let (_, good) = consent(&police, case, shelter.agency, &PERMITTED, from, to);
    let terms = Consent::decode(good.envelope.as_ref().unwrap().payload.as_slice()).unwrap();

    let over_anothers = ngo.sign(case, &[], |head| Consent {
        head: Some(head),
        consent_id: id(),
        ..terms.clone()
    });
    let mut in_anothers_name = good.clone();
    in_anothers_name
        .envelope
        .as_mut()
        .unwrap()
        .signatures
        .clear();
    ngo.statements
        .cosign(in_anothers_name.envelope.as_mut().unwrap());
    for server in SERVERS {
        let refused = record_consent(&ngo, server, &over_anothers).await;
        assert_eq!(
            reason(refused),
            "FIELD_INVALID",
            "{server:?}: over another's records"
        );
        let refused = record_consent(&ngo, server, &in_anothers_name).await;
        assert_eq!(
            reason(refused),
            "CREDENTIAL_INVALID",
            "{server:?}: in another's name"
        );
        let refused = record_consent(&ngo, server, &good).await;
        assert_eq!(
            reason(refused),
            "CREDENTIAL_INVALID",
            "{server:?}: another's to deliver"
        );
    }

    // Over its own records it may; the police's stay closed.
    let (own, statement) = consent(&ngo, case, shelter.agency, &PERMITTED, from, to);
    for server in SERVERS {
        record_consent(&ngo, server, &statement).await.unwrap();
    }
    let submitted = running
        .connector(POLICE)
        .await
        .list_versions(Some(case))
        .await
        .unwrap();
    let story = Story {
        case,
        record: submitted[0].record,
        source: police.agency,
        consent: own,
        referral,
    };
    let refused = shelter.read(story.ask(&PERMITTED)).await;
    assert_eq!(reason(refused), "NOTHING_RELEASABLE");
    running.verify().await;
}

#[tokio::test]
async fn a_consent_is_ended_by_its_source_or_recipient_and_by_nobody_else() {
    let running = running();
    let story = Story::tell(&running).await;
    let [police, shelter, ngo] = [POLICE, SHELTER, NGO].map(|name| Party::open(&running, name));
    for server in SERVERS {
        // Kept or refused, it closes nothing; and under another case's id it is not even of this consent.
        for case in [story.case, CaseId::parse(&id()).unwrap()] {
            withdraw(&ngo, server, case, story.consent).await.ok();
        }
    }
    is_read(&shelter, &story).await;

    // Before the consent comes, anybody's withdrawal is kept; its own source's counts.
    for (party, reads) in [(&ngo, true), (&police, false)] {
        let case = submit(&running).await.case;
        let (consent, statement) = consent(
            &police,
            case,
            shelter.agency,
            &PERMITTED,
            now() - HOUR,
            now() + HOUR,
        );
        for server in SERVERS {
            withdraw(party, server, case, consent).await.unwrap();
            record_consent(&police, server, &statement).await.unwrap();
        }
        let record = running
            .connector(POLICE)
            .await
            .list_versions(Some(case))
            .await
            .unwrap();
        let referral = refer(&running, case, &["case.urgency"]).await;
        let source = police.agency;
        let story = Story {
            case,
            record: record[0].record,
            source,
            consent,
            referral,
        };
        if reads {
            is_read(&shelter, &story).await;
        } else {
            assert_eq!(
                reason(shelter.read(story.ask(&PERMITTED)).await),
                "NOTHING_RELEASABLE"
            );
        }
    }

    // Its recipient can give it up.
    for server in SERVERS {
        withdraw(&shelter, server, story.case, story.consent)
            .await
            .unwrap();
    }
    assert_eq!(
        reason(shelter.read(story.ask(&PERMITTED)).await),
        "NOTHING_RELEASABLE"
    );
    running.verify().await;
}

async fn is_read(shelter: &Party, story: &Story) {
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    let released = shelter
        .release(&shelter.token(), honest_ask(&answer))
        .await
        .unwrap();
    assert_eq!(released.keys.len(), PERMITTED.len());
}

#[tokio::test]
async fn why_there_is_no_consent_does_not_show_in_the_refusal_or_in_its_entry() {
    let running = running();
    let (police, shelter) = (
        Party::open(&running, POLICE),
        Party::open(&running, SHELTER),
    );
    let mut seen = Vec::new();
    for what in ["never given", "expired", "withdrawn"] {
        let submitted = submit(&running).await;
        let case = submitted.case;
        let to = if what == "expired" {
            now() - HOUR
        } else {
            now() + HOUR
        };
        let (consent, statement) = consent(
            &police,
            case,
            shelter.agency,
            &PERMITTED,
            now() - HOUR * 2,
            to,
        );
        for server in SERVERS {
            if what != "never given" {
                record_consent(&police, server, &statement).await.unwrap();
            }
            if what == "withdrawn" {
                withdraw(&police, server, case, consent).await.unwrap();
            }
        }
        refer(&running, case, &["case.urgency"]).await;
        let refused = refused_read(&running, case, submitted.record).await;
        assert_eq!(refused.0, "NOTHING_RELEASABLE", "{what}");
        seen.push(refused);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    running.verify().await;
}

/// What the reader is told and what the log tells it, with the ids, times and salted hashes blanked.
async fn refused_read(
    running: &Running,
    case: CaseId,
    record: RecordId,
) -> (String, Vec<(String, String)>, EntryBody, Linkage, usize) {
    let shelter = running.connector(SHELTER).await;
    let read = ReadRequest {
        case,
        record,
        source: running.exchange.agencies[POLICE].id,
        fields: PERMITTED.map(str::to_owned).to_vec(),
        purpose: Purpose::Shelter,
    };
    let refusal = match shelter.read_case(&read).await {
        Err(ConnectorError::Refused(refusal)) => refusal,
        _ => panic!("the read was not refused"),
    };
    let index = refusal.audit_index.unwrap();
    let (entry, receipt) = shelter.get_entry(Server::Gateway, index).await.unwrap();
    let body = EntryBody {
        entry_id: Vec::new(),
        counter: 0,
        time: None,
        linkage_commitment: Vec::new(),
        officer_commitment: Vec::new(),
        reasons_commitment: Vec::new(),
        ..entry.body
    };
    let linkage = Linkage {
        case_id: Vec::new(),
        record_id: Vec::new(),
        request_sha256: Vec::new(),
        ..entry.linkage.unwrap()
    };
    let opened = receipt.linkage.unwrap().value.len();
    (
        refusal.reason,
        refusal.withheld.into_iter().collect(),
        body,
        linkage,
        opened,
    )
}
