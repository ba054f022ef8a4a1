//! RecordService, the edge: parse, one verb, render.

use std::collections::BTreeMap;

use amanat_desk::{Act, Desk, Filters, Pages, Rules, Stored};
use amanat_identity::Signed;
use amanat_schema::{
    AgencyId, CaseId, RecordId, Violation,
    audit::{Action, Linkage},
    case_file,
    catalogue::{self, FieldId},
    policy::{Purpose, Right},
    record::{
        ListVersionsRequest, ListVersionsResponse, MinorBand, PutRecordRequest, PutRecordResponse,
        ReadRecordRequest, ReadRecordResponse, RecordVersion, RoutingValue,
        record_service_server::RecordService,
    },
    statement::{DepositReceipt, Envelope, RecordHeader},
};
use amanat_seal::Header;
use amanat_server::Refusal;
use tonic::{Request, Response, Status};

use crate::store::{
    Call, Exchange, Reply,
    record::{ListVersions, PutRecord, ReadRecord, Sealed, VersionRow},
};

pub(crate) struct RecordDesk {
    pub(crate) desk: Desk<Exchange>,
}

const WRITERS: [Right; 1] = [Right::CaseWorker];
const READERS: [Right; 2] = [Right::CaseWorker, Right::EvidenceOfficer];

#[tonic::async_trait]
impl RecordService for RecordDesk {
    async fn put_record(
        &self,
        request: Request<PutRecordRequest>,
    ) -> Result<Response<PutRecordResponse>, Status> {
        let wire = request.get_ref();
        let (act, signed) = self.desk.delivered::<_, RecordHeader>(
            &request,
            "PutRecord",
            &wire.request_id,
            wire.header.as_ref(),
        )?;
        let case = signed.head().case;
        self.desk
            .authorise(&act, Action::PutRecord, &WRITERS, || of_case(case))
            .await?;
        let put = parse_put(
            act,
            &signed,
            request.into_inner(),
            &self.desk.rules.current(),
        )?;
        let answered = self.desk.call(Call::Put(Box::new(put))).await?;
        Ok(Response::new(PutRecordResponse {
            receipt: Some(answered.receipt),
        }))
    }

    async fn read_record(
        &self,
        request: Request<ReadRecordRequest>,
    ) -> Result<Response<ReadRecordResponse>, Status> {
        let act = self.desk.asked(&request)?;
        let case = CaseId::parse(&request.get_ref().case_id);
        self.desk
            .authorise(&act, Action::ReadRecord, &READERS, || {
                case.map(of_case).unwrap_or_default()
            })
            .await?;
        let read = parse_read(act, request.get_ref()).map_err(Refusal::invalid)?;
        let answered = self.desk.call(Call::Read(Box::new(read))).await?;
        let Reply::Read(reply) = answered.reply else {
            // A read is answered with a read.
            return Err(Refusal::audit_unavailable().into());
        };
        Ok(Response::new(ReadRecordResponse {
            header: Some(reply.header),
            sealed: Some(reply.sealed),
            routing: reply.routing,
            withheld: reply.withheld,
            receipt: Some(answered.receipt),
            officer: answered.officer,
            referral: reply.referral,
            expire_time: Some(reply.expires.to_timestamp()),
        }))
    }

    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        let act = self.desk.asked(&request)?;
        self.desk
            .authorise(&act, Action::ListVersions, &READERS, Linkage::default)
            .await?;
        let pages = self.desk.pages(act.agency, request.get_ref());
        let list = parse_list(act, request.get_ref(), &pages).map_err(Refusal::invalid)?;
        let answered = self.desk.call(Call::Versions(list)).await?;
        let Reply::Versions { rows, next } = answered.reply else {
            // A list is answered with a list.
            return Err(Refusal::audit_unavailable().into());
        };
        Ok(Response::new(ListVersionsResponse {
            versions: rows.into_iter().map(render).collect(),
            next_page_token: pages.token(next)?,
            receipt: Some(answered.receipt),
        }))
    }
}

fn parse_put(
    act: Act,
    signed: &Signed<RecordHeader>,
    wire: PutRecordRequest,
    rules: &Rules,
) -> Result<PutRecord, Refusal> {
    let header = Header::parse(signed.message()).map_err(Refusal::invalid)?;
    let sealed = wire.sealed.unwrap_or_default();
    let mut violations = Vec::new();
    violations.extend(header.check_slots(&sealed).err().into_iter().flatten());
    violations.extend(
        header
            .check_routing(&wire.routing)
            .err()
            .into_iter()
            .flatten(),
    );
    if violations.is_empty() && !routing_fits(&header, &wire.routing) {
        violations.push(violation(
            "routing",
            "values of the shared record, with the header's band",
        ));
    }
    let receipt = wire.deposit_receipt.as_ref();
    if !receipt.is_some_and(|receipt| deposited(&header, signed, receipt, rules)) {
        violations.push(violation(
            "deposit_receipt",
            "the custodian's receipt for this header",
        ));
    }
    if !violations.is_empty() {
        return Err(Refusal::invalid(violations));
    }
    Ok(PutRecord {
        act,
        header,
        statement: Stored::from(signed),
        sealed: Sealed::new(&sealed),
        routing: wire.routing,
    })
}

