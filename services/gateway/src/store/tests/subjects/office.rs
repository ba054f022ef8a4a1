//! A gateway's SubjectService over its own files, which outlive it.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use amanat_database::{Connection, Engine, Place, Sql};
use amanat_desk::{Desk, Rulebook, Rules};
use amanat_identity::{Caller, Directory, TokenVerifier, token::Audience};
use amanat_journal::{Config, Keys as LogKeys};
use amanat_policy::DecisionTable;
use amanat_schema::{
    directory::OprfKey,
    policy::Right,
    subject::{
        CanaryHit, EpochToken, EvaluationReason, FindSubjectRequest, FindSubjectResponse,
        IdentifierDomain, IdentifierTokens, ListCanaryHitsRequest, ListMergesRequest, Merge,
        MergeStatus, MergeSubjectsRequest, PlantCanaryRequest, SplitSubjectsRequest,
        SubjectIdentifierType, subject_service_server::SubjectService as _,
    },
};
use amanat_seal::{
    WrapKey,
    pseudonym::{HandleKey, Peppers, PseudonymKey},
    sha256,
};
use amanat_server::Guard;
use tempfile::TempDir;
use tokio::{sync::Notify, task::JoinHandle};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;
use zeroize::Zeroizing;

use super::super::{
    Party, config, database,
    support::{Exchange as Parties, now, officer},
};
use crate::{
    GatewayError, advance_peppers,
    store::{Exchange, subject::Keys},
    subject::SubjectDesk,
    watch_canaries,
};

pub(super) type Kind = SubjectIdentifierType;

/// What an operator configures.
pub(super) struct Setting {
    pub(super) peppers: &'static [u8],
    pub(super) pseudonym_key: u8,
    /// That the directory lists, of every domain.
    pub(super) epochs: &'static [u32],
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            peppers: &[1],
            pseudonym_key: 100,
            epochs: &[1],
        }
    }
}

/// Who takes part, and the gateway's files.
pub(super) struct House {
    pub(super) parties: Parties,
    /// Of who owns the database; the gateway has fewer rights.
    owner: Place,
    place: Place,
    folder: TempDir,
}

/// A gateway that is up.
pub(super) struct Office<'a> {
    pub(super) desk: SubjectDesk,
    parties: &'a Parties,
    epochs: &'static [u32],
    watch: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
}

pub(super) fn request_id() -> Vec<u8> {
    amanat_seal::random::<16>().unwrap().to_vec()
}

/// As whoever holds the OPRF key computes it.
pub(super) fn token(kind: SubjectIdentifierType, value: &str, epoch: u32) -> [u8; 64] {
    let of = |half: u8| sha256(format!("{half} {epoch} {kind:?} {value}").as_bytes());
    [of(1), of(2)].concat().try_into().unwrap()
}

pub(super) fn identifier(
    kind: SubjectIdentifierType,
    value: &str,
    epochs: &[u32],
) -> IdentifierTokens {
    let tokens = epochs.iter().map(|epoch| EpochToken {
        epoch: *epoch,
        token: token(kind, value, *epoch).to_vec(),
    });
    IdentifierTokens {
        r#type: kind.into(),
        tokens: tokens.collect(),
    }
}

pub(super) fn peppers(seeds: &[u8]) -> Peppers {
    let keys = seeds.iter().map(|seed| Zeroizing::new([*seed; 32]));
    Peppers::from_keys(keys.collect()).unwrap()
}

/// The published reason of a refusal.
pub(super) fn reason(status: &Status) -> String {
    status
        .get_error_details()
        .error_info()
        .unwrap()
        .reason
        .clone()
}

