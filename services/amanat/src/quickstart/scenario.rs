//! Scenario 1: domestic servitude in Lahore, an adult. The police refer her to a Dar-ul-Aman: it gets
//! her needs, not the FIR. The Dar-ul-Aman shares what she told with the police: they never get the
//! address. The prosecution gets the case without her name.

use std::collections::BTreeMap;

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
    agency::{purpose_name, withheld_name},
    output::{Printer, Report},
};

const POLICE: &str = "police-lahore";
const FIA: &str = "fia-ahtc-lahore";
const PROSECUTION: &str = "prosecution-lahore";
const SHELTER: &str = "darul-aman-lahore";
const NGO: &str = "ngo-shelter";
const OVERSIGHT: &str = "oversight";

const POLICE_CASE: &str = include_str!("../../../../deploy/quickstart/police-case.json");
const SHELTER_CASE: &str = include_str!("../../../../deploy/quickstart/shelter-case.json");
const POLICE_TO_SHELTER: &str =
    include_str!("../../../../deploy/quickstart/consent-police-to-shelter.json");
const SHELTER_TO_POLICE: &str =
    include_str!("../../../../deploy/quickstart/consent-shelter-to-police.json");
const POLICE_TO_PROSECUTION: &str =
    include_str!("../../../../deploy/quickstart/consent-police-to-prosecution.json");

/// The connectors of the six agencies.
pub(super) struct Scenario {
    agencies: BTreeMap<&'static str, Connector>,
    printer: Printer,
    step: u32,
}

/// Ids to go on with.
pub(super) struct Played {
    pub(super) case: CaseId,
    pub(super) consent: ConsentId,
    pub(super) referral: ReferralId,
}

/// One line of the play.
struct Line<'a> {
    agency: &'static str,
    action: &'static str,
    decision: &'static str,
    text: String,
    released: Vec<&'a str>,
    withheld: Vec<(&'a str, &'a str)>,
    audit_index: Option<u64>,
    custodian_audit_index: Option<u64>,
}

impl Scenario {
    pub(super) async fn open(
        stage: &Stage,
        clock: Clock,
        printer: Printer,
    ) -> Result<Self, CommandError> {
        let mut agencies = BTreeMap::new();
        for name in [POLICE, FIA, PROSECUTION, SHELTER, NGO, OVERSIGHT] {
            let folder = stage.exchange.folder.join("agencies").join(name);
            let profile = Profile::load(&folder).map_err(ConnectorError::from)?;
            let acting = Acting::Officer("default".to_owned());
            agencies.insert(name, Connector::open(profile, acting, clock.clone()).await?);
        }
        Ok(Self {
            agencies,
            printer,
            step: 0,
        })
    }

    /// Plays it to the end.
    pub(super) async fn play(mut self) -> Result<Played, CommandError> {
        let police = self.submit(POLICE, POLICE_CASE, None).await?;
        let case = police.case;
        let police_record = (police.record, self.id(POLICE)?);

        let consent = self.grant(POLICE, case, POLICE_TO_SHELTER).await?;
        self.denied_read(
            SHELTER,
            case,
            police_record,
            Purpose::Shelter,
            &["needs.needs"],
            "ACCESS_DENIED",
        )
        .await?;
        let needs = [Need::Safehouse, Need::LegalAid];
        self.refer(
            POLICE,
            SHELTER,
            case,
            Purpose::Shelter,
            &needs,
            POLICE_TO_SHELTER,
        )
        .await?;
        let asked = [
            "subject.given_name",
            "trafficking.exploitation_types",
            "trafficking.narrative",
            "needs.needs",
            "needs.narrative",
            "case.urgency",
            "case.fir_number",
        ];
        let closed = [
            ("trafficking.narrative", "NOT_ALLOWED_FOR_ROLE"),
            ("case.fir_number", "NOT_ALLOWED_FOR_ROLE"),
        ];
        self.read(
            SHELTER,
            case,
            police_record,
            Purpose::Shelter,
            &asked,
            &closed,
        )
        .await?;

        let shelter = self.submit(SHELTER, SHELTER_CASE, Some(case)).await?;
        let shelter_record = (shelter.record, self.id(SHELTER)?);
        let to_police = self.grant(SHELTER, case, SHELTER_TO_POLICE).await?;
        let purpose = Purpose::Investigation;
        let needs = [Need::LegalAid];
        let referral = self
            .refer(SHELTER, POLICE, case, purpose, &needs, SHELTER_TO_POLICE)
            .await?;
        let asked = [
            "trafficking.status",
            "trafficking.methods_of_control",
            "trafficking.narrative",
            "subject.safe_contact",
            "placement.address",
        ];
        let closed = [
            ("subject.safe_contact", "NOT_ALLOWED_FOR_ROLE"),
            ("placement.address", "NOT_ALLOWED_FOR_ROLE"),
        ];
        self.read(POLICE, case, shelter_record, purpose, &asked, &closed)
            .await?;

        self.grant(POLICE, case, POLICE_TO_PROSECUTION).await?;
        let prosecution = Purpose::Prosecution;
        self.refer(
            POLICE,
            PROSECUTION,
            case,
            prosecution,
            &needs,
            POLICE_TO_PROSECUTION,
        )
        .await?;
        let read_by_prosecution = [
            "subject.given_name",
            "trafficking.exploitation_types",
            "suspects.role",
            "suspects.identifiers",
            "case.fir_number",
            "case.offence_sections",
        ];
        let closed = [("subject.given_name", "NOT_ALLOWED_FOR_ROLE")];
        self.read(
            PROSECUTION,
            case,
            police_record,
            prosecution,
            &read_by_prosecution,
            &closed,
        )
        .await?;

        // Nobody referred her to the FIA or to the NGO; deportation is no purpose at all.
        let name = ["subject.given_name"];
        self.denied_read(FIA, case, police_record, purpose, &name, "ACCESS_DENIED")
            .await?;
        self.denied_read(
            NGO,
            case,
            police_record,
            Purpose::Shelter,
            &name,
            "ACCESS_DENIED",
        )
        .await?;
        let deport = Purpose::ImmigrationEnforcement;
        self.denied_read(
            POLICE,
            case,
            shelter_record,
            deport,
            &name,
            "PURPOSE_NOT_ALLOWED",
        )
        .await?;

        self.withdraw(SHELTER, to_police).await?;
        let told = ["trafficking.narrative"];
        self.denied_read(
            POLICE,
            case,
            shelter_record,
            purpose,
            &told,
            "CONSENT_NOT_IN_FORCE",
        )
        .await?;

        self.verify().await?;
        Ok(Played {
            case,
            consent,
            referral,
        })
    }

