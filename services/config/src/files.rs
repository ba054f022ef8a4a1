//! Reading keys and writing private files; errors name the path and what to do.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use zeroize::Zeroizing;

/// No file that is read here as a whole is longer: one that never ends must not take the memory.
const LONGEST: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read or write {path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path} can be read by others; run `chmod 600 {path}`")]
    Open { path: String },
    #[error("others can put files into {path}, the folder of a key; run `chmod go-w {path}`")]
    OpenFolder { path: String },
    #[error("{path} holds no private key in the expected form")]
    NoKey { path: String },
}

/// A file's bytes, 1 MiB at most.
///
/// # Errors
/// [`FileError::Io`] with the path.
pub fn read_file(path: &Path) -> Result<Vec<u8>, FileError> {
    bounded(path).map_err(|source| io_error(path, source))
}

/// The same, without the path in the error.
pub(crate) fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len().min(LONGEST);
    // In one piece: of a key that had to move while it was read a copy would stay behind.
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is longer than 1 MiB",
        ));
    }
    Ok(bytes)
}

/// A private key in PEM form, from a file that nobody else can read.
///
/// # Errors
/// [`FileError`] naming the path.
pub fn private_key_pem(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    only_owner_reads(path)?;
    let pem = Zeroizing::new(read_file(path)?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| FileError::NoKey {
        path: path.display().to_string(),
    })
}

/// 32 secret bytes, written as 64 hexadecimal digits, from a file that nobody else can read.
///
/// # Errors
/// [`FileError`] naming the path.
pub fn secret_hex(path: &Path) -> Result<Zeroizing<[u8; 32]>, FileError> {
    only_owner_reads(path)?;
    let text = Zeroizing::new(read_file(path)?);
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_ascii(), bytes.as_mut_slice()).map_err(|_| {
        FileError::NoKey {
            path: path.display().to_string(),
        }
    })?;
    Ok(bytes)
}

/// Neither may others replace it, nor the link that leads to it.
fn only_owner_reads(path: &Path) -> Result<(), FileError> {
    const OTHERS: u32 = 0o077;
    const OTHERS_WRITE: u32 = 0o022;
    /// Nobody removes or renames what another one owns.
    const STICKY: u32 = 0o1000;
    if mode(path)? & OTHERS != 0 {
        return Err(FileError::Open {
            path: path.display().to_string(),
        });
    }
    let found = fs::canonicalize(path).map_err(|source| io_error(path, source))?;
    for folder in [path, &found].into_iter().filter_map(Path::parent) {
        let folder = if folder == Path::new("") {
            Path::new(".")
        } else {
            folder
        };
        let mode = mode(folder)?;
        if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Err(FileError::OpenFolder {
                path: folder.display().to_string(),
            });
        }
    }
    Ok(())
}

fn mode(path: &Path) -> Result<u32, FileError> {
    let metadata = fs::metadata(path).map_err(|source| io_error(path, source))?;
    Ok(metadata.permissions().mode())
}

/// Writes a new file that only its owner can read.
///
/// # Errors
/// [`FileError::Io`], also if the file exists.
pub fn write_private(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(contents))
        .map_err(|source| io_error(path, source))
}

fn io_error(path: &Path, source: io::Error) -> FileError {
    FileError::Io {
        path: path.display().to_string(),
        source,
    }
}
