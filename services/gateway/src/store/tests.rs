//! The exchange's verbs over a real database, without the log around them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{path::Path, sync::Arc};

use amanat_database::{Engine, Place, Sql};
use amanat_desk::{Act, Page, Rules, consent::WithdrawConsent};
use amanat_identity::{Signed, statement::AgencyStatement};
use amanat_journal::Logged;
use amanat_policy::{DecisionTable, Step};
use amanat_schema::{
    AgencyId, CaseId, ConsentId, RecordId, ReferralId,
    audit::Action,
    catalogue,
    policy::{Decision, Purpose, ReferralState, Right},
    record::{MinorBand, Need, Urgency},
    statement::{
        Consent, ConsentDecision, Referral, ReferralTransition, StatementHead, Withdrawal,
    },
};
use amanat_seal::pseudonym::{Peppers, PseudonymKey};
use prost::Name;
use tempfile::TempDir;

use super::*;
use support::{Agency, Exchange as Directory, now, officer};

#[path = "../../../database/tests/support/mod.rs"]
pub(super) mod database;
mod life;
mod lists;
pub(super) mod plans;
mod reads;
mod referred_versions;
mod replicas;
mod service_role;
mod subjects;
#[path = "../../../identity/tests/support/mod.rs"]
mod support;

const CASE: CaseId = CaseId::new([0xc5; 16]);
const REFERRAL: ReferralId = ReferralId::new([0x4e; 16]);
const NARRATIVE: &str = "trafficking.narrative";
const STATUS: &str = "case.status";

/// A gateway's database and who uses it; statements are numbered in the order of signing.
struct Gateway {
    parties: Directory,
    exchange: Exchange,
    /// The service's, which owns nothing.
    connection: Connection,
    owner: Place,
    /// What was decided, as other replicas see it.
    logged: Vec<Logged>,
    signed: u8,
    /// Which case the statements are about.
    case: CaseId,
    _folder: TempDir,
}

fn config(database: Place, folder: &Path) -> amanat_journal::Config {
    amanat_journal::Config {
        database,
        checkpoint_file: folder.join("checkpoint"),
        waiting_per_agency: amanat_server::Limits::default().waiting_per_agency,
        steps: STEPS,
        changing: CHANGING,
    }
}

/// A replica that has just started.
fn exchange(rules: Rulebook) -> Exchange {
    Exchange {
        rules,
        subjects: subject_keys(&[1]),
        memory: Memory::default(),
    }
}

fn subject_keys(peppers: &[u8]) -> subject::Keys {
    let peppers = peppers.iter().map(|pepper| [*pepper; 32].into());
    subject::Keys {
        peppers: Arc::new(Peppers::from_keys(peppers.collect()).unwrap()),
        pseudonyms: PseudonymKey::from_bytes(&[2; 32]).unwrap(),
        outdated: Arc::default(),
    }
}

type Party = fn(&Directory) -> &Agency;
const SHELTER: Party = |directory| &directory.shelter;
const POLICE: Party = |directory| &directory.police;
const STRANGER: Party = |directory| &directory.oversight;

