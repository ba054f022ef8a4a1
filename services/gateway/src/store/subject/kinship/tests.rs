#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use proptest::{collection::vec, prelude::*};

use super::*;

const AGENCY: AgencyId = AgencyId::new([1; 16]);
const SUBJECTS: u8 = 6;

fn subject(n: u8) -> SubjectId {
    SubjectId([n; 16])
}

fn now() -> Time {
    Time::from_millis(1_772_357_400_000).unwrap()
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Propose(u8, u8),
    Merge(u8, u8),
    Split(u8, u8),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let pair = || (0..SUBJECTS, 0..SUBJECTS).prop_filter("two", |(one, other)| one != other);
    let act = prop_oneof![
        pair().prop_map(|(one, other)| Act::Propose(one, other)),
        pair().prop_map(|(one, other)| Act::Merge(one, other)),
        pair().prop_map(|(one, other)| Act::Split(one, other)),
    ];
    vec(act, 0..40)
}

/// Who stands for whom, the plain way: a list of who is held by whom.
#[derive(Default)]
struct Naive(Vec<(u8, u8)>);

impl Naive {
    fn holder(&self, of: u8) -> Option<u8> {
        let found = self.0.iter().find(|(from, _)| *from == of);
        found.map(|(_, into)| *into)
    }

    fn root(&self, of: u8) -> u8 {
        self.holder(of).map_or(of, |into| self.root(into))
    }
}

/// What a new batch would load of it.
fn loaded(kinship: &Kinship) -> Kinship {
    Kinship::new(kinship.held.clone(), kinship.pairs.values().copied())
}

fn consistent(kinship: &Kinship, naive: &Naive) {
    for n in 0..SUBJECTS {
        assert_eq!(kinship.root(subject(n)), subject(naive.root(n)));
    }
    for pair in kinship.pairs.values() {
        let is_one = kinship.root(pair.into) == kinship.root(pair.from);
        assert_eq!(is_one, pair.status == MergeStatus::Merged);
        assert_eq!(pair.decided.is_some(), pair.status != MergeStatus::Proposed);
    }
}

proptest! {
    #[test]
    fn whatever_persons_decide_each_subject_answers_as_one_and_can_be_given_back(acts in acts()) {
        let (mut kinship, mut naive) = (Kinship::default(), Naive::default());
        for act in acts {
            let before = kinship.pairs.len();
            match act {
                Act::Propose(one, other) => {
                    let (into, from) = (subject(one), subject(other));
                    let met = !kinship.between(into, from).is_empty() || naive.root(one) == naive.root(other);
                    kinship.propose(AGENCY, into, from, now());
                    prop_assert_eq!(kinship.pairs.len(), before + usize::from(!met));
                }
                Act::Merge(into, from) => {
                    let free = naive.holder(into).is_none() && naive.holder(from).is_none();
                    let merged = kinship.merge(AGENCY, subject(into), subject(from), now());
                    prop_assert_eq!(merged, if free { Ok(()) } else { Err(Conflict::Held) });
                    if free {
                        naive.0.push((from, into));
                        prop_assert_eq!(kinship.root(subject(from)), subject(into));
                    }
                }
                Act::Split(one, other) => {
                    let direct = |(from, into): &(u8, u8)| {
                        [(one, other), (other, one)].contains(&(*from, *into))
                    };
                    let joined = naive.root(one) == naive.root(other) && !naive.0.iter().any(direct);
                    let split = kinship.split(AGENCY, subject(one), subject(other), now());
                    prop_assert_eq!(split, if joined { Err(Conflict::Joined) } else { Ok(()) });
                    naive.0.retain(|edge| !direct(edge));
                    if !joined {
                        kinship.propose(AGENCY, subject(one), subject(other), now());
                        let key = (subject(one).min(subject(other)), subject(one).max(subject(other)));
                        prop_assert_eq!(kinship.pairs[&key].status, MergeStatus::Split, "never again");
                    }
                }
            }
            consistent(&kinship, &naive);
            kinship = loaded(&kinship);
            consistent(&kinship, &naive);
        }
    }
}

#[test]
fn a_family_has_at_most_64_members_however_it_grows() {
    let mut kinship = Kinship::default();
    let merge = |kinship: &mut Kinship, into, from| {
        kinship.merge(AGENCY, subject(into), subject(from), now())
    };
    // A chain of 63, each newcomer standing for all before.
    for n in 1..63 {
        assert_eq!(merge(&mut kinship, n, n - 1), Ok(()));
    }
    assert_eq!(merge(&mut kinship, 100, 101), Ok(()));
    for (into, from) in [(62, 100), (100, 62)] {
        assert_eq!(merge(&mut kinship, into, from), Err(Conflict::Crowded));
    }
    assert_eq!(merge(&mut kinship, 102, 62), Ok(()));
    assert_eq!(kinship.root(subject(0)), subject(102));
    assert_eq!(merge(&mut kinship, 103, 102), Err(Conflict::Crowded));
    kinship = loaded(&kinship);
    assert_eq!(merge(&mut kinship, 102, 103), Err(Conflict::Crowded));
    // One who is given back makes room.
    kinship
        .split(AGENCY, subject(62), subject(102), now())
        .unwrap();
    assert_eq!(kinship.root(subject(0)), subject(62));
    assert_eq!(merge(&mut kinship, 102, 103), Ok(()));
}

#[test]
fn a_ring_that_somebody_made_in_the_database_hangs_nothing() {
    let ring = [(subject(1), subject(2)), (subject(2), subject(1))];
    let kinship = Kinship::new(BTreeMap::from(ring), []);
    kinship.root(subject(1));
}
