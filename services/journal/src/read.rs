//! The reading side: public artefacts over their own connections, bodies inside a batch.

use amanat_database::{Connection, Engine, Error, Pool, Row, Sql};
use amanat_ledger::{Hash, LogVerifier, SignedCheckpoint};
use amanat_schema::{
    AgencyId, CaseId, EntryId, Time,
    audit::{Action, Opening, Receipt},
    policy::Decision,
};
use amanat_seal::WrapKey;
use prost::Message as _;
use tokio::sync::watch;

use crate::{JournalError, store};

/// The most entries of one bundle.
const LARGEST_BUNDLE: u32 = 4096;

/// Serves what anyone may have: checkpoints, entries, proofs.
#[derive(Clone)]
pub struct Reader {
    pool: Pool,
    engine: Engine,
    verifier: LogVerifier,
    /// Of this process.
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
    pub(crate) fn new(
        pool: Pool,
        engine: Engine,
        verifier: LogVerifier,
        newest: watch::Receiver<Option<SignedCheckpoint>>,
    ) -> Self {
        Self {
            pool,
            engine,
            verifier,
            newest,
        }
    }

    /// For questions of the service's own, beside the writer's way; it cannot write.
    ///
    /// # Errors
    /// Of the database.
    pub async fn connection(&self) -> Result<Connection, JournalError> {
        Ok(self.pool.acquire().await?)
    }

    /// The newest signed checkpoint, whoever signed it; `None` while the log is empty.
    ///
    /// # Errors
    /// Of the database.
    pub async fn checkpoint(&self) -> Result<Option<SignedCheckpoint>, JournalError> {
        let ours = self.newest.borrow().clone();
        if self.engine == Engine::Sqlite {
            return Ok(ours);
        }
        let mut connection = self.pool.acquire().await?;
        let note: String = Sql::new("SELECT checkpoint FROM head")
            .fetch_one(&mut connection)
            .await?
            .get(0)?;
        match ours {
            Some(ours) if ours.text == note => Ok(Some(ours)),
            _ if note.is_empty() => Ok(None),
            _ => Ok(Some(self.verifier.open(&note)?)),
        }
    }

    /// The public entries from an index on, at most 4,096.
    ///
    /// # Errors
    /// Of the database.
    pub async fn bundle(&self, from: u64, count: u32) -> Result<Vec<Vec<u8>>, JournalError> {
        let mut connection = self.pool.acquire().await?;
        let rows = Sql::new("SELECT entry FROM entries WHERE idx >= ")
            .bind(store::signed(from))
            .push(" ORDER BY idx LIMIT ")
            .bind(count.min(LARGEST_BUNDLE))
            .fetch_all(&mut connection)
            .await?;
        Ok(rows
            .iter()
            .map(|row| row.get(0))
            .collect::<Result<_, _>>()?)
    }

    /// Proves that entry `index` is in the tree of `size` entries.
    ///
    /// # Errors
    /// [`JournalError::Log`] if there is no such tree or entry.
    pub async fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, JournalError> {
        self.within(size).await?;
        let mut connection = self.pool.acquire().await?;
        inclusion(&mut connection, index, size).await
    }

    /// Proves that the tree of `new` entries extends that of `old`.
    ///
    /// # Errors
    /// [`JournalError::Log`] if there are no such trees.
    pub async fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, JournalError> {
        self.within(new).await?;
        let mut connection = self.pool.acquire().await?;
        consistency(&mut connection, old, new).await
    }

    async fn within(&self, size: u64) -> Result<(), JournalError> {
        let reaches = |newest: Option<&SignedCheckpoint>| {
            newest.is_some_and(|newest| size <= newest.head.size) || size == 0
        };
        if reaches(self.newest.borrow().as_ref()) || reaches(self.checkpoint().await?.as_ref()) {
            Ok(())
        } else {
            Err(amanat_ledger::LedgerError::NoSuchTree.into())
        }
    }
}

async fn inclusion(
    connection: &mut Connection,
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
    connection: &mut Connection,
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
    connection: &mut Connection,
    indexes: &[u64],
) -> Result<std::collections::HashMap<u64, Hash>, JournalError> {
    let hashes = store::nodes(connection, indexes).await?;
    Ok(indexes.iter().copied().zip(hashes).collect())
}

/// The receipt of a stored entry in a checkpoint of this log.
pub(crate) async fn receipt(
    connection: &mut Connection,
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
    "SELECT idx, agency, body, salt, linkage, linkage_salt, openings FROM entries";

/// One stored entry, inside a batch.
///
/// # Errors
/// Of the driver.
pub async fn stored_entry(
    connection: &mut Connection,
    idx: u64,
) -> Result<Option<StoredEntry>, Error> {
    Sql::new(COLUMNS)
        .push(" WHERE idx = ")
        .bind(store::signed(idx))
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
    connection: &mut Connection,
    filter: &EntryFilter,
) -> Result<Vec<StoredEntry>, Error> {
    let mut query = Sql::new(COLUMNS)
        .push(" WHERE idx >= ")
        .bind(store::signed(filter.from));
    if let Some(agency) = filter.agency {
        query = query.push(" AND agency = ").bind(agency.to_vec());
    }
    if let Some(case) = filter.case {
        query = query.push(" AND case_id = ").bind(case.to_vec());
    }
    if let Some(action) = filter.action {
        query = query.push(" AND action = ").bind(i32::from(action));
    }
    if let Some(decision) = filter.decision {
        query = query.push(" AND decision = ").bind(i32::from(decision));
    }
    // A clock can step back, so time and index need not rise together; the first and the last index of the
    // time asked for bound what is looked at one by one.
    for bound in ["idx >= (SELECT min(idx)", "idx <= (SELECT max(idx)"] {
        if filter.since.is_some() || filter.until.is_some() {
            query = query.push(" AND ").push(bound);
            query = query.push(" FROM entries WHERE TRUE");
            query = within(query, filter).push(")");
        }
    }
    within(query, filter)
        .push(" ORDER BY idx LIMIT ")
        .bind(filter.limit)
        .fetch_all(connection)
        .await?
        .iter()
        .map(parse)
        .collect()
}

fn within<'a>(mut query: Sql<'a>, filter: &EntryFilter) -> Sql<'a> {
    if let Some(since) = filter.since {
        query = query.push(" AND time >= ").bind(since.millis());
    }
    if let Some(until) = filter.until {
        query = query.push(" AND time < ").bind(until.millis());
    }
    query
}

fn parse(row: &Row) -> Result<StoredEntry, Error> {
    let body: Vec<u8> = row.get(2)?;
    // A body that no longer parses is served as it is: that it does not is for the verifier to find.
    let entry_id = amanat_ledger::body::parse(&body)
        .map(|b| b.entry_id)
        .unwrap_or_default();
    Ok(StoredEntry {
        idx: row.get(0)?,
        agency: row.get::<Option<_>>(1)?.unwrap_or_default(),
        body,
        salt: row.get(3)?,
        linkage: Opening {
            value: row.get(4)?,
            salt: row.get(5)?,
        },
        openings: row.get(6)?,
        entry_id,
    })
}
