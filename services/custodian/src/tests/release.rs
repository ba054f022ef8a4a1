use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use amanat_schema::{
    audit::Action,
    key::key_service_server::KeyService as _,
    policy::{BasisKind, Decision, Purpose, ReferralState},
    statement::{Consent, ConsentDecision},
};

use super::{
    acts::{Ground, Lie, NAMES, OFFICER, Version, ask, leaf, mask, reason, released},
    exchange::{SHELTER, id},
    gateway::{Entry, Logged},
    world::World,
};
use crate::store::Call;

const TEN_MINUTES: Duration = Duration::from_secs(600);

/// A version in custody, a consent and a referral: all that a release takes.
pub(super) struct Setting {
    pub(super) world: World,
    version: Version,
    consent: Ground,
    referral: Ground,
}

impl Setting {
    /// Long enough ago that nothing explains a difference.
    pub(super) async fn new(change: impl FnOnce(&mut Consent)) -> Self {
        let world = World::new().await;
        let version = world.first_version();
        world.keep(&version).await;
        let consent = world.consented(change).await;
        let referral = world.referral(|_| {});
        world.pass(2 * TEN_MINUTES);
        Self {
            world,
            version,
            consent,
            referral,
        }
    }

    /// The shelter consents and refers with the key that it has now.
    pub(super) async fn sign_again(&mut self) {
        self.consent = self.world.consented(|_| {}).await;
        self.referral = self.world.referral(|_| {});
    }

    pub(super) fn entry(&self) -> Entry {
        self.world
            .read(&self.version, &self.consent, &self.referral)
    }

    pub(super) fn read(&self) -> Logged {
        self.world.log(self.entry())
    }

    pub(super) async fn release(&self, read: &Logged) -> Result<(), tonic::Status> {
        let asked = ask(read, &self.referral);
        self.world.release(asked).await.map(drop)
    }

    /// A refusal with this reason, and whether it was alarmed.
    pub(super) async fn refused(&self, read: &Logged, expected: &str, action: Action, what: &str) {
        assert_eq!(reason(self.release(read).await), expected, "{what}");
        assert_eq!(self.world.last_action().await, action, "{what}");
    }
}

#[tokio::test]
async fn a_reader_gets_the_keys_of_what_the_entry_released() {
    let setting = Setting::new(|_| {}).await;
    let read = setting.read();
    let asked = ask(&read, &setting.referral);
    let keys = setting.world.release(asked).await.unwrap();
    let of = |path| keys.iter().find(|key| key.field == leaf(path).number());
    assert_eq!(keys.len(), NAMES.len());
    for path in NAMES {
        assert_eq!(of(path).unwrap().key, setting.version.field_key(path));
    }
    assert_eq!(setting.world.last_action().await, Action::ReleaseKeys);
}

#[tokio::test]
async fn a_referral_that_was_shown_is_remembered_and_what_is_none_is_not() {
    let setting = Setting::new(|_| {}).await;
    let world = &setting.world;
    let nothing = world.referral(|referral| referral.paths = vec![String::new(); 100_000]);
    let is_remembered = |ground: &Ground| {
        let directory = &world.rules.current().directory;
        let shown = || {
            world
                .custodian
                .proofs
                .referral(&ground.envelope, directory, world.now())
        };
        Arc::ptr_eq(&shown().unwrap(), &shown().unwrap())
    };
    assert!(is_remembered(&setting.referral));
    assert!(!is_remembered(&nothing), "however well it is signed");
}

#[tokio::test]
async fn the_source_gets_its_own_keys_without_a_referral() {
    let setting = Setting::new(|_| {}).await;
    let (world, shelter) = (&setting.world, &setting.world.shelter);
    let mut entry = setting.entry();
    entry.body.agency_id = SHELTER.to_vec();
    entry.body.certificate_sha256 = shelter.certificate.to_vec();
    entry.body.released = NAMES
        .map(|path| released(path, BasisKind::Source, None))
        .to_vec();
    entry.linkage.bases = vec![];
    entry.linkage.referral_id = vec![];
    let mut asked = ask(&world.log(entry), &setting.referral);
    asked.referral = None;
    let request = shelter.asks(OFFICER, asked);
    let answer = world.custodian.release_keys(request).await.unwrap();
    assert_eq!(answer.into_inner().keys.len(), NAMES.len());
}

