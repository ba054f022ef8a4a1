//! A consent ledger of its own, as each server keeps one, without the log around it.

use std::{collections::BTreeSet, sync::Arc};

use amanat_database::{
    Column::{Bytes, Number},
    Connection, Insert,
};
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
use tempfile::TempDir;

use crate::{
    database::fresh,
    support::{Agency, Exchange, now, officer},
};

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

/// A journal in a fresh database, with the desk's tables.
pub(crate) async fn journal() -> (TempDir, Config) {
    let folder = TempDir::new().unwrap();
    let config = Config {
        database: fresh(folder.path(), "desk.db").await,
        checkpoint_file: folder.path().join("checkpoint"),
        waiting_per_agency: amanat_server::Limits::default().waiting_per_agency,
        steps: &[
            amanat_desk::STEPS[0],
            amanat_journal::ENTRY_TIMES,
            amanat_desk::STEPS[1],
            amanat_journal::REQUESTS_BY_KEY,
            amanat_journal::ENTRY_SPANS,
            amanat_journal::OWN_KEYS,
            amanat_journal::ENTRY_INDEX,
        ],
        changing: &amanat_desk::CHANGING,
    };
    amanat_journal::init(&config, None).await.unwrap();
    (folder, config)
}

/// The shelter is the source of case 1; statements are numbered by their test.
pub(crate) struct Ledger {
    pub(crate) exchange: Arc<Exchange>,
    rules: Rules,
    config: Arc<Config>,
    connection: Connection,
    pub(crate) remembered: RememberedConsents,
    _folder: Arc<TempDir>,
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
        let (folder, config) = journal().await;
        Self {
            rules: rules(&exchange),
            exchange: Arc::new(exchange),
            connection: config.database.connect().await.unwrap(),
            config: Arc::new(config),
            remembered: amanat_desk::consent::remembered(),
            _folder: Arc::new(folder),
        }
    }

    /// Another server over the same database, with a memory of its own.
    pub(crate) async fn another(&self) -> Self {
        Self {
            rules: rules(&self.exchange),
            exchange: Arc::clone(&self.exchange),
            config: Arc::clone(&self.config),
            connection: self.config.database.connect().await.unwrap(),
            remembered: amanat_desk::consent::remembered(),
            _folder: Arc::clone(&self._folder),
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
        self.connection.run("BEGIN").await.unwrap();
        let ids = calls
            .iter()
            .filter_map(ConsentCall::statement)
            .map(|statement| statement.id);
        let mut statements = StatementFacts::load(&mut self.connection, ids)
            .await
            .unwrap();
        let borrowed: Vec<_> = calls.iter().collect();
        let mut facts = ConsentFacts::load(
            &mut self.connection,
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
        statements.write(&mut self.connection).await.unwrap();
        facts
            .write(&mut self.connection, &self.remembered)
            .await
            .unwrap();
        self.connection.commit().await.unwrap();
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
    pub(crate) async fn fill(&mut self, count: u128) {
        let ConsentCall::Record(call) = self.plain(0xff, 0xff) else {
            panic!("a consent");
        };
        // Behind the ledger's back.
        self.remembered.forget(&(self.exchange.shelter.id, case(1)));
        let (case, shelter) = (case(1), self.exchange.shelter.id);
        let ids: Vec<_> = (1..=count).map(u128::to_be_bytes).collect();
        let columns = [
            Bytes("case_id"),
            Bytes("consent_id"),
            Bytes("source"),
            Bytes("recipient"),
            Bytes("envelope"),
            Bytes("payload_sha256"),
            Bytes("evidence"),
            Number("record_time"),
            Number("reads"),
        ];
        let consents = ids.iter().map(|id| {
            [
                case.as_bytes().into(),
                id.into(),
                shelter.as_bytes().into(),
                shelter.as_bytes().into(),
                (&call.statement.envelope).into(),
                [0; 32].into(),
                [0; 0].into(),
                0.into(),
                0.into(),
            ]
        });
        Insert::into("consents", columns, consents)
            .execute(&mut self.connection)
            .await
            .unwrap();
        let columns = [
            Bytes("case_id"),
            Bytes("consent_id"),
            Bytes("agency"),
            Bytes("envelope"),
            Number("withdraw_time"),
        ];
        let withdrawals = ids.iter().map(|id| {
            [
                case.as_bytes().into(),
                id.into(),
                shelter.as_bytes().into(),
                [0; 0].into(),
                0.into(),
            ]
        });
        Insert::into("withdrawals", columns, withdrawals)
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