impl House {
    pub(super) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let owner = database::fresh(folder.path(), "gateway.db").await;
        let house = Self {
            parties: Parties::new(),
            place: database::for_service(&owner).await,
            owner,
            folder,
        };
        let config = house.config("checkpoint");
        amanat_journal::init(&config, Some(&house.owner))
            .await
            .unwrap();
        house
    }

    fn config(&self, checkpoint: &str) -> Config {
        Config {
            checkpoint_file: self.folder.path().join(checkpoint),
            ..config(self.place.clone(), self.folder.path())
        }
    }

    fn directory(&self, epochs: &[u32]) -> Directory {
        let domains = [IdentifierDomain::Victim, IdentifierDomain::Composite];
        let keys = domains.into_iter().flat_map(|domain| {
            epochs.iter().map(move |epoch| OprfKey {
                domain: domain.into(),
                epoch: *epoch,
                public_key: sha256(format!("{domain:?} {epoch}").as_bytes()).to_vec(),
            })
        });
        let mut wire = self.parties.wire();
        wire.oprf_keys = keys.collect();
        Directory::verify(&self.parties.publish(&wire), &self.parties.pinned()).unwrap()
    }

    /// As `serve` does it.
    pub(super) async fn open(&self, setting: &Setting) -> Result<Office<'_>, GatewayError> {
        self.open_beside(setting, "checkpoint").await
    }

    /// A replica with a checkpoint file of its own.
    pub(super) async fn open_beside(
        &self,
        setting: &Setting,
        checkpoint: &str,
    ) -> Result<Office<'_>, GatewayError> {
        let table = include_str!("../../../../../../deploy/policies/decision-table.txt");
        let rules = Rulebook::new(Rules {
            directory: Arc::new(self.directory(setting.epochs)),
            table: DecisionTable::parse(table).unwrap(),
            table_sha256: sha256(table.as_bytes()),
            since: now(),
            previous: None,
        });
        let peppers = Arc::new(peppers(setting.peppers));
        let book = Exchange {
            rules: rules.clone(),
            subjects: Keys {
                peppers: Arc::clone(&peppers),
                pseudonyms: PseudonymKey::from_bytes(&[setting.pseudonym_key; 32]).unwrap(),
                outdated: Arc::default(),
            },
            memory: crate::store::Memory::default(),
        };
        let wrap = || WrapKey::from_bytes(&[7; 32]).unwrap();
        let keys = LogKeys {
            signer: self.parties.gateway.log_signer(),
            openings: wrap(),
        };
        let opened =
            amanat_journal::open(&self.config(checkpoint), keys, book, Arc::new(now)).await?;
        advance_peppers(&opened.journal).await?;
        let answered = Arc::new(Notify::new());
        let watch = watch_canaries(opened.journal.clone(), rules.clone(), Arc::clone(&answered));
        let guard = Guard::new(
            self.parties.trusted_without_lists(),
            TokenVerifier::new(Audience::Gateway),
            Arc::new(now),
        );
        let desk = Desk {
            guard,
            rules,
            journal: opened.journal,
            reader: opened.reader,
            openings: Arc::new(wrap()),
        };
        Ok(Office {
            desk: SubjectDesk {
                desk,
                peppers,
                handles: HandleKey::from_bytes(&[7; 32]).unwrap(),
                answered,
            },
            parties: &self.parties,
            epochs: setting.epochs,
            watch: tokio::spawn(watch),
            tasks: opened.tasks,
        })
    }

    pub(super) async fn database(&self) -> Connection {
        self.owner.connect().await.unwrap()
    }

    pub(super) async fn count(&self, table: &'static str) -> i64 {
        self.tables().await[table].len().try_into().unwrap()
    }

    /// Every row of every table, each column as hexadecimal text.
    pub(super) async fn tables(&self) -> BTreeMap<String, Vec<Vec<String>>> {
        let mut database = self.database().await;
        let names = Sql::default().per(
            "SELECT name FROM sqlite_schema WHERE type = 'table'",
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema",
        );
        let mut tables = BTreeMap::new();
        for name in texts(names, &mut database).await {
            let columns = match database.engine() {
                Engine::Sqlite => {
                    format!("SELECT 'hex(' || name || ')' FROM pragma_table_info('{name}')")
                }
                Engine::Postgres => format!(
                    "SELECT 'upper(encode(' || CASE data_type WHEN 'bytea' THEN column_name \
                     ELSE 'convert_to(' || column_name || '::text, ''UTF8'')' END || ', ''hex''))' \
                     FROM information_schema.columns \
                     WHERE table_schema = current_schema AND table_name = '{name}' ORDER BY ordinal_position"
                ),
            };
            let columns = texts(Sql::new(columns), &mut database).await;
            let all = columns.iter().map(|hex| format!("coalesce({hex}, '')"));
            let all = all.collect::<Vec<_>>().join(" || ' ' || ");
            let rows = texts(Sql::new(format!("SELECT {all} FROM {name}")), &mut database).await;
            let rows = rows
                .iter()
                .map(|row| row.split(' ').map(str::to_owned).collect());
            tables.insert(name, rows.collect());
        }
        database.close().await.unwrap();
        tables
    }

    /// All that lies in the gateway's folder, the write-ahead log too; of servers, all that stands in the tables.
    pub(super) async fn stolen(&self) -> Vec<u8> {
        if let Place::Postgres(_) = self.place {
            let tables = self.tables().await.into_values();
            let values = tables.flatten().flatten();
            return values
                .flat_map(|value| hex::decode(value).unwrap())
                .collect();
        }
        let path: &Path = self.folder.path();
        let files = fs::read_dir(path).unwrap();
        files
            .flat_map(|file| fs::read(file.unwrap().path()).unwrap())
            .collect()
    }
}