#[tokio::test]
async fn an_entry_that_no_honest_gateway_writes_is_refused_and_alarmed() {
    let setting = Setting::new(|_| {}).await;
    let lies: [Lie<Entry>; 17] = [
        ("no read", |e| e.body.action = Action::PutRecord.into()),
        ("a refusal", |e| e.body.decision = Decision::Deny.into()),
        ("another agency's", |e| e.body.agency_id = SHELTER.to_vec()),
        ("another certificate's", |e| {
            e.body.certificate_sha256 = vec![0; 32]
        }),
        ("a colleague's", |e| e.officer = "officer 2".to_owned()),
        ("another directory", |e| {
            e.body.directory_sha256 = vec![0; 32]
        }),
        ("another table", |e| e.body.table_sha256 = vec![0; 32]),
        ("endless", |e| e.body.expire_time = None),
        ("stretched", |e| {
            e.body.expire_time.as_mut().unwrap().seconds += 1
        }),
        ("widened beyond consent", |e| {
            let path = "subject.father_or_husband_name";
            e.body
                .released
                .push(released(path, BasisKind::Consent, Some(0)));
        }),
        ("an unknown basis", |e| e.body.released[0].basis = Some(1)),
        ("SOURCE to another", |e| {
            e.body.released[0] = released(NAMES[0], BasisKind::Source, None);
        }),
        ("a path twice", |e| {
            e.body.released[1] = e.body.released[0].clone()
        }),
        ("other words of the consent", |e| {
            e.linkage.bases[0].statement_sha256 = vec![0; 32]
        }),
        ("another purpose", |e| {
            e.body.purpose = Purpose::Prosecution.into()
        }),
        ("not accepted", |e| {
            e.body.referral_state = ReferralState::Acknowledged.into()
        }),
        ("another referral", |e| {
            e.linkage.referral_id = id().to_vec()
        }),
    ];
    for (lie, tell) in lies {
        let mut entry = setting.entry();
        tell(&mut entry);
        let paths: Vec<&str> = entry
            .body
            .released
            .iter()
            .map(|f| f.path.as_str())
            .collect();
        let fields = mask(if lie == "a path twice" {
            &NAMES
        } else {
            &paths
        });
        let read = setting.world.log(entry.clone());
        let mut asked = ask(&read, &setting.referral);
        asked.fields = Some(fields);
        let answer = setting.world.release(asked).await;
        assert_eq!(reason(answer), "ACCESS_DENIED", "{lie}");
        assert_eq!(setting.world.last_action().await, Action::Alarm, "{lie}");
    }
}

#[tokio::test]
async fn a_receipt_changed_on_the_way_is_refused_and_alarmed() {
    let setting = Setting::new(|_| {}).await;
    let changes: [Lie<Logged>; 4] = [
        ("body", |read| *read.receipt.body.last_mut().unwrap() ^= 1),
        ("proof", |read| read.receipt.inclusion_proof[0][0] ^= 1),
        ("linkage", |read| {
            *read
                .receipt
                .linkage
                .as_mut()
                .unwrap()
                .value
                .last_mut()
                .unwrap() ^= 1
        }),
        ("signature", |read| {
            read.receipt.checkpoint = read.receipt.checkpoint.replace("/log", "/fog")
        }),
    ];
    for (what, change) in changes {
        let mut read = setting.read();
        change(&mut read);
        setting
            .refused(&read, "FIELD_INVALID", Action::Alarm, what)
            .await;
    }
}

#[tokio::test]
async fn an_entry_is_good_for_exactly_its_paths() {
    let setting = Setting::new(|_| {}).await;
    let read = setting.read();
    for paths in [
        &NAMES[..1],
        &[NAMES[0], "subject.father_or_husband_name"],
        &[NAMES[0], NAMES[1], "subject.father_or_husband_name"],
    ] {
        let mut asked = ask(&read, &setting.referral);
        asked.fields = Some(mask(paths));
        let answer = setting.world.release(asked).await;
        assert_eq!(reason(answer), "ACCESS_DENIED");
        assert_eq!(setting.world.last_action().await, Action::Alarm);
    }
    for paths in [
        &[][..],
        &["case.urgency"],
        &["subject.*"],
        &[NAMES[0], NAMES[0]],
    ] {
        let mut asked = ask(&read, &setting.referral);
        asked.fields = Some(mask(paths));
        assert_eq!(reason(setting.world.release(asked).await), "FIELD_INVALID");
    }
}

