//! Reading and verifying the logs of both servers.

use std::sync::Arc;

use amanat_ledger::{Edge, Hash, Head, LogEntry, SignedCheckpoint};
use amanat_schema::{
    AgencyId, CaseId, Time,
    audit::{
        Action, Entry, EntryBody, GetCheckpointRequest, GetEntryBundleRequest, GetEntryRequest,
        GetInclusionProofRequest, Linkage, ListEntriesRequest, ListEntriesResponse, Receipt,
    },
    key::GetObservedHeadRequest,
    policy::Decision,
    statement::ObservedHead,
};

use crate::{
    Connector, ConnectorError,
    client::with_token,
    jobs::Asked,
    pages::{self, Pages},
};

mod fault;

pub use fault::{Fault, VerifyError};
use fault::{contradicts, unproven};

/// Which server's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    Gateway,
    Custodian,
}

impl Server {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Custodian => "custodian",
        }
    }
}

/// Which entries to list.
#[derive(Debug, Clone, Default)]
pub struct EntryQuery {
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
    /// At most this many.
    pub limit: usize,
}

/// One entry whose body this officer may read; its hash fits the public entry's salt and body.
#[derive(Debug, Clone)]
pub struct SeenEntry {
    pub index: u64,
    pub body: EntryBody,
    pub time: Time,
    /// Absent for an auditor.
    pub linkage: Option<Linkage>,
}

/// A log that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogReport {
    pub server: Server,
    pub origin: String,
    /// Integrity: every entry is the one that was signed.
    pub entries: u64,
    pub root: String,
    /// How many bodies this officer may read, each re-hashed.
    pub bodies: u64,
    /// Completeness: what the log was compared with.
    pub compared: Vec<String>,
}

/// The most entries of one bundle.
const BUNDLE: u32 = 4096;
const PAGE: u32 = 200;
/// The anchor that is not from before.
const OWN: &str = "its own signed checkpoint";

impl Connector {
    /// Lists entries whose bodies this officer may read, oldest first.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`], or [`ConnectorError::Verify`] if a body cannot be read as one.
    pub async fn list_entries(
        &self,
        server: Server,
        query: &EntryQuery,
    ) -> Result<Vec<SeenEntry>, ConnectorError> {
        let mut seen = Vec::new();
        let mut pages = Pages::default();
        while let Some(page_size) = pages::size(Some(query.limit), seen.len()) {
            let request = ListEntriesRequest {
                page_size,
                page_token: pages.token(),
                agency_id: query.agency.map(AgencyId::to_vec).unwrap_or_default(),
                case_id: query.case.map(CaseId::to_vec).unwrap_or_default(),
                action: query.action.unwrap_or_default().into(),
                decision: query.decision.unwrap_or_default().into(),
                from_index: query.from,
                from_time: query.since.map(Time::to_timestamp),
                to_time: query.until.map(Time::to_timestamp),
            };
            let answer = self.list_page(server, request).await?;
            for entry in &answer.entries {
                seen.push(self.seen_entry(server, entry)?);
            }
            if !pages.next(server.name(), answer.next_page_token)? {
                break;
            }
        }
        Ok(seen)
    }

    /// One page, whose own reading is on the log.
    async fn list_page(
        &self,
        server: Server,
        request: ListEntriesRequest,
    ) -> Result<ListEntriesResponse, ConnectorError> {
        let asked = Asked::of(server, Action::ListEntries, &request);
        let session = self.session()?;
        let request = with_token(request, &session.signer.token()?)?;
        let answer = session
            .servers
            .audit(server)
            .list_entries(request)
            .await?
            .into_inner();
        self.keep_receipt(&asked, answer.receipt.as_ref()).await?;
        Ok(answer)
    }

    /// One entry with its own receipt, verified.
    ///
    /// # Errors
    /// As [`Connector::list_entries`].
    pub async fn get_entry(
        &self,
        server: Server,
        index: u64,
    ) -> Result<(SeenEntry, Receipt), ConnectorError> {
        let request = GetEntryRequest { index };
        let asked = Asked::of(server, Action::GetEntry, &request);
        let session = self.session()?;
        let request = with_token(request, &session.signer.token()?)?;
        let answer = session
            .servers
            .audit(server)
            .get_entry(request)
            .await?
            .into_inner();
        self.keep_receipt(&asked, answer.receipt.as_ref()).await?;
        let entry = answer.entry.unwrap_or_default();
        let receipt = answer.entry_receipt.unwrap_or_default();
        let proven = amanat_ledger::receipt::verify(&receipt, &self.log(server)?)
            .map_err(|error| unproven(server, Some(index), error))?;
        if proven.index != index || entry.index != index || entry.body != receipt.body {
            return Err(unproven(
                server,
                Some(index),
                "the receipt is of another entry",
            ));
        }
        Ok((self.seen_entry(server, &entry)?, receipt))
    }

