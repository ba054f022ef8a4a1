//! A receipt is good for one officer of one agency over one certificate, for exactly the paths of its entry,
//! with the referral that its sender signed; and only if it proves what it says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use amanat_ledger::LogSigner;
use amanat_schema::{
    CaseId, ReferralId,
    policy::Purpose,
    record::{MinorBand, Need, Urgency},
    statement::{Envelope, Referral},
};
use amanat_tests::{
    Running,
    attack::{
        Alarm::{Quiet, Raised},
        Stage, alarms, an_hour_passes, on_consent,
    },
    party::{Party, ask, certified_by, honest_ask, id, mask, private_key_der, reason},
    rogue::{Forged, origin},
    story::{NGO, PERMITTED, POLICE, SHELTER, Story},
};

async fn stage() -> Stage {
    Stage::told(env!("CARGO_BIN_EXE_amanat")).await
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
    stage
        .refuses(
            "a linkage that names another record",
            invalid,
            Raised,
            linkage,
        )
        .await;
    let mut unlinked = good();
    unlinked.read_receipt.as_mut().unwrap().linkage = None;
    stage
        .refuses("a linkage that is not shown", invalid, Quiet, unlinked)
        .await;
    let mut body = good();
    let widened = stage
        .forge(|forged| forged.body.released.push(on_consent("needs.narrative")))
        .0;
    body.read_receipt.as_mut().unwrap().body = widened.body;
    stage
        .refuses("a body that is not in the tree", invalid, Raised, body)
        .await;

    // The custodian's own key, under the gateway's name.
    let key = stage.running.exchange.custodian.folder.join("keys/log.key");
    let signer = LogSigner::from_pkcs8(&origin(), private_key_der(&key).secret_der()).unwrap();
    let mut tree = stage.rogue.tree.lock().unwrap().clone();
    let (receipt, officer) = tree.write(&signer, &Forged::of(&stage.answer));
    let ask = ask(receipt, officer, stage.referral());
    stage
        .refuses(
            "a checkpoint that the gateway did not sign",
            invalid,
            Raised,
            ask,
        )
        .await;

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
    stage
        .refuses_to(
            shelter,
            &token,
            "a colleague's entry",
            denied,
            Raised,
            entry(),
        )
        .await;
    let mut renamed = entry();
    renamed.officer.as_mut().unwrap().value = colleague.id.clone().into_bytes();
    stage
        .refuses_to(
            shelter,
            &token,
            "a renamed officer",
            denied,
            Raised,
            renamed,
        )
        .await;

    let other = certified_by(&stage.running, SHELTER, SHELTER);
    let other = Party::of(&stage.running, &other);
    let token = other.token();
    stage
        .refuses_to(
            &other,
            &token,
            "another certificate's entry",
            denied,
            Raised,
            entry(),
        )
        .await;
    let ngo = Party::open(&stage.running, NGO);
    stage
        .refuses_to(
            &ngo,
            &ngo.token(),
            "another agency's entry",
            denied,
            Raised,
            entry(),
        )
        .await;

    // Nor does it help that the gateway writes the entry for the one who asks, as no referral names it.
    let (receipt, officer) = stage.forge(|forged| {
        forged.body.agency_id = ngo.agency.to_vec();
        forged.body.certificate_sha256 = ngo.certificate_sha256.to_vec();
        forged.officer = ngo.officer.id.clone();
    });
    let ask = ask(receipt, officer, stage.referral());
    stage
        .refuses_to(
            &ngo,
            &ngo.token(),
            "another's referral",
            denied,
            Raised,
            ask,
        )
        .await;

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

    stage
        .refuses("no referral", "FIELD_INVALID", Quiet, ask(None))
        .await;
    let to_another = referral(&police, case, id, &ngo);
    stage
        .refuses(
            "a referral to another",
            denied,
            Raised,
            ask(Some(to_another)),
        )
        .await;
    let of_another_case = referral(&police, CaseId::new([9; 16]), id, &stage.shelter);
    stage
        .refuses(
            "one of another case",
            denied,
            Raised,
            ask(Some(of_another_case)),
        )
        .await;
    let other_id = referral(&police, case, ReferralId::new([9; 16]), &stage.shelter);
    stage
        .refuses("one of another id", denied, Raised, ask(Some(other_id)))
        .await;
    let by_another = referral(&ngo, case, id, &stage.shelter);
    stage
        .refuses(
            "one by another agency",
            denied,
            Raised,
            ask(Some(by_another)),
        )
        .await;
    let mut forged = referral(&police, case, id, &stage.shelter);
    forged.signatures.clear();
    stage.shelter.statements.cosign(&mut forged);
    stage
        .refuses(
            "one that the reader signed",
            denied,
            Raised,
            ask(Some(forged)),
        )
        .await;

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
        previous_referral_id: Vec::new(),
    };
    sender.sign(case, &[], terms).envelope.unwrap()
}

#[tokio::test]
async fn a_receipt_gives_the_same_keys_again_and_never_others() {
    let mut running = Running::start(env!("CARGO_BIN_EXE_amanat"), "info");
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

    for paths in [
        &["needs.needs"][..],
        &["needs.needs", "subject.given_name", "needs.narrative"],
    ] {
        let before = alarms(&oversight).await.len();
        let mut other = honest_ask(&answer);
        other.fields = mask(paths);
        assert_eq!(
            reason(shelter.release(&token, other).await),
            "ACCESS_DENIED"
        );
        assert_eq!(alarms(&oversight).await.len(), before + 1);
    }
    running.verify().await;
}