#[tokio::test]
async fn a_colleague_cannot_redeem_an_officers_receipt() {
    let setting = Setting::new(|_| {}).await;
    let read = setting.read();
    let asked = ask(&read, &setting.referral);
    let answer = setting.world.release_to("officer 2", asked).await;
    assert_eq!(reason(answer), "ACCESS_DENIED");
    assert_eq!(setting.world.last_action().await, Action::Alarm);
}

#[tokio::test]
async fn an_entry_is_good_for_half_a_minute_around_its_time() {
    let setting = Setting::new(|_| {}).await;
    let read = setting.read();
    setting.world.pass(Duration::from_secs(30));
    setting.release(&read).await.unwrap();
    setting.world.pass(Duration::from_millis(1));
    setting
        .refused(&read, "ACCESS_DENIED", Action::ReleaseKeys, "late")
        .await;

    let mut early = setting.entry();
    early.body.time.as_mut().unwrap().seconds += 31;
    let read = setting.world.log(early);
    setting
        .refused(&read, "ACCESS_DENIED", Action::ReleaseKeys, "early")
        .await;
    let mut short = setting.entry();
    short.body.expire_time = short.body.time;
    let read = setting.world.log(short);
    setting
        .refused(&read, "ACCESS_DENIED", Action::ReleaseKeys, "over")
        .await;
}

#[tokio::test]
async fn a_withdrawn_consent_releases_nothing_and_is_alarmed_once_both_must_know() {
    let setting = Setting::new(|_| {}).await;
    setting.world.withdraw(&setting.consent).await;
    let read = setting.read();
    setting
        .refused(
            &read,
            "ACCESS_DENIED",
            Action::ReleaseKeys,
            "just withdrawn",
        )
        .await;
    setting.world.pass(TEN_MINUTES + Duration::from_secs(1));
    let read = setting.read();
    setting
        .refused(&read, "ACCESS_DENIED", Action::Alarm, "long withdrawn")
        .await;
}

#[tokio::test]
async fn an_expired_consent_releases_nothing_and_is_alarmed_once_both_must_know() {
    let setting = Setting::new(|_| {}).await;
    setting
        .world
        .pass(Duration::from_hours(24 * 30) - 2 * TEN_MINUTES);
    let read = setting.read();
    setting
        .refused(&read, "ACCESS_DENIED", Action::ReleaseKeys, "just expired")
        .await;
    setting.world.pass(TEN_MINUTES + Duration::from_secs(1));
    let read = setting.read();
    setting
        .refused(&read, "ACCESS_DENIED", Action::Alarm, "long expired")
        .await;
}

#[tokio::test]
async fn a_refusal_recorded_here_alone_stops_a_release() {
    let setting = Setting::new(|_| {}).await;
    setting
        .world
        .consented(|consent| consent.decision = ConsentDecision::Deny.into())
        .await;
    let read = setting.read();
    setting
        .refused(&read, "ACCESS_DENIED", Action::ReleaseKeys, "just refused")
        .await;
}

#[tokio::test]
async fn a_consent_that_is_not_here_is_waited_for_and_alarmed_if_it_never_comes() {
    let mut setting = Setting::new(|_| {}).await;
    let (consent, statement) = setting.world.consent(|_| {});
    setting.consent = consent;
    let read = setting.read();
    setting
        .refused(&read, "LEDGER_BEHIND", Action::ReleaseKeys, "first")
        .await;
    setting.world.pass(TEN_MINUTES + Duration::from_secs(1));
    let read = setting.read();
    setting
        .refused(&read, "LEDGER_BEHIND", Action::Alarm, "still missing")
        .await;
    setting.world.record(statement).await;
    setting.release(&read).await.unwrap();
}

