//! Reading a backup file, of which nothing is believed before it is verified.

use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};

use amanat_database::copy::Cells;
use amanat_ledger::{LogVerifier, Sha256, verify_attestation};
use amanat_schema::Time;
use amanat_seal::WrapKey;
use prost::Message as _;

use super::{
    Backup, BackupError, DERIVED, Owner, failed,
    format::{FAMILY, LARGEST, LAST, MAGIC, Seal},
    message::{Header, Part, Shape},
};

/// A file under way, verified as far as it is read; as a whole when there is no further part.
pub(super) struct Reading {
    bytes: Bytes,
    log: LogVerifier,
    seal: Seal,
    number: u64,
    is_over: bool,
    /// With the rows read so far.
    pub(super) backup: Backup,
    pub(super) steps: Vec<String>,
    pub(super) tables: Vec<Shape>,
}

struct Bytes {
    path: PathBuf,
    file: BufReader<File>,
    hash: Sha256,
}

/// Whose a file says that it is.
pub(super) fn owner(path: &Path) -> Result<Owner, BackupError> {
    let (header, _) = Bytes::open(path)?.header()?;
    Ok(Owner {
        exchange_id: header.exchange_id,
        server: header.server,
    })
}

impl Reading {
    pub(super) fn open(
        path: &Path,
        owner: &Owner,
        log: &LogVerifier,
        key: &WrapKey,
    ) -> Result<Self, BackupError> {
        let mut bytes = Bytes::open(path)?;
        let (header, encoded) = bytes.header()?;
        let is_ours = header.exchange_id == owner.exchange_id
            && header.server == owner.server
            && header.origin == log.origin();
        if !is_ours {
            return Err(BackupError::Another {
                server: header.server,
                exchange_id: header.exchange_id,
                origin: header.origin,
            });
        }
        let wrapped = bytes.long()?;
        let seal = Seal::open(&encoded, &wrapped, key).map_err(|_| BackupError::Key)?;
        let checkpoint = match header.checkpoint.as_str() {
            "" => None,
            note => Some(log.open(note).map_err(|_| signature(log))?),
        };
        let of_rows = |shape: &Shape| !DERIVED.contains(&shape.name.as_str());
        if !header.tables.iter().all(of_rows) {
            return Err(BackupError::Header);
        }
        Ok(Self {
            bytes,
            log: log.clone(),
            seal,
            number: 0,
            is_over: false,
            backup: Backup {
                owner: owner.clone(),
                origin: header.origin,
                time: Time::from_millis(header.time).map_err(|_| BackupError::Header)?,
                checkpoint,
                rows: 0,
            },
            steps: header.steps,
            tables: header.tables,
        })
    }

    /// The next rows with their table; `None` after the last, once the file is verified as a whole.
    pub(super) fn next(&mut self) -> Result<Option<(&Shape, Vec<Cells>)>, BackupError> {
        if self.is_over {
            self.end()?;
            return Ok(None);
        }
        let number = self.number;
        self.number += 1;
        let [mark] = self.bytes.some()?;
        let sealed = self.bytes.long()?;
        let opened = self.seal.unseal(number, mark, &sealed);
        let opened = opened.map_err(|_| BackupError::Part(number))?;
        self.is_over = mark == LAST;
        let malformed = || BackupError::Form(number);
        let part = Part::decode(opened.as_ref()).map_err(|_| malformed())?;
        let at = usize::try_from(part.table).map_err(|_| malformed())?;
        let table = self.tables.get(at).ok_or_else(malformed)?;
        let rows = part.rows.into_iter().map(|row| table.cells(row));
        let rows: Vec<_> = rows.collect::<Option<_>>().ok_or_else(malformed)?;
        self.backup.rows += rows.len() as u64;
        Ok(Some((table, rows)))
    }

    fn end(&mut self) -> Result<(), BackupError> {
        let sha256 = std::mem::take(&mut self.bytes.hash).finish();
        let trailer = String::from_utf8(self.bytes.long()?).map_err(|_| signature(&self.log))?;
        verify_attestation(&self.log, &trailer, MAGIC, &sha256)
            .map_err(|_| signature(&self.log))?;
        match self.bytes.some::<1>() {
            Err(BackupError::CutOff) => Ok(()),
            Ok(_) => Err(BackupError::Longer),
            Err(error) => Err(error),
        }
    }
}

fn signature(log: &LogVerifier) -> BackupError {
    BackupError::Signature(log.origin().to_owned())
}

impl Bytes {
    /// Behind the first line.
    fn open(path: &Path) -> Result<Self, BackupError> {
        let file = File::open(path).map_err(|source| failed(path, source))?;
        let mut bytes = Self {
            path: path.to_owned(),
            file: BufReader::new(file),
            hash: Sha256::default(),
        };
        let mut line = Vec::new();
        while line.len() <= MAGIC.len() + 8 && line.last() != Some(&b'\n') {
            let next = bytes.some();
            if matches!(next, Err(BackupError::CutOff)) {
                return Err(BackupError::NoBackup);
            }
            let [byte] = next?;
            line.push(byte);
        }
        let line = String::from_utf8_lossy(&line);
        match line.strip_suffix('\n') {
            Some(MAGIC) => Ok(bytes),
            Some(other) if other.starts_with(FAMILY) => Err(BackupError::Format {
                found: other.to_owned(),
                known: MAGIC,
            }),
            _ => Err(BackupError::NoBackup),
        }
    }

    /// Parsed, and as it stands there.
    fn header(&mut self) -> Result<(Header, Vec<u8>), BackupError> {
        let encoded = self.long()?;
        let header = Header::decode(encoded.as_slice()).map_err(|_| BackupError::Header)?;
        Ok((header, encoded))
    }

    fn long(&mut self) -> Result<Vec<u8>, BackupError> {
        let length = u32::from_be_bytes(self.some()?);
        if length > LARGEST {
            // Nobody wrote that: a length is damaged, or what stands before it was cut.
            return Err(BackupError::CutOff);
        }
        let mut bytes = Vec::new();
        let read = (&mut self.file).take(length.into()).read_to_end(&mut bytes);
        let read = read.map_err(|source| failed(&self.path, source))?;
        if u32::try_from(read) != Ok(length) {
            return Err(BackupError::CutOff);
        }
        self.hash.update(&bytes);
        Ok(bytes)
    }

    fn some<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut bytes = [0; N];
        match self.file.read_exact(&mut bytes) {
            Ok(()) => {
                self.hash.update(&bytes);
                Ok(bytes)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(BackupError::CutOff),
            Err(source) => Err(failed(&self.path, source)),
        }
    }
}