impl Office<'_> {
    /// Ends as a service does.
    pub(super) async fn close(self) {
        self.watch.abort();
        self.watch.await.ok();
        drop(self.desk);
        for task in self.tasks {
            task.await.unwrap();
        }
    }

    pub(super) fn caller(&self, party: Party, name: &str, rights: &[Right]) -> Caller {
        let agency = party(self.parties);
        let mut officer = officer(rights);
        name.clone_into(&mut officer.id);
        Caller {
            agency: agency.id,
            kind: agency.kind,
            certificate_sha256: agency.client.sha256(),
            officer: Arc::new(officer),
        }
    }

    pub(super) fn worker(&self, party: Party) -> Caller {
        self.caller(party, "officer 7", &[Right::CaseWorker])
    }

    pub(super) fn supervisor(&self, party: Party) -> Caller {
        self.caller(party, "officer 8", &[Right::Supervisor])
    }

    pub(super) fn auditor(&self, party: Party) -> Caller {
        self.caller(party, "officer 9", &[Right::Auditor])
    }

    /// Another of its auditors.
    pub(super) fn colleague(&self, party: Party) -> Caller {
        self.caller(party, "officer 10", &[Right::Auditor])
    }

    pub(super) async fn plant(
        &self,
        caller: &Caller,
        identifier: IdentifierTokens,
        label: &str,
    ) -> Result<(), String> {
        let request = PlantCanaryRequest {
            request_id: request_id(),
            identifier: Some(identifier),
            label: label.to_owned(),
            nonce: vec![3; 32],
        };
        let planted = self.desk.plant_canary(by(caller, request)).await;
        planted.map(drop).map_err(|status| reason(&status))
    }

    pub(super) async fn hits(&self, party: Party) -> Vec<CanaryHit> {
        let request = by(&self.auditor(party), ListCanaryHitsRequest::default());
        let listed = self.desk.list_canary_hits(request).await;
        listed.unwrap().into_inner().hits
    }

    pub(super) fn identifier(&self, kind: SubjectIdentifierType, value: &str) -> IdentifierTokens {
        identifier(kind, value, self.epochs)
    }

    /// Of an intake.
    pub(super) fn find_request(
        &self,
        identifiers: &[(SubjectIdentifierType, &str)],
    ) -> FindSubjectRequest {
        let identifiers = identifiers
            .iter()
            .map(|(kind, value)| self.identifier(*kind, value));
        FindSubjectRequest {
            request_id: request_id(),
            identifiers: identifiers.collect(),
            nonce: amanat_seal::random::<32>().unwrap().to_vec(),
            reason: EvaluationReason::Intake.into(),
        }
    }

    pub(super) fn search_request(
        &self,
        identifiers: &[(SubjectIdentifierType, &str)],
    ) -> FindSubjectRequest {
        FindSubjectRequest {
            reason: EvaluationReason::Search.into(),
            ..self.find_request(identifiers)
        }
    }

    async fn answer(
        &self,
        caller: &Caller,
        request: FindSubjectRequest,
    ) -> Result<FindSubjectResponse, Status> {
        let answered = self.desk.find_subject(by(caller, request)).await;
        answered.map(tonic::Response::into_inner)
    }

    pub(super) async fn send_as(
        &self,
        caller: &Caller,
        request: FindSubjectRequest,
    ) -> Result<FindSubjectResponse, String> {
        let answered = self.answer(caller, request).await;
        answered.map_err(|status| reason(&status))
    }

    /// By a case worker.
    pub(super) async fn send(
        &self,
        party: Party,
        request: FindSubjectRequest,
    ) -> Result<FindSubjectResponse, String> {
        self.send_as(&self.worker(party), request).await
    }

    pub(super) async fn violations(
        &self,
        party: Party,
        request: FindSubjectRequest,
    ) -> Vec<String> {
        let refused = self.answer(&self.worker(party), request).await.unwrap_err();
        let details = refused.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        violations.iter().map(|v| v.field.clone()).collect()
    }

    /// At an intake.
    pub(super) async fn find(
        &self,
        party: Party,
        identifiers: &[(SubjectIdentifierType, &str)],
    ) -> Result<String, String> {
        let answered = self.send(party, self.find_request(identifiers)).await?;
        Ok(answered.pseudonym)
    }

    pub(super) async fn search(
        &self,
        party: Party,
        identifiers: &[(SubjectIdentifierType, &str)],
    ) -> Result<String, String> {
        let answered = self.send(party, self.search_request(identifiers)).await?;
        Ok(answered.pseudonym)
    }

    pub(super) async fn merges(&self, party: Party) -> Vec<Merge> {
        self.merges_that_are(party, MergeStatus::Unspecified).await
    }

    pub(super) async fn merges_that_are(&self, party: Party, status: MergeStatus) -> Vec<Merge> {
        let request = ListMergesRequest {
            status: status.into(),
            ..ListMergesRequest::default()
        };
        let request = by(&self.worker(party), request);
        self.desk
            .list_merges(request)
            .await
            .unwrap()
            .into_inner()
            .merges
    }

    pub(super) async fn merge(&self, party: Party, into: &str, from: &str) -> Result<(), String> {
        let request = MergeSubjectsRequest {
            request_id: request_id(),
            into: into.to_owned(),
            from: from.to_owned(),
        };
        let request = by(&self.supervisor(party), request);
        let answered = self.desk.merge_subjects(request).await;
        answered.map(drop).map_err(|status| reason(&status))
    }

    pub(super) async fn split(&self, party: Party, one: &str, other: &str) -> Result<(), String> {
        let request = SplitSubjectsRequest {
            request_id: request_id(),
            one: one.to_owned(),
            other: other.to_owned(),
        };
        let request = by(&self.supervisor(party), request);
        let answered = self.desk.split_subjects(request).await;
        answered.map(drop).map_err(|status| reason(&status))
    }
}

async fn texts(sql: Sql<'_>, database: &mut Connection) -> Vec<String> {
    let rows = sql.fetch_all(database).await.unwrap();
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

pub(super) fn by<T>(caller: &Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller.clone());
    request
}
