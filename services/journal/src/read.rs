//! The reading side, over connections of its own: artefacts for anyone, and entries for whoever may read them.

use std::time::{Duration, Instant};

use amanat_database::{Connection, Engine, Error, Place, Pool, Row, Sql, is_at_its_limit};
use amanat_ledger::{Hash, LogVerifier, SignedCheckpoint};
use amanat_schema::{
    EntryId,
    audit::{Opening, Receipt},
};
use amanat_seal::WrapKey;
use prost::Message as _;
use tokio::sync::watch;

use crate::{EntryFilter, JournalError, journal::stopped, pages, store};

/// Connections that serve proofs and checkpoints beside the writer, and those that look for pages of entries: however
/// long that takes, no proof waits for it.
const PROVING: u32 = 4;
const LISTING: u32 = 2;
/// For one page: the engine ends what has taken as long, and no further statement is begun.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most entries of one bundle.
const LARGEST_BUNDLE: u32 = 4096;

/// The connections beside the writer's.
#[derive(Clone)]
pub(crate) struct Readers {
    proving: Pool,
    listing: Pool,
}

/// Serves what was written: checkpoints, entries, proofs.
#[derive(Clone)]
pub struct Reader {
    readers: Readers,
    engine: Engine,
    verifier: LogVerifier,
    /// Of this process.
    newest: watch::Receiver<Option<SignedCheckpoint>>,
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

impl Readers {
    pub(crate) async fn open(place: &Place) -> Result<Self, Error> {
        Ok(Self {
            proving: Pool::open(place, PROVING, None).await?,
            listing: Pool::open(place, LISTING, Some(PATIENCE)).await?,
        })
    }

    pub(crate) async fn follow_primary(&self) {
        self.proving.follow_primary().await;
        self.listing.follow_primary().await;
    }

    pub(crate) async fn close(&self) {
        self.proving.close().await;
        self.listing.close().await;
    }
}

impl Reader {
    pub(crate) fn new(
        readers: Readers,
        engine: Engine,
        verifier: LogVerifier,
        newest: watch::Receiver<Option<SignedCheckpoint>>,
    ) -> Self {
        Self {
            readers,
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
        Ok(self.readers.proving.acquire().await?)
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
        let mut connection = self.readers.proving.acquire().await?;
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
        let mut connection = self.readers.proving.acquire().await?;
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

    /// A page of entries, oldest first. Whoever serves it logs that before.
    ///
    /// # Errors
    /// [`JournalError::Slow`] if they are not found in time.
    pub async fn page(&self, filter: &EntryFilter) -> Result<Vec<StoredEntry>, JournalError> {
        let (listing, filter) = (self.readers.listing.clone(), filter.clone());
        // It ends by itself, also when its caller is gone: a connection that is let go in the middle of a statement
        // which the server then ends never comes back to its pool.
        let finding = tokio::spawn(async move {
            let mut connection = match listing.acquire().await {
                Err(Error::PoolTimedOut) => return Err(JournalError::Busy),
                acquired => acquired?,
            };
            let end = Instant::now() + PATIENCE;
            match pages::page(&mut connection, &filter, end).await {
                Ok(page) => page.ok_or(JournalError::Slow),
                Err(error) if is_at_its_limit(&error) => Err(JournalError::Slow),
                Err(error) => Err(error.into()),
            }
        });
        finding.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// One entry. Whoever serves it logs that before.
    ///
    /// # Errors
    /// Of the database.
    pub async fn entry(&self, idx: u64) -> Result<Option<StoredEntry>, JournalError> {
        let mut connection = self.readers.proving.acquire().await?;
        Ok(stored_entry(&mut connection, idx).await?)
    }

    /// Proves that entry `index` is in the tree of `size` entries.
    ///
    /// # Errors
    /// [`JournalError::Log`] if there is no such tree or entry.
    pub async fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, JournalError> {
        self.within(size).await?;
        let mut connection = self.readers.proving.acquire().await?;
        inclusion(&mut connection, index, size).await
    }

    /// Proves that the tree of `new` entries extends that of `old`.
    ///
    /// # Errors
    /// [`JournalError::Log`] if there are no such trees.
    pub async fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, JournalError> {
        self.within(new).await?;
        let mut connection = self.readers.proving.acquire().await?;
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

pub(crate) const COLUMNS: &str =
    "SELECT idx, agency, body, salt, linkage, linkage_salt, openings FROM entries";

async fn stored_entry(connection: &mut Connection, idx: u64) -> Result<Option<StoredEntry>, Error> {
    Sql::new(COLUMNS)
        .push(" WHERE idx = ")
        .bind(store::signed(idx))
        .fetch_optional(connection)
        .await?
        .map(|row| parse(&row))
        .transpose()
}

pub(crate) fn parse(row: &Row) -> Result<StoredEntry, Error> {
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
