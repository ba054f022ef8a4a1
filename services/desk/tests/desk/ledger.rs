//! A consent ledger of its own, as each server keeps one, without the log around it.

use std::{collections::BTreeSet, sync::Arc};

use amanat_desk::{
    Act, Page, Rules, StatementFacts, Stored,
    consent::{
        self, ConsentCall, ConsentFacts, ConsentReply, ListConsents, Listed, RecordConsent,
        RememberedConsents, SourceCase, WithdrawConsent,
    },
};
use amanat_identity::{Directory, Signed, statement::AgencyStatement};
use amanat_journal::{Config, Ruling};
use amanat_policy::{DecisionTable, Grant};
use amanat_schema::{
    AgencyId, CaseId, ConsentId, Time,
    consent::ConsentStatus,
    policy::{Purpose, Right},
    statement::{Consent, ConsentDecision, StatementHead, Withdrawal},
};
use amanat_server::Refusal;
use prost::Name;
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::support::{Agency, Exchange, now, officer};

pub(crate) type Ruled = Ruling<Result<ConsentReply, Refusal>>;

pub(crate) fn rules(exchange: &Exchange) -> Rules {
    let table = include_str!("../../../../deploy/policies/decision-table.txt");
    Rules {
        directory: Arc::new(exchange.directory()),
        table: DecisionTable::parse(table).unwrap(),
        table_sha256: amanat_seal::sha256(table.as_bytes()),
        since: now(),
        previous: None,
    }
}

/// An officer's act of an agency; `words` stand for the request.
pub(crate) fn act(agency: &Agency, rights: &[Right], words: u8) -> Act {
    Act {
        agency: agency.id,
        kind: agency.kind,
        certificate_sha256: agency.client.sha256(),
        officer: Arc::new(officer(rights)),
        request_sha256: [words; 32],
        request: None,
    }
}

/// A fresh database with the journal's and the desk's tables.
pub(crate) async fn database() -> (TempDir, SqliteConnection) {
    let folder = TempDir::new().unwrap();
    let config = Config {
        database: folder.path().join("desk.db"),
        checkpoint_file: folder.path().join("checkpoint"),
        waiting_per_agency: amanat_server::Limits::default().waiting_per_agency,
        migrations: &[
            amanat_desk::MIGRATIONS[0],
            amanat_journal::ENTRY_TIMES,
            amanat_desk::MIGRATIONS[1],
            amanat_journal::REQUESTS_BY_KEY,
        ],
    };
    amanat_journal::init(&config).await.unwrap();
    let options = SqliteConnectOptions::new().filename(&config.database);
    (
        folder,
        SqliteConnection::connect_with(&options).await.unwrap(),
    )
}

/// The shelter is the source of case 1; statements are numbered by their test.
pub(crate) struct Ledger {
    pub(crate) exchange: Exchange,
    rules: Rules,
    connection: SqliteConnection,
    remembered: RememberedConsents,
    _folder: TempDir,
}

pub(crate) fn case(n: u8) -> CaseId {
    CaseId::new([n; 16])
}

pub(crate) fn consent_id(n: u8) -> ConsentId {
    ConsentId::new([n; 16])
}

impl Ledger {
    pub(crate) async fn new() -> Self {
        let exchange = Exchange::new();
        let (folder, connection) = database().await;
        Self {
            rules: rules(&exchange),
            exchange,
            connection,
            remembered: amanat_desk::consent::remembered(),
            _folder: folder,
        }
    }

    fn head(&self, signer: &Agency, of: u8, statement: u8) -> StatementHead {
        StatementHead {
            case_id: case(of).to_vec(),
            ..signer.head(statement, "", now())
        }
    }

    fn stored<M: AgencyStatement + Name>(&self, signer: &Agency, message: &M) -> Stored {
        let envelope = signer.statement_key.sign(message);
        let signed = Signed::<M>::verify_envelope(&envelope, &self.rules.directory).unwrap();
        Stored::from(&signed)
    }

