//! The reading side: public artefacts over their own connections, bodies inside a batch.

use amanat_ledger::{Hash, SignedCheckpoint};
use amanat_schema::{
    AgencyId, CaseId, EntryId, Time,
    audit::{Action, Opening, Receipt},
    policy::Decision,
};
use amanat_seal::WrapKey;
use prost::Message as _;
use sqlx::{
    QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection,
    sqlite::SqliteRow,
};
use tokio::sync::watch;

use crate::{JournalError, store};

/// The most entries of one bundle.
const LARGEST_BUNDLE: u32 = 4096;

/// Serves what anyone may have: checkpoints, entries, proofs.
#[derive(Clone)]
pub struct Reader {
    pool: SqlitePool,
    newest: watch::Receiver<Option<SignedCheckpoint>>,
}

/// Which entries a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EntryFilter {
    pub agency: Option<AgencyId>,
    pub case: Option<CaseId>,
    pub action: Option<Action>,
    pub decision: Option<Decision>,
    /// Entries from this time on.
    pub since: Option<Time>,
    /// Entries before this time.
    pub until: Option<Time>,
    /// The first index.
    pub from: u64,
    pub limit: u32,
}

/// One entry with what stands beside it.
#[derive(Debug, Clone)]
pub struct StoredEntry {
    pub idx: u64,
    pub agency: Vec<u8>,
    pub body: Vec<u8>,
    pub salt: Vec<u8>,
    pub linkage: Opening,
    openings: Vec<u8>,
    entry_id: Vec<u8>,
}

/// What is sealed beside an entry.
#[derive(Clone, PartialEq, prost::Message)]
struct Openings {
    #[prost(message, optional, tag = "1")]
    officer: Option<Opening>,
    #[prost(message, optional, tag = "2")]
    reasons: Option<Opening>,
}

impl Reader {
    pub(crate) fn new(pool: SqlitePool, newest: watch::Receiver<Option<SignedCheckpoint>>) -> Self {
        Self { pool, newest }
    }

    /// For questions of the service's own, beside the writer's way; it cannot write.
    ///
    /// # Errors
    /// Of the database.
    pub async fn connection(&self) -> Result<PoolConnection<Sqlite>, JournalError> {
        Ok(self.pool.acquire().await?)
    }

    /// The newest signed checkpoint; `None` while the log is empty.
    pub fn checkpoint(&self) -> Option<SignedCheckpoint> {
        self.newest.borrow().clone()
    }

    /// The public entries from an index on, at most 4,096.
    ///
    /// # Errors
    /// Of the database.
    pub async fn bundle(&self, from: u64, count: u32) -> Result<Vec<Vec<u8>>, JournalError> {
        let rows = sqlx::query("SELECT entry FROM entries WHERE idx >= $1 ORDER BY idx LIMIT $2")
            .bind(store::signed(from))
            .bind(count.min(LARGEST_BUNDLE))
            .fetch_all(&self.pool)
            .await?;
        Ok(rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?)
    }

    /// Proves that entry `index` is in the tree of `size` entries.
    ///
    /// # Errors
    /// [`JournalError::Log`] if there is no such tree or entry.
    pub async fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, JournalError> {
        self.within(size)?;
        let mut connection = self.pool.acquire().await?;
        inclusion(&mut connection, index, size).await
    }

    /// Proves that the tree of `new` entries extends that of `old`.
    ///
    /// # Errors
    /// [`JournalError::Log`] if there are no such trees.
    pub async fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, JournalError> {
        self.within(new)?;
        let mut connection = self.pool.acquire().await?;
        consistency(&mut connection, old, new).await
    }

    fn within(&self, size: u64) -> Result<(), JournalError> {
        let newest = self
            .checkpoint()
            .map_or(0, |checkpoint| checkpoint.head.size);
        if size > newest {
            Err(amanat_ledger::LedgerError::NoSuchTree.into())
        } else {
            Ok(())
        }
    }
}