impl Gateway {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let owner = database::fresh(folder.path(), "gateway.db").await;
        let config = config(database::for_service(&owner).await, folder.path());
        amanat_journal::init(&config, Some(&owner)).await.unwrap();
        let parties = Directory::new();
        let table = include_str!("../../../../deploy/policies/decision-table.txt");
        let rules = Rules {
            directory: Arc::new(parties.directory()),
            table: DecisionTable::parse(table).unwrap(),
            table_sha256: amanat_seal::sha256(table.as_bytes()),
            since: now(),
            previous: None,
        };
        Self {
            parties,
            exchange: exchange(Rulebook::new(rules)),
            connection: config.database.connect().await.unwrap(),
            owner,
            logged: Vec::new(),
            signed: 0,
            case: CASE,
            _folder: folder,
        }
    }

    fn id(&self, party: Party) -> AgencyId {
        party(&self.parties).id
    }

    fn act(&self, party: Party) -> Act {
        act(&self.parties, party, self.signed)
    }

    fn sign<M: AgencyStatement + Name>(
        &mut self,
        party: Party,
        follows: &[u8],
        message: impl FnOnce(Option<StatementHead>) -> M,
    ) -> (M, Stored) {
        self.signed += 1;
        let agency = party(&self.parties);
        let head = StatementHead {
            case_id: self.case.to_vec(),
            follows: follows.to_vec(),
            ..agency.head(self.signed, "", now())
        };
        let message = message(Some(head));
        let envelope = agency.statement_key.sign(&message);
        let rules = self.exchange.rules.current();
        let signed = Signed::<M>::verify_envelope(&envelope, &rules.directory);
        (message, Stored::from(&signed.unwrap()))
    }

    /// Decides one call in a transaction of its own.
    async fn decide(&mut self, call: Call) -> Ruled {
        let connection = &mut self.connection;
        connection.begin("BEGIN").await.unwrap();
        let mut facts = self.exchange.load(connection, &[&call]).await.unwrap();
        let ruled = self.exchange.decide(&mut facts, &call, now());
        self.exchange.write(connection, facts).await.unwrap();
        connection.commit().await.unwrap();
        self.logged.extend(ruled.draft.as_ref().map(|draft| Logged {
            action: draft.body.action(),
            decision: draft.body.decision(),
            linkage: draft.linkage.clone(),
        }));
        ruled
    }

    /// The public reason of a refusal, or nothing.
    async fn tell(&mut self, call: Call) -> Result<(), &'static str> {
        let ruled = self.decide(call).await;
        ruled.answer.map(drop).map_err(|refusal| refusal.reason())
    }

    /// To the police, of the narrative.
    async fn consent(&mut self, source: Party, id: u8, purpose: Purpose) {
        let (source_id, recipient_id) = (self.id(source).to_vec(), self.id(POLICE).to_vec());
        let (message, statement) = self.sign(source, &[], |head| Consent {
            head,
            consent_id: vec![id; 16],
            decision: ConsentDecision::Permit.into(),
            paths: vec![NARRATIVE.to_owned()],
            recipient_id,
            source_id,
            purpose: purpose.into(),
            valid_from_time: Some(now().to_timestamp()),
            expire_time: Some((now() + std::time::Duration::from_secs(3600)).to_timestamp()),
            evidence_sha256: vec![0xe0; 32],
            ..Consent::default()
        });
        let call = consent::RecordConsent {
            act: self.act(source),
            terms: amanat_policy::parse_consent(&message).unwrap(),
            statement,
            evidence: Vec::new(),
        };
        self.tell(ConsentCall::Record(call).into()).await.unwrap();
    }

    async fn withdraw(&mut self, signer: Party, id: u8) {
        let consent = ConsentId::new([id; 16]);
        let (_, statement) = self.sign(signer, &[], |head| Withdrawal {
            head,
            consent_id: consent.to_vec(),
        });
        let call = WithdrawConsent {
            act: self.act(signer),
            case: self.case,
            consent,
            statement,
        };
        self.tell(ConsentCall::Withdraw(call).into()).await.unwrap();
    }

    /// To the police.
    async fn submit(
        &mut self,
        sender: Party,
        referral: ReferralId,
        purpose: Purpose,
        path: &str,
    ) -> Result<[u8; 32], &'static str> {
        self.submit_after(sender, referral, purpose, path, None)
            .await
    }

    /// To the police, taking up another one.
    async fn submit_after(
        &mut self,
        sender: Party,
        referral: ReferralId,
        purpose: Purpose,
        path: &str,
        previous: Option<(ReferralId, [u8; 32])>,
    ) -> Result<[u8; 32], &'static str> {
        let recipient_id = self.id(POLICE).to_vec();
        let (id, follows) = previous.unzip();
        let follows = follows.map(Vec::from).unwrap_or_default();
        let (message, statement) = self.sign(sender, &follows, |head| Referral {
            head,
            referral_id: referral.to_vec(),
            recipient_id,
            purpose: purpose.into(),
            services: vec![Need::Safehouse.into()],
            urgency: Urgency::Routine.into(),
            minor_band: MinorBand::Adult.into(),
            paths: vec![path.to_owned()],
            previous_referral_id: id.map(ReferralId::to_vec).unwrap_or_default(),
        });
        let sha256 = statement.payload_sha256;
        let submit = SubmitReferral {
            act: self.act(sender),
            terms: amanat_policy::parse_referral(&message).unwrap(),
            statement,
            submission: party_envelope(sender(&self.parties), &message),
        };
        self.tell(Call::Submit(Box::new(submit)))
            .await
            .map(|()| sha256)
    }

    async fn acknowledge(&mut self, follows: [u8; 32]) -> Result<(), &'static str> {
        self.step(POLICE, REFERRAL, Step::Acknowledge, follows)
            .await
            .map(drop)
    }

    /// Signs and takes one step; the next one follows what it returns.
    async fn step(
        &mut self,
        signer: Party,
        referral: ReferralId,
        step: Step,
        follows: [u8; 32],
    ) -> Result<[u8; 32], &'static str> {
        let (sha256, call) = self.signed_step(signer, referral, step, follows);
        self.tell(call).await.map(|()| sha256)
    }

    fn signed_step(
        &mut self,
        signer: Party,
        referral: ReferralId,
        step: Step,
        follows: [u8; 32],
    ) -> ([u8; 32], Call) {
        let (_, statement) = self.sign(signer, &follows, |head| ReferralTransition {
            head,
            referral_id: referral.to_vec(),
            ..ReferralTransition::default()
        });
        let sha256 = statement.payload_sha256;
        let call = TransitionReferral {
            act: self.act(signer),
            action: Action::AcknowledgeReferral,
            step,
            case: self.case,
            referral,
            statement,
        };
        (sha256, Call::Transition(Box::new(call)))
    }

    /// Steps of the police, one after the other.
    async fn walk(&mut self, referral: ReferralId, from: [u8; 32], steps: &[Step]) -> [u8; 32] {
        let mut newest = from;
        for step in steps {
            newest = self.step(POLICE, referral, *step, newest).await.unwrap();
        }
        newest
    }

    /// A referral's state as an agency sees it, and how many steps it took.
    async fn state(
        &mut self,
        reader: Party,
        referral: ReferralId,
    ) -> Result<(ReferralState, usize), &'static str> {
        let act = self.act(reader);
        let ruled = self
            .decide(Call::Referral(GetReferral { act, referral }))
            .await;
        match ruled.answer {
            Ok(Reply::Referral(view)) => Ok((view.state, view.transitions.len())),
            Ok(_) => panic!("a get is answered with a referral"),
            Err(refusal) => Err(refusal.reason()),
        }
    }
}

