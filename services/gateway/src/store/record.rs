//! Record versions: put, read; [`versions`] lists.

pub(super) mod versions;

use std::{collections::HashMap, sync::Arc, time::Duration};

use amanat_database::{
    Column::{Bytes, Number},
    Connection, Error, Row, Sql, damaged,
};
use amanat_desk::{
    Act, Known, Rules, Stored,
    consent::case_key,
    release::{log_release, record_facts, render_withheld, truths},
};
use amanat_journal::{Access, Touch};
use amanat_policy::{Basis, Outcome, Question, Reader, Release};
use amanat_schema::{
    AgencyId, CaseId, RecordId, Time,
    audit::{Action, Linkage, WithheldField},
    catalogue::FieldId,
    policy::Purpose,
    record::{PutRecordRequest, RoutingValue, SealedFields},
    statement::{Envelope, RecordHeader},
};
use amanat_seal::Header;
use amanat_server::Refusal;
use prost::Message as _;

pub(crate) use super::sealed::Sealed;
pub(crate) use versions::{ListVersions, VersionRow};

use super::{Call, Facts, Memory, Reply, Ruled, done, referred, refuse, sealed::Slots};
use versions::{VERSION, parse_version, visible};

/// How long a receipt of a read can be taken to the custodian.
const RECEIPT_LIFE: Duration = Duration::from_secs(60);

/// A version whose header, slots, routing values and deposit receipt fit each other.
pub(crate) struct PutRecord {
    pub(crate) act: Act,
    pub(crate) header: Header,
    pub(crate) statement: Stored,
    pub(crate) sealed: Sealed,
    pub(crate) routing: Vec<RoutingValue>,
}

pub(crate) struct ReadRecord {
    pub(crate) act: Act,
    pub(crate) case: CaseId,
    pub(crate) record: RecordId,
    pub(crate) source: AgencyId,
    pub(crate) asked: Vec<FieldId>,
    pub(crate) purpose: Purpose,
}

/// What an allowed read hands out.
pub(crate) struct ReadReply {
    pub(crate) header: Envelope,
    pub(crate) sealed: SealedFields,
    pub(crate) routing: Vec<RoutingValue>,
    pub(crate) withheld: Vec<WithheldField>,
    pub(crate) referral: Option<Envelope>,
    pub(crate) expires: Time,
}

/// Authority follows the source, never who named an id first.
pub(super) type RecordKey = (AgencyId, RecordId);

/// The newest versions that a batch needs, and those it adds.
#[derive(Default)]
pub(crate) struct RecordFacts {
    newest: HashMap<RecordKey, VersionRow>,
    contents: HashMap<RecordKey, Arc<Content>>,
    lists: HashMap<(AgencyId, [u8; 32]), Vec<VersionRow>>,
    put: Vec<Put>,
}

/// What a read of a record's newest version may draw from.
pub(super) struct Content {
    header: Envelope,
    facts: Header,
    sealed: Slots,
    routing: Vec<RoutingValue>,
}

impl Content {
    /// What it takes in memory; the header's facts are at most twice as large as the header.
    pub(super) fn bytes(&self) -> usize {
        let openings = self
            .routing
            .iter()
            .filter_map(|value| value.opening.as_ref());
        let values = openings.map(|opening| opening.salt.len() + opening.value.len());
        3 * self.header.encoded_len()
            + self.sealed.bytes()
            + size_of_val(self.routing.as_slice())
            + values.sum::<usize>()
    }
}

struct Put {
    row: VersionRow,
    header: Vec<u8>,
    sealed: Sealed,
    routing: Vec<RoutingValue>,
}

impl PutRecord {
    pub(crate) fn access(&self) -> Access {
        let binding = self.header.binding();
        Access {
            keys: vec![case_key(binding.case), self.statement.conflict_key()],
            touch: Touch::Changes,
            request: self.act.request_key(),
        }
    }

    fn key(&self) -> RecordKey {
        (self.header.binding().source, self.header.binding().record)
    }
}

impl ReadRecord {
    pub(crate) fn access(&self) -> Access {
        Access {
            keys: vec![case_key(self.case)],
            touch: Touch::Reads,
            request: None,
        }
    }

    fn key(&self) -> RecordKey {
        (self.source, self.record)
    }
}

