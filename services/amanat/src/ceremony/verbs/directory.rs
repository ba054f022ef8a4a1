//! `amanat directory`: registrars draft, sign and publish who takes part.

use std::path::{Path, PathBuf};

use amanat_policy::DecisionTable;
use amanat_schema::directory::Registrar;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{super as ceremony, cards, confirmed, host_name, made, told};
use crate::{
    ceremony::{
        Card, CardFault, Cards, CeremonyError, Draft, DraftFault, KeyFile, Known,
        changes::{Change, Direction, between, facts},
        folder::read,
    },
    clock::system_clock,
    output::Report,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Drafts the first directory of an exchange, or the next after one
    #[command(
        after_help = "Examples:\n  amanat directory draft --exchange pilot.amanat.example \\\n    \
                      --registrar one.card.toml --registrar two.card.toml \\\n    \
                      --gateway gateway.card.toml --custodian custodian.card.toml \\\n    \
                      --table decision-table.txt --out directory-1.draft\n  \
                      amanat directory draft --from directory.bin --out directory-2.draft\n  \
                      amanat directory draft --from directory.bin --gateway gateway.card.toml \\\n    \
                      --out directory-2.draft"
    )]
    Draft(Box<Drafted>),
    /// Shows what a draft changes, and adds a registrar's signature
    #[command(
        after_help = "Examples:\n  amanat directory sign directory-1.draft --key registrar.key\n  \
                      amanat directory sign directory-2.draft --key registrar.key \\\n    \
                      --in-use directory.bin"
    )]
    Sign(Sign),
    /// Puts a signed directory, and its decision table, where the parties read them
    #[command(
        after_help = "Example:\n  amanat directory publish directory-1.draft --to /etc/amanat/public \\\n    \
                      --table decision-table.txt"
    )]
    Publish {
        /// The draft that is signed
        draft: PathBuf,
        /// The public folder; crls/ and suspensions/ are made in it
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// The decision table, if it is not the one that lies there
        #[arg(long, value_name = "FILE")]
        table: Option<PathBuf>,
    },
    /// Shows what a directory, a draft or a card says, and its fingerprint
    #[command(
        after_help = "Examples:\n  amanat directory show directory.bin\n  amanat directory show gateway.card.toml"
    )]
    Show {
        /// A directory, a draft, or a card (.toml)
        file: PathBuf,
    },
    /// Shows what one directory or draft says otherwise than another
    #[command(after_help = "Example:\n  amanat directory diff directory.bin directory-2.draft")]
    Diff {
        /// A directory or a draft
        old: PathBuf,
        /// The one that is to follow it
        new: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Drafted {
    /// The directory that the draft is to follow
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exchange", "registrars", "threshold"])]
    from: Option<PathBuf>,
    /// The exchange's id, in the form of a host name
    #[arg(long, value_name = "ID", value_parser = host_name, required_unless_present = "from")]
    exchange: Option<String>,
    /// The card of a registrar, once for each
    #[arg(
        long = "registrar",
        value_name = "CARD",
        required_unless_present = "from"
    )]
    registrars: Vec<PathBuf>,
    /// How many registrars must sign
    #[arg(long, value_name = "N", default_value_t = 2)]
    threshold: usize,
    /// The gateway's card; without --from, or to change its keys
    #[arg(long, value_name = "CARD", required_unless_present = "from")]
    gateway: Option<PathBuf>,
    /// The custodian's card; without --from, or to change its keys
    #[arg(long, value_name = "CARD", required_unless_present = "from")]
    custodian: Option<PathBuf>,
    /// Take this server's card although no key that is listed for it signed it: its operator was asked
    #[arg(
        long,
        value_name = "SERVER",
        value_parser = ["gateway", "custodian"],
        requires = "from",
        requires_ifs = [("gateway", "gateway"), ("custodian", "custodian")]
    )]
    keys_lost: Vec<String>,
    /// The decision table; without --from, or to change it
    #[arg(long, value_name = "FILE", required_unless_present = "from")]
    table: Option<PathBuf>,
    /// For how long it is good
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=30))]
    days: u32,
    /// The new draft
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The draft, which gets the signature
    draft: PathBuf,
    /// The registrar's key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The directory in use, unless the draft is the first; all of the draft is shown if this registrar did not
    /// sign it
    #[arg(long, value_name = "FILE")]
    in_use: Option<PathBuf>,
    /// Sign without asking: `directory diff` was read before
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(verb: Verb) -> Result<Report, CeremonyError> {
    match verb {
        Verb::Draft(drafted) => draft(&drafted),
        Verb::Sign(sign) => sign.run(),
        Verb::Publish { draft, to, table } => {
            let file = ceremony::publish(&Draft::read(&draft)?, &to, table.as_deref())?;
            Ok(made(
                &[file],
                "the servers take it within seconds; hand it to every party",
            ))
        }
        Verb::Show { file } if file.extension().is_some_and(|e| e == "toml") => show_card(&file),
        Verb::Show { file } => show(&file),
        Verb::Diff { old, new } => {
            let (old, new) = (Draft::read(&old)?, Draft::read(&new)?);
            let (text, json) = told(&between(Some(old.content()), new.content()));
            Ok(Report::new(text.trim_end(), json))
        }
    }
}

