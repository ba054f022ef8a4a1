//! Writing a backup file.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use amanat_database::{
    Step,
    copy::{Cells, Table},
};
use amanat_ledger::{LogSigner, Sha256, attest};
use amanat_seal::{WrapKey, random};
use prost::Message as _;

use super::{
    Backup, BackupError, failed,
    format::{LAST, MAGIC, MORE, Seal},
    message::{Header, Part, Shape},
};

/// A file under way. It gets its name when it is whole.
pub(super) struct Writing {
    out: PathBuf,
    unfinished: PathBuf,
    file: BufWriter<File>,
    hash: Sha256,
    seal: Seal,
    /// The next part's number.
    number: u64,
    /// Which part is the last is known when there is no other.
    waiting: Vec<u8>,
}

impl Writing {
    pub(super) fn begin(
        out: &Path,
        backup: &Backup,
        steps: &[Step],
        tables: &[Table],
        key: &WrapKey,
    ) -> Result<Self, BackupError> {
        if out.exists() {
            return Err(BackupError::Exists {
                path: out.display().to_string(),
            });
        }
        let header = Header {
            backup_id: random::<16>()?.to_vec(),
            exchange_id: backup.owner.exchange_id.clone(),
            server: backup.owner.server.clone(),
            origin: backup.origin.clone(),
            time: backup.time.millis(),
            checkpoint: backup
                .checkpoint
                .as_ref()
                .map_or_else(String::new, |c| c.text.clone()),
            steps: steps.iter().map(|step| step.name.to_owned()).collect(),
            tables: tables.iter().map(Shape::of).collect(),
        };
        let header = header.encode_to_vec();
        let (seal, wrapped) = Seal::new(&header, key)?;
        let unfinished = out.with_added_extension("new");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(|source| failed(&unfinished, source))?;
        let mut writing = Self {
            out: out.to_owned(),
            unfinished,
            file: BufWriter::new(file),
            hash: Sha256::default(),
            seal,
            number: 0,
            waiting: Vec::new(),
        };
        writing.put(format!("{MAGIC}\n").as_bytes())?;
        writing.put_long(&header)?;
        writing.put_long(&wrapped)?;
        Ok(writing)
    }

    /// Rows of one table, by its place among all.
    pub(super) fn rows(&mut self, table: u32, rows: Vec<Cells>) -> Result<(), BackupError> {
        let rows = rows.into_iter().map(Into::into).collect();
        let part = Part { table, rows }.encode_to_vec();
        if !self.waiting.is_empty() {
            self.part(MORE)?;
        }
        self.waiting = part;
        Ok(())
    }

    /// Signs it, and gives it its name once it is on the disk.
    pub(super) fn end(mut self, signer: &LogSigner) -> Result<(), BackupError> {
        self.part(LAST)?;
        let sha256 = std::mem::take(&mut self.hash).finish();
        let trailer = attest(signer, MAGIC, &sha256)?;
        self.put_long(trailer.as_bytes())?;
        let named = self.file.flush().and_then(|()| {
            self.file.get_ref().sync_all()?;
            fs::rename(&self.unfinished, &self.out)?;
            File::open(folder_of(&self.out))?.sync_all()
        });
        named.map_err(|source| failed(&self.out, source))
    }

    fn part(&mut self, mark: u8) -> Result<(), BackupError> {
        let sealed = self.seal.seal(self.number, mark, &self.waiting)?;
        self.number += 1;
        self.put(&[mark])?;
        self.put_long(&sealed)
    }

    fn put_long(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let too_long = |_| std::io::Error::from(std::io::ErrorKind::FileTooLarge);
        let length = u32::try_from(bytes.len()).map_err(too_long);
        let length = length.map_err(|source| failed(&self.out, source))?;
        self.put(&length.to_be_bytes())?;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.hash.update(bytes);
        let written = self.file.write_all(bytes);
        written.map_err(|source| failed(&self.unfinished, source))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // Gone already if it got its name.
        fs::remove_file(&self.unfinished).ok();
    }
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
