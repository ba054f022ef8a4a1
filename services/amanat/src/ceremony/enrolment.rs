//! How a card takes its place in a directory: after the one that its party made before, and with what is known of
//! the party's keys.

use amanat_schema::{
    Time,
    directory::{Agency, Directory, RetiredKey, Service},
};
use prost_types::Timestamp;

use super::error::CardFault;

/// How far a party's clock may be ahead. A card of the far future would keep out all that come after it.
pub(super) const AHEAD: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// What whoever takes a card knows beside it.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The party itself was asked: the card is its own although no listed key signed it.
    pub keys_lost: bool,
    pub compromised: Option<Compromised>,
}

/// Statement keys that sign nothing new, and since when somebody else may have signed with them.
#[derive(Debug, Clone)]
pub struct Compromised {
    /// If none is named: those that the card leaves out.
    pub keys: Vec<[u8; 32]>,
    pub since: Time,
}

/// An agency's entry as its card says, with every key that was ever listed for it. A statement key that the card
/// leaves out is retired at `now`; one that is retired comes back only with the agency, and a compromised one never.
pub(super) fn agency(
    directory: &Directory,
    card: &Agency,
    known: &Known,
    now: Time,
) -> Result<Agency, CardFault> {
    let made = made(card.card_time.as_ref(), now)?;
    let id = card.agency_id.as_slice();
    let listed = directory.agencies.iter().find(|a| a.agency_id == id);
    let former = directory.former_agencies.iter().find(|a| a.agency_id == id);
    let (mut retired, mut dropped) = (Vec::new(), Vec::new());
    if let Some(listed) = listed {
        let same = Agency {
            retired_statement_keys: listed.retired_statement_keys.clone(),
            ..card.clone()
        };
        is_newer(made, listed.card_time.as_ref(), same == *listed)?;
        continues(&card.statement_keys, &listed.statement_keys, known)?;
        let left_out = listed.statement_keys.iter();
        let left_out = left_out.filter(|key| !card.statement_keys.contains(key));
        dropped.extend(left_out.cloned());
        retired.clone_from(&listed.retired_statement_keys);
        let named = |key: &&RetiredKey| card.statement_keys.contains(&key.public_key);
        if let Some(old) = retired.iter().find(named)
            && old.compromised_since_time.is_none()
        {
            return Err(CardFault::RetiredKey(hex::encode(&old.public_key)));
        }
        retired.extend(retired_at(&dropped, now));
    } else if let Some(former) = former {
        if former.removed_version == directory.version {
            return Err(CardFault::RemovedHere);
        }
        let same = former.card_time == card.card_time;
        is_newer(made, former.card_time.as_ref(), same)?;
        if !known.keys_lost {
            return Err(CardFault::Former);
        }
        retired.clone_from(&former.statement_keys);
    }
    let is_back = |key: &RetiredKey| card.statement_keys.contains(&key.public_key);
    if let Some(stolen) = retired
        .iter()
        .find(|key| is_back(key) && key.compromised_since_time.is_some())
    {
        return Err(CardFault::CompromisedKey(hex::encode(&stolen.public_key)));
    }
    retired.retain(|key| !is_back(key));
    if let Some(compromised) = &known.compromised {
        if compromised.since > now {
            return Err(CardFault::CompromisedLater(compromised.since));
        }
        mark(&mut retired, &dropped, compromised)?;
    }
    Ok(Agency {
        retired_statement_keys: retired,
        ..card.clone()
    })
}

/// Whether a server's card may take the place of what is listed; `same` if it says nothing else.
pub(super) fn server(
    listed: &Service,
    card: &Service,
    same: bool,
    known: &Known,
    now: Time,
) -> Result<(), CardFault> {
    let made = made(card.card_time.as_ref(), now)?;
    is_newer(made, listed.card_time.as_ref(), same)?;
    continues(&card.statement_keys, &listed.statement_keys, known)
}