fn draft(drafted: &Drafted) -> Result<Report, CeremonyError> {
    let (now, out) = (system_clock()(), drafted.out.as_path());
    let table = drafted.table.as_deref().map(decision_table).transpose()?;
    let draft = match (&drafted.from, &drafted.exchange, &table) {
        (None, Some(exchange), Some(table)) => {
            let (gateway, custodian) = (
                drafted.gateway.clone().unwrap_or_default(),
                drafted.custodian.clone().unwrap_or_default(),
            );
            let cards = Cards {
                registrars: &cards(&drafted.registrars)?,
                gateway: (&gateway, server_card("gateway", &gateway)?),
                custodian: (&custodian, server_card("custodian", &custodian)?),
            };
            let threshold = drafted.threshold;
            ceremony::first(out, exchange, &cards, threshold, table, now, drafted.days)?
        }
        (from, _, table) => {
            let from = Draft::read(&from.clone().unwrap_or_default())?;
            let mut servers = Vec::new();
            for (kind, path) in [
                ("gateway", &drafted.gateway),
                ("custodian", &drafted.custodian),
            ] {
                if let Some(path) = path {
                    let known = Known {
                        keys_lost: drafted.keys_lost.iter().any(|lost| lost == kind),
                        compromised: None,
                    };
                    servers.push((path.as_path(), server_card(kind, path)?, known));
                }
            }
            let (table, days) = (table.as_deref(), drafted.days);
            ceremony::next(out, &from, table, &servers, now, days)?
        }
    };
    let (out, digest) = (out.display().to_string(), draft.digest());
    let text = format!(
        "{out}: version {}, good for {} days\nnext: `amanat agency enrol` and `revoke` change it; then the \
         registrars sign it",
        draft.version(),
        drafted.days
    );
    let json = json!({ "files": [out], "version": draft.version(), "digest": digest });
    Ok(Report::new(text, json))
}

/// A server's card, of the one that the option names.
fn server_card(kind: &'static str, path: &Path) -> Result<Card, CeremonyError> {
    let card = Card::read(path)?;
    if card.kind() == kind {
        return Ok(card);
    }
    Err(CeremonyError::Card {
        path: path.to_owned(),
        fault: CardFault::Server { kind },
    })
}

/// A decision table that servers can read.
fn decision_table(path: &Path) -> Result<Vec<u8>, CeremonyError> {
    let bytes = read(path)?;
    match DecisionTable::parse(&String::from_utf8_lossy(&bytes)) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(CeremonyError::Draft {
            path: path.to_owned(),
            fault: DraftFault::NoTable {
                table: path.to_owned(),
                message: error.to_string(),
            },
        }),
    }
}

impl Sign {
    fn run(self) -> Result<Report, CeremonyError> {
        let mut draft = Draft::read(&self.draft)?;
        let key = KeyFile::open(&self.key)?;
        let in_use = self.in_use.as_deref().map(Draft::read).transpose()?;
        let changes = draft.examine(in_use.as_ref(), &key.key.public_key(), system_clock()())?;
        let (text, json) = told(&changes);
        let digest = draft.digest();
        let shown = format!("{text}digest {digest}");
        if !self.yes && !confirmed(&digest, &shown)? {
            return Err(draft.refused(DraftFault::Unconfirmed));
        }
        draft.sign(&key.key)?;
        let (signed, signers) = signed_by(&draft);
        let text = format!("{shown}\n{signed}");
        let json = json!({ "changes": json, "digest": digest, "signed_by": signers });
        Ok(Report::new(text, json))
    }
}

/// Who signed it, for a person and for a program. A name in a draft is whatever its drafter wrote: the key tells
/// who it is, and what could draw on a terminal is written out.
fn signed_by(draft: &Draft) -> (String, Value) {
    let signers: Vec<_> = draft.signers().collect();
    let line = |signer: &&Registrar| {
        let key = hex::encode(&signer.public_key);
        format!("\n  {key} {:?}", signer.name)
    };
    let lines: String = signers.iter().map(line).collect();
    let text = match lines.as_str() {
        "" => "signed by nobody".to_owned(),
        lines => format!("signed by{lines}"),
    };
    let signers = signers.iter().map(
        |signer| json!({ "name": signer.name, "public_key": hex::encode(&signer.public_key) }),
    );
    (text, signers.collect())
}

fn show_card(path: &Path) -> Result<Report, CeremonyError> {
    let card = Card::read(path)?;
    let (kind, name, fingerprint) = (card.kind(), card.name(), card.fingerprint());
    let id = card.agency_id(path).ok();
    let known = id.map(|id| {
        format!("\nfor the other agencies' profiles, under [agencies]: {name} = \"{id}\"")
    });
    let text = format!(
        "{kind} {name}; its maker holds its keys\nfingerprint {fingerprint}{}",
        known.unwrap_or_default()
    );
    let json = json!({ "party": kind, "name": name, "agency": id, "fingerprint": fingerprint });
    Ok(Report::new(text, json))
}

fn show(path: &Path) -> Result<Report, CeremonyError> {
    let draft = Draft::read(path)?;
    let facts = facts(draft.content());
    let listed: Vec<_> = facts
        .iter()
        .map(|fact| Change {
            fact: fact.clone(),
            change: Direction::Comes,
        })
        .collect();
    let (text, _) = told(&listed);
    let (digest, (signed, signers)) = (draft.digest(), signed_by(&draft));
    // Here nothing comes or goes.
    let text = text.replace("\n  + ", "\n    ");
    let text = format!("{text}digest {digest}\n{signed}");
    let json = json!({ "facts": facts, "digest": digest, "signed_by": signers });
    Ok(Report::new(text, json))
}