    /// A consent for a year, spoiled before it is signed.
    pub(crate) fn consent(
        &self,
        (source, recipient): (&Agency, &Agency),
        of: u8,
        statement: u8,
        id: u8,
        change: impl FnOnce(&mut Consent),
    ) -> ConsentCall {
        let mut message = Consent {
            head: Some(self.head(source, of, statement)),
            consent_id: consent_id(id).to_vec(),
            decision: ConsentDecision::Permit.into(),
            paths: vec!["trafficking.narrative".to_owned()],
            recipient_id: recipient.id.to_vec(),
            source_id: source.id.to_vec(),
            purpose: Purpose::VictimSupport.into(),
            valid_from_time: Some(now().to_timestamp()),
            expire_time: Some((now() + std::time::Duration::from_secs(86_400)).to_timestamp()),
            evidence_sha256: vec![0xe0; 32],
            ..Consent::default()
        };
        change(&mut message);
        ConsentCall::Record(RecordConsent {
            act: act(source, &[Right::CaseWorker], statement),
            terms: amanat_policy::parse_consent(&message).unwrap(),
            statement: self.stored(source, &message),
            evidence: Vec::new(),
        })
    }

    /// By the shelter for the police, in case 1.
    pub(crate) fn plain(&self, statement: u8, id: u8) -> ConsentCall {
        self.plain_in(1, statement, id)
    }

    pub(crate) fn plain_in(&self, of: u8, statement: u8, id: u8) -> ConsentCall {
        let parties = (&self.exchange.shelter, &self.exchange.police);
        self.consent(parties, of, statement, id, |_| {})
    }

    pub(crate) fn withdrawal(&self, signer: &Agency, of: u8, statement: u8, id: u8) -> ConsentCall {
        let message = Withdrawal {
            head: Some(self.head(signer, of, statement)),
            consent_id: consent_id(id).to_vec(),
        };
        ConsentCall::Withdraw(WithdrawConsent {
            act: act(signer, &[Right::CaseWorker], statement),
            case: case(of),
            consent: consent_id(id),
            statement: self.stored(signer, &message),
        })
    }

    /// Decides calls in one transaction.
    pub(crate) async fn decide(&mut self, calls: &[ConsentCall], now: Time) -> Vec<Ruled> {
        let mut transaction = self.connection.begin().await.unwrap();
        let ids = calls
            .iter()
            .filter_map(ConsentCall::statement)
            .map(|statement| statement.id);
        let mut statements = StatementFacts::load(&mut transaction, ids).await.unwrap();
        let borrowed: Vec<_> = calls.iter().collect();
        let mut facts = ConsentFacts::load(
            &mut transaction,
            &self.remembered,
            BTreeSet::new(),
            &borrowed,
        )
        .await
        .unwrap();
        let rulings = calls
            .iter()
            .map(|call| consent::decide(&mut facts, &mut statements, &self.rules, call, now))
            .collect();
        statements.write(&mut transaction).await.unwrap();
        facts
            .write(&mut transaction, &self.remembered)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        rulings
    }

