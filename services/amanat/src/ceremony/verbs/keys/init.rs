//! `amanat keys init`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use amanat_config::ServerAddresses;
use amanat_identity::Registrars;
use amanat_schema::{
    AgencyId, directory,
    policy::{AgencyKind, Right},
    record::{Need, Province},
};
use clap::{Args, Subcommand};

use super::super::{cards, host_name, made, party_name, public_key};
use crate::{
    agency::codes,
    ceremony::{
        self, CeremonyError, Ground, Host, Joining, Officer, Party, Tokens,
        folder::{absolute, files},
    },
    clock::system_clock,
    output::Report,
};

const HAND_IN: &str =
    "hand the card and the revocation list (both public) to the registrars; keep the rest here";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// A registrar's key: one of those who sign the directory
    #[command(after_help = "Example:\n  amanat keys init registrar --name one --out registrar")]
    Registrar {
        /// As the directory names this registrar
        #[arg(long, value_parser = party_name)]
        name: String,
        /// A new or empty folder, best on a medium that is kept locked away
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// The gateway's keys and gateway.toml
    #[command(
        after_help = "Example:\n  amanat keys init gateway --exchange pilot.amanat.example \\\n    \
                      --server-name gateway.amanat.example --listen 0.0.0.0:8443 \\\n    \
                      --registrar one.card.toml --registrar two.card.toml \\\n    \
                      --public /etc/amanat/public --out gateway"
    )]
    Gateway(Server),
    /// The custodian's keys and custodian.toml
    #[command(
        after_help = "Example:\n  amanat keys init custodian --exchange pilot.amanat.example \\\n    \
                      --server-name custodian.amanat.example --listen 0.0.0.0:8444 \\\n    \
                      --gateway https://gateway.amanat.example:8443 \\\n    \
                      --registrar one.card.toml --registrar two.card.toml \\\n    \
                      --public /etc/amanat/public --out custodian"
    )]
    Custodian {
        #[command(flatten)]
        server: Server,
        /// Where the gateway is, for proofs from its log; its replicas' addresses with commas between
        #[arg(long, value_name = "URL")]
        gateway: ServerAddresses,
    },
    /// An agency's keys and profile.toml
    #[command(
        after_help = "Example:\n  amanat keys init agency --name police-lahore --kind PROVINCIAL_POLICE \\\n    \
                      --province PUNJAB --display-name \"Police, Lahore\" --service LEGAL_AID \\\n    \
                      --exchange pilot.amanat.example \\\n    \
                      --gateway https://gateway.amanat.example:8443 \\\n    \
                      --custodian https://custodian.amanat.example:8444 \\\n    \
                      --registrar one.card.toml --registrar two.card.toml \\\n    \
                      --token-issuer https://login.police.example --token-key-id 2026 \\\n    \
                      --token-public-key 9d61… --public /etc/amanat/public --out police"
    )]
    Agency(Box<Agency>),
}