    async fn submit(
        &mut self,
        agency: &'static str,
        file: &str,
        case: Option<CaseId>,
    ) -> Result<Submitted, CommandError> {
        let json: Value = serde_json::from_str(file).map_err(|_| QuickstartError::CaseFile)?;
        let file = case_file::parse(&json).map_err(ConnectorError::Invalid)?;
        let submitted = self.connector(agency)?.submit_case(file, case).await?;
        let text = format!(
            "seals a record and deposits its key: case {}",
            submitted.case
        );
        self.allowed(agency, "SUBMIT_RECORD", text, &submitted.delivery)?;
        Ok(submitted)
    }

    async fn grant(
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

    /// Submits a referral for the paths of a consent; the recipient acknowledges and accepts it.
    async fn refer(
        &mut self,
        from: &'static str,
        to: &'static str,
        case: CaseId,
        purpose: Purpose,
        services: &[Need],
        consent: &str,
    ) -> Result<ReferralId, CommandError> {
        let new = NewReferral {
            case,
            recipient: self.id(to)?,
            purpose,
            services: services.to_vec(),
            urgency: Urgency::Urgent,
            minor_band: MinorBand::Adult,
            paths: consent_file(consent)?.paths,
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
    async fn read(
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
    async fn denied_read(
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

    async fn withdraw(
        &mut self,
        agency: &'static str,
        consent: ConsentId,
    ) -> Result<(), CommandError> {
        let delivery = self.connector(agency)?.withdraw_consent(consent).await?;
        let text = "withdraws her consent, at her word, at both ledgers".to_owned();
        self.allowed(agency, "WITHDRAW_CONSENT", text, &delivery)
    }

    /// The oversight desk verifies both logs; the last line tells of the gateway's.
    async fn verify(&mut self) -> Result<(), CommandError> {
        let oversight = self.connector(OVERSIGHT)?;
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

    fn allowed(
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

    fn say(&mut self, line: &Line<'_>) -> Result<(), CommandError> {
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
            "step": self.step, "agency": line.agency, "action": line.action,
            "decision": line.decision, "released": line.released, "withheld": withheld,
            "audit_index": line.audit_index,
            "custodian_audit_index": line.custodian_audit_index,
        });
        self.printer
            .print(&Report::new(text, json))
            .map_err(CommandError::Output)
    }

    fn connector(&self, agency: &'static str) -> Result<&Connector, QuickstartError> {
        self.agencies
            .get(agency)
            .ok_or_else(|| self.surprise(format!("{agency} is not of this exchange")))
    }

    fn id(&self, agency: &'static str) -> Result<AgencyId, QuickstartError> {
        Ok(self.connector(agency)?.agency())
    }

    fn surprise(&self, what: String) -> QuickstartError {
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

fn consent_file(text: &str) -> Result<ConsentFile, QuickstartError> {
    serde_json::from_str(text).map_err(|_| QuickstartError::CaseFile)
}