#[tokio::test]
async fn consents_that_never_come_are_alarmed_once_without_being_asked_for_again() {
    let setting = Setting::new(|_| {}).await;
    let world = &setting.world;
    let raise = async || world.custodian.desk.journal.call(Call::AlarmMissing).await;
    let (late, statement) = world.consent(|_| {});
    let mut entry = setting.entry();
    let mut name = |basis: usize, consent: [u8; 16]| {
        entry
            .linkage
            .bases
            .resize(2, entry.linkage.bases[0].clone());
        entry.linkage.bases[basis].id = consent.to_vec();
        entry.body.released[basis].basis = Some(u32::try_from(basis).unwrap());
    };
    name(0, id());
    name(1, late.id);
    let read = world.log(entry.clone());
    setting
        .refused(&read, "LEDGER_BEHIND", Action::ReleaseKeys, "two")
        .await;
    world.record(statement).await;
    entry.body.entry_id = id().to_vec();
    entry.linkage.bases[1].id = id().to_vec();
    let read = world.log(entry);
    setting
        .refused(&read, "LEDGER_BEHIND", Action::ReleaseKeys, "one more")
        .await;

    world.pass(TEN_MINUTES);
    assert!(
        raise().await.unwrap().receipt.is_none(),
        "they may come yet"
    );
    world.pass(Duration::from_millis(1));
    let receipt = raise().await.unwrap().receipt.unwrap();
    let alarm = amanat_ledger::body::parse(&receipt.body).unwrap();
    assert_eq!((alarm.action(), alarm.count), (Action::Alarm, 2));
    assert!(raise().await.unwrap().receipt.is_none(), "alarmed already");
}

#[tokio::test]
async fn another_agencys_consent_of_the_same_id_is_not_the_missing_one() {
    let mut setting = Setting::new(|_| {}).await;
    setting.consent = setting.world.consent(|_| {}).0;
    setting.release(&setting.read()).await.unwrap_err();
    let (world, invented) = (&setting.world, setting.consent.id);
    let (_, same_id) = world.consent_by(&world.hospital, |consent| {
        consent.consent_id = invented.to_vec();
    });
    world.record_by(&world.hospital, same_id).await;
    world.pass(TEN_MINUTES + Duration::from_secs(1));
    let raised = world.custodian.desk.journal.call(Call::AlarmMissing).await;
    assert!(raised.unwrap().receipt.is_some());
}