pub(super) fn put(facts: &mut Facts, rules: &Rules, call: &PutRecord, now: Time) -> Ruled {
    let binding = call.header.binding();
    let linkage = Linkage {
        case_id: binding.case.to_vec(),
        record_id: binding.record.to_vec(),
        version: binding.version,
        source_id: binding.source.to_vec(),
        statement_sha256: call.statement.payload_sha256.to_vec(),
        ..Linkage::default()
    };
    let newest = facts.records.newest.get(&call.key());
    let next = newest.map_or(1, |row| row.version + 1);
    let follows = newest.map(|row| row.header_sha256.as_slice());
    let same_case = newest.is_none_or(|row| row.case == binding.case);
    let is_next = binding.version == next
        && call.header.follows().map(<[u8; 32]>::as_slice) == follows
        && same_case;
    let refusal = match facts.statements.look_up(&call.statement) {
        Known::New if is_next => {
            facts.statements.accept(&call.statement);
            facts.records.add(call, now);
            None
        }
        Known::Same => None,
        Known::New => Some(Refusal::version(
            "the version is not the next one of this record",
        )),
        Known::Other => Some(Refusal::state(
            "the statement's id was used for another one",
        )),
    };
    match refusal {
        None => done(call.act.allowed(rules, Action::PutRecord, linkage)),
        Some(refusal) => {
            let draft = call
                .act
                .refused(rules, Action::PutRecord, linkage, &refusal, "");
            refuse(refusal, draft)
        }
    }
}

pub(super) fn read(facts: &mut Facts, rules: &Rules, call: &ReadRecord, now: Time) -> Ruled {
    let mut linkage = Linkage {
        case_id: call.case.to_vec(),
        record_id: call.record.to_vec(),
        source_id: call.source.to_vec(),
        ..Linkage::default()
    };
    let content = facts.records.contents.get(&call.key());
    // A source that has left the directory has nothing here any more, as its keys are not released.
    let is_listed = rules.directory.agency(call.source).is_some();
    let content = content.filter(|content| is_listed && content.facts.binding().case == call.case);
    let referral =
        facts
            .referrals
            .brings(call.case, call.source, call.act.agency, &rules.directory);
    let is_party = call.act.agency == call.source || referral.is_some();
    let (Some(content), true) = (content, is_party) else {
        // The same words and the same entry whether the record is absent or another's.
        let refusal = Refusal::access();
        let mut draft = call.act.refused(
            rules,
            Action::ReadRecord,
            linkage,
            &refusal,
            "absent or no party",
        );
        draft.body.purpose = call.purpose.into();
        return refuse(refusal, draft);
    };
    linkage.version = content.facts.binding().version;

    let of = (call.source, call.case);
    let Outcome { release, withheld } = amanat_policy::decide(&Question {
        asked: &call.asked,
        purpose: call.purpose,
        reader: Reader {
            agency: call.act.agency,
            kind: call.act.kind,
        },
        record: record_facts(&content.facts),
        referral: referral.map(|referral| referral.facts()),
        grants: &facts.consents.counting(of, &rules.directory),
        context: amanat_policy::Context::default(),
        table: &rules.table,
        now,
    });
    let reasons = truths(&withheld);
    let withheld = render_withheld(&withheld);
    let Some(release) = release else {
        let refusal = Refusal::nothing_releasable(&withheld);
        let mut draft = call
            .act
            .refused(rules, Action::ReadRecord, linkage, &refusal, &reasons);
        draft.body.purpose = call.purpose.into();
        draft.body.withheld = withheld;
        return refuse(refusal, draft);
    };
    let expires = now + RECEIPT_LIFE;
    let mut draft = call.act.allowed(rules, Action::ReadRecord, linkage);
    log_release(&mut draft, &release, call.purpose);
    draft.body.expire_time = Some(expires.to_timestamp());
    draft.body.withheld.clone_from(&withheld);
    draft.reasons = reasons;
    let referral = referral.filter(|_| call.act.agency != call.source);
    if let Some(referral) = referral {
        draft.body.referral_state = referral.facts().state.into();
        draft.linkage.referral_id = referral.facts().id.to_vec();
    }
    let reply = ReadReply {
        header: content.header.clone(),
        sealed: content.sealed.open_to(&release),
        routing: covered(&content.routing, &release),
        withheld,
        referral: referral.map(|referral| referral.submission.clone()),
        expires,
    };
    for basis in release.bases() {
        if let Basis::Consent { id, .. } = basis {
            facts.consents.count_read(of, id);
        }
    }
    Ruled {
        answer: Ok(Reply::Read(Box::new(reply))),
        draft: Some(draft),
        remember: None,
    }
}

fn covered(routing: &[RoutingValue], release: &Release) -> Vec<RoutingValue> {
    routing
        .iter()
        .filter(|value| FieldId::parse(value.field).is_some_and(|field| release.covers(field)))
        .cloned()
        .collect()
}

