//! Where a server answers: at one address, or at one of each of its replicas.

use std::{
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
};

use http::{Uri, uri::Scheme};
use serde::{Deserialize, Serialize, Serializer};

/// Where no port is named.
const HTTPS: u16 = 443;

/// As in `https://gateway.example:8443`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ServerAddress {
    /// Lower case; one of IPv6 stands in brackets.
    host: String,
    port: u16,
}

#[derive(Debug, thiserror::Error)]
#[error("expected an address as in https://gateway.example:8443")]
pub struct AddressError;

#[derive(Debug, thiserror::Error)]
#[error(
    "expected an address as in https://gateway.example:8443, or several, each once, with a comma between"
)]
pub struct AddressesError;

impl ServerAddress {
    /// To be connected to.
    pub fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let uri = Uri::try_from(text).map_err(|_| AddressError)?;
        let at = uri.authority().ok_or(AddressError)?;
        let is_server = uri.scheme() == Some(&Scheme::HTTPS)
            && uri.path_and_query().is_none_or(|path| path == "/")
            && (at.port_u16().is_some() || at.as_str() == at.host())
            && !text.contains('@');
        is_server
            .then(|| Self {
                host: at.host().to_ascii_lowercase(),
                port: at.port_u16().unwrap_or(HTTPS),
            })
            .ok_or(AddressError)
    }
}

impl TryFrom<String> for ServerAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<SocketAddr> for ServerAddress {
    fn from(at: SocketAddr) -> Self {
        let host = match at {
            SocketAddr::V4(at) => at.ip().to_string(),
            SocketAddr::V6(at) => format!("[{}]", at.ip()),
        };
        let port = at.port();
        Self { host, port }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

/// The addresses of one server's replicas: at least one, and each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddresses(Vec<ServerAddress>);

impl ServerAddresses {
    /// `None` for none at all, and if one stands there twice.
    pub fn new(addresses: Vec<ServerAddress>) -> Option<Self> {
        let different: BTreeSet<_> = addresses.iter().collect();
        let is_valid = !addresses.is_empty() && different.len() == addresses.len();
        is_valid.then_some(Self(addresses))
    }
}

/// As a command takes them.
impl FromStr for ServerAddresses {
    type Err = AddressesError;

    fn from_str(text: &str) -> Result<Self, AddressesError> {
        let addresses = text.split(',').map(|one| one.trim().parse());
        let addresses = addresses.collect::<Result<_, AddressError>>();
        let addresses = addresses.map_err(|_| AddressesError)?;
        Self::new(addresses).ok_or(AddressesError)
    }
}

impl From<ServerAddress> for ServerAddresses {
    fn from(only: ServerAddress) -> Self {
        Self(vec![only])
    }
}

impl fmt::Display for ServerAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.0.iter().enumerate() {
            let before = if at == 0 { "" } else { ", " };
            write!(f, "{before}{address}")?;
        }
        Ok(())
    }
}

/// As a file has them: one by itself is no list.
impl Serialize for ServerAddresses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [only] => serializer.collect_str(only),
            several => serializer.collect_seq(several.iter().map(ToString::to_string)),
        }
    }
}

/// Which of a server's addresses is tried next.
#[derive(Debug)]
pub struct Turns {
    addresses: ServerAddresses,
    next: AtomicUsize,
}

impl Turns {
    /// Each process begins somewhere else, by a random number, so that all replicas are called.
    pub fn begin(addresses: ServerAddresses, random: u32) -> Self {
        let begin = usize::try_from(random).unwrap_or_default() % addresses.0.len();
        Self {
            addresses,
            next: AtomicUsize::new(begin),
        }
    }

    /// All addresses, each once, with its place.
    pub fn all(&self) -> impl Iterator<Item = (usize, &ServerAddress)> {
        let addresses = &self.addresses.0;
        let next = self.next.load(Ordering::Relaxed);
        let places = addresses.iter().enumerate();
        places.cycle().skip(next).take(addresses.len())
    }

    /// Somebody answered at this place. If the connection breaks, that one is the last to be tried.
    pub fn answered(&self, place: usize) {
        let next = (place + 1) % self.addresses.0.len();
        self.next.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(hosts: &[&str]) -> Option<ServerAddresses> {
        let parse = |host: &&str| format!("https://{host}").parse().unwrap();
        ServerAddresses::new(hosts.iter().map(parse).collect())
    }

    fn turn(turns: &Turns) -> Vec<&str> {
        turns.all().map(|(_, address)| address.host()).collect()
    }

    #[test]
    fn each_address_has_its_turn_and_the_one_that_broke_comes_last() {
        let three = addresses(&["a", "b", "c"]).unwrap();
        for (random, order) in [(0, "abc"), (4, "bca"), (u32::MAX, "abc")] {
            let turns = Turns::begin(three.clone(), random);
            assert_eq!(turn(&turns).concat(), order);
            assert_eq!(turn(&turns).concat(), order, "nobody has answered yet");
        }
        let turns = Turns::begin(three, 1);
        turns.answered(1);
        assert_eq!(turn(&turns).concat(), "cab");
        turns.answered(2);
        assert_eq!(turn(&turns).concat(), "abc");
        let only = Turns::begin(addresses(&["a"]).unwrap(), 7);
        only.answered(0);
        assert_eq!(turn(&only), ["a"]);
    }

    #[test]
    fn an_address_stands_there_once_however_it_is_written() {
        assert_eq!(addresses(&[]), None);
        assert_eq!(addresses(&["a.example", "A.example:443/"]), None);
        assert!(addresses(&["a.example", "a.example:8443"]).is_some());
    }

    #[test]
    fn one_address_is_written_by_itself_and_several_as_a_list() {
        let written = |hosts: &[&str]| {
            let table = [("gateway", addresses(hosts).unwrap())];
            toml::to_string(&std::collections::BTreeMap::from(table)).unwrap()
        };
        assert_eq!(written(&["[::1]"]), "gateway = \"https://[::1]:443\"\n");
        let list = "gateway = [\"https://a:1\", \"https://b:443\"]\n";
        assert_eq!(written(&["a:1", "b"]), list);
        let several = addresses(&["a:1", "b"]).unwrap();
        assert_eq!(several.to_string(), "https://a:1, https://b:443");
        assert_eq!("https://a:1,https://b".parse().ok(), Some(several));
        for none in ["", "https://a,", "https://a,https://a:443"] {
            assert!(none.parse::<ServerAddresses>().is_err(), "{none}");
        }
    }
}