/// The exchange that a party joins.
#[derive(Debug, Args)]
pub(crate) struct Exchange {
    /// The exchange's id, in the form of a host name
    #[arg(long, value_name = "ID", value_parser = host_name)]
    exchange: String,
    /// The card of a registrar, once for each; compare its fingerprint with the registrar first
    #[arg(long = "registrar", value_name = "CARD", required = true)]
    registrars: Vec<PathBuf>,
    /// How many registrars must have signed a directory
    #[arg(long, value_name = "N", default_value_t = 2)]
    threshold: usize,
    /// A folder where the directory, the decision table, crls/ and suspensions/ lie or will lie
    #[arg(long, value_name = "DIR")]
    public: PathBuf,
    /// A new or empty folder for all that is made
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Server {
    #[command(flatten)]
    exchange: Exchange,
    /// The host name in its certificate
    #[arg(long, value_name = "HOST", value_parser = host_name)]
    server_name: String,
    /// The address to listen on, with its port
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// For the database; data/ in the new folder if absent
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// For what must not be restored along with the database; state/ in the new folder if absent
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Agency {
    #[command(flatten)]
    exchange: Exchange,
    /// How the agency calls itself
    #[arg(long, value_parser = party_name)]
    name: String,
    /// What it is, as in PROVINCIAL_POLICE: its kind decides what it may read
    #[arg(long, value_parser = codes::agency_kind)]
    kind: AgencyKind,
    /// Where it works, as in PUNJAB
    #[arg(long, value_parser = codes::province)]
    province: Province,
    /// As everybody is shown it; never for a shelter, whose place nobody is to learn
    #[arg(long, default_value = "")]
    display_name: String,
    /// What it can be referred to for; once for each
    #[arg(long = "service", value_name = "NEED", value_parser = codes::need)]
    services: Vec<Need>,
    /// Where the gateway is; its replicas' addresses with commas between
    #[arg(long, value_name = "URL")]
    gateway: ServerAddresses,
    /// Where the custodian is; its replicas' addresses with commas between
    #[arg(long, value_name = "URL")]
    custodian: ServerAddresses,
    /// The card of another agency, which the profile is to know by its name; once for each
    #[arg(long = "knows", value_name = "CARD")]
    knows: Vec<PathBuf>,
    #[command(flatten)]
    tokens: TokenArgs,
}

/// Who issues officer tokens: the agency's identity provider, or a key in its own folder.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct TokenArgs {
    /// The issuer (iss) of the agency's identity provider
    #[arg(long, value_name = "ISS", requires_all = ["token_key_id", "token_public_key"], conflicts_with = "officers")]
    token_issuer: Option<String>,
    /// The name of its key (kid)
    #[arg(long, value_name = "KID", requires = "token_issuer")]
    token_key_id: Option<String>,
    /// Its key, Ed25519
    #[arg(long, value_name = "HEX", value_parser = public_key, requires = "token_issuer")]
    token_public_key: Option<[u8; 32]>,
    /// Instead, for trying out: an officer for whom the profile issues tokens itself, as in
    /// default=CASE_WORKER,ACCEPTER@Lahore; whoever can read the folder is every officer
    #[arg(long = "development-officer", value_name = "NAME=RIGHT,…@STATION", value_parser = officer)]
    officers: Vec<Officer>,
}

fn officer(text: &str) -> Result<Officer, String> {
    const FORM: &str = "expected NAME=RIGHT,RIGHT@STATION";
    let (name, rest) = text.split_once('=').ok_or(FORM)?;
    let (rights, station) = rest.split_once('@').ok_or(FORM)?;
    let rights: Result<Vec<Right>, String> = rights.split(',').map(codes::right).collect();
    if station.is_empty() {
        return Err(FORM.to_owned());
    }
    Ok(Officer {
        name: party_name(name)?,
        rights: rights?,
        station: station.to_owned(),
    })
}

pub(super) fn run(verb: Verb) -> Result<Report, CeremonyError> {
    match verb {
        Verb::Registrar { name, out } => {
            let (key, card) = ceremony::registrar(&out, &name)?;
            Ok(made(
                &[key, card],
                "hand the card to everybody who takes part; show the key to nobody",
            ))
        }
        Verb::Gateway(server) => server.make(ceremony::gateway),
        Verb::Custodian { server, gateway } => {
            server.make(|out, ground, host| ceremony::custodian(out, ground, host, &gateway))
        }
        Verb::Agency(agency) => agency.make(),
    }
}

impl Exchange {
    fn registrars(&self) -> Result<Registrars, CeremonyError> {
        ceremony::registrars(&cards(&self.registrars)?, self.threshold)
    }

    /// One that is not there yet is more likely a slip of the pen than a plan.
    fn public(&self) -> Result<PathBuf, CeremonyError> {
        let path = absolute(&self.public)?;
        if path.is_dir() {
            Ok(path)
        } else {
            Err(CeremonyError::NoFolder { path })
        }
    }

    fn made(&self, party: &Party) -> Result<Report, CeremonyError> {
        let fingerprint = party.card.fingerprint();
        let report = made(&files(&self.out)?, HAND_IN);
        Ok(report.with(
            &format!("fingerprint of the card: {fingerprint}"),
            "fingerprint",
            fingerprint.clone().into(),
        ))
    }
}

impl Server {
    fn make(
        &self,
        party: impl FnOnce(&Path, &Ground<'_>, &Host<'_>) -> Result<Party, CeremonyError>,
    ) -> Result<Report, CeremonyError> {
        let (registrars, public) = (self.exchange.registrars()?, self.exchange.public()?);
        let ground = Ground {
            exchange_id: &self.exchange.exchange,
            registrars: &registrars,
            public: &public,
            now: system_clock()(),
        };
        let host = Host {
            server_name: &self.server_name,
            listen: self.listen,
            data: self.data.as_deref(),
            state: self.state.as_deref(),
        };
        let party = party(&self.exchange.out, &ground, &host)?;
        self.exchange.made(&party)
    }
}

impl Agency {
    fn make(self) -> Result<Report, CeremonyError> {
        let (registrars, public) = (self.exchange.registrars()?, self.exchange.public()?);
        let ground = Ground {
            exchange_id: &self.exchange.exchange,
            registrars: &registrars,
            public: &public,
            now: system_clock()(),
        };
        let id = AgencyId::new(amanat_seal::random()?);
        let mut agencies = BTreeMap::from([(self.name.clone(), id)]);
        for (path, card) in cards(&self.knows)? {
            agencies.insert(card.name().to_owned(), card.agency_id(path)?);
        }
        let joining = Joining {
            id,
            name: &self.name,
            kind: self.kind,
            province: self.province,
            display_name: &self.display_name,
            services: &self.services,
            gateway: &self.gateway,
            custodian: &self.custodian,
            tokens: self.tokens.read(),
            agencies: &agencies,
        };
        let party = ceremony::agency(&self.exchange.out, &ground, &joining)?;
        self.exchange.made(&party)
    }
}

impl TokenArgs {
    fn read(&self) -> Tokens<'_> {
        let provider = self.token_issuer.as_ref().zip(self.token_key_id.as_ref());
        match provider.zip(self.token_public_key) {
            Some(((issuer, key_id), key)) => Tokens::Provider(directory::TokenIssuer {
                issuer: issuer.clone(),
                key_id: key_id.clone(),
                public_key: key.to_vec(),
            }),
            None => Tokens::Own(&self.officers),
        }
    }
}
