//! A load of several agencies at once, which remembers what it was told was done.

mod settled;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use amanat_connector::{
    Connector, ConnectorError, ConsentFile, Delivery, NewReferral, Read, ReadRequest, Server,
};
use amanat_schema::{
    CaseId, ConsentId, RecordId, ReferralId,
    audit::Action,
    case_file,
    policy::Purpose,
    record::{MinorBand, Need, Urgency},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use crate::{Running, cli};

pub use settled::Settled;

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

/// The load while it runs.
pub struct Load {
    agencies: BTreeMap<&'static str, Member>,
    stopped: Arc<AtomicBool>,
    /// How many cases were shared from end to end.
    shared: watch::Sender<usize>,
    /// How many turns each lane has begun.
    turns: Vec<watch::Receiver<usize>>,
    /// Who handed in a record that is none of the load's.
    beside: Vec<&'static str>,
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
    /// Calls that found no server, or one without an answer, and what they were told.
    pub cut_off: Vec<String>,
}

pub struct Submission {
    source: &'static str,
    case: CaseId,
    record: RecordId,
    leaf: &'static str,
    text: String,
}

/// An agency's connector, which may be opened anew while the load runs.
#[derive(Clone)]
struct Member(Arc<Mutex<Arc<Connector>>>);

impl Member {
    fn connector(&self) -> Arc<Connector> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

/// One case after another.
struct Lane {
    route: &'static Route,
    number: usize,
    members: [Member; 2],
    /// As they were when the turn began.
    source: Arc<Connector>,
    recipient: Arc<Connector>,
    done: Acknowledged,
}

impl Load {
    /// Starts it, and returns when as many cases as it has lanes were shared.
    pub async fn start(running: &Running) -> Self {
        let mut agencies = BTreeMap::new();
        for name in ROUTES
            .iter()
            .flat_map(|route| [route.source, route.recipient])
        {
            let connector = Arc::new(running.connector(name).await);
            agencies.insert(name, Member(Arc::new(Mutex::new(connector))));
        }
        let stopped = Arc::new(AtomicBool::new(false));
        let (shared, _) = watch::channel(0);
        let (mut lanes, mut turns) = (JoinSet::new(), Vec::new());
        for (number, route) in ROUTES.iter().cycle().take(LANES).enumerate() {
            let members = [route.source, route.recipient].map(|name| agencies[name].clone());
            let [source, recipient] = members.each_ref().map(Member::connector);
            let lane = Lane {
                route,
                number,
                members,
                source,
                recipient,
                done: Acknowledged::default(),
            };
            let (turn, watched) = watch::channel(0);
            turns.push(watched);
            lanes.spawn(lane.run(Arc::clone(&stopped), turn, shared.clone()));
        }
        let load = Self {
            agencies,
            stopped,
            shared,
            turns,
            beside: Vec::new(),
            lanes,
        };
        load.shares(LANES).await;
        load
    }

    /// Returns when this many more cases were shared.
    pub async fn shares(&self, more: usize) {
        let enough = *self.shared.borrow() + more;
        self.shared
            .subscribe()
            .wait_for(|shared| *shared >= enough)
            .await
            .unwrap();
    }

    /// An agency of the load has handed in a record of its own besides.
    pub fn handed_in_beside(&mut self, agency: &'static str) {
        self.beside.push(agency);
    }

    /// An agency goes on with the profile that lies in its folder now, from the next turn of each lane.
    pub async fn reopen(&self, running: &Running, agency: &str) {
        let connector = Arc::new(running.connector(agency).await);
        *self.agencies[agency].0.lock().unwrap() = connector;
    }

    /// Returns when each lane has begun and ended a turn since.
    pub async fn turns(&self) {
        let begun: Vec<_> = self.turns.iter().map(|turn| *turn.borrow()).collect();
        for (turn, begun) in self.turns.iter().zip(begun) {
            let enough = |turn: &usize| *turn > begun + 1;
            turn.clone().wait_for(enough).await.unwrap();
        }
    }

    /// Ends it after the turn that each lane is at, and delivers what waits in the outboxes.
    pub async fn settle(mut self) -> Settled {
        self.stopped.store(true, Ordering::Relaxed);
        let mut done = Acknowledged {
            handed_in: self.beside,
            ..Acknowledged::default()
        };
        while let Some(lane) = self.lanes.join_next().await {
            done.add(lane.unwrap());
        }
        let agencies = self.agencies.iter();
        let agencies: BTreeMap<_, _> = agencies.map(|(name, m)| (*name, m.connector())).collect();
        for (name, connector) in &agencies {
            for (job, outcome) in connector.deliver_pending().await.unwrap() {
                assert!(
                    outcome.is_ok(),
                    "{name}: {} of {}: {outcome:?}",
                    job.kind,
                    job.subject
                );
            }
            assert_eq!(
                connector.pending().await.unwrap(),
                [],
                "{name} still has something to deliver"
            );
        }
        Settled { agencies, done }
    }
}

impl Lane {
    async fn run(
        mut self,
        stopped: Arc<AtomicBool>,
        turns: watch::Sender<usize>,
        count: watch::Sender<usize>,
    ) -> Acknowledged {
        let mut shared = None;
        for turn in 0.. {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            turns.send_replace(turn);
            [self.source, self.recipient] = self.members.each_ref().map(Member::connector);
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
        self.done.cut_off.push(error.to_string());
        tokio::task::yield_now().await;
    }

    /// A new case: submitted, consented to, referred, accepted and read by its recipient.
    async fn share(&mut self, turn: usize) -> Result<ReadRequest, ConnectorError> {
        let Route {
            source,
            recipient,
            purpose,
            service,
            leaf,
        } = *self.route;
        let text = format!("told in lane {} at turn {turn}", self.number);
        let file = case_file::parse(&with_leaf(leaf, &text)).unwrap();
        self.done.handed_in.push(source);
        let submitted = self.source.submit_case(file, None).await?.delivered()?;
        let (case, record) = (submitted.case, submitted.record);
        let steps = [Action::DepositKey, Action::PutRecord, Action::ActivateKey];
        self.acknowledge(source, &submitted.delivery, &steps);
        self.done.submissions.push(Submission {
            source,
            case,
            record,
            leaf,
            text,
        });

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
        let delivery = self
            .recipient
            .acknowledge_referral(referred.referral)
            .await?;
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
        assert_eq!(
            delivery.entries.len(),
            actions.len(),
            "every call has its entry"
        );
        let entries = delivery.entries.iter().zip(actions);
        self.done
            .entries
            .extend(entries.map(|((server, at), act)| (agency, *server, *at, *act)));
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
        self.cut_off.extend(other.cut_off);
    }
}

fn with_leaf(path: &str, text: &str) -> Value {
    let mut file = cli::case_file();
    let (section, field) = path.split_once('.').unwrap();
    file[section][field] = text.into();
    file
}
