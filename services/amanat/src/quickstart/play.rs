//! What the scenarios are made of: acts of agencies, each printed as a line and checked as it is played.

use std::{collections::BTreeMap, path::PathBuf};

use amanat_connector::{
    Acting, Connector, ConnectorError, ConsentFile, Delivery, NewReferral, Profile, Read,
    ReadRequest, Server, Submitted,
};
use amanat_schema::{
    AgencyId, CaseId, ConsentId, RecordId, ReferralId, case_file,
    clock::Clock,
    policy::Purpose,
    record::{MinorBand, Need, Urgency},
};
use serde_json::{Value, json};

use super::{QuickstartError, stage::Stage};
use crate::{
    CommandError,
    agency::codes::{purpose_name, withheld_name},
    output::{Printer, Report},
};

/// The agencies' connectors, and how far the play is.
pub(super) struct Play {
    agencies: BTreeMap<String, Connector>,
    folder: PathBuf,
    clock: Clock,
    printer: Printer,
    scenario: u32,
    step: u32,
}

/// One line of the play.
pub(super) struct Line<'a> {
    pub(super) agency: &'static str,
    pub(super) action: &'static str,
    pub(super) decision: &'static str,
    pub(super) text: String,
    pub(super) released: Vec<&'a str>,
    pub(super) withheld: Vec<(&'a str, &'a str)>,
    pub(super) audit_index: Option<u64>,
    pub(super) custodian_audit_index: Option<u64>,
}

impl Line<'_> {
    /// An allowed act without an entry to show.
    pub(super) fn allowed(agency: &'static str, action: &'static str) -> Self {
        Self {
            agency,
            action,
            decision: "ALLOW",
            text: String::new(),
            released: Vec::new(),
            withheld: Vec::new(),
            audit_index: None,
            custodian_audit_index: None,
        }
    }
}

impl Play {
    pub(super) async fn open(
        stage: &Stage,
        clock: Clock,
        printer: Printer,
    ) -> Result<Self, CommandError> {
        let mut play = Self {
            agencies: BTreeMap::new(),
            folder: stage.exchange.folder.join("agencies"),
            clock,
            printer,
            scenario: 0,
            step: 0,
        };
        for name in stage.exchange.agencies.keys() {
            let connector = play.connect(name, "default").await?;
            play.agencies.insert(name.clone(), connector);
        }
        Ok(play)
    }

    /// A connector of its own for one of an agency's officers.
    pub(super) async fn connect(
        &self,
        agency: &str,
        officer: &str,
    ) -> Result<Connector, CommandError> {
        let profile = Profile::load(&self.folder.join(agency)).map_err(ConnectorError::from)?;
        let acting = Acting::Officer(officer.to_owned());
        Ok(Connector::open(profile, acting, self.clock.clone()).await?)
    }

    /// Begins a scenario; its lines carry its number.
    pub(super) fn begin(&mut self, scenario: u32, title: &str) -> Result<(), CommandError> {
        self.scenario = scenario;
        match self.printer {
            Printer::Human => {
                let heading = Report::new(format!("\nScenario {scenario}: {title}"), json!({}));
                self.printer.print(&heading).map_err(CommandError::Output)
            }
            Printer::Json => Ok(()),
        }
    }

    pub(super) async fn submit(
        &mut self,
        agency: &'static str,
        file: &str,
        case: Option<CaseId>,
    ) -> Result<Submitted, CommandError> {
        let json: Value = serde_json::from_str(file).map_err(|_| QuickstartError::CaseFile)?;
        let file = case_file::parse(&json).map_err(ConnectorError::Invalid)?;
        let submitted = self.connector(agency)?.submit_case(file, case).await?;
        let submitted = submitted.delivered()?;
        let text = format!(
            "seals a record and deposits its key: case {}",
            submitted.case
        );
        self.allowed(agency, "SUBMIT_RECORD", text, &submitted.delivery)?;
        Ok(submitted)
    }

    pub(super) async fn grant(
        &mut self,
        agency: &'static str,
        case: CaseId,
        file: &str,
    ) -> Result<ConsentId, CommandError> {
        let file = consent_file(file)?;
        let granted = self.connector(agency)?.grant_consent(case, &file).await?;
        let text = format!(
            "records her consent: {} fields to {}, for {}",
            granted.paths.len(),
            file.recipient,
            purpose_name(granted.purpose),
        );
        self.allowed(agency, "RECORD_CONSENT", text, &granted.delivery)?;
        Ok(granted.consent)
    }

