//! A gateway that turned against the exchange, with its operator's keys and a colluding officer, before an
//! honest custodian. Whatever it writes on its log and signs, no key comes back that the survivor's consent
//! and the custodian's own ledger do not carry.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use std::{fs, time::Duration};

use amanat_connector::Server;
use amanat_ledger::body;
use amanat_schema::{
    ConsentId, RecordId, Time,
    audit::Action,
    policy::{BasisKind, Decision, Purpose, ReferralState},
    statement::{Consent, Envelope},
};
use amanat_tests::{
    Running,
    attack::{
        Alarm::{Quiet, Raised},
        Stage, alarms, an_hour_passes, on_consent,
    },
    party::{Party, ask, id, now, reason},
    pause,
    rogue::Forged,
    story::{
        HOUR, NGO, PERMITTED, POLICE, SHELTER, Sealed, Story, activate, consent, record_consent,
        submit, withdraw,
    },
};
use prost::Message as _;

const SECOND: Duration = Duration::from_secs(1);

fn running() -> Running {
    Running::start(env!("CARGO_BIN_EXE_amanat"), "info")
}

async fn stage() -> Stage {
    Stage::told(env!("CARGO_BIN_EXE_amanat")).await
}

/// An entry of a moment seen from now, good for a time; the clock is read once.
fn between(forged: &mut Forged, life: Duration, from: impl FnOnce(Time) -> Time) {
    let from = from(now());
    forged.body.time = Some(from.to_timestamp());
    forged.body.expire_time = Some((from + life).to_timestamp());
}

#[tokio::test]
async fn an_entry_that_the_custodian_would_not_have_written_releases_no_key() {
    let mut running = running();
    let story = Story::tell(&running).await;
    let other = submit(&running).await;
    an_hour_passes(&mut running).await;
    let stage = Stage::set(running, story).await;
    let honest = stage.rogue.size();
    let denied = "ACCESS_DENIED";
    assert_eq!(stage.is_released().await.keys.len(), PERMITTED.len());

    stage
        .refuses_entry(
            "a path that she did not consent to",
            denied,
            Raised,
            |forged| {
                forged.body.released.push(on_consent("needs.narrative"));
            },
        )
        .await;
    stage
        .refuses_entry("a path closed to shelters", denied, Raised, |forged| {
            forged.body.released.push(on_consent("case.fir_number"));
        })
        .await;
    stage
        .refuses_entry("a path twice", denied, Raised, |forged| {
            forged.body.released.push(forged.body.released[0].clone());
        })
        .await;
    stage
        .refuses_entry("a basis that is nowhere", denied, Raised, |forged| {
            forged.body.released[0].basis = Some(9);
        })
        .await;
    stage
        .refuses_entry("the basis of a source", denied, Raised, |forged| {
            for released in &mut forged.body.released {
                released.set_basis_kind(BasisKind::Source);
                released.basis = None;
            }
        })
        .await;
    stage
        .refuses_entry(
            "other words under the consent's id",
            denied,
            Raised,
            |forged| {
                forged.linkage.bases[0].statement_sha256 = vec![9; 32];
            },
        )
        .await;
    stage
        .refuses_entry("another purpose", denied, Raised, |forged| {
            forged.body.set_purpose(Purpose::Health);
        })
        .await;
    stage
        .refuses_entry(
            "a referral that nobody accepted",
            denied,
            Raised,
            |forged| {
                forged.body.set_referral_state(ReferralState::Acknowledged);
            },
        )
        .await;
    stage
        .refuses_entry("another version", denied, Raised, |forged| {
            forged.linkage.version = 2
        })
        .await;
    stage
        .refuses_entry("another record", denied, Raised, |forged| {
            forged.linkage.record_id = other.record.to_vec();
        })
        .await;
    stage
        .refuses_entry("another record of another case", denied, Raised, |forged| {
            forged.linkage.record_id = other.record.to_vec();
            forged.linkage.case_id = other.case.to_vec();
        })
        .await;
    stage
        .refuses_entry("another case", denied, Raised, |forged| {
            forged.linkage.case_id = id()
        })
        .await;
    stage
        .refuses_entry("another source", denied, Raised, |forged| {
            forged.linkage.source_id = stage.running.exchange.agencies[NGO].id.to_vec();
        })
        .await;
    stage
        .refuses_entry("no referral", denied, Raised, |forged| {
            forged.linkage.referral_id.clear()
        })
        .await;
    stage
        .refuses_entry("a refusal", denied, Raised, |forged| {
            forged.body.set_decision(Decision::Deny);
        })
        .await;
    stage
        .refuses_entry("a listing", denied, Raised, |forged| {
            forged.body.set_action(Action::ListVersions);
        })
        .await;
    // It has just started, and what was in use before that it does not know.
    stage
        .refuses_entry("another directory", denied, Quiet, |forged| {
            forged.body.directory_sha256 = vec![9; 32];
        })
        .await;
    stage
        .refuses_entry("another decision table", denied, Quiet, |forged| {
            forged.body.table_sha256 = vec![9; 32];
        })
        .await;

    let released = id();
    let (receipt, officer) = stage.forge(|forged| forged.body.entry_id.clone_from(&released));
    let first = ask(receipt, officer, stage.referral());
    stage
        .shelter
        .release(&stage.shelter.token(), first)
        .await
        .unwrap();
    stage
        .refuses_entry("an id that has released keys", denied, Raised, |forged| {
            forged.body.entry_id.clone_from(&released);
        })
        .await;

    stage.is_released().await;
    stage.ends_in_discovery(honest).await;
}