    fn seen_entry(&self, server: Server, entry: &Entry) -> Result<SeenEntry, ConnectorError> {
        let bad = |what: &str| unproven(server, Some(entry.index), what);
        let body =
            amanat_ledger::body::parse(&entry.body).map_err(|_| bad("its body is damaged"))?;
        let time = Time::parse(body.time.as_ref()).map_err(|_| bad("its body is damaged"))?;
        let linkage = match &entry.linkage {
            None => None,
            Some(opening) => {
                let opens = amanat_ledger::commitment::opens(
                    amanat_ledger::commitment::linkage,
                    opening,
                    &body.linkage_commitment,
                );
                let linkage = amanat_ledger::body::parse_linkage(&opening.value).ok();
                Some(
                    linkage
                        .filter(|_| opens)
                        .ok_or_else(|| bad("its linkage is damaged"))?,
                )
            }
        };
        Ok(SeenEntry {
            index: entry.index,
            body,
            time,
            linkage,
        })
    }

    /// Verifies a server's log: recomputes the tree from every entry, re-hashes every body that this
    /// officer may read, and compares with the largest checkpoint seen here before and, for the gateway,
    /// with the head that the custodian observed. `progress` hears how many entries are done of how many.
    ///
    /// # Errors
    /// [`ConnectorError::Verify`] with the first bad index.
    pub async fn verify_log(
        &self,
        server: Server,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<LogReport, ConnectorError> {
        let log = &self.log(server)?;
        let mut anchors = Vec::new();
        let mut compared = Vec::new();
        if let Some(note) = self.keep.last_checkpoint(log.origin()).await? {
            let seen = log
                .open(&note)
                .map_err(|error| unproven(server, None, error))?;
            compared.push(format!(
                "the checkpoint of {} entries seen here before",
                seen.head.size
            ));
            anchors.push((seen.head, "the checkpoint that was seen here before"));
        }
        if server == Server::Gateway {
            let observed = self.observed_head().await?;
            compared.push(format!(
                "the custodian's observed head of {} entries",
                observed.size
            ));
            anchors.push((observed, "the head that the custodian observed"));
        }
        let text = self
            .session()?
            .servers
            .audit(server)
            .get_checkpoint(GetCheckpointRequest {})
            .await?;
        let text = text.into_inner().checkpoint;
        let (checkpoint, head) = match text.as_str() {
            "" => (None, Head::EMPTY),
            text => {
                let checkpoint = log
                    .open(text)
                    .map_err(|error| unproven(server, None, error))?;
                let head = checkpoint.head;
                (Some(checkpoint), head)
            }
        };
        anchors.push((head, OWN));
        let largest = anchors.iter().map(|(head, _)| head.size).max().unwrap_or(0);

        let leaves = self.recompute(
            server,
            largest,
            &anchors,
            checkpoint.as_ref(),
            &mut progress,
        );
        let leaves = leaves.await?;
        let receipted = self.compare_receipts(server, &leaves).await?;
        if receipted > 0 {
            compared.push(format!("receipts kept here: {receipted}"));
        }
        let bodies = self.rehash_bodies(server, head.size, &leaves).await?;
        if let Some(checkpoint) = &checkpoint
            && let Some(contradiction) = self.keep.checkpoint(log, checkpoint, self.now()).await?
        {
            return Err(contradiction.of(server));
        }
        Ok(LogReport {
            server,
            origin: log.origin().to_owned(),
            entries: head.size,
            root: hex::encode(head.root.0),
            bodies,
            compared,
        })
    }

    /// The custodian's signed word on the gateway's log.
    async fn observed_head(&self) -> Result<Head, ConnectorError> {
        let answer = self
            .session()?
            .servers
            .keys()
            .get_observed_head(GetObservedHeadRequest {})
            .await?;
        let envelope = answer.into_inner().observed_head.unwrap_or_default();
        let directory = Arc::clone(&self.session()?.directory);
        let keys = &directory.custodian().statement_keys;
        let bad = |what: &str| unproven(Server::Custodian, None, what);
        let observed = amanat_seal::statement::verify::<ObservedHead>(&envelope, keys)
            .map_err(|_| bad("its observed head is not signed by its key"))?;
        let observed = observed.message();
        if observed.exchange_id != directory.exchange_id() {
            return Err(bad("its observed head is of another exchange"));
        }
        if observed.size == 0 {
            return Ok(Head::EMPTY);
        }
        let checkpoint = self
            .log(Server::Gateway)?
            .open(&observed.checkpoint)
            .map_err(|_| bad("its observed head is not a checkpoint of the gateway's log"))?;
        let same = checkpoint.head.size == observed.size
            && checkpoint.head.root.0.as_slice() == observed.root;
        if same {
            Ok(checkpoint.head)
        } else {
            Err(contradicts(
                Server::Custodian,
                None,
                "its observed head contradicts itself",
            ))
        }
    }

    /// Fetches every entry and grows the tree; it must pass through every anchor.
    async fn recompute(
        &self,
        server: Server,
        size: u64,
        anchors: &[(Head, &str)],
        checkpoint: Option<&SignedCheckpoint>,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<Vec<LogEntry>, ConnectorError> {
        let mut edge = Edge::empty();
        let mut entries: Vec<LogEntry> = Vec::new();
        while edge.size() < size {
            let request = GetEntryBundleRequest {
                from_index: edge.size(),
                count: BUNDLE,
            };
            let bundle = self
                .session()?
                .servers
                .audit(server)
                .get_entry_bundle(request)
                .await?
                .into_inner();
            if bundle.entries.is_empty() {
                let what = format!("it is missing; the log was signed with {size} entries");
                let is_signed_for = checkpoint.is_some_and(|signed| signed.head.size > edge.size());
                return Err(if is_signed_for {
                    unproven(server, Some(edge.size()), what)
                } else {
                    contradicts(server, Some(edge.size()), what)
                });
            }
            for bytes in bundle.entries {
                if edge.size() == size {
                    break;
                }
                let Ok(entry) = LogEntry::parse(&bytes) else {
                    let what = "it is not a log entry";
                    return Err(unproven(server, Some(edge.size()), what));
                };
                edge.append(&entry);
                entries.push(entry);
                for (head, whose) in anchors.iter().filter(|(head, _)| head.size == edge.size()) {
                    if edge.root() != head.root {
                        let index = self
                            .first_not_included(server, &entries, checkpoint)
                            .await?;
                        let what = format!("the entries are not those of {whose}");
                        // Where its own checkpoint holds them all, the server has signed two logs.
                        return Err(if index.is_some() || *whose == OWN {
                            unproven(server, index, what)
                        } else {
                            contradicts(server, index, what)
                        });
                    }
                }
            }
            progress(edge.size(), size);
        }
        Ok(entries)
    }

    /// Every entry that was receipted here is the one that the log holds at its place.
    async fn compare_receipts(
        &self,
        server: Server,
        entries: &[LogEntry],
    ) -> Result<usize, ConnectorError> {
        let mut compared = 0;
        for (index, receipt) in self.keep.receipted(self.log(server)?.origin()).await? {
            // What came since the entries were fetched is for the next time.
            let Some(public) = usize::try_from(index).ok().and_then(|at| entries.get(at)) else {
                continue;
            };
            if public.as_bytes() != receipt.as_bytes() {
                let what = "it is not the entry of a receipt that was kept here";
                return Err(contradicts(server, Some(index), what));
            }
            compared += 1;
        }
        Ok(compared)
    }

    /// The first entry that the signed checkpoint does not contain, if one can be named.
    async fn first_not_included(
        &self,
        server: Server,
        entries: &[LogEntry],
        checkpoint: Option<&SignedCheckpoint>,
    ) -> Result<Option<u64>, ConnectorError> {
        let Some(checkpoint) = checkpoint else {
            return Ok(None);
        };
        for (index, entry) in (0..checkpoint.head.size).zip(entries) {
            let request = GetInclusionProofRequest {
                index,
                size: checkpoint.head.size,
            };
            let proof = self
                .session()?
                .servers
                .audit(server)
                .get_inclusion_proof(request)
                .await?
                .into_inner();
            let included =
                amanat_ledger::parse_proof(&proof.proof).is_ok_and(|proof: Vec<Hash>| {
                    let leaf = entry.leaf_hash();
                    amanat_ledger::verify_inclusion(leaf, index, &proof, &checkpoint.head).is_ok()
                });
            if !included {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Re-hashes every body that this officer may read.
    async fn rehash_bodies(
        &self,
        server: Server,
        size: u64,
        entries: &[LogEntry],
    ) -> Result<u64, ConnectorError> {
        let mut bodies = 0;
        let mut pages = Pages::default();
        loop {
            let request = ListEntriesRequest {
                page_size: PAGE,
                page_token: pages.token(),
                ..Default::default()
            };
            let answer = self.list_page(server, request).await?;
            for entry in &answer.entries {
                // The listing itself made entries beyond the checkpoint.
                if entry.index >= size {
                    return Ok(bodies);
                }
                let at = usize::try_from(entry.index).ok();
                let public = at.and_then(|at| entries.get(at));
                let salt = entry.salt.as_slice().try_into().ok();
                let fits = salt.zip(public).is_some_and(|(salt, public)| {
                    LogEntry::new(salt, &entry.body).as_bytes() == public.as_bytes()
                });
                if !fits {
                    let what = "its body is not the one that was signed";
                    return Err(unproven(server, Some(entry.index), what));
                }
                self.seen_entry(server, entry)?;
                bodies += 1;
            }
            if !pages.next(server.name(), answer.next_page_token)? {
                return Ok(bodies);
            }
        }
    }
}