    /// Submits a referral for some paths; the recipient acknowledges and accepts it.
    pub(super) async fn refer(
        &mut self,
        from: &'static str,
        to: &'static str,
        case: CaseId,
        purpose: Purpose,
        services: &[Need],
        paths: Vec<String>,
    ) -> Result<ReferralId, CommandError> {
        let new = NewReferral {
            case,
            recipient: self.id(to)?,
            purpose,
            services: services.to_vec(),
            urgency: Urgency::Urgent,
            minor_band: MinorBand::Adult,
            paths,
        };
        let referred = self.connector(from)?.submit_referral(&new).await?;
        let text = format!("refers her to {to}");
        self.allowed(from, "SUBMIT_REFERRAL", text, &referred.delivery)?;
        let delivery = self
            .connector(to)?
            .acknowledge_referral(referred.referral)
            .await?;
        let text = "acknowledges: it sees urgency and services, no content".to_owned();
        self.allowed(to, "ACKNOWLEDGE_REFERRAL", text, &delivery)?;
        let delivery = self
            .connector(to)?
            .accept_referral(referred.referral)
            .await?;
        self.allowed(
            to,
            "ACCEPT_REFERRAL",
            "accepts: content opens".to_owned(),
            &delivery,
        )?;
        Ok(referred.referral)
    }

    /// A read that must release everything asked but what is named as closed.
    pub(super) async fn read(
        &mut self,
        agency: &'static str,
        case: CaseId,
        (record, source): (RecordId, AgencyId),
        purpose: Purpose,
        asked: &[&str],
        closed: &[(&str, &str)],
    ) -> Result<(), CommandError> {
        let request = read_request(case, record, source, purpose, asked);
        let read = self.connector(agency)?.read_case(&request).await?;
        let mut withheld: Vec<_> = read
            .withheld
            .iter()
            .map(|(path, reason)| (path.as_str(), withheld_name(*reason)))
            .collect();
        let mut expected = closed.to_vec();
        withheld.sort_unstable();
        expected.sort_unstable();
        if withheld != expected || read.released.len() + withheld.len() != asked.len() {
            return Err(self.surprise(format!("withheld was {withheld:?}")).into());
        }
        self.check_values(&read, asked, closed)?;
        let line = Line {
            agency,
            action: "READ_RECORD",
            decision: "ALLOW",
            text: format!(
                "reads the record of {}, for {}",
                self.connector(agency)?.name_of(source),
                purpose_name(purpose)
            ),
            released: read
                .released
                .iter()
                .map(|(path, _)| path.as_str())
                .collect(),
            withheld,
            audit_index: Some(read.gateway_index),
            custodian_audit_index: read.custodian_index,
        };
        self.say(&line)
    }

    /// What was released opened to values, and nothing that is closed is among them.
    fn check_values(
        &self,
        read: &Read,
        asked: &[&str],
        closed: &[(&str, &str)],
    ) -> Result<(), QuickstartError> {
        for path in asked {
            let (section, field) = path.split_once('.').unwrap_or((path, ""));
            let section = read.record.get(section);
            let shown = match section.and_then(Value::as_array) {
                Some(rows) => rows.iter().any(|row| row.get(field).is_some()),
                None => section.is_some_and(|section| section.get(field).is_some()),
            };
            if shown == closed.iter().any(|(closed, _)| closed == path) {
                return Err(self.surprise(format!("{path} was shown: {shown}")));
            }
        }
        Ok(())
    }

    /// A read that must be refused, with this reason for the call or for every field.
    pub(super) async fn denied_read(
        &mut self,
        agency: &'static str,
        case: CaseId,
        (record, source): (RecordId, AgencyId),
        purpose: Purpose,
        asked: &[&str],
        reason: &str,
    ) -> Result<(), CommandError> {
        let request = read_request(case, record, source, purpose, asked);
        let refusal = match self.connector(agency)?.read_case(&request).await {
            Err(ConnectorError::Refused(refusal)) => refusal,
            Err(error) => return Err(error.into()),
            Ok(_) => return Err(self.surprise("the read was allowed".to_owned()).into()),
        };
        let as_expected = refusal.reason == reason
            || (!refusal.withheld.is_empty() && refusal.withheld.values().all(|why| why == reason));
        if !as_expected {
            return Err(self
                .surprise(format!("the reason was {}", refusal.reason))
                .into());
        }
        let text = format!(
            "is refused {}, for {}: {reason}",
            asked.join(", "),
            purpose_name(purpose)
        );
        let withheld = refusal
            .withheld
            .iter()
            .map(|(path, why)| (path.as_str(), why.as_str()));
        let line = Line {
            agency,
            action: "READ_RECORD",
            decision: "DENY",
            text,
            released: Vec::new(),
            withheld: withheld.collect(),
            audit_index: refusal.audit_index,
            custodian_audit_index: None,
        };
        self.say(&line)
    }

