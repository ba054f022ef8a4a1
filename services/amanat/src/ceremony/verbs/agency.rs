//! `amanat agency`: registrars list agencies, and close them.

use std::path::{Path, PathBuf};

use amanat_schema::{AgencyId, Time};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{super as ceremony, made, public_key, told};
use crate::{
    agency::codes,
    ceremony::{Card, CeremonyError, Compromised, Draft, KeyFile, Known},
    clock::system_clock,
    output::Report,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists an agency in a draft, or anew if it is listed: that is how its keys change
    ///
    /// A statement key that the card leaves out is retired: it signs nothing new, and what it signed until then still
    /// verifies. An agency that was removed by an earlier directory comes back with --keys-lost, and its old
    /// statement keys are listed as retired; with another id it is another agency, and its old records stay closed.
    #[command(
        after_help = "Examples:\n  amanat agency enrol police.card.toml --draft directory-2.draft\n  \
                      amanat agency enrol police.card.toml --draft directory-2.draft \\\n    \
                      --compromised-since 2026-03-01T09:30:00Z\n  \
                      amanat agency enrol police.card.toml --draft directory-2.draft \\\n    \
                      --compromised-since 2026-03-01 --compromised-key 9d61…"
    )]
    Enrol(Enrol),
    /// Lists an agency no more in a draft
    ///
    /// Once the directory is in use every request of the agency is refused, and what others referred to it or
    /// shared with it opens to it no more. What it was released before it keeps. Its own records stay with the
    /// gateway; others who hold a consent of it cannot read them any more either. The directory keeps the agency's
    /// statement keys, so that nobody else takes them and its return forgets none; it can come back with a later
    /// directory, not with the same draft.
    #[command(
        after_help = "Example:\n  amanat agency revoke --card police.card.toml --draft directory-2.draft\n\n\
                      If it cannot wait for two signatures: `amanat agency suspend`."
    )]
    Revoke {
        #[command(flatten)]
        which: Which,
        /// The draft to be changed
        #[arg(long, value_name = "FILE")]
        draft: PathBuf,
    },
    /// Closes an agency, or one of its statement keys, at once and for a week: one registrar alone
    #[command(
        after_help = "Example:\n  amanat agency suspend 0f3c… --key registrar.key \\\n    \
                      --directory directory.bin --out /etc/amanat/public/suspensions"
    )]
    Suspend(Suspend),
}

#[derive(Debug, Args)]
pub(crate) struct Enrol {
    /// Its card, whose fingerprint was compared with the agency
    card: PathBuf,
    /// The draft to be changed
    #[arg(long, value_name = "FILE")]
    draft: PathBuf,
    /// The statement keys that the card leaves out may be in other hands since then, as in 2026-03-01T09:30:00Z:
    /// what was not recorded before does not count. Once published it cannot be moved later, only earlier
    #[arg(long, value_name = "TIME", value_parser = codes::time)]
    compromised_since: Option<Time>,
    /// Not those, but this retired one; once for each, also if it was retired long ago
    #[arg(long = "compromised-key", value_name = "HEX", value_parser = public_key, requires = "compromised_since")]
    compromised_keys: Vec<[u8; 32]>,
    /// Take the card although no key that is listed signed it: the agency itself was asked
    #[arg(long)]
    keys_lost: bool,
}

/// An agency that is listed.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// The agency's id; `amanat directory show` tells it of a card or a directory
    id: Option<AgencyId>,
    /// The agency's card, instead of its id
    #[arg(long, value_name = "CARD")]
    card: Option<PathBuf>,
}

impl Which {
    fn id(&self) -> Result<AgencyId, CeremonyError> {
        match (self.id, &self.card) {
            (Some(id), _) => Ok(id),
            (None, card) => {
                let path = card.as_deref().unwrap_or(Path::new(""));
                Card::read(path)?.agency_id(path)
            }
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Suspend {
    #[command(flatten)]
    which: Which,
    /// Only this statement key of it
    #[arg(long, value_name = "HEX", value_parser = public_key)]
    statement_key: Option<[u8; 32]>,
    /// The registrar's key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The directory in use
    #[arg(long, value_name = "FILE")]
    directory: PathBuf,
    /// A folder for the suspension, to be put into the public folder's suspensions/
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(verb: Verb) -> Result<Report, CeremonyError> {
    match verb {
        Verb::Enrol(enrol) => enrol.run(),
        Verb::Revoke { which, draft } => {
            let changes = Draft::read(&draft)?.remove(which.id()?)?;
            let (text, json) = told(&changes);
            let text = format!(
                "{text}next: sign and publish. From then on its requests are refused, its open referrals stay as \
                 they are and open nothing to it, and its own records are read by nobody else"
            );
            Ok(Report::new(text, json!({ "changes": json })))
        }
        Verb::Suspend(suspend) => suspend.run(),
    }
}

impl Enrol {
    fn run(self) -> Result<Report, CeremonyError> {
        let mut draft = Draft::read(&self.draft)?;
        let card = Card::read(&self.card)?;
        let keys = self.compromised_keys;
        let known = Known {
            keys_lost: self.keys_lost,
            compromised: self
                .compromised_since
                .map(|since| Compromised { keys, since }),
        };
        let changes = draft.enrol(&self.card, &card, &known, system_clock()())?;
        let (text, json) = told(&changes);
        let fingerprint = card.fingerprint();
        let name = card.name();
        let text = format!("{name}, fingerprint {fingerprint}\n{}", text.trim_end());
        let json = json!({ "name": name, "fingerprint": fingerprint, "changes": json });
        Ok(Report::new(text, json))
    }
}

impl Suspend {
    fn run(self) -> Result<Report, CeremonyError> {
        let key = KeyFile::open(&self.key)?;
        let in_use = Draft::read(&self.directory)?;
        let (now, target) = (system_clock()(), self.statement_key);
        let file = ceremony::suspend(self.which.id()?, target, &key.key, &in_use, &self.out, now)?;
        Ok(made(
            &[file],
            "put it into the public folder's suspensions/ of both servers; it counts for 7 days",
        ))
    }
}
