//! How much of a server one party may take, so that none can take it from the others.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use amanat_config::Section;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const COUNT: &str = "a number, at least 1";
/// A site has the share of so many of its networks.
const NETWORKS_OF_A_SITE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);
/// From so many on those who hold nothing are forgotten, and then whenever there are twice as many as were left.
const REMEMBERED: usize = 1024;

/// `[limits]`: what one agency, or one address, may take at once. Every setting has a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests of one agency under way at once, on all its connections; one more is told to come back. 256.
    pub in_flight_per_agency: NonZeroUsize,
    /// Of the 1024 places of the log's queue. A request that its client gave up keeps its place until it is
    /// decided, so that giving up is no way around the limit above. 256.
    pub waiting_per_agency: NonZeroUsize,
    /// Open connections of one agency; one more is closed after its handshake. 64.
    pub connections_per_agency: NonZeroUsize,
    /// TLS handshakes of one address (IPv6: of one /64, and four times as many of one /48) under way at once;
    /// more wait their turn, of 1024 in all. Raise it where many agencies come through one address. 16.
    pub handshakes_per_address: NonZeroUsize,
    /// MiB of free space in the folders of database and state files below which the operator is warned. 64.
    pub free_mib: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let count = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        Self {
            in_flight_per_agency: count(256),
            waiting_per_agency: count(256),
            connections_per_agency: count(64),
            handshakes_per_address: count(16),
            free_mib: 64,
        }
    }
}

impl Limits {
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let default = Self::default();
        let in_flight_per_agency =
            section.or("in_flight_per_agency", default.in_flight_per_agency, COUNT);
        let waiting_per_agency =
            section.or("waiting_per_agency", default.waiting_per_agency, COUNT);
        let connections_per_agency = section.or(
            "connections_per_agency",
            default.connections_per_agency,
            COUNT,
        );
        let handshakes_per_address = section.or(
            "handshakes_per_address",
            default.handshakes_per_address,
            COUNT,
        );
        let free_mib = section.or("free_mib", default.free_mib, "a number of MiB");
        Some(Self {
            in_flight_per_agency: in_flight_per_agency?,
            waiting_per_agency: waiting_per_agency?,
            connections_per_agency: connections_per_agency?,
            handshakes_per_address: handshakes_per_address?,
            free_mib: free_mib?,
        })
    }
}

/// As many places for each as for any other.
pub(crate) struct Shares<K> {
    each: usize,
    known: Mutex<Known<K>>,
}

struct Known<K> {
    of: BTreeMap<K, Arc<Semaphore>>,
    forget_at: usize,
}

impl<K: Ord> Shares<K> {
    pub(crate) fn new(each: NonZeroUsize) -> Self {
        Self {
            each: each.get(),
            known: Mutex::new(Known {
                of: BTreeMap::new(),
                forget_at: REMEMBERED,
            }),
        }
    }

    /// A place of this one, or none if all are taken.
    pub(crate) fn take(&self, of: K) -> Option<OwnedSemaphorePermit> {
        self.places(of).try_acquire_owned().ok()
    }

    /// A place of this one, when it is free.
    pub(crate) async fn wait(&self, of: K) -> Option<OwnedSemaphorePermit> {
        self.places(of).acquire_owned().await.ok()
    }

    fn places(&self, of: K) -> Arc<Semaphore> {
        // A panic elsewhere cannot leave the map half written.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.of.len() >= known.forget_at {
            // Whoever holds a place, or waits for one, holds its share too.
            known.of.retain(|_, places| Arc::strong_count(places) > 1);
            known.forget_at = REMEMBERED.max(2 * known.of.len());
        }
        let new = || Arc::new(Semaphore::new(self.each));
        Arc::clone(known.of.entry(of).or_insert_with(new))
    }
}

/// As many places for each network as for any other, and for each site.
pub(crate) struct NetworkShares {
    networks: Shares<IpAddr>,
    sites: Shares<IpAddr>,
}

/// Of a network's share and of its site's.
pub(crate) type NetworkPlace = [OwnedSemaphorePermit; 2];

impl NetworkShares {
    pub(crate) fn new(each: NonZeroUsize) -> Self {
        Self {
            networks: Shares::new(each),
            sites: Shares::new(each.saturating_mul(NETWORKS_OF_A_SITE)),
        }
    }

    /// A place, or none if all of the network's or the site's are taken.
    pub(crate) fn take(&self, address: IpAddr) -> Option<NetworkPlace> {
        let own = self.networks.take(network(address))?;
        Some([own, self.sites.take(site(address))?])
    }

    /// A place, when it is free.
    pub(crate) async fn wait(&self, address: IpAddr) -> Option<NetworkPlace> {
        let own = self.networks.wait(network(address)).await?;
        Some([own, self.sites.wait(site(address)).await?])
    }
}

/// Whom an address stands for: an IPv6 host has all of its /64.
fn network(address: IpAddr) -> IpAddr {
    prefix(address, 4)
}

/// Who may have many networks: one customer's IPv6 is a /48 at most places.
fn site(address: IpAddr) -> IpAddr {
    prefix(address, 3)
}

/// An IPv4 address as it is.
fn prefix(address: IpAddr, segments: usize) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let mut own = address.segments();
            own.iter_mut().skip(segments).for_each(|rest| *rest = 0);
            IpAddr::V6(Ipv6Addr::from(own))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_may_take_its_share_and_no_more_and_what_it_gives_back_it_may_take_again() {
        let shares = Shares::new(NonZeroUsize::new(2).unwrap());
        let held = [shares.take("a"), shares.take("a")];
        assert!(held.iter().all(Option::is_some));
        assert!(shares.take("a").is_none());
        assert!(shares.take("b").is_some(), "another has its own");
        drop(held);
        assert!(shares.take("a").is_some());
    }

    #[test]
    fn those_who_hold_nothing_are_forgotten_and_those_who_do_are_not() {
        let shares = Shares::new(NonZeroUsize::MIN);
        let held = shares.take(0);
        for of in 1..5 * REMEMBERED {
            assert!(shares.take(of).is_some());
        }
        assert!(shares.known.lock().unwrap().of.len() <= REMEMBERED);
        assert!(held.is_some() && shares.take(0).is_none());
    }

    #[test]
    fn an_address_stands_for_its_network() {
        let same = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
    }

    #[test]
    fn whoever_has_many_networks_has_the_share_of_four() {
        let shares = NetworkShares::new(NonZeroUsize::new(2).unwrap());
        let take = |address: &str| shares.take(address.parse().unwrap());
        let of_network = |n: u16| format!("2001:db8:1:{n:x}::1");
        let held: Vec<_> = (0..100).filter_map(|n| take(&of_network(n))).collect();
        assert_eq!(held.len(), 8);
        assert!(take("2001:db8:2::1").is_some(), "another site has its own");
        drop(held);
        let held: Vec<_> = (0..100).filter_map(|_| take(&of_network(0))).collect();
        assert_eq!(held.len(), 2);
        assert!(take(&of_network(1)).is_some());
        let held: Vec<_> = (0..100).filter_map(|_| take("192.0.2.1")).collect();
        assert_eq!(held.len(), 2);
        assert!(take("192.0.2.2").is_some());
    }
}