    pub(super) async fn withdraw(
        &mut self,
        agency: &'static str,
        consent: ConsentId,
    ) -> Result<(), CommandError> {
        let delivery = self.connector(agency)?.withdraw_consent(consent).await?;
        let text = "withdraws her consent, at her word, at both ledgers".to_owned();
        self.allowed(agency, "WITHDRAW_CONSENT", text, &delivery)
    }

    /// The oversight desk verifies both logs; the last line tells of the gateway's.
    pub(super) async fn verify(&mut self) -> Result<(), CommandError> {
        let oversight = self.connector("oversight")?;
        let custodian = oversight.verify_log(Server::Custodian, |_, _| {}).await?;
        let gateway = oversight.verify_log(Server::Gateway, |_, _| {}).await?;
        let text = format!(
            "verified by oversight: the gateway's log of {} entries and the custodian's of {}",
            gateway.entries, custodian.entries
        );
        let json = json!({
            "verified": true, "entries": gateway.entries, "root": gateway.root,
            "custodian": { "entries": custodian.entries, "root": custodian.root },
        });
        self.printer
            .print(&Report::new(text, json))
            .map_err(CommandError::Output)
    }

    pub(super) fn allowed(
        &mut self,
        agency: &'static str,
        action: &'static str,
        text: String,
        delivery: &Delivery,
    ) -> Result<(), CommandError> {
        let index = |server| {
            delivery
                .entries
                .iter()
                .find(|(at, _)| *at == server)
                .map(|(_, index)| *index)
        };
        let line = Line {
            agency,
            action,
            decision: "ALLOW",
            text,
            released: Vec::new(),
            withheld: Vec::new(),
            audit_index: index(Server::Gateway),
            custodian_audit_index: index(Server::Custodian),
        };
        self.say(&line)
    }

    pub(super) fn say(&mut self, line: &Line<'_>) -> Result<(), CommandError> {
        self.step += 1;
        let mut text = format!("{:>2}  {:<18} {}", self.step, line.agency, line.text);
        if !line.released.is_empty() {
            text.push_str(&format!(
                "\n    {:<18} got {}",
                "",
                line.released.join(", ")
            ));
        }
        if line.decision == "ALLOW" {
            for (path, reason) in &line.withheld {
                text.push_str(&format!("\n    {:<18} not {path}: {reason}", ""));
            }
        }
        if let Some(index) = line.audit_index {
            text.push_str(&format!("  [entry {index}]"));
        }
        let withheld: Vec<_> = line
            .withheld
            .iter()
            .map(|(path, reason)| json!({ "path": path, "reason": reason }))
            .collect();
        let json = json!({
            "scenario": self.scenario, "step": self.step, "agency": line.agency, "action": line.action,
            "decision": line.decision, "released": line.released, "withheld": withheld,
            "audit_index": line.audit_index,
            "custodian_audit_index": line.custodian_audit_index,
        });
        self.printer
            .print(&Report::new(text, json))
            .map_err(CommandError::Output)
    }

    pub(super) fn connector(&self, agency: &'static str) -> Result<&Connector, QuickstartError> {
        self.agencies
            .get(agency)
            .ok_or_else(|| self.surprise(format!("{agency} is not of this exchange")))
    }

    pub(super) fn id(&self, agency: &'static str) -> Result<AgencyId, QuickstartError> {
        Ok(self.connector(agency)?.agency())
    }

    pub(super) fn surprise(&self, what: String) -> QuickstartError {
        QuickstartError::Surprise {
            step: self.step + 1,
            what,
        }
    }
}

fn read_request(
    case: CaseId,
    record: RecordId,
    source: AgencyId,
    purpose: Purpose,
    asked: &[&str],
) -> ReadRequest {
    let fields = asked.iter().map(|path| (*path).to_owned()).collect();
    ReadRequest {
        case,
        record,
        source,
        fields,
        purpose,
    }
}

/// The paths that a consent file opens.
pub(super) fn paths(consent: &str) -> Result<Vec<String>, QuickstartError> {
    Ok(consent_file(consent)?.paths)
}

fn consent_file(text: &str) -> Result<ConsentFile, QuickstartError> {
    serde_json::from_str(text).map_err(|_| QuickstartError::CaseFile)
}
