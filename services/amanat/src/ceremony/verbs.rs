//! The ceremony's commands: `keys`, `directory` and `agency`. Each is one call of the ceremony and one report.

mod agency;
mod directory;
mod keys;

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use rustls_pki_types::DnsName;
use serde_json::{Value, json};

pub(crate) use agency::{Verb as AgencyVerb, run as agency};
pub(crate) use directory::{Verb as DirectoryVerb, run as directory};
pub(crate) use keys::{Verb as KeysVerb, run as keys};

use super::{Card, CeremonyError, changes::Change};
use crate::output::Report;

/// Cards, each with its file.
fn cards(paths: &[PathBuf]) -> Result<Vec<(&Path, Card)>, CeremonyError> {
    let cards = paths
        .iter()
        .map(|path| Ok((path.as_path(), Card::read(path)?)));
    cards.collect()
}

/// What was made or changed, for a person and for a program.
fn made(files: &[PathBuf], next: &str) -> Report {
    let names: Vec<_> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let text = format!("{}\nnext: {next}", names.join("\n"));
    Report::new(text, json!({ "files": names, "next": next }))
}

/// What changes, by whom it is about.
fn told(changes: &[Change]) -> (String, Value) {
    if changes.is_empty() {
        return ("nothing changes\n".to_owned(), json!(changes));
    }
    let mut text = String::new();
    let mut of = "";
    for Change { fact, change } in changes {
        if fact.of != of {
            text.push_str(&format!("{}\n", fact.of));
            of = &fact.of;
        }
        text.push_str(&format!("  {change} {:<21} {}\n", fact.what, fact.value));
    }
    (text, json!(changes))
}

/// Asks at a terminal for the first digits of what is about to be signed; elsewhere nobody confirms.
fn confirmed(digest: &str, shown: &str) -> Result<bool, CeremonyError> {
    const DIGITS: usize = 8;
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut out = io::stderr().lock();
    write!(
        out,
        "{shown}\nType the first {DIGITS} digits of the digest to sign: "
    )
    .and_then(|()| out.flush())
    .map_err(CeremonyError::Confirmation)?;
    let mut typed = String::new();
    io::stdin()
        .lock()
        .read_line(&mut typed)
        .map_err(CeremonyError::Confirmation)?;
    let typed = typed.trim();
    Ok(typed.len() >= DIGITS && digest.starts_with(typed))
}

/// A name in the form of a host's: an exchange's id, a server's name.
fn host_name(text: &str) -> Result<String, String> {
    DnsName::try_from(text)
        .map(|_| text.to_ascii_lowercase())
        .map_err(|_| "expected a name in the form of a host name".to_owned())
}

/// How a party calls itself: it names files, and stands in commands.
pub(super) fn party_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=40).contains(&text.len()) && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("expected up to 40 lower-case letters, digits and hyphens".to_owned())
    }
}

fn public_key(text: &str) -> Result<[u8; 32], String> {
    let key = hex::decode(text).ok().and_then(|key| key.try_into().ok());
    key.ok_or_else(|| "expected a public key, 64 hexadecimal digits".to_owned())
}
