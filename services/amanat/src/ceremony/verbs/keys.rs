//! `amanat keys`: each party's own keys, on its own machine.

mod init;

use std::path::PathBuf;

use amanat_schema::directory;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{super as ceremony, made, public_key};
use crate::{
    ceremony::{CeremonyError, InUse, Party, Revocation, RotationFault, Step},
    clock::system_clock,
    output::Report,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes the keys, configuration and card of a party
    #[command(subcommand)]
    Init(init::Verb),
    /// Gives a party's process a new certificate and key, by the party's own authority
    ///
    /// The old certificate counts until it is revoked or ends; its serial number is told.
    #[command(after_help = "Example:\n  amanat keys renew gateway")]
    Renew {
        /// The folder that `keys init` made
        folder: PathBuf,
    },
    /// Writes a party's revocation list anew: with one more certificate, or just good for longer
    ///
    /// What was revoked before stays so. The list is good for 30 days. The certificate that is in use is renewed
    /// first: a party that shows a revoked one is refused.
    #[command(
        after_help = "Examples:\n  amanat keys revoke police --certificate police/tls/1/connector.pem\n  \
                      amanat keys revoke police --serial 5f0c…\n  amanat keys revoke police --renew"
    )]
    Revoke(Revoke),
    /// Replaces keys with an overlap, so that nothing is refused in between
    ///
    /// First without --finish: a new one is made, and the card names both. Once the directory lists both, with
    /// --finish: the new one is used, and the card names it alone.
    #[command(subcommand)]
    Rotate(Rotate),
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The folder that `keys init` made
    folder: PathBuf,
    #[command(flatten)]
    what: What,
    /// Revoke it even if it is the one in use: the party is refused everywhere until it has renewed
    #[arg(long, conflicts_with = "renew")]
    in_use: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The certificate's serial number
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    /// The certificate, PEM
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Nothing more: the list only lives on
    #[arg(long)]
    renew: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rotate {
    /// The key that officer tokens are signed with
    #[command(
        after_help = "Examples:\n  amanat keys rotate tokens police\n  amanat keys rotate tokens police --finish\n  \
                      amanat keys rotate tokens police --token-key-id 2027 \\\n    \
                      --token-public-key 9d61…"
    )]
    Tokens {
        #[command(flatten)]
        rotated: Rotated,
        /// The name of the identity provider's new key (kid)
        #[arg(long, value_name = "KID", requires = "token_public_key")]
        token_key_id: Option<String>,
        /// The identity provider's new key, Ed25519
        #[arg(long, value_name = "HEX", value_parser = public_key, requires = "token_key_id")]
        token_public_key: Option<[u8; 32]>,
    },
    /// The key that an agency's statements are signed with, or a server's
    #[command(
        after_help = "Examples:\n  amanat keys rotate statements police\n  amanat keys rotate statements police --finish\n\n\
                      Before the old key is retired deliver what is in the outbox, with\n`amanat outbox deliver`."
    )]
    Statements(Rotated),
    /// The party's certificate authority
    #[command(
        after_help = "Examples:\n  amanat keys rotate authority gateway\n  amanat keys rotate authority gateway --finish"
    )]
    Authority(Rotated),
}

#[derive(Debug, Args)]
pub(crate) struct Rotated {
    /// The folder that `keys init` made
    folder: PathBuf,
    /// The directory lists the new one: use it, and leave the old one out of the card
    #[arg(long)]
    finish: bool,
}

impl Rotated {
    const fn step(&self) -> Step {
        if self.finish {
            Step::Finish
        } else {
            Step::Begin
        }
    }
}

pub(crate) fn run(verb: Verb) -> Result<Report, CeremonyError> {
    match verb {
        Verb::Init(verb) => init::run(verb),
        Verb::Renew { folder } => renew(&folder),
        Verb::Revoke(revoked) => revoke(revoked),
        Verb::Rotate(rotated) => rotate(rotated),
    }
}

fn renew(folder: &std::path::Path) -> Result<Report, CeremonyError> {
    let party = Party::open(folder)?;
    let renewed = ceremony::renew(&party, system_clock()())?;
    let serial = hex::encode(&renewed.old_serial);
    let (old, new) = (
        renewed.old_certificate.display().to_string(),
        renewed.certificate.display().to_string(),
    );
    let text = format!(
        "{new} is in place\nthe old one has serial number {serial}: {old}\nnext: once the new one is in use, \
         `amanat keys revoke` the old one and publish the list"
    );
    let json = json!({ "certificate": new, "old_certificate": old, "old_serial": serial });
    Ok(Report::new(text, json))
}

fn revoke(revoke: Revoke) -> Result<Report, CeremonyError> {
    let party = Party::open(&revoke.folder)?;
    let What {
        serial,
        certificate,
        ..
    } = revoke.what;
    let what = match (serial, certificate) {
        (Some(serial), _) => Revocation::Serial(
            hex::decode(&serial).map_err(|_| party.refused(RotationFault::Serial))?,
        ),
        (None, Some(certificate)) => Revocation::Certificate(certificate),
        (None, None) => Revocation::None,
    };
    let in_use = if revoke.in_use {
        InUse::Revoke
    } else {
        InUse::Keep
    };
    let list = ceremony::revoke(&party, &what, in_use, system_clock()())?;
    Ok(made(
        &[list],
        "put the list into the public folder's crls/ under this name",
    ))
}

fn rotate(verb: Rotate) -> Result<Report, CeremonyError> {
    let now = system_clock()();
    let rotated = match verb {
        Rotate::Tokens {
            rotated,
            token_key_id,
            token_public_key,
        } => {
            let mut party = Party::open(&rotated.folder)?;
            let provider = token_key_id.zip(token_public_key);
            let provider = provider.map(|(key_id, key)| directory::TokenIssuer {
                issuer: party.token_issuer().unwrap_or_default(),
                key_id,
                public_key: key.to_vec(),
            });
            ceremony::tokens(&mut party, rotated.step(), provider, now)?
        }
        Rotate::Statements(rotated) => {
            ceremony::statements(&mut Party::open(&rotated.folder)?, rotated.step(), now)?
        }
        Rotate::Authority(rotated) => {
            ceremony::authority(&mut Party::open(&rotated.folder)?, rotated.step(), now)?
        }
    };
    Ok(made(&rotated.files, rotated.next))
}