    /// The public reason of a refusal, or nothing.
    pub(crate) async fn tell(&mut self, call: ConsentCall) -> Result<(), &'static str> {
        let ruling = self.decide(&[call], now()).await.pop().unwrap();
        ruling.answer.map(drop).map_err(|refusal| refusal.reason())
    }

    /// Whose consents a withdrawal closes.
    pub(crate) async fn closes(&mut self, call: ConsentCall) -> BTreeSet<AgencyId> {
        let ruling = self.decide(&[call], now()).await.pop().unwrap();
        match ruling.answer {
            Ok(ConsentReply::Withdrawn(closed)) => {
                closed.iter().map(|terms| terms.source).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Gives case 1 so many consents and withdrawals of the shelter.
    pub(crate) async fn fill(&mut self, count: i64) {
        let ConsentCall::Record(call) = self.plain(0xff, 0xff) else {
            panic!("a consent");
        };
        // Behind the ledger's back.
        self.remembered.forget(&(self.exchange.shelter.id, case(1)));
        let (case, shelter) = (case(1).to_vec(), self.exchange.shelter.id.to_vec());
        sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
             INSERT INTO consents (case_id, consent_id, source, recipient, envelope, \
             payload_sha256, evidence, record_time, reads) \
             SELECT $2, randomblob(16), $3, $3, $4, zeroblob(32), x'', 0, 0 FROM n",
        )
        .bind(count)
        .bind(case.as_slice())
        .bind(shelter.as_slice())
        .bind(call.statement.envelope)
        .execute(&mut self.connection)
        .await
        .unwrap();
        sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
             INSERT INTO withdrawals (case_id, consent_id, agency, envelope, withdraw_time) \
             SELECT $2, randomblob(16), $3, x'', 0 FROM n",
        )
        .bind(count)
        .bind(case)
        .bind(shelter)
        .execute(&mut self.connection)
        .await
        .unwrap();
    }

    /// What decisions on the shelter's records in a case rest on, after so many reads on each consent.
    pub(crate) async fn grants(&mut self, of: u8, reads: u32) -> Vec<Grant> {
        self.grants_of((self.exchange.shelter.id, case(of)), reads)
            .await
    }

    /// The same on another source's records.
    pub(crate) async fn grants_of(&mut self, of: SourceCase, reads: u32) -> Vec<Grant> {
        let mut facts =
            ConsentFacts::load(&mut self.connection, &self.remembered, [of].into(), &[])
                .await
                .unwrap();
        for _ in 0..reads {
            for grant in facts.grants(of).to_vec() {
                facts.count_read(of, grant.terms.consent);
            }
        }
        let grants = facts.grants(of).to_vec();
        facts
            .write(&mut self.connection, &self.remembered)
            .await
            .unwrap();
        grants
    }

    /// Which of the shelter's consents in case 1 count by a directory, and whether a later one lifts them.
    pub(crate) async fn counting(&mut self, directory: &Directory) -> Vec<(ConsentId, bool)> {
        let of = (self.exchange.shelter.id, case(1));
        let facts = ConsentFacts::load(&mut self.connection, &self.remembered, [of].into(), &[])
            .await
            .unwrap();
        let counting = facts.counting(of, directory);
        let counting = counting.iter();
        counting
            .map(|grant| (grant.terms.consent, grant.superseded))
            .collect()
    }

    pub(crate) fn list(&self, reader: &Agency, of: Option<u8>, page: Page) -> ConsentCall {
        self.list_by(reader, page, |list| list.case = of.map(case))
    }

    /// With filters.
    pub(crate) fn list_by(
        &self,
        reader: &Agency,
        page: Page,
        filter: impl FnOnce(&mut ListConsents),
    ) -> ConsentCall {
        let mut list = ListConsents {
            act: act(reader, &[Right::CaseWorker], 0xaa),
            case: None,
            recipient: None,
            purpose: None,
            page,
        };
        filter(&mut list);
        ConsentCall::List(list)
    }

    /// What a reader sees of the first consents.
    pub(crate) async fn listed(
        &mut self,
        call: ConsentCall,
        now: Time,
    ) -> (Vec<Listed>, Option<i64>) {
        listed(self.decide(&[call], now).await.pop().unwrap())
    }

    /// The statuses of a case's consents as their source and as the police is told.
    pub(crate) async fn told(&mut self, at: Time) -> [Vec<ConsentStatus>; 2] {
        let page = Page::new(0, 0).unwrap();
        let calls = [
            self.list(&self.exchange.shelter, Some(1), page),
            self.list(&self.exchange.police, Some(1), page),
        ];
        let mut statuses = self.decide(&calls, at).await.into_iter().map(|ruling| {
            listed(ruling)
                .0
                .into_iter()
                .map(|consent| consent.status)
                .collect()
        });
        [statuses.next().unwrap(), statuses.next().unwrap()]
    }
}

pub(crate) fn listed(ruling: Ruled) -> (Vec<Listed>, Option<i64>) {
    match ruling.answer {
        Ok(ConsentReply::Listed { consents, next }) => (consents, next),
        other => panic!("{other:?}"),
    }
}
