//! A load of several agencies at once, which remembers what it was told was done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use amanat_connector::{
    Connector, ConnectorError, ConsentFile, Delivery, EntryQuery, NewReferral, Read, ReadRequest,
    SeenEntry, Server,
};
use amanat_schema::{
    CaseId, ConsentId, RecordId, ReferralId,
    audit::Action,
    case_file,
    consent::ConsentStatus,
    policy::{Decision, Purpose, ReferralState},
    record::{MinorBand, Need, Urgency},
    referral::Direction,
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use crate::Running;

/// Who shares what with whom; the leaf carries a text that no other record has.
struct Route {
    source: &'static str,
    recipient: &'static str,
    purpose: Purpose,
    service: Need,
    leaf: &'static str,
}

const ROUTES: [Route; 4] = [
    Route {
        source: "police-lahore",
        recipient: "darul-aman-lahore",
        purpose: Purpose::Shelter,
        service: Need::Safehouse,
        leaf: "needs.narrative",
    },
    Route {
        source: "darul-aman-lahore",
        recipient: "police-lahore",
        purpose: Purpose::Investigation,
        service: Need::LegalAid,
        leaf: "trafficking.narrative",
    },
    Route {
        source: "fia-ahtc-lahore",
        recipient: "prosecution-lahore",
        purpose: Purpose::Prosecution,
        service: Need::LegalAid,
        leaf: "case.fir_number",
    },
    Route {
        source: "fia-ahtc-lahore",
        recipient: "ngo-shelter",
        purpose: Purpose::Shelter,
        service: Need::Medical,
        leaf: "needs.narrative",
    },
];
/// How many cases are under way at a time.
const LANES: usize = 12;
/// In clear to the gateway, so that each read has a leaf of either kind.
const ROUTING: &str = "case.urgency";
const CASE: &str = include_str!("../../deploy/quickstart/police-case.json");

/// The load while it runs.
pub struct Load {
    agencies: BTreeMap<&'static str, Arc<Connector>>,
    stopped: Arc<AtomicBool>,
    /// How many cases were shared from end to end.
    shared: watch::Sender<usize>,
    lanes: JoinSet<Acknowledged>,
}

/// What came back as done.
#[derive(Default)]
pub struct Acknowledged {
    pub submissions: Vec<Submission>,
    pub consents: Vec<(&'static str, ConsentId)>,
    pub accepted: Vec<(&'static str, ReferralId)>,
    pub reads: Vec<(&'static str, Read)>,
    /// Who was told that which entry of which log is theirs.
    entries: Vec<(&'static str, Server, u64, Action)>,
    /// Records handed in, answered or not.
    handed_in: Vec<&'static str>,
    /// Calls that found no server, or one without an answer.
    pub cut_off: usize,
}

pub struct Submission {
    source: &'static str,
    case: CaseId,
    record: RecordId,
    leaf: &'static str,
    text: String,
}

/// One case after another.
struct Lane {
    route: &'static Route,
    number: usize,
    source: Arc<Connector>,
    recipient: Arc<Connector>,
    done: Acknowledged,
}

impl Load {
    /// Starts it, and returns when as many cases as it has lanes were shared.
    pub async fn start(running: &Running) -> Self {
        let mut agencies = BTreeMap::new();
        for name in ROUTES.iter().flat_map(|route| [route.source, route.recipient]) {
            agencies.insert(name, Arc::new(running.connector(name).await));
        }
        let stopped = Arc::new(AtomicBool::new(false));
        let (shared, _) = watch::channel(0);
        let mut lanes = JoinSet::new();
        for (number, route) in ROUTES.iter().cycle().take(LANES).enumerate() {
            let lane = Lane {
                route,
                number,
                source: Arc::clone(&agencies[route.source]),
                recipient: Arc::clone(&agencies[route.recipient]),
                done: Acknowledged::default(),
            };
            lanes.spawn(lane.run(Arc::clone(&stopped), shared.clone()));
        }
        let load = Self { agencies, stopped, shared, lanes };
        load.shares(LANES).await;
        load
    }

    /// Returns when this many more cases were shared.
    pub async fn shares(&self, more: usize) {
        let enough = *self.shared.borrow() + more;
        self.shared.subscribe().wait_for(|shared| *shared >= enough).await.unwrap();
    }

    /// Ends it after the turn that each lane is at, and delivers what waits in the outboxes.
    pub async fn settle(mut self) -> Settled {
        self.stopped.store(true, Ordering::Relaxed);
        let mut done = Acknowledged::default();
        while let Some(lane) = self.lanes.join_next().await {
            done.add(lane.unwrap());
        }
        for (name, connector) in &self.agencies {
            for (job, outcome) in connector.deliver_pending().await.unwrap() {
                assert!(outcome.is_ok(), "{name}: {} of {}: {outcome:?}", job.kind, job.subject);
            }
            assert_eq!(connector.pending().await.unwrap(), [], "{name} still has something to deliver");
        }
        Settled { agencies: self.agencies, done }
    }
}

impl Lane {
    async fn run(mut self, stopped: Arc<AtomicBool>, count: watch::Sender<usize>) -> Acknowledged {
        let mut shared = None;
        for turn in 0.. {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            match self.share(turn).await {
                Ok(request) => {
                    shared = Some(request);
                    count.send_modify(|count| *count += 1);
                }
                Err(error) => self.cut_off(&error).await,
            }
            if let Some(request) = &shared
                && let Err(error) = self.read(request).await
            {
                self.cut_off(&error).await;
            }
        }
        self.done
    }

    /// A server that is down is all that may come between.
    async fn cut_off(&mut self, error: &ConnectorError) {
        assert!(error.is_retryable(), "lane {}: {error:?}", self.number);
        self.done.cut_off += 1;
        tokio::task::yield_now().await;
    }

    /// A new case: submitted, consented to, referred, accepted and read by its recipient.
    async fn share(&mut self, turn: usize) -> Result<ReadRequest, ConnectorError> {
        let Route { source, recipient, purpose, service, leaf } = *self.route;
        let text = format!("told in lane {} at turn {turn}", self.number);
        let file = case_file::parse(&with_leaf(leaf, &text)).unwrap();
        self.done.handed_in.push(source);
        let submitted = self.source.submit_case(file, None).await?;
        let (case, record) = (submitted.case, submitted.record);
        let steps = [Action::DepositKey, Action::PutRecord, Action::ActivateKey];
        self.acknowledge(source, &submitted.delivery, &steps);
        self.done.submissions.push(Submission { source, case, record, leaf, text });

        let consent: ConsentFile = serde_json::from_value(json!({
            "recipient": recipient, "mode": "WRITTEN", "paths": [leaf],
            "purpose": purpose.as_str_name().trim_start_matches("PURPOSE_"),
        }))
        .unwrap();
        let granted = self.source.grant_consent(case, &consent).await?;
        self.acknowledge(source, &granted.delivery, &[Action::RecordConsent; 2]);
        self.done.consents.push((source, granted.consent));

        let new = NewReferral {
            case,
            recipient: self.recipient.agency(),
            purpose,
            services: vec![service],
            urgency: Urgency::Urgent,
            minor_band: MinorBand::Adult,
            paths: vec![leaf.to_owned()],
        };
        let referred = self.source.submit_referral(&new).await?;
        self.acknowledge(source, &referred.delivery, &[Action::SubmitReferral]);
        let delivery = self.recipient.acknowledge_referral(referred.referral).await?;
        self.acknowledge(recipient, &delivery, &[Action::AcknowledgeReferral]);
        let delivery = self.recipient.accept_referral(referred.referral).await?;
        self.acknowledge(recipient, &delivery, &[Action::AcceptReferral]);
        self.done.accepted.push((recipient, referred.referral));

        let request = ReadRequest {
            case,
            record,
            source: self.source.agency(),
            fields: vec![leaf.to_owned(), ROUTING.to_owned()],
            purpose,
        };
        self.read(&request).await?;
        Ok(request)
    }

    async fn read(&mut self, request: &ReadRequest) -> Result<(), ConnectorError> {
        let read = self.recipient.read_case(request).await?;
        assert!(read.withheld.is_empty(), "withheld: {:?}", read.withheld);
        self.done.reads.push((self.route.recipient, read));
        Ok(())
    }

    fn acknowledge(&mut self, agency: &'static str, delivery: &Delivery, actions: &[Action]) {
        assert_eq!(delivery.entries.len(), actions.len(), "every call has its entry");
        let entries = delivery.entries.iter().zip(actions);
        self.done.entries.extend(entries.map(|((server, at), act)| (agency, *server, *at, *act)));
    }
}

impl Acknowledged {
    fn add(&mut self, other: Self) {
        self.submissions.extend(other.submissions);
        self.consents.extend(other.consents);
        self.accepted.extend(other.accepted);
        self.reads.extend(other.reads);
        self.entries.extend(other.entries);
        self.handed_in.extend(other.handed_in);
        self.cut_off += other.cut_off;
    }
}

/// The load after its end, with every outbox empty.
pub struct Settled {
    agencies: BTreeMap<&'static str, Arc<Connector>>,
    pub done: Acknowledged,
}

impl Settled {
    /// What was acknowledged is there, once; what was answered is on the log; both logs hold.
    pub async fn check(&self, oversight: &Connector) {
        for (name, connector) in &self.agencies {
            self.records_are_there_once(name, connector).await;
            self.consents_are_in_force(name, connector).await;
            self.referrals_are_accepted(name, connector).await;
        }
        self.records_open(&self.done.submissions).await;
        self.answers_are_on_the_log(oversight).await;
        for server in [Server::Gateway, Server::Custodian] {
            oversight.verify_log(server, |_, _| {}).await.unwrap();
        }
    }

    /// Each record handed in is one version, put, deposited and activated by one entry each.
    async fn records_are_there_once(&self, name: &str, connector: &Connector) {
        let own = |source: &&&str| **source == name;
        let handed_in = self.done.handed_in.iter().filter(own).count();
        let mut records = BTreeSet::new();
        for version in connector.list_versions(None).await.unwrap() {
            if version.source == connector.agency() {
                assert_eq!(version.version, 1, "of {}", version.record);
                assert!(records.insert(version.record), "{} is there twice", version.record);
            }
        }
        assert_eq!(records.len(), handed_in, "{name}: as many records as were handed in");
        for submission in self.done.submissions.iter().filter(|s| s.source == name) {
            assert!(records.contains(&submission.record), "{} is lost", submission.record);
        }
        for (server, action) in [
            (Server::Custodian, Action::DepositKey),
            (Server::Gateway, Action::PutRecord),
            (Server::Custodian, Action::ActivateKey),
        ] {
            let mut logged = BTreeSet::new();
            for entry in entries(connector, server, Some(action)).await {
                if entry.body.decision() == Decision::Deny {
                    // The custodian could not see the gateway's log; the same request came again.
                    assert_eq!(entry.body.public_reason, "AUDIT_UNAVAILABLE", "{name}: {action:?}");
                    continue;
                }
                let linkage = entry.linkage.as_ref().expect("an agency's own entry has its linkage");
                let record = RecordId::parse(&linkage.record_id).unwrap();
                assert!(logged.insert(record), "{name}: a second {action:?} of {record}");
            }
            assert_eq!(logged, records, "{name}: {action:?}");
        }
    }

    async fn consents_are_in_force(&self, name: &str, connector: &Connector) {
        for server in [Server::Gateway, Server::Custodian] {
            let mut there = BTreeSet::new();
            for consent in connector.list_consents(server, None).await.unwrap() {
                assert_eq!(consent.status, ConsentStatus::InForce, "{}", consent.consent);
                assert!(there.insert(consent.consent), "{} is there twice", consent.consent);
            }
            for (_, consent) in self.done.consents.iter().filter(|(source, _)| *source == name) {
                assert!(there.contains(consent), "{name}: {consent} is lost");
            }
        }
    }

    async fn referrals_are_accepted(&self, name: &str, connector: &Connector) {
        let mut there = BTreeSet::new();
        for referral in connector.list_referrals(Direction::Received).await.unwrap() {
            assert!(there.insert((referral.referral, referral.state)), "a referral is there twice");
        }
        for (_, referral) in self.done.accepted.iter().filter(|(recipient, _)| *recipient == name) {
            let accepted = (*referral, ReferralState::Accepted);
            assert!(there.contains(&accepted), "{name}: {referral} is lost");
        }
    }

    /// Its source reads back what it sealed.
    async fn records_open(&self, submissions: &[Submission]) {
        for submission in submissions {
            let source = &self.agencies[submission.source];
            let request = ReadRequest {
                case: submission.case,
                record: submission.record,
                source: source.agency(),
                fields: vec![submission.leaf.to_owned()],
                purpose: Purpose::VictimSupport,
            };
            let read = source.read_case(&request).await.unwrap();
            assert_eq!(leaf(&read.record, submission.leaf), submission.text);
        }
    }

    async fn answers_are_on_the_log(&self, oversight: &Connector) {
        let gateway = entries(oversight, Server::Gateway, None).await;
        let custodian = entries(oversight, Server::Custodian, None).await;
        let at = |server, index: u64| {
            let log = if server == Server::Gateway { &gateway } else { &custodian };
            let entry = &log[usize::try_from(index).unwrap()];
            assert_eq!(entry.index, index, "an auditor sees every entry");
            &entry.body
        };
        for (agency, server, index, action) in &self.done.entries {
            let body = at(*server, *index);
            assert_eq!(body.agency_id, self.agencies[agency].agency().as_bytes());
            assert_eq!((body.action(), body.decision()), (*action, Decision::Allow));
        }
        for (agency, read) in &self.done.reads {
            let agency = self.agencies[agency].agency();
            let body = at(Server::Gateway, read.gateway_index);
            assert_eq!(body.agency_id, agency.as_bytes());
            assert_eq!((body.action(), body.decision()), (Action::ReadRecord, Decision::Allow));
            let released: Vec<_> = read.released.iter().map(|(path, _)| path.as_str()).collect();
            let logged: Vec<_> = body.released.iter().map(|field| field.path.as_str()).collect();
            assert_eq!(logged, released);

            let index = read.custodian_index.expect("a sealed leaf was released");
            let body = at(Server::Custodian, index);
            assert_eq!(body.agency_id, agency.as_bytes());
            assert_eq!((body.action(), body.decision()), (Action::ReleaseKeys, Decision::Allow));
            assert_eq!(body.counterpart_index, read.gateway_index);
            let logged: Vec<_> = body.released.iter().map(|field| field.path.as_str()).collect();
            assert_eq!(logged, released);
        }
    }
}

async fn entries(connector: &Connector, server: Server, action: Option<Action>) -> Vec<SeenEntry> {
    let query = EntryQuery { action, limit: usize::MAX, ..EntryQuery::default() };
    connector.list_entries(server, &query).await.unwrap()
}

fn with_leaf(path: &str, text: &str) -> Value {
    let mut file: Value = serde_json::from_str(CASE).unwrap();
    let (section, field) = path.split_once('.').unwrap();
    file[section][field] = text.into();
    file
}

fn leaf<'a>(record: &'a Value, path: &str) -> &'a str {
    let (section, field) = path.split_once('.').unwrap();
    record[section][field].as_str().unwrap()
}
