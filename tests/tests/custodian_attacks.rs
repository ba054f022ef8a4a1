//! A gateway that turned against the exchange, with its operator's keys and a colluding officer, before an
//! honest custodian. Whatever it writes on its log and signs, no key comes back that the survivor's consent
//! and the custodian's own ledger do not carry.

use std::time::Duration;

use amanat_connector::Server;
use amanat_ledger::LogSigner;
use amanat_schema::{
    CaseId, RecordId, ReferralId, Time,
    audit::{Action, ReleasedField},
    policy::{BasisKind, Decision, Purpose, ReferralState},
    record::{MinorBand, Need, Urgency},
    statement::{Envelope, Referral},
};
use amanat_tests::{
    Running,
    attack::{
        Alarm::{Quiet, Raised},
        Stage, alarms, an_hour_passes,
    },
    party::{Party, ask, certified_by, honest_ask, id, mask, now, private_key_der, reason},
    rogue::{Forged, origin},
    story::{
        HOUR, NGO, PERMITTED, POLICE, SHELTER, Sealed, Story, activate, consent, record_consent,
        refer, submit, withdraw,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn running() -> Running {
    Running::start(env!("CARGO_BIN_EXE_amanat"), "info")
}

/// A told case whose consent is an hour old, and the gateway taken over.
async fn stage() -> Stage {
    let mut running = running();
    let story = Story::tell(&running).await;
    an_hour_passes(&mut running).await;
    Stage::set(running, story).await
}

fn between(forged: &mut Forged, from: Time, to: Time) {
    forged.body.time = Some(from.to_timestamp());
    forged.body.expire_time = Some(to.to_timestamp());
}

fn release(path: &str) -> ReleasedField {
    ReleasedField {
        path: path.to_owned(),
        basis_kind: BasisKind::Consent.into(),
        basis: Some(0),
    }
}

#[tokio::test]
async fn an_entry_that_the_custodian_would_not_have_written_releases_no_key() {
    let stage = stage().await;
    let honest = stage.rogue.size();
    let denied = "ACCESS_DENIED";
    assert_eq!(stage.is_released().await.keys.len(), PERMITTED.len());

    stage
        .refuses_entry("a path that she did not consent to", denied, Raised, |forged| {
            forged.body.released.push(release("needs.narrative"));
        })
        .await;
    stage
        .refuses_entry("a path closed to shelters", denied, Raised, |forged| {
            forged.body.released.push(release("case.fir_number"));
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
        .refuses_entry("other words under the consent's id", denied, Raised, |forged| {
            forged.linkage.bases[0].statement_sha256 = vec![9; 32];
        })
        .await;
    stage
        .refuses_entry("another purpose", denied, Raised, |forged| {
            forged.body.set_purpose(Purpose::Health);
        })
        .await;
    stage
        .refuses_entry("a referral that nobody accepted", denied, Raised, |forged| {
            forged.body.set_referral_state(ReferralState::Acknowledged);
        })
        .await;
    stage
        .refuses_entry("another version", denied, Raised, |forged| forged.linkage.version = 2)
        .await;
    stage
        .refuses_entry("another case", denied, Raised, |forged| forged.linkage.case_id = id())
        .await;
    stage
        .refuses_entry("another source", denied, Raised, |forged| {
            forged.linkage.source_id = stage.running.exchange.agencies[NGO].id.to_vec();
        })
        .await;
    stage
        .refuses_entry("no referral", denied, Raised, |forged| forged.linkage.referral_id.clear())
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

    stage.is_released().await;
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
            between(forged, now(), now() + HOUR);
        })
        .await;
    stage
        .refuses_entry("no expiry", denied, Raised, |forged| forged.body.expire_time = None)
        .await;
    stage
        .refuses_entry("an hour ago", denied, Quiet, |forged| {
            between(forged, now() - HOUR, now() - HOUR + minute);
        })
        .await;
    stage
        .refuses_entry("in an hour", denied, Quiet, |forged| {
            between(forged, now() + HOUR, now() + HOUR + minute);
        })
        .await;
    stage
        .refuses_entry("expired", denied, Quiet, |forged| {
            between(forged, now() - SECOND * 20, now() - SECOND);
        })
        .await;

    stage.is_released().await;
    stage.ends_in_discovery(honest).await;
}

#[tokio::test]
async fn a_receipt_that_proves_nothing_releases_no_key() {
    let stage = stage().await;
    let honest = stage.rogue.size();
    let invalid = "FIELD_INVALID";
    let good = || {
        let (receipt, officer) = stage.forge(|_| {});
        ask(receipt, officer, stage.referral())
    };

    let mut linkage = good();
    let other = stage.forge(|forged| forged.linkage.record_id = id()).0;
    linkage.read_receipt.as_mut().unwrap().linkage = other.linkage;
    stage.refuses("a linkage that names another record", invalid, Raised, linkage).await;
    let mut unlinked = good();
    unlinked.read_receipt.as_mut().unwrap().linkage = None;
    stage.refuses("a linkage that is not shown", invalid, Quiet, unlinked).await;
    let mut body = good();
    let widened = stage.forge(|forged| forged.body.released.push(release("needs.narrative"))).0;
    body.read_receipt.as_mut().unwrap().body = widened.body;
    stage.refuses("a body that is not in the tree", invalid, Raised, body).await;

    // The custodian's own key, under the gateway's name.
    let key = stage.running.exchange.custodian.folder.join("keys/log.key");
    let signer = LogSigner::from_pkcs8(&origin(), private_key_der(&key).secret_der()).unwrap();
    let mut tree = stage.rogue.tree.lock().unwrap().clone();
    let (receipt, officer) = tree.write(&signer, &Forged::of(&stage.answer));
    let ask = ask(receipt, officer, stage.referral());
    stage.refuses("a checkpoint that the gateway did not sign", invalid, Raised, ask).await;

    stage.is_released().await;
    stage.ends_in_discovery(honest).await;
}

#[tokio::test]
async fn an_entry_is_good_for_its_own_officer_certificate_and_agency_only() {
    let stage = stage().await;
    let honest = stage.rogue.size();
    let denied = "ACCESS_DENIED";
    let shelter = &stage.shelter;
    let entry = || {
        let (receipt, officer) = stage.forge(|_| {});
        ask(receipt, officer, stage.referral())
    };

    let colleague = shelter.colleague();
    let token = shelter.token_of(&colleague);
    stage.refuses_to(shelter, &token, "a colleague's entry", denied, Raised, entry()).await;
    let mut renamed = entry();
    renamed.officer.as_mut().unwrap().value = colleague.id.clone().into_bytes();
    stage.refuses_to(shelter, &token, "a renamed officer", denied, Raised, renamed).await;

    let other = certified_by(&stage.running, SHELTER, SHELTER);
    let other = Party::of(&stage.running, &other);
    let token = other.token();
    stage.refuses_to(&other, &token, "another certificate's entry", denied, Raised, entry()).await;
    let ngo = Party::open(&stage.running, NGO);
    stage.refuses_to(&ngo, &ngo.token(), "another agency's entry", denied, Raised, entry()).await;

    // Nor does it help that the gateway writes the entry for the one who asks, as no referral names it.
    let (receipt, officer) = stage.forge(|forged| {
        forged.body.agency_id = ngo.agency.to_vec();
        forged.body.certificate_sha256 = ngo.certificate_sha256.to_vec();
        forged.officer = ngo.officer.id.clone();
    });
    let ask = ask(receipt, officer, stage.referral());
    stage.refuses_to(&ngo, &ngo.token(), "another's referral", denied, Raised, ask).await;

    stage.is_released().await;
    stage.ends_in_discovery(honest).await;
}

#[tokio::test]
async fn only_the_senders_own_referral_brings_a_record_to_a_reader() {
    let stage = stage().await;
    let honest = stage.rogue.size();
    let denied = "ACCESS_DENIED";
    let ask = |referral| {
        let (receipt, officer) = stage.forge(|_| {});
        ask(receipt, officer, referral)
    };
    let police = Party::open(&stage.running, POLICE);
    let ngo = Party::open(&stage.running, NGO);
    let (case, id) = (stage.story.case, stage.story.referral);

    stage.refuses("no referral", "FIELD_INVALID", Quiet, ask(None)).await;
    let to_another = referral(&police, case, id, &ngo);
    stage.refuses("a referral to another", denied, Raised, ask(Some(to_another))).await;
    let of_another_case = referral(&police, CaseId::new([9; 16]), id, &stage.shelter);
    stage.refuses("one of another case", denied, Raised, ask(Some(of_another_case))).await;
    let other_id = referral(&police, case, ReferralId::new([9; 16]), &stage.shelter);
    stage.refuses("one of another id", denied, Raised, ask(Some(other_id))).await;
    let by_another = referral(&ngo, case, id, &stage.shelter);
    stage.refuses("one by another agency", denied, Raised, ask(Some(by_another))).await;
    let mut forged = referral(&police, case, id, &stage.shelter);
    forged.signatures.clear();
    stage.shelter.statements.cosign(&mut forged);
    stage.refuses("one that the reader signed", denied, Raised, ask(Some(forged))).await;

    stage.is_released().await;
    stage.ends_in_discovery(honest).await;
}

fn referral(sender: &Party, case: CaseId, id: ReferralId, recipient: &Party) -> Envelope {
    let terms = |head| Referral {
        head: Some(head),
        referral_id: id.to_vec(),
        recipient_id: recipient.agency.to_vec(),
        purpose: Purpose::Shelter.into(),
        services: vec![Need::Safehouse.into()],
        urgency: Urgency::Urgent.into(),
        minor_band: MinorBand::Adult.into(),
        paths: PERMITTED.map(str::to_owned).to_vec(),
    };
    sender.sign(case, &[], terms).envelope.unwrap()
}

#[tokio::test]
async fn a_consent_that_has_ended_releases_nothing_whatever_the_gateway_logs() {
    // Withdrawn, and an hour later the gateway still says that it is in force.
    let mut running = running();
    let story = Story::tell(&running).await;
    let police = Party::open(&running, POLICE);
    withdraw(&police, Server::Custodian, story.case, story.consent).await;
    an_hour_passes(&mut running).await;
    // The honest gateway was not told, so it still allows.
    let stage = Stage::set(running, story).await;
    let honest = stage.rogue.size();
    stage.refuses_entry("withdrawn", "ACCESS_DENIED", Raised, |_| {}).await;
    stage.ends_in_discovery(honest).await;

    // Expired an hour ago.
    let mut running = self::running();
    let story = Story::tell(&running).await;
    let police = Party::open(&running, POLICE);
    let shelter = running.exchange.agencies[SHELTER].id;
    let (from, to) = (now() - HOUR * 24, now() - HOUR);
    let (expired, statement) =
        consent(&police, story.case, shelter, &["needs.narrative"], from, to);
    for server in [Server::Custodian, Server::Gateway] {
        record_consent(&police, server, &statement).await.unwrap();
    }
    an_hour_passes(&mut running).await;
    let stage = Stage::set(running, story).await;
    let honest = stage.rogue.size();
    let payload = &statement.envelope.as_ref().unwrap().payload;
    stage
        .refuses_entry("expired", "ACCESS_DENIED", Raised, |forged| {
            forged.body.released = vec![release("needs.narrative")];
            forged.linkage.bases[0].id = expired.to_vec();
            forged.linkage.bases[0].statement_sha256 = amanat_seal::sha256(payload).to_vec();
        })
        .await;
    stage.is_released().await;
    stage.ends_in_discovery(honest).await;
}

#[tokio::test]
async fn what_changed_a_moment_ago_explains_a_difference_and_raises_no_alarm() {
    let running = running();
    let story = Story::tell(&running).await;
    let police = Party::open(&running, POLICE);
    let shelter = Party::open(&running, SHELTER);
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    withdraw(&police, Server::Custodian, story.case, story.consent).await;

    let refused = shelter.release(&shelter.token(), honest_ask(&answer)).await;
    assert_eq!(reason(refused), "ACCESS_DENIED");
    let oversight = running.connector("oversight").await;
    assert!(alarms(&oversight).await.is_empty());
    running.verify().await;
}

#[tokio::test]
async fn a_receipt_gives_the_same_keys_again_and_never_others() {
    let mut running = running();
    let story = Story::tell(&running).await;
    an_hour_passes(&mut running).await;
    let shelter = Party::open(&running, SHELTER);
    let oversight = running.connector("oversight").await;
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    let token = shelter.token();

    let first = shelter.release(&token, honest_ask(&answer)).await.unwrap();
    let again = shelter.release(&token, honest_ask(&answer)).await.unwrap();
    assert_eq!(first.keys, again.keys);
    assert_eq!(first.keys.len(), PERMITTED.len());

    for paths in [&["needs.needs"][..], &["needs.needs", "subject.given_name", "needs.narrative"]] {
        let before = alarms(&oversight).await.len();
        let mut other = honest_ask(&answer);
        other.fields = mask(paths);
        assert_eq!(reason(shelter.release(&token, other).await), "ACCESS_DENIED");
        assert_eq!(alarms(&oversight).await.len(), before + 1);
    }
    running.verify().await;
}

#[tokio::test]
async fn a_consent_that_only_the_gateway_has_is_waited_for() {
    let running = running();
    let submitted = submit(&running).await;
    let (police, shelter) = (Party::open(&running, POLICE), Party::open(&running, SHELTER));
    let (consent_id, statement) = consent(
        &police,
        submitted.case,
        shelter.agency,
        &PERMITTED,
        now() - HOUR,
        now() + HOUR,
    );
    record_consent(&police, Server::Gateway, &statement).await.unwrap();
    let referral = refer(&running, submitted.case, &PERMITTED).await;
    let story = Story {
        case: submitted.case,
        record: submitted.record,
        source: police.agency,
        consent: consent_id,
        referral,
    };
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    let token = shelter.token();
    assert_eq!(reason(shelter.release(&token, honest_ask(&answer)).await), "LEDGER_BEHIND");

    record_consent(&police, Server::Custodian, &statement).await.unwrap();
    let released = shelter.release(&token, honest_ask(&answer)).await.unwrap();
    assert_eq!(released.keys.len(), PERMITTED.len());
    let oversight = running.connector("oversight").await;
    assert!(alarms(&oversight).await.is_empty());
    running.verify().await;
}

#[tokio::test]
async fn only_the_newest_version_whose_put_was_shown_is_released() {
    let running = running();
    let story = Story::tell(&running).await;
    let (police, shelter) = (Party::open(&running, POLICE), Party::open(&running, SHELTER));
    let record = RecordId::parse(&id()).unwrap();
    let story = Story { record, ..story };
    let token = shelter.token();

    let first = Sealed::new(&police, story.case, record, None);
    let put = first.put(&police).await;
    let pending = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    assert_eq!(reason(shelter.release(&token, honest_ask(&pending)).await), "LEDGER_BEHIND");
    activate(&police, put).await.unwrap();
    let answer = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    shelter.release(&token, honest_ask(&answer)).await.unwrap();

    let second = Sealed::new(&police, story.case, record, first.header.envelope.as_ref());
    let put = second.put(&police).await;
    shelter.release(&token, honest_ask(&answer)).await.unwrap();
    activate(&police, put).await.unwrap();
    assert_eq!(reason(shelter.release(&token, honest_ask(&answer)).await), "ACCESS_DENIED");
    let newest = shelter.read(story.ask(&PERMITTED)).await.unwrap();
    shelter.release(&token, honest_ask(&newest)).await.unwrap();
    running.verify().await;
}