impl RecordFacts {
    pub(super) async fn load(
        connection: &mut Connection,
        memory: &Memory,
        calls: &[&Call],
    ) -> Result<Self, Error> {
        let mut facts = Self::default();
        let (mut puts, mut reads) = (Vec::new(), Vec::new());
        for call in calls {
            match call {
                Call::Put(call) => puts.push(call.header.binding().record),
                Call::Read(call) => match memory.contents.get(&call.key()) {
                    Some(content) => {
                        facts.contents.insert(call.key(), content);
                    }
                    None => reads.push(call.record),
                },
                Call::Versions(call) => {
                    let rows = visible(connection, call).await?;
                    facts
                        .lists
                        .insert((call.act.agency, call.act.request_sha256), rows);
                }
                Call::Refused(_)
                | Call::Consent(_)
                | Call::Audit(_)
                | Call::Subject(_)
                | Call::Submit(_)
                | Call::Transition(_)
                | Call::Referrals(_)
                | Call::Referral(_) => {}
            }
        }
        if !puts.is_empty() {
            for row in newest(VERSION, &puts).fetch_all(connection).await? {
                let row = parse_version(&row)?;
                facts.newest.insert((row.source, row.record), row);
            }
        }
        if !reads.is_empty() {
            for row in newest(CONTENT, &reads).fetch_all(connection).await? {
                let (key, content) = parse_content(&row)?;
                let content = Arc::new(content);
                memory.contents.keep(key, Arc::clone(&content));
                facts.contents.insert(key, content);
            }
        }
        Ok(facts)
    }

    fn add(&mut self, call: &PutRecord, now: Time) {
        let binding = call.header.binding();
        let row = VersionRow {
            seq: 0,
            case: binding.case,
            record: binding.record,
            version: binding.version,
            source: binding.source,
            header_sha256: call.statement.payload_sha256.to_vec(),
            put: now,
        };
        self.newest.insert(call.key(), row.clone());
        self.put.push(Put {
            row,
            header: call.statement.envelope.clone(),
            sealed: call.sealed.clone(),
            routing: call.routing.clone(),
        });
    }

    pub(super) async fn write(
        self,
        connection: &mut Connection,
        memory: &Memory,
    ) -> Result<(), Error> {
        for put in &self.put {
            memory.contents.forget(&(put.row.source, put.row.record));
        }
        let columns = [
            Bytes("case_id"),
            Bytes("record_id"),
            Number("version"),
            Bytes("source"),
            Bytes("header"),
            Bytes("header_sha256"),
            Bytes("sealed"),
            Bytes("routing"),
            Number("put_time"),
        ];
        let rows = self.put.into_iter().map(|put| {
            let routing = PutRecordRequest {
                routing: put.routing,
                ..Default::default()
            };
            [
                put.row.case.to_vec().into(),
                put.row.record.to_vec().into(),
                put.row.version.into(),
                put.row.source.to_vec().into(),
                put.header.into(),
                put.row.header_sha256.into(),
                put.sealed.into_bytes().into(),
                routing.encode_to_vec().into(),
                put.row.put.millis().into(),
            ]
        });
        referred::put(connection, columns, rows.collect()).await
    }
}

pub(super) const CONTENT: &str =
    "SELECT source, record_id, header, sealed, routing FROM records AS r";

/// The newest version of each record, whichever sources use the id.
pub(super) fn newest<'a>(columns: &'static str, records: &'a [RecordId]) -> Sql<'a> {
    Sql::new(columns)
        .push(" WHERE ")
        .is_one_of(Bytes("r.record_id"), records.iter().map(RecordId::as_bytes))
        .push(
            " AND r.version = (SELECT max(n.version) FROM records AS n \
             WHERE n.source = r.source AND n.record_id = r.record_id)",
        )
}

fn parse_content(row: &Row) -> Result<(RecordKey, Content), Error> {
    let key = (AgencyId::new(row.get(0)?), RecordId::new(row.get(1)?));
    let (header, routing): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(4)?);
    let header = Envelope::decode(header.as_slice()).map_err(damaged)?;
    let wire = RecordHeader::decode(header.payload.as_slice()).map_err(damaged)?;
    let content = Content {
        facts: Header::parse(&wire).map_err(|_| Error::RowNotFound)?,
        header,
        sealed: Slots::stored(row.get(3)?).map_err(damaged)?,
        routing: PutRecordRequest::decode(routing.as_slice())
            .map_err(damaged)?
            .routing,
    };
    Ok((key, content))
}