#[tokio::test]
async fn every_minute_it_is_looked_whether_a_consent_never_came() {
    let mut setting = Setting::new(|_| {}).await;
    setting.consent = setting.world.consent(|_| {}).0;
    setting.release(&setting.read()).await.unwrap_err();
    setting.world.pass(TEN_MINUTES + Duration::from_secs(1));
    let alarmed = async {
        while setting.world.last_action().await != Action::Alarm {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = crate::each_minute(setting.world.custodian.desk.clone()) => {}
        in_time = tokio::time::timeout(Duration::from_secs(10), alarmed) => in_time.unwrap(),
    }
}

#[tokio::test]
async fn the_same_ask_is_answered_again_and_counts_once() {
    let setting = Setting::new(|consent| consent.max_reads = 1).await;
    let read = setting.read();
    setting.release(&read).await.unwrap();
    setting.release(&read).await.unwrap();
    let mut wider = ask(&read, &setting.referral);
    wider.fields = Some(mask(&NAMES[..1]));
    assert_eq!(reason(setting.world.release(wider).await), "ACCESS_DENIED");
    assert_eq!(setting.world.last_action().await, Action::Alarm);

    let second = setting.read();
    setting
        .refused(&second, "ACCESS_DENIED", Action::Alarm, "used up")
        .await;
}

#[tokio::test]
async fn another_entry_under_a_redeemed_id_is_refused_and_alarmed() {
    let setting = Setting::new(|_| {}).await;
    let entry = setting.entry();
    let read = setting.world.log(entry.clone());
    setting.release(&read).await.unwrap();
    let mut twin = entry;
    twin.body.counter += 1;
    let twin = setting.world.log(twin);
    setting
        .refused(&twin, "ACCESS_DENIED", Action::Alarm, "twin")
        .await;
}

#[tokio::test]
async fn a_permit_is_released_on_though_another_would_do_as_well() {
    // The gateway has used the first permit up on a read that was never brought here.
    let mut setting = Setting::new(|consent| consent.max_reads = 1).await;
    let other = setting
        .world
        .consented(|consent| consent.max_reads = 1)
        .await;
    for consent in [other, setting.consent.clone()] {
        setting.consent = consent;
        let read = setting.read();
        setting.release(&read).await.unwrap();
    }
}

#[tokio::test]
async fn an_older_version_is_not_released_and_is_alarmed_once_both_must_know() {
    let mut setting = Setting::new(|_| {}).await;
    let second = setting.world.next_version(&setting.version);
    setting.world.deposit(&second).await.unwrap();
    let read = setting.read();
    setting.release(&read).await.unwrap();

    setting
        .world
        .activate(&setting.world.log(setting.world.put(&second)))
        .await
        .unwrap();
    setting
        .refused(
            &read,
            "ACCESS_DENIED",
            Action::ReleaseKeys,
            "just activated",
        )
        .await;
    setting.world.pass(TEN_MINUTES + Duration::from_secs(1));
    let read = setting.read();
    setting
        .refused(&read, "ACCESS_DENIED", Action::Alarm, "v1 after v2")
        .await;
    setting.version = second;
    setting.release(&setting.read()).await.unwrap();
    setting.version = setting.world.next_version(&setting.version);
    let read = setting.read();
    setting
        .refused(&read, "ACCESS_DENIED", Action::Alarm, "never deposited")
        .await;
}

#[tokio::test]
async fn only_the_senders_own_referral_of_this_case_to_the_caller_counts() {
    let mut setting = Setting::new(|_| {}).await;
    let read = setting.read();
    let mut without = ask(&read, &setting.referral);
    without.referral = None;
    assert_eq!(
        reason(setting.world.release(without).await),
        "FIELD_INVALID"
    );

    let another = setting.world.referral(|referral| {
        referral.head.as_mut().unwrap().case_id = id().to_vec();
    });
    let to_another = setting
        .world
        .referral(|referral| referral.recipient_id = id().to_vec());
    let of_another = setting.world.referral_by(&setting.world.hospital, |_| {});
    let mut forged = setting.world.referral(|_| {});
    forged.envelope.signatures[0].signature[0] ^= 1;
    for (what, referral) in [
        ("case", another),
        ("recipient", to_another),
        ("sender", of_another),
        ("forged", forged),
    ] {
        setting.referral = referral;
        let read = setting.read();
        setting
            .refused(&read, "ACCESS_DENIED", Action::Alarm, what)
            .await;
    }
}

#[tokio::test]
async fn a_release_names_the_entry_that_it_rests_on() {
    let setting = Setting::new(|_| {}).await;
    let read = setting.read();
    setting.release(&read).await.unwrap();
    let body = setting.world.last_body().await;
    let rules = setting.world.rules.current();
    let log = &rules.directory.gateway().log;
    let proven = amanat_ledger::receipt::verify(&read.receipt, log).unwrap();
    assert_eq!(body.counterpart_entry_sha256, proven.entry.sha256());
    assert_eq!(body.counterpart_index, read.receipt.index);
    assert_eq!(body.observed_size, proven.checkpoint.head.size);
    assert_eq!(body.released, proven.body.released);
}

#[tokio::test]
async fn without_a_proof_that_the_log_goes_on_nothing_is_released() {
    let setting = Setting::new(|_| {}).await;
    let read = setting.read();
    let silent = &setting.world.gateway.silent;
    silent.store(true, Ordering::SeqCst);
    setting
        .refused(&read, "AUDIT_UNAVAILABLE", Action::ReleaseKeys, "silent")
        .await;
    silent.store(false, Ordering::SeqCst);
    setting.release(&read).await.unwrap();
}

#[tokio::test]
async fn an_entry_of_another_fork_freezes_the_custodian_and_no_entry_releases_any_more() {
    let setting = Setting::new(|_| {}).await;
    let mut fork = setting.world.gateway.log.lock().unwrap().clone();
    let read = setting.read();
    setting.release(&read).await.unwrap();
    let forked = fork.append(setting.entry());
    for read in [forked, read, setting.read()] {
        setting
            .refused(&read, "LOG_INCONSISTENT", Action::ReleaseKeys, "frozen")
            .await;
    }
}
