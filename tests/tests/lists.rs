//! Every list at both servers: its filters, its pages, and that a page's token gives no right by itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use amanat_connector::{ConnectorError, Server};
use amanat_schema::{
    audit::ListEntriesRequest,
    consent::ListConsentsRequest,
    policy::Right,
    record::ListVersionsRequest,
    referral::{Direction, ListReferralsRequest},
};
use amanat_tests::{
    Running,
    cli::{case_file, grant, refer, share, submit},
    party::{Party, asked, now, reason},
    story::{self, NGO, OVERSIGHT, POLICE, SHELTER},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_amanat");

fn running() -> Running {
    Running::start(PROGRAM, "info")
}

/// One of the lists, at one of the servers.
#[derive(Debug, Clone, Copy)]
enum List {
    Versions,
    Referrals,
    Consents(Server),
    Entries(Server),
}

const LISTS: [List; 6] = [
    List::Versions,
    List::Referrals,
    List::Consents(Server::Gateway),
    List::Consents(Server::Custodian),
    List::Entries(Server::Gateway),
    List::Entries(Server::Custodian),
];

/// How a list is asked for.
#[derive(Debug, Clone, Default)]
struct Ask {
    page_size: u32,
    page_token: String,
    case: Vec<u8>,
    /// Where a list has such a filter: a state, a purpose, an action.
    code: i32,
}

impl List {
    /// How many rows the page has, and the next one's token.
    async fn page(
        self,
        party: &Party,
        token: &str,
        ask: &Ask,
    ) -> Result<(usize, String), ConnectorError> {
        let Ask {
            page_size,
            page_token,
            case: case_id,
            code,
        } = ask.clone();
        Ok(match self {
            Self::Versions => {
                let request = ListVersionsRequest {
                    page_size,
                    page_token,
                    case_id,
                    ..ListVersionsRequest::default()
                };
                let answer = party.records().list_versions(asked(request, token)).await?;
                let answer = answer.into_inner();
                (answer.versions.len(), answer.next_page_token)
            }
            Self::Referrals => {
                let request = ListReferralsRequest {
                    direction: Direction::Sent.into(),
                    page_size,
                    page_token,
                    case_id,
                    state: code,
                    ..ListReferralsRequest::default()
                };
                let mut referrals = party.referrals();
                let answer = referrals.list_referrals(asked(request, token)).await?;
                let answer = answer.into_inner();
                (answer.referrals.len(), answer.next_page_token)
            }
            Self::Consents(server) => {
                let request = ListConsentsRequest {
                    page_size,
                    page_token,
                    case_id,
                    purpose: code,
                    ..ListConsentsRequest::default()
                };
                let mut consents = party.consents(server);
                let answer = consents.list_consents(asked(request, token)).await?;
                let answer = answer.into_inner();
                (answer.consents.len(), answer.next_page_token)
            }
            Self::Entries(server) => {
                let request = ListEntriesRequest {
                    page_size,
                    page_token,
                    case_id,
                    action: code,
                    ..ListEntriesRequest::default()
                };
                let mut audit = party.audit(server);
                let answer = audit.list_entries(asked(request, token)).await?;
                let answer = answer.into_inner();
                (answer.entries.len(), answer.next_page_token)
            }
        })
    }
}

/// Three of everything that the police can list.
async fn three_of_each(running: &Running) -> Party {
    let police = Party::open(running, POLICE);
    let shelter = running.exchange.agencies[SHELTER].id;
    let from = now() - story::HOUR;
    for _ in 0..3 {
        let case = story::submit(running).await.case;
        let until = from + 24 * story::HOUR;
        let (_, consent) = story::consent(&police, case, shelter, &["needs.needs"], from, until);
        for server in [Server::Custodian, Server::Gateway] {
            story::record_consent(&police, server, &consent)
                .await
                .unwrap();
        }
        story::refer_only(running, case, &["needs.needs"]).await;
    }
    police
}

#[tokio::test]
async fn every_page_is_authorised_anew() {
    let running = running();
    let police = three_of_each(&running).await;
    let full = police.token();
    // A right that opens no list at all.
    let gone = police.token_with(&[Right::BreakGlassApprover]);
    for list in LISTS {
        let two = Ask {
            page_size: 2,
            ..Ask::default()
        };
        let (rows, page_token) = list.page(&police, &full, &two).await.unwrap();
        assert_eq!(rows, 2, "{list:?}");
        assert!(!page_token.is_empty(), "{list:?}");
        let second = Ask { page_token, ..two };
        let refused = list.page(&police, &gone, &second).await;
        assert_eq!(reason(refused), "ACCESS_DENIED", "{list:?}");
        let (rows, _) = list.page(&police, &full, &second).await.unwrap();
        assert!(rows > 0, "{list:?}: the same token with the right");
    }
    running.verify().await;
}

#[tokio::test]
async fn a_token_is_good_for_its_agency_list_and_filters_alone() {
    let running = running();
    let police = three_of_each(&running).await;
    let [shelter, token] = [
        Party::open(&running, SHELTER),
        Party::open(&running, POLICE),
    ];
    let (hers, his) = (shelter.token(), token.token());
    for list in LISTS {
        let one = Ask {
            page_size: 1,
            ..Ask::default()
        };
        let (_, page_token) = list.page(&police, &his, &one).await.unwrap();
        let next = Ask { page_token, ..one };
        let of_a_case = Ask {
            case: vec![7; 16],
            ..next.clone()
        };
        refuses_token(list, &police, &his, &of_a_case).await;
        if !matches!(list, List::Versions) {
            let coded = Ask {
                code: 1,
                ..next.clone()
            };
            refuses_token(list, &police, &his, &coded).await;
        }
        refuses_token(list, &shelter, &hers, &next).await;
        for other in LISTS {
            if format!("{other:?}") != format!("{list:?}") {
                refuses_token(other, &police, &his, &next).await;
            }
        }
        let garbled = Ask {
            page_token: "2f".to_owned(),
            ..next.clone()
        };
        refuses_token(list, &police, &his, &garbled).await;
        list.page(&police, &his, &next).await.unwrap();
    }
}

async fn refuses_token(list: List, party: &Party, token: &str, ask: &Ask) {
    is_violated(list, party, token, ask, "page_token").await;
}

async fn is_violated(list: List, party: &Party, token: &str, ask: &Ask, path: &str) {
    match list.page(party, token, ask).await {
        Err(ConnectorError::Refused(refusal)) => {
            assert_eq!(refusal.reason, "FIELD_INVALID", "{list:?}");
            let paths: Vec<_> = refusal.violations.iter().map(|v| v.path.as_str()).collect();
            assert_eq!(paths, [path], "{list:?}");
        }
        Err(error) => panic!("{list:?}: {error}"),
        Ok(_) => panic!("{list:?}: it was answered"),
    }
}

#[tokio::test]
async fn a_filter_that_nobody_understands_is_refused_and_not_taken_for_any() {
    let running = running();
    let police = Party::open(&running, POLICE);
    let token = police.token();
    for list in LISTS {
        let large = Ask {
            page_size: 201,
            ..Ask::default()
        };
        is_violated(list, &police, &token, &large, "page_size").await;
        let short = Ask {
            case: vec![7; 15],
            ..Ask::default()
        };
        is_violated(list, &police, &token, &short, "case_id").await;
        let path = match list {
            List::Versions => continue,
            List::Referrals => "state",
            List::Consents(_) => "purpose",
            List::Entries(_) => "action",
        };
        for code in [99, -1] {
            let unknown = Ask {
                code,
                ..Ask::default()
            };
            is_violated(list, &police, &token, &unknown, path).await;
        }
    }
    let direction = ListReferralsRequest {
        direction: 9,
        ..ListReferralsRequest::default()
    };
    let refused = police
        .referrals()
        .list_referrals(asked(direction, &token))
        .await;
    assert_eq!(reason(refused), "FIELD_INVALID");
    for server in [Server::Gateway, Server::Custodian] {
        let backwards = ListEntriesRequest {
            from_time: Some(now().to_timestamp()),
            to_time: Some((now() - story::HOUR).to_timestamp()),
            ..ListEntriesRequest::default()
        };
        let mut audit = police.audit(server);
        let refused = audit.list_entries(asked(backwards, &token)).await;
        assert_eq!(reason(refused), "FIELD_INVALID");
        let decision = ListEntriesRequest {
            decision: 9,
            ..ListEntriesRequest::default()
        };
        let refused = audit.list_entries(asked(decision, &token)).await;
        assert_eq!(reason(refused), "FIELD_INVALID");
    }
}

#[tokio::test]
async fn an_agency_that_asks_for_anothers_entries_is_listed_none_and_not_its_own() {
    let running = running();
    story::submit(&running).await;
    let agencies = &running.exchange.agencies;
    let (ours, theirs) = (agencies[POLICE].id, agencies[SHELTER].id);
    let police = Party::open(&running, POLICE);
    let token = police.token();
    for server in [Server::Gateway, Server::Custodian] {
        for (agency, own) in [
            (Vec::new(), true),
            (ours.to_vec(), true),
            (theirs.to_vec(), false),
        ] {
            let request = ListEntriesRequest {
                agency_id: agency,
                ..ListEntriesRequest::default()
            };
            let mut audit = police.audit(server);
            let answer = audit.list_entries(asked(request, &token)).await.unwrap();
            let answer = answer.into_inner();
            assert_ne!(answer.entries.is_empty(), own);
            assert_eq!(answer.next_page_token, "");
        }
    }
}

#[tokio::test]
async fn a_referral_that_closes_between_two_pages_takes_its_records_off_the_second() {
    let running = running();
    let case = story::submit(&running).await.case;
    let police = running.connector(POLICE).await;
    let referral = story::refer(&running, case, &["case.urgency"]).await;
    let file = story::police_case();
    police.submit_case(file, Some(case)).await.unwrap();
    let shelter = Party::open(&running, SHELTER);
    let one = Ask {
        page_size: 1,
        ..Ask::default()
    };
    let token = shelter.token();
    let (rows, page_token) = List::Versions.page(&shelter, &token, &one).await.unwrap();
    assert_eq!(rows, 1);
    police.revoke_referral(referral).await.unwrap();
    let second = Ask { page_token, ..one };
    let page = List::Versions.page(&shelter, &token, &second).await;
    assert_eq!(page.unwrap(), (0, String::new()));
    running.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_take_the_filters_and_stop_at_the_limit() {
    let running = running();
    let [one, two] = [(); 2].map(|()| submit(&running, &case_file()));
    for case in [&one, &two] {
        grant(&running, case, &json!({ "paths": ["needs.needs"] }));
    }
    let terms = json!({ "paths": ["needs.needs"], "recipient": NGO, "purpose": "HEALTH" });
    grant(&running, &two, &terms);
    share(&running, &one, "needs.needs");
    running.tell_json(POLICE, &refer(&two, SHELTER, "needs.needs"));

    let count = |agency: &str, arguments: &[&str]| {
        let told = running.tell_json(agency, arguments);
        told.as_array().unwrap().len()
    };
    for (arguments, rows) in [
        (&["consent", "list"][..], 3),
        (&["consent", "list", "--case", &two], 2),
        (&["consent", "list", "--recipient", NGO], 1),
        (&["consent", "list", "--purpose", "SHELTER"], 2),
        (
            &[
                "consent",
                "list",
                "--recipient",
                NGO,
                "--purpose",
                "SHELTER",
            ],
            0,
        ),
        (
            &[
                "consent",
                "list",
                "--at",
                "custodian",
                "--purpose",
                "HEALTH",
            ],
            1,
        ),
        (&["consent", "list", "--limit", "2"], 2),
        (&["consent", "list", "--limit", "0"], 0),
        (&["refer", "list", "--sent"], 2),
        (&["refer", "list"], 0),
        (&["refer", "list", "--sent", "--state", "ACCEPTED"], 1),
        (&["refer", "list", "--sent", "--case", &two], 1),
        (&["refer", "list", "--sent", "--overdue"], 0),
        (&["refer", "list", "--sent", "--limit", "1"], 1),
    ] {
        assert_eq!(count(POLICE, arguments), rows, "{arguments:?}");
    }
    assert_eq!(count(SHELTER, &["refer", "list", "--received"]), 2);
    let both = running.tell(POLICE, &["refer", "list", "--sent", "--received"]);
    assert_eq!(both.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_found_by_when_they_were_made() {
    let running = running();
    submit(&running, &case_file());
    let put = &["audit", "list", "--action", "PUT_RECORD"];
    let list = |agency: &str, more: &[&str]| {
        let told = running.tell_json(agency, &[&put[..], more].concat());
        told.as_array().unwrap().clone()
    };
    let all = list(POLICE, &[]);
    let made = all[0]["time"].as_str().unwrap().to_owned();
    let day = &made[..10];
    assert_eq!(list(POLICE, &["--from", &made]).len(), 1);
    assert_eq!(list(POLICE, &["--to", &made]), [Value::Null; 0]);
    assert_eq!(list(POLICE, &["--from", day]).len(), 1);
    assert_eq!(
        list(POLICE, &["--from", "2020-01-01", "--to", day]).len(),
        0
    );
    assert_eq!(
        list(OVERSIGHT, &["--from", &made, "--agency", POLICE]).len(),
        1
    );
    let wrong = running.tell(POLICE, &["audit", "list", "--from", "yesterday"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("2026-03-01"), "{}", wrong.err);
}
