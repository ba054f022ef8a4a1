//! Configuration: one TOML file a process, unknown keys refused, every mistake told at once with its line.
//! Secrets stand in files of their own, which nobody else can read.
//!
//! Nothing that a file holds is quoted in an error: what stands in the wrong place may be a secret.

mod address;
mod files;
mod inspection;
mod place;
mod section;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

pub use address::{AddressError, AddressesError, ServerAddress, ServerAddresses, Turns};
pub use files::{FileError, private_key_pem, read_file, secret_hex, write_private};
pub use inspection::{Inspection, Remark};
pub use place::FileSetting;
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

/// The settings that were asked for, and the line of each that stands in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, Option<usize>>);

impl Settings {
    /// Where a setting stands; `None` if it does not.
    pub fn line(&self, setting: &str) -> Option<usize> {
        *self.0.get(setting)?
    }

    /// All that are known, by name.
    pub fn known(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
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
    Ok(read_with_settings(path, of)?.0)
}

/// The same, with what is known of the settings.
///
/// # Errors
/// [`ConfigError`] with all that is not valid.
pub fn read_with_settings<T>(
    path: &Path,
    of: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> Result<(T, Settings), ConfigError> {
    parse(path, &text(path)?, of)
}

/// The names that stand at the top of a file, as far as it is TOML: they tell what it configures.
///
/// # Errors
/// [`ConfigError::File`].
pub fn outline(path: &Path) -> Result<Vec<String>, ConfigError> {
    let text = text(path)?;
    let (table, _) = DeTable::parse_recoverable(&text);
    let names = table.into_inner().into_iter();
    Ok(names
        .map(|(name, _)| name.into_inner().into_owned())
        .collect())
}

/// Whether a file is TOML, whatever it configures, and holds anything.
///
/// # Errors
/// [`ConfigError`] with all that is not TOML.
pub fn check_form(path: &Path) -> Result<(), ConfigError> {
    let text = text(path)?;
    let (table, errors) = DeTable::parse_recoverable(&text);
    let file = section::File::new(path, &text);
    let is_empty = errors.is_empty() && table.get_ref().is_empty();
    refuse_all(&file, errors);
    if is_empty {
        file.refuse(0, String::new(), "the file is empty".to_owned());
    }
    if file.is_valid() {
        Ok(())
    } else {
        Err(invalid(path, file))
    }
}

fn text(path: &Path) -> Result<String, ConfigError> {
    let text = files::bounded(path).and_then(|bytes| {
        String::from_utf8(bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
    });
    text.map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })
}

fn refuse_all(file: &section::File<'_>, errors: Vec<toml::de::Error>) {
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        // The library's words are of TOML alone, and quote nothing of the file.
        let expected = format!("this is not TOML: {}", error.message());
        file.refuse(at, String::new(), expected);
    }
}

fn invalid(path: &Path, file: section::File<'_>) -> ConfigError {
    let mut violations = file.into_violations();
    violations.sort_by_key(|violation| violation.line);
    ConfigError::Invalid {
        path: path.to_owned(),
        violations,
    }
}

fn parse<T>(
    path: &Path,
    text: &str,
    of: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> Result<(T, Settings), ConfigError> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let file = section::File::new(path, text);
    refuse_all(&file, errors);
    // A file that is half understood would be told of keys that are there.
    let config = if file.is_valid() {
        Section::whole(&file, table.into_inner(), of)
    } else {
        None
    };
    match config {
        Some(config) if file.is_valid() => Ok((config, file.settings())),
        _ => Err(invalid(path, file)),
    }
}