/// Whether the routing values are leaves of the shared record, and the minor band is the header's.
fn routing_fits(header: &Header, routing: &[RoutingValue]) -> bool {
    let values: BTreeMap<FieldId, Vec<u8>> = routing
        .iter()
        .filter_map(|value| {
            let opening = value
                .opening
                .as_ref()
                .filter(|opening| !opening.value.is_empty())?;
            Some((FieldId::parse(value.field)?, opening.value.clone()))
        })
        .collect();
    let band = case_file::render(&values).ok().and_then(|record| {
        let name = record
            .get("subject")?
            .get("minor_band")?
            .as_str()?
            .to_owned();
        MinorBand::from_str_name(&format!("MINOR_BAND_{name}"))
    });
    band == Some(header.minor_band())
}

/// Whether the custodian signed that it holds the key of exactly this header.
fn deposited(
    header: &Header,
    signed: &Signed<RecordHeader>,
    receipt: &Envelope,
    rules: &Rules,
) -> bool {
    let custodian = &rules.directory.custodian().statement_keys;
    let Ok(receipt) = amanat_seal::statement::verify::<DepositReceipt>(receipt, custodian) else {
        return false;
    };
    let (receipt, binding) = (receipt.message(), header.binding());
    receipt.exchange_id == rules.directory.exchange_id()
        && receipt.agency_id == binding.source.as_bytes()
        && receipt.case_id == binding.case.as_bytes()
        && receipt.record_id == binding.record.as_bytes()
        && receipt.version == binding.version
        && receipt.header_sha256 == signed.payload_sha256()
}

fn parse_read(act: Act, wire: &ReadRecordRequest) -> Result<ReadRecord, Vec<Violation>> {
    let mut violations = Vec::new();
    let case = CaseId::parse(&wire.case_id);
    let record = RecordId::parse(&wire.record_id);
    let source = AgencyId::parse(&wire.source_id);
    for (path, valid) in [
        ("case_id", case.is_ok()),
        ("record_id", record.is_ok()),
        ("source_id", source.is_ok()),
    ] {
        if !valid {
            violations.push(violation(path, "16 bytes"));
        }
    }
    let purpose = wire.purpose();
    if purpose == Purpose::Unspecified {
        violations.push(violation("purpose", "a purpose"));
    }
    let paths = wire
        .fields
        .as_ref()
        .map_or(&[][..], |mask| mask.paths.as_slice());
    if paths.is_empty() {
        violations.push(violation("fields", "at least one leaf path"));
    }
    let mut asked = Vec::new();
    for (at, path) in paths.iter().enumerate() {
        match catalogue::by_path(path) {
            Some(field) => asked.push(field.id),
            None => violations.push(violation(
                &format!("fields.paths[{at}]"),
                "a leaf of the shared record",
            )),
        }
    }
    match (case, record, source) {
        (Ok(case), Ok(record), Ok(source)) if violations.is_empty() => Ok(ReadRecord {
            act,
            case,
            record,
            source,
            asked,
            purpose,
        }),
        _ => Err(violations),
    }
}

fn parse_list(
    act: Act,
    wire: &ListVersionsRequest,
    pages: &Pages<'_>,
) -> Result<ListVersions, Vec<Violation>> {
    let mut filters = Filters::default();
    let case = filters.id("case_id", &wire.case_id, CaseId::parse);
    let record = filters.id("record_id", &wire.record_id, RecordId::parse);
    let source = filters.id("source_id", &wire.source_id, AgencyId::parse);
    let page = pages.parse(wire.page_size, &wire.page_token);
    filters.finish(page, |page| ListVersions {
        act,
        case,
        record,
        source,
        page,
    })
}

fn render(row: VersionRow) -> RecordVersion {
    RecordVersion {
        case_id: row.case.to_vec(),
        record_id: row.record.to_vec(),
        version: row.version,
        source_id: row.source.to_vec(),
        header_sha256: row.header_sha256,
        put_time: Some(row.put.to_timestamp()),
    }
}

fn of_case(case: CaseId) -> Linkage {
    Linkage {
        case_id: case.to_vec(),
        ..Linkage::default()
    }
}

fn violation(path: &str, expected: &str) -> Violation {
    Violation {
        path: path.to_owned(),
        expected: expected.to_owned(),
    }
}