fn act(parties: &Directory, party: Party, request: u8) -> Act {
    let agency = party(parties);
    Act {
        agency: agency.id,
        kind: agency.kind,
        certificate_sha256: agency.client.sha256(),
        officer: Arc::new(officer(&[Right::CaseWorker])),
        request_sha256: [request; 32],
        request: None,
    }
}

/// What the service may only add to, whoever owns the table may change.
async fn unlock(connection: &mut Connection, table: &str) {
    if connection.engine() == Engine::Postgres {
        let unlock = format!("ALTER TABLE {table} DISABLE TRIGGER USER");
        Sql::new(unlock).execute(connection).await.unwrap();
    }
}

fn party_envelope<M: Name>(agency: &Agency, message: &M) -> amanat_schema::statement::Envelope {
    agency.statement_key.sign(message)
}

/// By the police, of whatever status.
pub(super) fn list_of_merges() -> subject::ListMerges {
    subject::ListMerges {
        act: act(&Directory::new(), POLICE, 0),
        status: None,
        page: Page::new(0, 0).unwrap(),
    }
}

#[tokio::test]
async fn nobody_can_take_a_referrals_id_or_move_anothers_by_it() {
    let mut gateway = Gateway::new().await;
    let purpose = Purpose::Investigation;
    let squatted = gateway
        .submit(STRANGER, REFERRAL, purpose, STATUS)
        .await
        .unwrap();
    let own = gateway
        .submit(SHELTER, REFERRAL, purpose, STATUS)
        .await
        .unwrap();
    let again = gateway.submit(SHELTER, REFERRAL, purpose, STATUS).await;
    assert_eq!(again, Err("STATE_CONFLICT"), "its own id, in other bytes");

    assert_eq!(
        gateway.acknowledge(own).await,
        Ok(()),
        "the step says which is meant"
    );
    assert_eq!(
        gateway.state(SHELTER, REFERRAL).await,
        Ok((ReferralState::Acknowledged, 1))
    );
    assert_eq!(
        gateway.state(STRANGER, REFERRAL).await,
        Ok((ReferralState::Submitted, 0))
    );
    assert_eq!(gateway.acknowledge(squatted).await, Ok(()));
    assert_eq!(
        gateway.state(STRANGER, REFERRAL).await,
        Ok((ReferralState::Acknowledged, 1))
    );
    assert_eq!(
        gateway.state(SHELTER, REFERRAL).await,
        Ok((ReferralState::Acknowledged, 1))
    );
}