#[tokio::test]
async fn only_the_directory_of_a_moment_ago_is_refused_without_an_alarm() {
    let running = running();
    let story = Story::tell(&running).await;
    let stage = Stage::set(running, story).await;
    let honest = stage.rogue.size();
    stage.running.exchange.publish(now(), |_| {}).unwrap();
    let log = || fs::read_to_string(&stage.running.custodian.log).unwrap();
    for _ in 0..1200 {
        if log().contains("version=2") {
            break;
        }
        pause().await;
    }
    let published = fs::read(&stage.running.exchange.directory).unwrap();
    let published = Envelope::decode(published.as_slice()).unwrap();
    let newest = amanat_seal::sha256(&published.payload);

    stage
        .refuses_entry("the directory before", "LEDGER_BEHIND", Quiet, |_| {})
        .await;
    stage
        .refuses_entry(
            "a directory never seen",
            "ACCESS_DENIED",
            Raised,
            |forged| {
                forged.body.directory_sha256 = vec![9; 32];
            },
        )
        .await;
    stage
        .refuses_entry(
            "another table under the directory before",
            "ACCESS_DENIED",
            Raised,
            |forged| forged.body.table_sha256 = vec![9; 32],
        )
        .await;
    let (receipt, officer) = stage.forge(|forged| forged.body.directory_sha256 = newest.to_vec());
    let by_the_newest = ask(receipt, officer, stage.referral());
    let token = stage.shelter.token();
    stage.shelter.release(&token, by_the_newest).await.unwrap();
    stage.ends_in_discovery(honest).await;
}

#[tokio::test]
async fn an_entry_is_good_for_a_minute_of_now() {
    let stage = stage().await;
    let honest = stage.rogue.size();
    let denied = "ACCESS_DENIED";
    let minute = SECOND * 60;

    stage
        .refuses_entry("an expiry stretched to an hour", denied, Raised, |forged| {
            between(forged, HOUR, |now| now);
        })
        .await;
    stage
        .refuses_entry("no expiry", denied, Raised, |forged| {
            forged.body.expire_time = None
        })
        .await;
    stage
        .refuses_entry("an hour ago", denied, Quiet, |forged| {
            between(forged, minute, |now| now - HOUR);
        })
        .await;
    stage
        .refuses_entry("in an hour", denied, Quiet, |forged| {
            between(forged, minute, |now| now + HOUR);
        })
        .await;
    stage
        .refuses_entry("expired", denied, Quiet, |forged| {
            between(forged, SECOND * 19, |now| now - SECOND * 20);
        })
        .await;

    stage.is_released().await;
    stage.ends_in_discovery(honest).await;
}

#[tokio::test]
async fn a_withdrawn_consent_releases_nothing_whatever_the_gateway_logs() {
    let mut running = running();
    let story = Story::tell(&running).await;
    let police = Party::open(&running, POLICE);
    // Only the custodian is told, so that the gateway still allows the read.
    withdraw(&police, Server::Custodian, story.case, story.consent)
        .await
        .unwrap();
    an_hour_passes(&mut running).await;
    let stage = Stage::set(running, story).await;
    let honest = stage.rogue.size();

    stage
        .refuses_entry("withdrawn", "ACCESS_DENIED", Raised, |_| {})
        .await;
    stage.ends_in_discovery(honest).await;
}

#[tokio::test]
async fn an_expired_consent_releases_nothing_whatever_the_gateway_logs() {
    let (stage, expired) = stage_with(|consent| {
        consent.expire_time = Some((now() - HOUR).to_timestamp());
    })
    .await;
    let honest = stage.rogue.size();

    stage
        .refuses_entry(
            "expired",
            "ACCESS_DENIED",
            Raised,
            expired.releases_narrative(),
        )
        .await;
    stage.is_released().await;
    stage.ends_in_discovery(honest).await;
}