async fn inclusion(
    connection: &mut SqliteConnection,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, JournalError> {
    let indexes = amanat_ledger::inclusion_indexes(index, size)?;
    let nodes = fetch(connection, &indexes).await?;
    Ok(amanat_ledger::inclusion_proof(index, size, |i| {
        nodes.get(&i).copied()
    })?)
}

pub(crate) async fn consistency(
    connection: &mut SqliteConnection,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, JournalError> {
    let indexes = amanat_ledger::consistency_indexes(old, new)?;
    let nodes = fetch(connection, &indexes).await?;
    Ok(amanat_ledger::consistency_proof(old, new, |i| {
        nodes.get(&i).copied()
    })?)
}

async fn fetch(
    connection: &mut SqliteConnection,
    indexes: &[u64],
) -> Result<std::collections::HashMap<u64, Hash>, JournalError> {
    let hashes = store::nodes(connection, indexes).await?;
    Ok(indexes.iter().copied().zip(hashes).collect())
}

/// The receipt of a stored entry in a checkpoint of this log.
pub(crate) async fn receipt(
    connection: &mut SqliteConnection,
    idx: u64,
    checkpoint: &SignedCheckpoint,
) -> Result<Receipt, JournalError> {
    let stored = stored_entry(connection, idx)
        .await?
        .ok_or(amanat_ledger::LedgerError::NoSuchTree)?;
    let proof = inclusion(connection, idx, checkpoint.head.size).await?;
    Ok(stored.receipt(proof, checkpoint))
}

impl StoredEntry {
    /// With its proof and the checkpoint that the proof leads to.
    pub fn receipt(self, proof: Vec<Hash>, checkpoint: &SignedCheckpoint) -> Receipt {
        Receipt {
            index: self.idx,
            body: self.body,
            salt: self.salt,
            linkage: Some(self.linkage),
            inclusion_proof: proof.iter().map(|hash| hash.0.to_vec()).collect(),
            checkpoint: checkpoint.text.clone(),
        }
    }

    /// The opening of the officer's commitment; `None` once it is shredded.
    pub fn officer(&self, key: &WrapKey) -> Option<Opening> {
        let bytes = key
            .unwrap(OPENINGS, &[&self.entry_id], &self.openings)
            .ok()?;
        Openings::decode(bytes.as_slice()).ok()?.officer
    }
}

/// The label under which openings are sealed at rest.
const OPENINGS: &str = "amanat/openings/v1";

pub(crate) fn seal_openings(
    key: &WrapKey,
    entry: EntryId,
    officer: &Opening,
    reasons: &Opening,
) -> Result<Vec<u8>, JournalError> {
    let plain = Openings {
        officer: Some(officer.clone()),
        reasons: Some(reasons.clone()),
    };
    key.wrap(OPENINGS, &[entry.as_bytes()], &plain.encode_to_vec())
        .map_err(|_| JournalError::Unwritable("the openings cannot be sealed".to_owned()))
}

const COLUMNS: &str =
    "SELECT idx, coalesce(agency, x''), body, salt, linkage, linkage_salt, openings FROM entries";

/// One stored entry, inside a batch.
///
/// # Errors
/// Of the driver.
pub async fn stored_entry(
    connection: &mut SqliteConnection,
    idx: u64,
) -> Result<Option<StoredEntry>, sqlx::Error> {
    QueryBuilder::<Sqlite>::new(COLUMNS)
        .push(" WHERE idx = ")
        .push_bind(store::signed(idx))
        .build()
        .fetch_optional(connection)
        .await?
        .map(|row| parse(&row))
        .transpose()
}

/// A page of entries, oldest first, inside a batch.
///
/// # Errors
/// Of the driver.
pub async fn page(
    connection: &mut SqliteConnection,
    filter: &EntryFilter,
) -> Result<Vec<StoredEntry>, sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
    query
        .push(" WHERE idx >= ")
        .push_bind(store::signed(filter.from));
    if let Some(agency) = filter.agency {
        query.push(" AND agency = ").push_bind(agency.to_vec());
    }
    if let Some(case) = filter.case {
        query.push(" AND case_id = ").push_bind(case.to_vec());
    }
    if let Some(action) = filter.action {
        query.push(" AND action = ").push_bind(i32::from(action));
    }
    if let Some(decision) = filter.decision {
        query
            .push(" AND decision = ")
            .push_bind(i32::from(decision));
    }
    // A clock can step back, so time and index need not rise together; the first and the last index of the
    // time asked for bound what is looked at one by one.
    for bound in ["idx >= (SELECT min(idx)", "idx <= (SELECT max(idx)"] {
        if filter.since.is_some() || filter.until.is_some() {
            query.push(" AND ").push(bound);
            query.push(" FROM entries WHERE TRUE");
            within(&mut query, filter);
            query.push(")");
        }
    }
    within(&mut query, filter);
    query.push(" ORDER BY idx LIMIT ").push_bind(filter.limit);
    query
        .build()
        .fetch_all(connection)
        .await?
        .iter()
        .map(parse)
        .collect()
}

fn within(query: &mut QueryBuilder<Sqlite>, filter: &EntryFilter) {
    if let Some(since) = filter.since {
        query.push(" AND time >= ").push_bind(since.millis());
    }
    if let Some(until) = filter.until {
        query.push(" AND time < ").push_bind(until.millis());
    }
}

fn parse(row: &SqliteRow) -> Result<StoredEntry, sqlx::Error> {
    let body: Vec<u8> = row.try_get(2)?;
    // A body that no longer parses is served as it is: that it does not is for the verifier to find.
    let entry_id = amanat_ledger::body::parse(&body)
        .map(|b| b.entry_id)
        .unwrap_or_default();
    Ok(StoredEntry {
        idx: store::unsigned(row.try_get(0)?),
        agency: row.try_get(1)?,
        body,
        salt: row.try_get(3)?,
        linkage: Opening {
            value: row.try_get(4)?,
            salt: row.try_get(5)?,
        },
        openings: row.try_get(6)?,
        entry_id,
    })
}
