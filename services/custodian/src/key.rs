//! KeyService, the edge: parse, one verb, render.

use std::{collections::BTreeSet, sync::Arc};

use amanat_desk::{Answered, Desk, Stored, reload::Reload};
use amanat_ledger::Head;
use amanat_schema::{
    CaseId, RequestId, Violation,
    audit::{Action, Linkage, Receipt},
    catalogue::{self, FieldId},
    key::{
        ActivateKeyRequest, ActivateKeyResponse, DepositKeyRequest, DepositKeyResponse, FieldKey,
        GetObservedHeadRequest, GetObservedHeadResponse, ReleaseKeysRequest, ReleaseKeysResponse,
        key_service_server::KeyService,
    },
    policy::Right,
    statement::{Envelope, ObservedHead, RecordHeader},
};
use amanat_seal::{Header, RecordKey, SealError, statement::SigningKey};
use amanat_server::Refusal;
use prost::Message as _;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use crate::{
    follower::{Brought, Followed, Follower},
    kek::Kek,
    proofs::Proofs,
    store::{
        Call, Custody, Reply, Shown, Unseen,
        deposit::{ActivateKey, DepositKey},
        release::{self, ReleaseKeys, Released},
    },
};

pub(crate) struct KeyDesk {
    pub(crate) desk: Desk<Custody>,
    pub(crate) kek: Kek,
    pub(crate) follower: Follower,
    pub(crate) proofs: Proofs,
    pub(crate) statement_key: Arc<SigningKey>,
    /// So that rules which the gateway has already are looked for before they are called unknown.
    pub(crate) reload: Arc<Reload>,
}

/// How often a checkpoint is followed for one call.
const TRIES: usize = 8;
const DEPOSITORS: [Right; 1] = [Right::CaseWorker];
const READERS: [Right; 2] = [Right::CaseWorker, Right::EvidenceOfficer];

#[tonic::async_trait]
impl KeyService for KeyDesk {
    async fn deposit_key(
        &self,
        mut request: Request<DepositKeyRequest>,
    ) -> Result<Response<DepositKeyResponse>, Status> {
        let wire = request.get_ref();
        let delivered = self.desk.delivered::<_, RecordHeader>(
            &request,
            "DepositKey",
            &wire.request_id,
            wire.header.as_ref(),
        );
        // Out of the request before anything can fail, so that it is wiped.
        let key = Zeroizing::new(std::mem::take(&mut request.get_mut().record_key));
        let (act, signed) = delivered?;
        let case = signed.head().case;
        self.desk
            .authorise(&act, Action::DepositKey, &DEPOSITORS, || of_case(case))
            .await?;
        let header = Header::parse(signed.message()).map_err(Refusal::invalid)?;
        let wrapped = self.wrap(&header, key)?;
        let statement = Stored::from(&signed);
        let deposit = DepositKey {
            act,
            header,
            statement,
            wrapped,
        };
        let answered = self.desk.call(Call::Deposit(Box::new(deposit))).await?;
        let Reply::Deposited(receipt) = answered.reply else {
            // A deposit is answered with its receipt.
            return Err(Refusal::audit_unavailable().into());
        };
        let deposit_receipt =
            Envelope::decode(receipt.as_slice()).map_err(|_| Refusal::audit_unavailable())?;
        Ok(Response::new(DepositKeyResponse {
            deposit_receipt: Some(deposit_receipt),
            receipt: Some(answered.receipt),
        }))
    }

    async fn activate_key(
        &self,
        request: Request<ActivateKeyRequest>,
    ) -> Result<Response<ActivateKeyResponse>, Status> {
        let mut act = self.desk.asked(&request)?;
        self.desk
            .authorise(&act, Action::ActivateKey, &DEPOSITORS, Linkage::default)
            .await?;
        let wire = request.get_ref();
        act.request = Some(("ActivateKey", request_id(&wire.request_id)?));
        let put = self.shown(wire.put_receipt.as_ref(), "put_receipt")?;
        let activate = Arc::new(ActivateKey { act, put });
        let answered = self
            .decide(&activate.put, |unseen| {
                Call::Activate(Arc::clone(&activate), unseen)
            })
            .await?;
        Ok(Response::new(ActivateKeyResponse {
            receipt: Some(answered.receipt),
        }))
    }

    async fn release_keys(
        &self,
        request: Request<ReleaseKeysRequest>,
    ) -> Result<Response<ReleaseKeysResponse>, Status> {
        let act = self.desk.asked(&request)?;
        self.desk
            .authorise(&act, Action::ReleaseKeys, &READERS, Linkage::default)
            .await?;
        let wire = request.into_inner();
        request_id(&wire.request_id)?;
        let fields = parse_fields(&wire).map_err(Refusal::invalid)?;
        let read = self.shown(wire.read_receipt.as_ref(), "read_receipt")?;
        let now = (self.desk.guard.clock)();
        if release::names_newer_rules(&read, &act, &self.desk.rules.current(), now) {
            self.reload.soon().await;
        }
        let rules = self.desk.rules.current();
        let directory = &rules.directory;
        let referral = wire
            .referral
            .map(|referral| self.proofs.referral(&referral, directory, now));
        let officer = wire.officer.unwrap_or_default();
        let release = Arc::new(ReleaseKeys::new(act, read, officer, referral, fields));
        let answered = self
            .decide(&release.read, |unseen| {
                Call::Release(Arc::clone(&release), unseen)
            })
            .await?;
        let Reply::Released(released) = answered.reply else {
            // A release is answered with what is released.
            return Err(Refusal::audit_unavailable().into());
        };
        let keys = self.derive(&released).map_err(|_| {
            tracing::error!(record = %released.binding.record, "a wrapped key is damaged");
            Refusal::audit_unavailable()
        })?;
        Ok(Response::new(ReleaseKeysResponse {
            keys,
            receipt: Some(answered.receipt),
        }))
    }

