//! The deposits of a batch: in, changed, out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use amanat_database::{
    Column::{Bytes, Number},
    Connection, Error, Insert, Row, Sql, damaged,
};
use amanat_schema::{
    AgencyId, RecordId, Time,
    statement::{Envelope, RecordHeader},
};
use amanat_seal::{Binding, Header};
use prost::Message as _;

use super::{
    super::{Call, Memory},
    Deposit, DepositKey, Deposits, Key,
};
use crate::kek;

/// The deposits that a batch needs: of each record named, the newest, the newest active one and the
/// versions named.
#[derive(Default)]
pub(crate) struct DepositFacts {
    by_key: BTreeMap<Key, Arc<Deposit>>,
    added: Vec<Key>,
    activated: Vec<Key>,
    /// Pending keys deposited by then are deleted.
    expire: Option<Time>,
}

impl DepositFacts {
    pub(crate) async fn load(
        connection: &mut Connection,
        memory: &Memory,
        calls: &[&Call],
    ) -> Result<Self, Error> {
        let mut facts = Self::default();
        let (mut records, mut versions) = (BTreeSet::new(), BTreeSet::new());
        for call in calls {
            if let Call::Release(call, _) = call
                && let Some(named) = call.key()
                && let Some(deposits) = memory.deposits.get(&named.0)
                && deposits.iter().any(|(key, _)| *key == named)
            {
                facts.keep(&deposits);
                continue;
            }
            let named = match call {
                Call::Deposit(call) => {
                    let binding = call.header.binding();
                    Some((binding.record, binding.version))
                }
                Call::Activate(call, _) => call.key().map(|(record, _, version)| (record, version)),
                Call::Release(call, _) => call.key().map(|(record, _, version)| (record, version)),
                Call::Refused(_)
                | Call::Consent(_)
                | Call::Audit(_)
                | Call::Head(_)
                | Call::Evaluate(_)
                | Call::ListUnused(_)
                | Call::Expire
                | Call::AlarmMissing => None,
            };
            records.extend(named.map(|(record, _)| record));
            versions.extend(named.map(|(_, version)| version));
        }
        if records.is_empty() {
            return Ok(facts);
        }
        let rows = Sql::new(
            "SELECT header, header_sha256, wrapped, receipt, deposit_time, activate_time \
             FROM deposits AS d WHERE ",
        )
        .is_one_of(Bytes("d.record_id"), records.iter().map(RecordId::as_bytes))
        .push(" AND (")
        .is_one_of(Number("d.version"), versions)
        .push(
            " OR d.version = (SELECT max(n.version) FROM deposits AS n \
             WHERE n.record_id = d.record_id AND n.source = d.source) \
             OR d.version = (SELECT max(n.version) FROM deposits AS n \
             WHERE n.record_id = d.record_id AND n.source = d.source \
             AND n.activate_time IS NOT NULL))",
        )
        .fetch_all(connection)
        .await?;
        let mut loaded: BTreeMap<RecordId, Deposits> = BTreeMap::new();
        for row in &rows {
            let (key, deposit) = parse(row)?;
            let of_record = loaded.entry(key.0).or_default();
            of_record.push((key, Arc::new(deposit)));
        }
        for (record, deposits) in loaded {
            facts.keep(&deposits);
            if deposits
                .iter()
                .all(|(_, deposit)| deposit.activated.is_some())
            {
                memory.deposits.keep(record, Arc::new(deposits));
            }
        }
        Ok(facts)
    }

    fn keep(&mut self, deposits: &Deposits) {
        self.by_key.extend(deposits.iter().cloned());
    }

    /// All that a batch knows of one record, oldest first.
    fn versions(
        &self,
        record: RecordId,
        source: AgencyId,
    ) -> impl DoubleEndedIterator<Item = &Deposit> {
        let range = (record, source, 0)..=(record, source, u32::MAX);
        self.by_key
            .range(range)
            .map(|(_, deposit)| deposit.as_ref())
    }

    pub(super) fn newest(&self, record: RecordId, source: AgencyId, now: Time) -> Option<&Deposit> {
        self.versions(record, source)
            .rfind(|deposit| !deposit.is_expired(now))
    }

