//! A policy folder on disk: the rules in, the table and its pages out, and whether they agree.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use amanat_policy::{DecisionTable, TableError};
use amanat_schema::policy::Purpose;

use crate::{
    compile::{CompileError, Compiled, compile},
    diff::Difference,
    page,
    rules::{Rules, RulesError},
};

pub const TABLE: &str = "decision-table.txt";
pub const PAGES: &str = "pages";

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error(transparent)]
    Rules(#[from] RulesError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path}: {error}")]
    Table { path: PathBuf, error: TableError },
}

/// Compiles the rules of a folder; nothing is written.
///
/// # Errors
/// [`FolderError`] if they cannot be read or are refused.
pub fn compiled(folder: &Path) -> Result<Compiled, FolderError> {
    Ok(compile(&Rules::read(folder)?)?)
}

/// The table of a file, or of a folder's rules.
///
/// # Errors
/// [`FolderError`] if it cannot be read or is refused.
pub fn table(path: &Path) -> Result<DecisionTable, FolderError> {
    if path.is_dir() {
        return Ok(compiled(path)?.table);
    }
    let text = fs::read_to_string(path).map_err(|source| read_error(path, source))?;
    parse(path, &text)
}

/// Writes the pages, then the table: whoever sees a new table finds its pages. Each file is replaced whole.
///
/// # Errors
/// [`FolderError::Write`]; then writing again completes it.
pub fn write(folder: &Path, compiled: &Compiled) -> Result<(), FolderError> {
    let pages = folder.join(PAGES);
    fs::create_dir_all(&pages).map_err(|source| write_error(&pages, source))?;
    for (purpose, page) in &compiled.pages {
        replace(&pages.join(page::file_name(*purpose)), page)?;
    }
    replace(&folder.join(TABLE), &compiled.text)
}

/// How what stands in the folder differs from what its rules come to, each difference in a text of its own;
/// none if it does not.
///
/// # Errors
/// [`FolderError`] if a file is there and cannot be read, or the table is none.
pub fn differences(folder: &Path, compiled: &Compiled) -> Result<Vec<String>, FolderError> {
    let mut differences = table_differences(&folder.join(TABLE), compiled)?;
    for (purpose, page) in &compiled.pages {
        differences.extend(page_differences(folder, *purpose, page)?);
    }
    differences.extend(strays(folder, compiled)?);
    Ok(differences)
}

fn table_differences(path: &Path, compiled: &Compiled) -> Result<Vec<String>, FolderError> {
    let Some(text) = read_if_there(path)? else {
        return Ok(vec![format!("{TABLE} is missing")]);
    };
    let difference = Difference::between(&parse(path, &text)?, &compiled.table);
    let changes = difference.0.iter();
    let mut differences: Vec<_> = changes.map(|change| format!("{TABLE}: {change}")).collect();
    if differences.is_empty() && text != compiled.text {
        differences.push(format!(
            "{TABLE}: the cells are right, its comments are not"
        ));
    }
    Ok(differences)
}

fn page_differences(
    folder: &Path,
    purpose: Purpose,
    page: &str,
) -> Result<Vec<String>, FolderError> {
    let name = page::file_name(purpose);
    let Some(shown) = read_if_there(&folder.join(PAGES).join(&name))? else {
        return Ok(vec![format!("{PAGES}/{name} is missing")]);
    };
    let differences = page::differences(purpose, page, &shown).into_iter();
    Ok(differences
        .map(|difference| format!("{PAGES}/{name}: {difference}"))
        .collect())
}

/// What stands among the pages and is none: whoever reviews the folder would take it for one.
fn strays(folder: &Path, compiled: &Compiled) -> Result<Vec<String>, FolderError> {
    let folder = folder.join(PAGES);
    let failed = |source| read_error(&folder, source);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        // Every page was found missing already.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let pages = compiled.pages.keys();
    let pages: BTreeSet<_> = pages.map(|purpose| page::file_name(*purpose)).collect();
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: BTreeSet<String> = names.collect::<io::Result<_>>().map_err(failed)?;
    let strays = names.difference(&pages);
    Ok(strays
        .map(|name| format!("{PAGES}/{name} is the page of no purpose: remove it"))
        .collect())
}

fn read_if_there(path: &Path) -> Result<Option<String>, FolderError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(read_error(path, source)),
    }
}

fn parse(path: &Path, text: &str) -> Result<DecisionTable, FolderError> {
    let path = path.to_owned();
    DecisionTable::parse(text).map_err(|error| FolderError::Table { path, error })
}

/// Writes beside the file, then renames: a reader sees the old text or the new one.
fn replace(path: &Path, text: &str) -> Result<(), FolderError> {
    let new = path.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|source| write_error(path, source))
}

fn read_error(path: &Path, source: io::Error) -> FolderError {
    let path = path.to_owned();
    FolderError::Read { path, source }
}

fn write_error(path: &Path, source: io::Error) -> FolderError {
    let path = path.to_owned();
    FolderError::Write { path, source }
}
