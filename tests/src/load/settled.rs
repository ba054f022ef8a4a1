//! What must be true when a load has ended, whatever happened to the servers meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use amanat_connector::{Connector, EntryQuery, ReadRequest, SeenEntry, Server};
use amanat_schema::{
    RecordId,
    audit::Action,
    consent::ConsentStatus,
    policy::{Decision, Purpose, ReferralState},
    referral::Direction,
};
use serde_json::Value;

use super::{Acknowledged, Submission};

/// The load after its end, with every outbox empty.
pub struct Settled {
    pub(super) agencies: BTreeMap<&'static str, Arc<Connector>>,
    pub done: Acknowledged,
}

impl Settled {
    /// What was acknowledged is there, once; what was answered is on the log; both logs hold.
    pub async fn check(&self, oversight: &Connector) {
        for (name, connector) in &self.agencies {
            self.records_are_there_once(name, connector).await;
            self.consents_are_in_force(name, connector).await;
            self.referrals_are_accepted(name, connector).await;
            statements_are_logged_once(name, connector).await;
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
                assert!(
                    records.insert(version.record),
                    "{} is there twice",
                    version.record
                );
            }
        }
        assert_eq!(
            records.len(),
            handed_in,
            "{name}: as many records as were handed in"
        );
        for submission in self.done.submissions.iter().filter(|s| s.source == name) {
            assert!(
                records.contains(&submission.record),
                "{} is lost",
                submission.record
            );
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
                    assert_eq!(
                        entry.body.public_reason, "AUDIT_UNAVAILABLE",
                        "{name}: {action:?}"
                    );
                    continue;
                }
                let linkage = entry
                    .linkage
                    .as_ref()
                    .expect("an agency's own entry has its linkage");
                let record = RecordId::parse(&linkage.record_id).unwrap();
                assert!(
                    logged.insert(record),
                    "{name}: a second {action:?} of {record}"
                );
            }
            assert_eq!(logged, records, "{name}: {action:?}");
        }
    }

    async fn consents_are_in_force(&self, name: &str, connector: &Connector) {
        for server in [Server::Gateway, Server::Custodian] {
            let mut there = BTreeSet::new();
            for consent in connector.list_consents(server, None).await.unwrap() {
                assert_eq!(
                    consent.status,
                    ConsentStatus::InForce,
                    "{}",
                    consent.consent
                );
                assert!(
                    there.insert(consent.consent),
                    "{} is there twice",
                    consent.consent
                );
            }
            for (_, consent) in self
                .done
                .consents
                .iter()
                .filter(|(source, _)| *source == name)
            {
                assert!(there.contains(consent), "{name}: {consent} is lost");
            }
        }
    }

    async fn referrals_are_accepted(&self, name: &str, connector: &Connector) {
        let mut there = BTreeSet::new();
        for referral in connector.list_referrals(Direction::Received).await.unwrap() {
            assert!(
                there.insert((referral.referral, referral.state)),
                "a referral is there twice"
            );
        }
        for (_, referral) in self
            .done
            .accepted
            .iter()
            .filter(|(recipient, _)| *recipient == name)
        {
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
            let log = if server == Server::Gateway {
                &gateway
            } else {
                &custodian
            };
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
            assert_eq!(
                (body.action(), body.decision()),
                (Action::ReadRecord, Decision::Allow)
            );
            let released: Vec<_> = read
                .released
                .iter()
                .map(|(path, _)| path.as_str())
                .collect();
            let logged: Vec<_> = body
                .released
                .iter()
                .map(|field| field.path.as_str())
                .collect();
            assert_eq!(logged, released);

            let index = read.custodian_index.expect("a sealed leaf was released");
            let body = at(Server::Custodian, index);
            assert_eq!(body.agency_id, agency.as_bytes());
            assert_eq!(
                (body.action(), body.decision()),
                (Action::ReleaseKeys, Decision::Allow)
            );
            assert_eq!(body.counterpart_index, read.gateway_index);
            let logged: Vec<_> = body
                .released
                .iter()
                .map(|field| field.path.as_str())
                .collect();
            assert_eq!(logged, released);
        }
    }
}

/// A repeat of what was recorded before is answered from memory.
async fn statements_are_logged_once(name: &str, connector: &Connector) {
    for (server, action) in [
        (Server::Gateway, Action::RecordConsent),
        (Server::Custodian, Action::RecordConsent),
        (Server::Gateway, Action::SubmitReferral),
        (Server::Gateway, Action::AcknowledgeReferral),
        (Server::Gateway, Action::AcceptReferral),
    ] {
        let mut logged = BTreeSet::new();
        for entry in entries(connector, server, Some(action)).await {
            let statement = entry.linkage.unwrap().statement_sha256;
            assert_eq!(statement.len(), 32, "{action:?} records a statement");
            assert!(
                logged.insert(statement),
                "{name}: entry {} is a second one",
                entry.index
            );
        }
    }
}

async fn entries(connector: &Connector, server: Server, action: Option<Action>) -> Vec<SeenEntry> {
    let query = EntryQuery {
        action,
        limit: usize::MAX,
        ..EntryQuery::default()
    };
    connector.list_entries(server, &query).await.unwrap()
}

fn leaf<'a>(record: &'a Value, path: &str) -> &'a str {
    let (section, field) = path.split_once('.').unwrap();
    record[section][field].as_str().unwrap()
}
