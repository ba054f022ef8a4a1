//! Writing an entry: from what a verb knows to canonical bytes with their place in the tree.

use amanat_ledger::{Edge, Hash, LogEntry, body, commitment};
use amanat_schema::{BootId, EntryId, Time, audit::Opening};

use crate::{Draft, JournalError, RequestKey, open::Keys, read, store::EntryRow};

/// Holds what every entry of this process carries.
pub(crate) struct Scribe {
    pub(crate) signer: amanat_ledger::LogSigner,
    openings: amanat_seal::WrapKey,
    boot: BootId,
    /// How many entries this epoch has: other writers' may stand between them.
    written: u64,
}

/// What a batch adds to the log.
#[derive(Default)]
pub(crate) struct Growth {
    pub(crate) rows: Vec<EntryRow>,
    pub(crate) nodes: Vec<(u64, Hash)>,
    pub(crate) requests: Vec<(RequestKey, u64, Vec<u8>)>,
}

/// Where an entry of a batch stands.
pub(crate) struct Placed {
    pub(crate) idx: u64,
    /// In [`Growth::rows`].
    pub(crate) row: usize,
    pub(crate) officer: Opening,
}

impl Scribe {
    pub(crate) fn new(keys: Keys) -> Result<Self, JournalError> {
        let boot = BootId::new(random()?);
        Ok(Self {
            signer: keys.signer,
            openings: keys.openings,
            boot,
            written: 0,
        })
    }

    /// What was placed in the last batch is durable.
    pub(crate) fn committed(&mut self, growth: &Growth) {
        self.written += u64::try_from(growth.rows.len()).unwrap_or(0);
    }

    /// Begins a new epoch: of a batch that failed nobody knows whether it was committed, and no counter may stand
    /// twice in one epoch.
    pub(crate) fn begin_epoch(&mut self) -> Result<(), JournalError> {
        self.boot = BootId::new(random()?);
        self.written = 0;
        Ok(())
    }

    /// Fills in the body, commits to what is personal, and grows the tree.
    ///
    /// # Errors
    /// [`JournalError::Log`] if the draft makes an entry that no reader would accept: it is read back
    /// before it is placed, for once on the log it cannot be mended.
    pub(crate) fn place(
        &self,
        draft: Draft,
        now: Time,
        edge: &mut Edge,
        growth: &mut Growth,
    ) -> Result<Placed, JournalError> {
        let Draft {
            mut body,
            linkage,
            officer,
            reasons,
        } = draft;
        let entry_id = EntryId::new(random()?);
        let linkage_bytes = body::encode_linkage(&linkage);
        let (linkage_salt, officer_salt, reasons_salt) = (random()?, random()?, random()?);
        body.format = body::FORMAT;
        body.entry_id = entry_id.to_vec();
        self.signer.origin().clone_into(&mut body.origin);
        body.boot_id = self.boot.to_vec();
        let placed = u64::try_from(growth.rows.len()).unwrap_or(0);
        body.counter = self.written + placed + 1;
        body.time = Some(now.to_timestamp());
        body.linkage_commitment = commitment::linkage(&linkage_salt, &linkage_bytes)?.to_vec();
        body.officer_commitment = commitment::officer(&officer_salt, officer.as_bytes())?.to_vec();
        body.reasons_commitment = commitment::reasons(&reasons_salt, reasons.as_bytes())?.to_vec();

        let officer = Opening {
            salt: officer_salt.to_vec(),
            value: officer.into_bytes(),
        };
        let reasons = Opening {
            salt: reasons_salt.to_vec(),
            value: reasons.into_bytes(),
        };
        let openings = read::seal_openings(&self.openings, entry_id, &officer, &reasons)?;
        let bytes = body::encode(&body);
        body::parse(&bytes)?;
        body::parse_linkage(&linkage_bytes)?;
        let salt = random()?;
        let entry = LogEntry::new(&salt, &bytes);
        let idx = edge.size();
        growth.nodes.extend(edge.append(&entry));
        growth.rows.push(EntryRow {
            idx,
            entry: entry.as_bytes().to_vec(),
            body: bytes,
            salt,
            linkage: linkage_bytes,
            linkage_salt,
            openings,
            case_id: linkage.case_id,
            parsed: body,
        });
        Ok(Placed {
            idx,
            row: growth.rows.len() - 1,
            officer,
        })
    }
}

fn random<const N: usize>() -> Result<[u8; N], JournalError> {
    amanat_seal::random()
        .map_err(|_| JournalError::Unwritable("no randomness to be had".to_owned()))
}
