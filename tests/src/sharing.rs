//! One record from its source to a reader, by the quickstart's files.

use std::{fs, path::Path};

use amanat_connector::{Connector, ConnectorError, ConsentFile, NewReferral, Read, ReadRequest};
use amanat_schema::{
    CaseId, ConsentId, case_file,
    policy::Purpose,
    record::{MinorBand, Need, Urgency},
};
use serde_json::Value;

/// A file of `deploy/quickstart`, without its ending.
pub fn file(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/quickstart");
    let text = fs::read_to_string(folder.join(name).with_extension("json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub fn consent_file(name: &str) -> ConsentFile {
    serde_json::from_value(file(name)).unwrap()
}

/// A record that its recipient may read.
pub struct Shared {
    pub case: CaseId,
    pub consent: ConsentId,
    /// For every path that was consented to.
    pub request: ReadRequest,
}

/// Submits a case file, in a new case if none is named, and shares what the consent names: it is granted,
/// the record referred, acknowledged and accepted.
pub async fn share(
    source: &Connector,
    recipient: &Connector,
    file: &Value,
    consent: &ConsentFile,
    case: Option<CaseId>,
) -> Shared {
    let file = case_file::parse(file)
        .map_err(|wrong| format!("{wrong:?}"))
        .unwrap();
    let submitted = source.submit_case(file, case).await.unwrap();
    let submitted = submitted.delivered().unwrap();
    let case = submitted.case;
    let granted = source.grant_consent(case, consent).await.unwrap();
    let new = NewReferral {
        case,
        recipient: recipient.agency(),
        purpose: granted.purpose,
        services: vec![Need::LegalAid],
        urgency: Urgency::Urgent,
        minor_band: MinorBand::Adult,
        paths: granted.paths.clone(),
    };
    let referral = source.submit_referral(&new).await.unwrap().referral;
    recipient.acknowledge_referral(referral).await.unwrap();
    recipient.accept_referral(referral).await.unwrap();
    Shared {
        case,
        consent: granted.consent,
        request: ReadRequest {
            case,
            record: submitted.record,
            source: source.agency(),
            fields: granted.paths,
            purpose: granted.purpose,
        },
    }
}

impl Shared {
    /// Reads every path that was consented to; some may be closed to the reader's role.
    pub async fn read(&self, reader: &Connector) -> Result<Read, ConnectorError> {
        reader.read_case(&self.request).await
    }

    /// The same record for another purpose or other paths.
    pub fn asking(&self, purpose: Purpose, fields: &[&str]) -> ReadRequest {
        ReadRequest {
            purpose,
            fields: fields.iter().map(|path| (*path).to_owned()).collect(),
            ..self.request.clone()
        }
    }
}
