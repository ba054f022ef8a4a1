//! Configuration: one TOML file a process, unknown keys refused, every mistake told at once with its line.
//! Secrets stand in files of their own, which nobody else can read.
//!
//! Nothing that a file holds is quoted in an error: what stands in the wrong place may be a secret.

mod files;
mod section;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

pub use files::{FileError, private_key_pem, read_file, secret_hex, write_private};
pub use section::Section;

/// A setting that is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// In the file, from 1.
    pub line: usize,
    /// As in `server.listen`; empty where the file is no TOML.
    pub setting: String,
    /// What is expected there.
    pub expected: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            setting,
            expected,
        } = self;
        if setting.is_empty() {
            write!(f, "line {line}: {expected}")
        } else {
            write!(f, "line {line}: {setting}: {expected}")
        }
    }
}

/// A configuration file that cannot be read, or is not valid.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is not valid{}", told(.violations))]
    Invalid {
        path: PathBuf,
        /// In the order of their lines.
        violations: Vec<Violation>,
    },
}

fn told(violations: &[Violation]) -> String {
    violations.iter().map(|v| format!("\n  {v}")).collect()
}

/// Reads a configuration file; `of` takes every setting that it knows, and returns `None` if it could not
/// take one. Relative paths count from the file's own folder.
///
/// # Errors
/// [`ConfigError`] with all that is not valid.
pub fn read<T>(
    path: &Path,
    of: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> Result<T, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text, of)
}

/// The same for a text that would stand in the file.
///
/// # Errors
/// [`ConfigError::Invalid`].
pub fn parse<T>(
    path: &Path,
    text: &str,
    of: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> Result<T, ConfigError> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let file = section::File::new(path, text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        file.refuse(at, String::new(), "this is not TOML".to_owned());
    }
    // A file that is half understood would be told of keys that are there.
    let config = if file.is_valid() {
        Section::whole(&file, table.into_inner(), of)
    } else {
        None
    };
    let mut violations = file.into_violations();
    violations.sort_by_key(|violation| violation.line);
    match config {
        Some(config) if violations.is_empty() => Ok(config),
        _ => Err(ConfigError::Invalid {
            path: path.to_owned(),
            violations,
        }),
    }
}
