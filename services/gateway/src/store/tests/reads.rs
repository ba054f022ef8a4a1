//! Reads of records that were sealed for real.

use std::collections::BTreeMap;

use amanat_desk::Page;
use amanat_schema::{
    catalogue::SCHEMA_VERSION, directory::RetiredKey, policy::HandlingCode,
    record::GuardianConflict, statement::RecordHeader,
};
use amanat_seal::{Binding, Header, SUITE, commit_routing, seal_record, statement::SigningKey};

use super::*;
use record::{ListVersions, PutRecord, Sealed};

pub(super) const RECORD: RecordId = RecordId::new([0x5e; 16]);
const PURPOSE: Purpose = Purpose::Investigation;

impl Gateway {
    /// With a record of the shelter's that the police may read by a consent and a referral.
    pub(super) async fn shared() -> Self {
        let mut gateway = Self::new().await;
        gateway.put_sealed(SHELTER, RECORD, None).await;
        gateway.consent(SHELTER, 1, PURPOSE).await;
        let submitted = gateway.submit(SHELTER, REFERRAL, PURPOSE, NARRATIVE).await;
        let accepted = [Step::Acknowledge, Step::Accept];
        gateway.walk(REFERRAL, submitted.unwrap(), &accepted).await;
        gateway
    }

    /// A version of a record, every leaf of it absent: the first, or the one after another. Returns what the next
    /// one follows.
    pub(super) async fn put_sealed(
        &mut self,
        source: Party,
        record: RecordId,
        after: Option<(u32, [u8; 32])>,
    ) -> (u32, [u8; 32]) {
        let (version, follows) = match &after {
            Some((version, sha256)) => (version + 1, sha256.as_slice()),
            None => (1, &[][..]),
        };
        let binding = Binding {
            case: self.case,
            record,
            version,
            source: self.id(source),
        };
        let values = BTreeMap::new();
        let sealed = seal_record(&binding, &values).unwrap();
        let (commitments, routing) = commit_routing(&binding, &values).unwrap();
        let (message, statement) = self.sign(source, follows, |head| RecordHeader {
            head,
            record_id: record.to_vec(),
            version,
            schema_version: SCHEMA_VERSION,
            suite: SUITE,
            key_commitment: sealed.key_commitment.to_vec(),
            minor_band: MinorBand::Adult.into(),
            guardian_conflict: GuardianConflict::None.into(),
            handling_code: HandlingCode::H0None.into(),
            fields: sealed.fields,
            routing: commitments,
        });
        let put_sha256 = statement.payload_sha256;
        let put = PutRecord {
            act: self.act(source),
            header: Header::parse(&message).unwrap(),
            statement,
            sealed: Sealed::new(&sealed.slots),
            routing,
        };
        self.tell(Call::Put(Box::new(put))).await.unwrap();
        (version, put_sha256)
    }

    /// By the police, of the shelter's narrative.
    pub(super) async fn read(&mut self, record: RecordId) -> Ruled {
        let read = ReadRecord {
            act: self.act(POLICE),
            case: self.case,
            record,
            source: self.id(SHELTER),
            asked: [NARRATIVE, STATUS]
                .map(|path| catalogue::by_path(path).unwrap().id)
                .to_vec(),
            purpose: PURPOSE,
        };
        self.decide(Call::Read(Box::new(read))).await
    }

    /// How many versions the police know of.
    async fn known(&mut self) -> usize {
        let list = ListVersions {
            act: self.act(POLICE),
            case: None,
            record: None,
            source: None,
            page: Page::new(0, 0).unwrap(),
        };
        match self.decide(Call::Versions(list)).await.answer {
            Ok(Reply::Versions { rows, .. }) => rows.len(),
            _ => panic!("a list is answered with a list"),
        }
    }
}

#[tokio::test]
async fn the_records_of_an_agency_that_left_the_directory_are_as_absent_as_any() {
    let mut gateway = Gateway::shared().await;
    let Ok(Reply::Read(read)) = gateway.read(RECORD).await.answer else {
        panic!("a read of what consent and referral open");
    };
    assert_eq!(read.sealed.slots.len(), 1);
    assert!(!read.routing.is_empty(), "in clear");
    assert_eq!(gateway.known().await, 1);

    let mut wire = gateway.parties.wire();
    let shelter = gateway.id(SHELTER).to_vec();
    wire.agencies.retain(|agency| agency.agency_id != shelter);
    gateway.take_into_use(&wire);
    let of_nothing = gateway.read(RecordId::new([0x5f; 16])).await;
    let of_its_own = gateway.read(RECORD).await;
    let told = |ruled: &Ruled| ruled.answer.as_ref().err().unwrap().reason();
    assert_eq!(told(&of_its_own), "ACCESS_DENIED");
    assert_eq!(told(&of_nothing), "ACCESS_DENIED");
    let (mut logged, absent) = (of_its_own.draft.unwrap(), of_nothing.draft.unwrap());
    logged
        .linkage
        .record_id
        .clone_from(&absent.linkage.record_id);
    assert_eq!(logged.linkage, absent.linkage);
    assert_eq!((logged.body, logged.reasons), (absent.body, absent.reasons));
    assert_eq!(gateway.known().await, 0);
}

#[tokio::test]
async fn a_referral_that_somebody_else_may_have_signed_brings_nothing() {
    let mut gateway = Gateway::shared().await;
    let shelter = gateway.id(SHELTER).to_vec();
    let new = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().unwrap()).unwrap();
    let mut wire = gateway.parties.wire();
    let listed = wire.agencies.iter_mut();
    let listed = listed
        .zip(0..)
        .find(|(agency, _)| agency.agency_id == shelter);
    let (agency, at) = listed.unwrap();
    let old = std::mem::replace(&mut agency.statement_keys, vec![new.public_key().to_vec()]);
    let mut retired = RetiredKey {
        public_key: old[0].clone(),
        retired_time: Some(now().to_timestamp()),
        compromised_since_time: None,
    };
    for (compromised, opens) in [(false, true), (true, false)] {
        retired.compromised_since_time = compromised.then(|| now().to_timestamp());
        wire.agencies[at].retired_statement_keys = vec![retired.clone()];
        gateway.take_into_use(&wire);
        let read = gateway.read(RECORD).await.answer;
        match read {
            Ok(Reply::Read(read)) => assert!(opens && !read.routing.is_empty()),
            Ok(_) => panic!("a read is answered with a read"),
            Err(refusal) => assert!(!opens && refusal.reason() == "ACCESS_DENIED"),
        }
    }
}