/// Keys that are in force no more from a time on.
pub(super) fn retired_at(keys: &[Vec<u8>], now: Time) -> impl Iterator<Item = RetiredKey> + '_ {
    keys.iter().map(move |key| RetiredKey {
        public_key: key.clone(),
        retired_time: Some(now.to_timestamp()),
        compromised_since_time: None,
    })
}

/// When a card was made.
pub(super) fn made(time: Option<&Timestamp>, now: Time) -> Result<Time, CardFault> {
    let made = Time::parse(time).map_err(|_| CardFault::Undated)?;
    if made > now + AHEAD {
        return Err(CardFault::Early(made));
    }
    Ok(made)
}

/// An old card is genuine for ever: it would bring back an authority or a key that was given up since.
fn is_newer(made: Time, listed: Option<&Timestamp>, same: bool) -> Result<(), CardFault> {
    match Time::parse(listed) {
        Ok(listed) if made <= listed && !same => Err(CardFault::Older { made, listed }),
        _ => Ok(()),
    }
}

/// Whoever holds a listed key, and every key of the card, is the same party.
fn continues(card: &[Vec<u8>], listed: &[Vec<u8>], known: &Known) -> Result<(), CardFault> {
    if known.keys_lost || card.iter().any(|key| listed.contains(key)) {
        Ok(())
    } else {
        Err(CardFault::Discontinuous)
    }
}

fn mark(
    retired: &mut [RetiredKey],
    dropped: &[Vec<u8>],
    compromised: &Compromised,
) -> Result<(), CardFault> {
    let named: Vec<_> = compromised.keys.iter().map(|key| key.to_vec()).collect();
    let meant = if named.is_empty() { dropped } else { &named };
    if meant.is_empty() {
        return Err(CardFault::NothingDropped);
    }
    for key in meant {
        let found = retired.iter_mut().find(|listed| listed.public_key == *key);
        let Some(found) = found else {
            return Err(CardFault::NotRetired(hex::encode(key)));
        };
        // Later than it stands would let count again what does not.
        let earlier = Time::parse(found.compromised_since_time.as_ref());
        if let Some(since) = earlier.ok().filter(|since| *since <= compromised.since) {
            return Err(CardFault::Marked {
                key: hex::encode(key),
                since,
            });
        }
        found.compromised_since_time = Some(compromised.since.to_timestamp());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn now() -> Time {
        Time::from_millis(1_772_357_400_000).unwrap()
    }

    fn card(made: Option<Time>, key: u8) -> Agency {
        Agency {
            agency_id: vec![1; 16],
            statement_keys: vec![vec![key; 32]],
            card_time: made.map(Time::to_timestamp),
            ..Agency::default()
        }
    }

    fn taken(directory: &Directory, card: &Agency) -> Result<Agency, CardFault> {
        agency(directory, card, &Known::default(), now())
    }

    #[test]
    fn a_card_says_when_it_was_made_and_that_is_not_ahead() {
        let nobody = Directory::default();
        let undated = taken(&nobody, &card(None, 1));
        assert!(matches!(undated, Err(CardFault::Undated)));
        let moment = Duration::from_millis(1);
        let early = taken(&nobody, &card(Some(now() + AHEAD + moment), 1));
        assert!(matches!(early, Err(CardFault::Early(_))));
        assert!(taken(&nobody, &card(Some(now() + AHEAD), 1)).is_ok());
    }

    #[test]
    fn of_two_cards_of_one_moment_the_one_that_is_listed_stays() {
        let listed = Directory {
            agencies: vec![card(Some(now()), 1)],
            ..Directory::default()
        };
        assert_eq!(
            taken(&listed, &card(Some(now()), 1)).unwrap(),
            listed.agencies[0]
        );
        let other = Agency {
            display_name: "Police".to_owned(),
            ..card(Some(now()), 1)
        };
        assert!(matches!(
            taken(&listed, &other),
            Err(CardFault::Older { .. })
        ));
    }
}
