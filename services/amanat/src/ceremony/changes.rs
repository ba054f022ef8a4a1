//! What a directory says, fact by fact, and what another one says otherwise: for registrars to read before they
//! sign.

use std::{collections::BTreeSet, fmt};

use amanat_schema::{
    Time,
    directory::{self, Directory, RetiredKey, Service},
};
use prost_types::Timestamp;
use serde::Serialize;

use crate::agency::codes;

/// One thing that a directory says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fact {
    /// The exchange, the gateway, the custodian, then agencies.
    #[serde(skip)]
    rank: u8,
    /// Whom it is about, as in `agency 00…`.
    pub of: String,
    pub what: &'static str,
    pub value: String,
}

/// A fact that comes or goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    #[serde(flatten)]
    pub fact: Fact,
    pub change: Direction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Goes,
    Comes,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Goes => "-",
            Self::Comes => "+",
        })
    }
}

/// What comes and goes with `new`; all of it comes with the first directory.
pub(crate) fn between(old: Option<&Directory>, new: &Directory) -> Vec<Change> {
    let (old, new) = (old.map(facts).unwrap_or_default(), facts(new));
    let change = |fact: &Fact, change| Change {
        fact: fact.clone(),
        change,
    };
    let goes = old
        .difference(&new)
        .map(|fact| change(fact, Direction::Goes));
    let comes = new
        .difference(&old)
        .map(|fact| change(fact, Direction::Comes));
    let mut changes: Vec<_> = goes.chain(comes).collect();
    changes.sort();
    changes
}

/// Everything that a directory says, in the order of whom it is about.
pub(crate) fn facts(directory: &Directory) -> BTreeSet<Fact> {
    let mut all = Facts {
        rank: 0,
        of: plain(&format!("exchange {}", directory.exchange_id)),
        facts: BTreeSet::new(),
    };
    all.add("version", directory.version);
    all.add("valid from", time(directory.not_before_time.as_ref()));
    all.add("valid until", time(directory.valid_until_time.as_ref()));
    all.add("decision table", hex::encode(&directory.table_sha256));
    all.add("signatures needed", directory.threshold);
    for registrar in &directory.registrars {
        let key = hex::encode(&registrar.public_key);
        all.add("registrar", format!("{key} {:?}", registrar.name));
    }
    for key in &directory.oprf_keys {
        let (domain, epoch) = (codes::domain_name(key.domain()), key.epoch);
        let key = hex::encode(&key.public_key);
        all.add("OPRF key", format!("{domain} epoch {epoch} {key}"));
    }
    for (name, server) in [
        ("gateway", &directory.gateway),
        ("custodian", &directory.custodian),
    ] {
        if let Some(server) = server {
            all.rank += 1;
            all.of = name.to_owned();
            all.add_server(server);
        }
    }
    all.rank = u8::MAX;
    for agency in &directory.agencies {
        all.of = format!("agency {}", hex::encode(&agency.agency_id));
        all.add_agency(agency);
    }
    for former in &directory.former_agencies {
        all.of = format!("former agency {}", hex::encode(&former.agency_id));
        all.add("left with version", former.removed_version);
        all.add("card made", time(former.card_time.as_ref()));
        all.add_retired(&former.statement_keys);
    }
    all.facts
}

struct Facts {
    rank: u8,
    of: String,
    facts: BTreeSet<Fact>,
}

impl Facts {
    fn add(&mut self, what: &'static str, value: impl ToString) {
        self.facts.insert(Fact {
            rank: self.rank,
            of: self.of.clone(),
            what,
            value: plain(&value.to_string()),
        });
    }

    fn add_server(&mut self, server: &Service) {
        self.add("server name", &server.server_name);
        self.add("card made", time(server.card_time.as_ref()));
        self.add("log key", &server.log_verifier_key);
        self.add_keys(&server.issuing_cas, &server.statement_keys);
    }

    fn add_agency(&mut self, agency: &directory::Agency) {
        self.add("kind", codes::agency_kind_name(agency.kind()));
        self.add("province", codes::province_name(agency.province()));
        if !agency.display_name.is_empty() {
            self.add("display name", &agency.display_name);
        }
        for service in agency.services() {
            self.add("offers", codes::need_name(service));
        }
        self.add("card made", time(agency.card_time.as_ref()));
        self.add_keys(&agency.issuing_cas, &agency.statement_keys);
        self.add_retired(&agency.retired_statement_keys);
        for issuer in &agency.token_issuers {
            let key = hex::encode(&issuer.public_key);
            let (name, id) = (&issuer.issuer, &issuer.key_id);
            self.add("token issuer key", format!("{key} {name:?} {id:?}"));
        }
    }

    fn add_retired(&mut self, keys: &[RetiredKey]) {
        for RetiredKey {
            public_key,
            retired_time,
            compromised_since_time,
        } in keys
        {
            let (key, retired) = (hex::encode(public_key), time(retired_time.as_ref()));
            let compromised = compromised_since_time.as_ref().map(|since| {
                let since = time(Some(since));
                format!(", compromised since {since}")
            });
            let compromised = compromised.unwrap_or_default();
            self.add(
                "retired statement key",
                format!("{key} {retired}{compromised}"),
            );
        }
    }

    fn add_keys(&mut self, authorities: &[Vec<u8>], statement_keys: &[Vec<u8>]) {
        for authority in authorities {
            self.add("authority", hex::encode(amanat_seal::sha256(authority)));
        }
        for key in statement_keys {
            self.add("statement key", hex::encode(key));
        }
    }
}

/// A name must not draw lines of its own on the terminal of whoever is about to sign, nor turn them round.
fn plain(text: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut shown = String::new();
    for c in text.chars() {
        if is_hidden(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn time(timestamp: Option<&Timestamp>) -> String {
    Time::parse(timestamp).map_or_else(|_| "no time".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_draws_no_line_of_its_own() {
        let agency = directory::Agency {
            display_name: "Police\n  + kind OVERSIGHT \u{202e}\u{1b}[2K پولیس".to_owned(),
            ..directory::Agency::default()
        };
        let directory = Directory {
            agencies: vec![agency],
            ..Directory::default()
        };
        let facts = facts(&directory);
        let shown = facts.iter().find(|fact| fact.what == "display name");
        let expected = "Police\\u{a}  + kind OVERSIGHT \\u{202e}\\u{1b}[2K پولیس";
        assert_eq!(shown.unwrap().value, expected);
    }

    #[test]
    fn what_stays_is_no_change_and_what_is_replaced_comes_and_goes() {
        let at = |version| Directory {
            exchange_id: "pilot".to_owned(),
            version,
            threshold: 2,
            ..Directory::default()
        };
        let changes = between(Some(&at(1)), &at(2));
        let shown: Vec<_> = changes
            .iter()
            .map(|change| (change.fact.value.as_str(), change.change))
            .collect();
        assert_eq!(shown, [("1", Direction::Goes), ("2", Direction::Comes)]);
        assert_eq!(between(Some(&at(1)), &at(1)), []);
    }
}