#[tokio::test]
async fn a_withdrawal_suspends_what_rested_on_the_consent_and_nothing_else() {
    let mut gateway = Gateway::new().await;
    let (here, elsewhere) = (Purpose::Investigation, Purpose::Repatriation);
    let other = ReferralId::new([2; 16]);
    gateway.consent(SHELTER, 1, here).await;
    gateway.consent(SHELTER, 2, elsewhere).await;
    gateway
        .submit(SHELTER, REFERRAL, here, NARRATIVE)
        .await
        .unwrap();
    gateway
        .submit(SHELTER, other, elsewhere, NARRATIVE)
        .await
        .unwrap();
    // The other referral's consent has expired, say, which suspends nothing.
    let mut owner = gateway.owner.connect().await.unwrap();
    unlock(&mut owner, "consents").await;
    let gone = Sql::new("DELETE FROM consents WHERE consent_id = ").bind([2; 16]);
    assert_eq!(gone.execute(&mut owner).await.unwrap(), 1);

    gateway.withdraw(STRANGER, 1).await;
    gateway.withdraw(STRANGER, 9).await;
    gateway.withdraw(POLICE, 9).await;
    assert_eq!(
        gateway.state(SHELTER, REFERRAL).await,
        Ok((ReferralState::Submitted, 0))
    );
    gateway.withdraw(POLICE, 1).await;
    assert_eq!(
        gateway.state(SHELTER, REFERRAL).await,
        Ok((ReferralState::Suspended, 0))
    );
    assert_eq!(
        gateway.state(SHELTER, other).await,
        Ok((ReferralState::Submitted, 0))
    );
}

#[tokio::test]
async fn a_strangers_attempt_is_counted_with_its_purpose() {
    let mut gateway = Gateway::new().await;
    let read = ReadRecord {
        act: gateway.act(STRANGER),
        case: CASE,
        record: RecordId::new([7; 16]),
        source: gateway.id(SHELTER),
        asked: vec![catalogue::by_path(NARRATIVE).unwrap().id],
        purpose: Purpose::ImmigrationEnforcement,
    };
    let ruled = gateway.decide(Call::Read(Box::new(read))).await;
    let body = ruled.draft.unwrap().body;
    assert_eq!(body.decision(), Decision::Deny);
    assert_eq!(body.purpose(), Purpose::ImmigrationEnforcement);
}
