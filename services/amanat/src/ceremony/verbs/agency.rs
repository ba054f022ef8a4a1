//! `amanat agency`: registrars list agencies, and close them.

use std::path::PathBuf;

use amanat_schema::{AgencyId, Time};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{super as ceremony, made, public_key, told};
use crate::{
    agency::codes,
    ceremony::{Card, CeremonyError, Draft, KeyFile},
    clock::system_clock,
    output::Report,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists an agency in a draft, or anew if it is listed: that is how its keys change
    #[command(
        after_help = "Example:\n  amanat agency enrol police.card.toml --draft directory-2.draft"
    )]
    Enrol(Enrol),
    /// Lists an agency no more in a draft
    ///
    /// Once the directory is in use every request of the agency is refused, and what others referred to it or
    /// shared with it opens to it no more. What it was released before it keeps. Its own records stay with the
    /// gateway; others who hold a consent of it cannot read them any more either.
    #[command(
        after_help = "Example:\n  amanat agency revoke 0f3c… --draft directory-2.draft\n\n\
                      If it cannot wait for two signatures: `amanat agency suspend`."
    )]
    Revoke {
        /// The agency's id
        id: AgencyId,
        /// The draft to be changed
        #[arg(long, value_name = "FILE")]
        draft: PathBuf,
    },
    /// Closes an agency, or one of its statement keys, at once and for a week: one registrar alone
    #[command(
        after_help = "Example:\n  amanat agency suspend 0f3c… --key registrar.key --directory directory.bin --out /etc/amanat/public/suspensions"
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
    /// A statement key that the card names no more may be in other hands since then, as in 2026-03-01T09:30:00Z
    #[arg(long, value_name = "TIME", value_parser = codes::time)]
    compromised_since: Option<Time>,
    /// Take the card although no key that is listed signed it
    #[arg(long)]
    keys_lost: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Suspend {
    /// The agency's id
    id: AgencyId,
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
        Verb::Revoke { id, draft } => {
            let changes = Draft::read(&draft)?.remove(id)?;
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
        let now = system_clock()();
        let since = self.compromised_since;
        let changes = draft.enrol(&self.card, &card, now, since, self.keys_lost)?;
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
        let file = ceremony::suspend(self.id, target, &key.key, &in_use, &self.out, now)?;
        Ok(made(
            &[file],
            "put it into the public folder's suspensions/ of both servers; it counts for 7 days",
        ))
    }
}