    pub(crate) fn newest_active(&self, record: RecordId, source: AgencyId) -> Option<&Deposit> {
        self.versions(record, source)
            .rfind(|deposit| deposit.activated.is_some())
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Deposit> {
        self.by_key.get(&key).map(Arc::as_ref)
    }

    pub(super) fn add(&mut self, key: Key, call: &DepositKey, receipt: Vec<u8>, now: Time) {
        let deposit = Deposit {
            header: call.header.clone(),
            envelope: call.statement.envelope.clone(),
            // What cannot be read is nobody's word.
            signed_by: Envelope::decode(call.statement.envelope.as_slice())
                .map(signed_by)
                .unwrap_or_default(),
            header_sha256: call.statement.payload_sha256,
            wrapped: Some(call.wrapped.clone()),
            receipt,
            deposited: now,
            activated: None,
        };
        self.by_key.insert(key, Arc::new(deposit));
        self.added.push(key);
    }

    /// The deposit, if it was not active before.
    pub(super) fn activate(&mut self, key: Key, now: Time) -> Option<&Deposit> {
        let deposit = Arc::make_mut(self.by_key.get_mut(&key)?);
        if deposit.activated.is_some() {
            return None;
        }
        deposit.activated = Some(now);
        self.activated.push(key);
        Some(deposit)
    }

    /// Of what was never activated, the keys that were deposited by then are deleted.
    pub(super) fn expire(&mut self, by: Time) {
        self.expire = Some(by);
    }

    pub(crate) async fn write(
        self,
        connection: &mut Connection,
        memory: &Memory,
    ) -> Result<(), Error> {
        for (record, ..) in self.added.iter().chain(&self.activated) {
            memory.deposits.forget(record);
        }
        self.write_added(connection).await?;
        self.write_activated(connection).await?;
        if let Some(by) = self.expire {
            let expired = Sql::new(
                "UPDATE deposits SET wrapped = NULL WHERE activate_time IS NULL \
                 AND wrapped IS NOT NULL AND deposit_time <= ",
            )
            .bind(by.millis())
            .execute(connection)
            .await?;
            if expired > 0 {
                tracing::info!(expired, "keys that were never activated are deleted");
            }
        }
        Ok(())
    }

    async fn write_added(&self, connection: &mut Connection) -> Result<(), Error> {
        let added = self.added.iter().filter_map(|key| {
            let ((record, source, version), deposit) = (key, self.by_key.get(key)?);
            Some([
                record.as_bytes().into(),
                source.as_bytes().into(),
                (*version).into(),
                (&deposit.envelope).into(),
                (&deposit.header_sha256).into(),
                kek::EPOCH.into(),
                deposit.wrapped.as_ref().into(),
                (&deposit.receipt).into(),
                deposit.deposited.millis().into(),
            ])
        });
        let columns = [
            Bytes("record_id"),
            Bytes("source"),
            Number("version"),
            Bytes("header"),
            Bytes("header_sha256"),
            Number("kek_epoch"),
            Bytes("wrapped"),
            Bytes("receipt"),
            Number("deposit_time"),
        ];
        // INVARIANT: what is replaced has expired.
        Insert::into("deposits", columns, added)
            .or(
                "ON CONFLICT (record_id, source, version) DO UPDATE SET header = excluded.header, \
                 header_sha256 = excluded.header_sha256, kek_epoch = excluded.kek_epoch, \
                 wrapped = excluded.wrapped, receipt = excluded.receipt, \
                 deposit_time = excluded.deposit_time",
            )
            .execute(connection)
            .await
    }

    async fn write_activated(&self, connection: &mut Connection) -> Result<(), Error> {
        if self.activated.is_empty() {
            return Ok(());
        }
        let activated = self.activated.iter().filter_map(|key| {
            let ((record, source, version), deposit) = (key, self.by_key.get(key)?);
            Some([
                record.as_bytes().into(),
                source.as_bytes().into(),
                (*version).into(),
                deposit.activated.map(Time::millis).into(),
            ])
        });
        let columns = [
            Bytes("record_id"),
            Bytes("source"),
            Number("version"),
            Number("at"),
        ];
        Sql::new("UPDATE deposits SET activate_time = done.at FROM ")
            .rows("done", columns, activated)
            .push(
                " WHERE deposits.record_id = done.record_id AND deposits.source = done.source \
                 AND deposits.version = done.version",
            )
            .execute(connection)
            .await
            .map(drop)
    }
}

fn signed_by(header: Envelope) -> Vec<Vec<u8>> {
    let signatures = header.signatures.into_iter();
    signatures.map(|signature| signature.key_id).collect()
}

fn parse(row: &Row) -> Result<(Key, Deposit), Error> {
    let envelope: Vec<u8> = row.get(0)?;
    let signed = Envelope::decode(envelope.as_slice()).map_err(damaged)?;
    let wire = RecordHeader::decode(signed.payload.as_slice()).map_err(damaged)?;
    let header = Header::parse(&wire).map_err(|_| Error::RowNotFound)?;
    let Binding {
        record,
        source,
        version,
        ..
    } = *header.binding();
    let activated: Option<i64> = row.get(5)?;
    let deposit = Deposit {
        header,
        envelope,
        signed_by: signed_by(signed),
        header_sha256: row.get(1)?,
        wrapped: row.get(2)?,
        receipt: row.get(3)?,
        deposited: Time::from_millis(row.get(4)?).map_err(damaged)?,
        activated: activated
            .map(Time::from_millis)
            .transpose()
            .map_err(damaged)?,
    };
    Ok(((record, source, version), deposit))
}