#[tokio::test]
async fn a_consent_to_one_read_releases_once_however_often_the_gateway_logs_it() {
    let (stage, once) = stage_with(|consent| consent.max_reads = 1).await;
    let honest = stage.rogue.size();
    let ask = || {
        let (receipt, officer) = stage.forge(once.releases_narrative());
        ask(receipt, officer, stage.referral())
    };
    let token = stage.shelter.token();

    let (one, other) = (ask(), ask());
    let both = tokio::join!(
        stage.shelter.release(&token, one.clone()),
        stage.shelter.release(&token, other.clone()),
    );
    let (used, unused) = match both {
        (Ok(_), Err(_)) => (one, other),
        (Err(_), Ok(_)) => (other, one),
        (Ok(_), Ok(_)) => panic!("one read released twice"),
        (Err(error), Err(_)) => panic!("{error}"),
    };
    stage
        .refuses("used up", "ACCESS_DENIED", Raised, unused)
        .await;
    stage
        .refuses("used up, and logged anew", "ACCESS_DENIED", Raised, ask())
        .await;
    // The one read that was released can be asked for again.
    stage.shelter.release(&token, used).await.unwrap();
    stage.is_released().await;
    stage.ends_in_discovery(honest).await;
}

/// A further consent of the police's, to the narrative of her needs.
struct Further {
    consent: ConsentId,
    sha256: [u8; 32],
}

impl Further {
    /// An entry that releases the narrative on it.
    fn releases_narrative(&self) -> impl Fn(&mut Forged) {
        |forged| {
            forged.body.released = vec![on_consent("needs.narrative")];
            forged.linkage.bases[0].id = self.consent.to_vec();
            forged.linkage.bases[0].statement_sha256 = self.sha256.to_vec();
        }
    }
}

/// The stage, with one further consent at both ledgers, changed before it was signed.
async fn stage_with(change: impl FnOnce(&mut Consent)) -> (Stage, Further) {
    let mut running = running();
    let story = Story::tell(&running).await;
    let police = Party::open(&running, POLICE);
    let shelter = running.exchange.agencies[SHELTER].id;
    let (from, to) = (now() - HOUR * 24, now() + HOUR * 24);
    let (consent, plain) = consent(&police, story.case, shelter, &["needs.narrative"], from, to);
    let mut terms = Consent::decode(plain.envelope.unwrap().payload.as_slice()).unwrap();
    change(&mut terms);
    let statement = police.sign(story.case, &[], |head| Consent {
        head: Some(head),
        ..terms
    });
    for server in [Server::Custodian, Server::Gateway] {
        record_consent(&police, server, &statement).await.unwrap();
    }
    an_hour_passes(&mut running).await;
    let payload = &statement.envelope.as_ref().unwrap().payload;
    let sha256 = amanat_seal::sha256(payload);
    (
        Stage::set(running, story).await,
        Further { consent, sha256 },
    )
}

type Change = fn(&mut Forged);

#[tokio::test]
async fn a_put_that_the_gateway_forges_activates_no_key() {
    let running = running();
    let story = Story::tell(&running).await;
    let police = Party::open(&running, POLICE);
    let story = Story {
        record: RecordId::parse(&id()).unwrap(),
        ..story
    };
    let pending = Sealed::new(&police, story.case, story.record, None);
    let put = pending.put(&police).await;
    let stage = Stage::set(running, story).await;
    let honest = stage.rogue.size();
    let other = Sealed::new(&police, stage.story.case, stage.story.record, None).header;
    let forge = |change: Change| {
        let (body, linkage) = (
            body::parse(&put.body).unwrap(),
            put.linkage.clone().unwrap(),
        );
        let mut forged = Forged {
            body,
            linkage: body::parse_linkage(&linkage.value).unwrap(),
            officer: police.officer.id.clone(),
        };
        forged.linkage.statement_sha256 =
            amanat_seal::sha256(&other.envelope.as_ref().unwrap().payload).to_vec();
        change(&mut forged);
        stage.rogue.write(&forged).0
    };

    let forgeries: [(&str, Change); 3] = [
        ("of another header", |_| {}),
        ("that was refused", |forged| {
            forged.body.set_decision(Decision::Deny)
        }),
        ("that is a read", |forged| {
            forged.body.set_action(Action::ReadRecord)
        }),
    ];
    for (at, (what, change)) in forgeries.into_iter().enumerate() {
        assert_eq!(
            reason(activate(&police, forge(change)).await),
            "ACCESS_DENIED",
            "{what}"
        );
        assert_eq!(alarms(&stage.oversight).await.len(), at + 1, "{what}");
    }
    let (receipt, officer) = stage.forge(|_| {});
    let ask = ask(receipt, officer, stage.referral());
    stage
        .refuses("still pending", "LEDGER_BEHIND", Quiet, ask)
        .await;
    stage.ends_in_discovery(honest).await;
}