    async fn get_observed_head(
        &self,
        request: Request<GetObservedHeadRequest>,
    ) -> Result<Response<GetObservedHeadResponse>, Status> {
        amanat_server::peer(&request)?;
        let rules = self.desk.rules.current();
        let directory = &rules.directory;
        let seen = self.follower.newest();
        let head = seen.as_ref().map_or(Head::EMPTY, |seen| seen.head);
        let observed = ObservedHead {
            exchange_id: directory.exchange_id().to_owned(),
            origin: directory.gateway().log.origin().to_owned(),
            size: head.size,
            root: head.root.0.to_vec(),
            observe_time: seen.as_ref().map(|seen| seen.at.to_timestamp()),
            checkpoint: seen.map(|seen| seen.note).unwrap_or_default(),
        };
        Ok(Response::new(GetObservedHeadResponse {
            observed_head: Some(self.statement_key.sign(&observed)),
        }))
    }
}

impl KeyDesk {
    /// Takes the key, so that it is wiped before the deposit waits for its commit.
    fn wrap(&self, header: &Header, key: Zeroizing<Vec<u8>>) -> Result<Vec<u8>, Refusal> {
        let key =
            RecordKey::from_bytes(&key).map_err(|_| Refusal::field("record_key", "32 bytes"))?;
        if !header.fits(&key) {
            let expected = "the key that the header commits to";
            return Err(Refusal::field("record_key", expected));
        }
        self.kek
            .wrap(header.binding(), &key)
            .map_err(|_| Refusal::audit_unavailable())
    }

    /// Verifies a receipt of the gateway's log.
    fn shown(&self, receipt: Option<&Receipt>, path: &str) -> Result<Shown, Refusal> {
        let expected = "a receipt of the gateway's log";
        let receipt = receipt.ok_or_else(|| Refusal::field(path, expected))?;
        let rules = self.desk.rules.current();
        Ok(self.proofs.receipt(receipt, &rules.directory.gateway().log))
    }

    /// Decides what rests on a receipt once its checkpoint is observed. Another replica may move the head first, and
    /// then it is followed again: the head has come further each time, and what it has passed cannot lose any more.
    async fn decide(
        &self,
        shown: &Shown,
        call: impl Fn(Unseen) -> Call,
    ) -> Result<Answered<Reply>, Status> {
        if let Ok(proven) = shown {
            let mut brought = Brought::First;
            for _ in 0..TRIES {
                let followed = self.follower.observe(&proven.checkpoint, brought).await;
                if followed == Followed::InVain {
                    break;
                }
                let committed = self.desk.commit(call(Unseen::Waits)).await?;
                if !matches!(committed.answer, Ok(Reply::Unseen)) {
                    return Desk::<Custody>::answered(committed);
                }
                brought = Brought::Again;
            }
        }
        self.desk.call(call(Unseen::IsRefused)).await
    }

    fn derive(&self, released: &Released) -> Result<Vec<FieldKey>, SealError> {
        let key = self.kek.unwrap(&released.binding, &released.wrapped)?;
        let derived = released.fields.iter().map(|field| FieldKey {
            field: field.number(),
            key: key.field_key(&released.binding, *field).expose().to_vec(),
        });
        Ok(derived.collect())
    }
}

fn parse_fields(wire: &ReleaseKeysRequest) -> Result<BTreeSet<FieldId>, Vec<Violation>> {
    let violation = |path: String, expected: &str| Violation {
        path,
        expected: expected.to_owned(),
    };
    let paths = wire.fields.as_ref().map_or(&[][..], |mask| &mask.paths);
    let (mut fields, mut violations) = (BTreeSet::new(), Vec::new());
    for (at, path) in paths.iter().enumerate() {
        match catalogue::by_path(path).filter(|field| field.is_sealed()) {
            Some(field) if fields.insert(field.id) => {}
            _ => violations.push(violation(
                format!("fields.paths[{at}]"),
                "a sealed leaf of the shared record that is not listed before",
            )),
        }
    }
    if paths.is_empty() {
        violations.push(violation("fields".to_owned(), "at least one leaf path"));
    }
    if violations.is_empty() {
        Ok(fields)
    } else {
        Err(violations)
    }
}

fn request_id(bytes: &[u8]) -> Result<RequestId, Refusal> {
    RequestId::parse(bytes).map_err(|_| Refusal::field("request_id", "16 random bytes"))
}

fn of_case(case: CaseId) -> Linkage {
    Linkage {
        case_id: case.to_vec(),
        ..Linkage::default()
    }
}
