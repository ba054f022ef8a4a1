#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use SubjectIdentifierType::{AfghanPor, Cnic, Composite, Passport, Phone};
use amanat_identity::Officer;
use amanat_schema::policy::{AgencyKind, Right};
use proptest::{
    collection::{btree_set, vec},
    prelude::*,
};

use super::*;

/// Few enough that walks meet again.
const IDENTIFIERS: [SubjectIdentifierType; 8] = [
    Cnic, Cnic, Passport, AfghanPor, Phone, Phone, Composite, Composite,
];
const OURS: u8 = 1;
const THEIRS: u8 = 2;

/// Some of the identifiers, by their place.
type Given = BTreeSet<usize>;

fn keys() -> Keys {
    Keys {
        peppers: Arc::new(Peppers::from_keys(vec![[1; 32].into()]).unwrap()),
        pseudonyms: PseudonymKey::from_bytes(&[2; 32]).unwrap(),
        outdated: Arc::default(),
    }
}

fn stored(agency: u8, at: usize) -> Peppered {
    let mut stored = [agency; 32];
    stored[0] = u8::try_from(at).unwrap();
    Peppered(stored)
}

fn call(agency: u8, nth: usize, reason: FindReason, given: &Given) -> FindSubject {
    let identifiers = given.iter().map(|at| Identifier {
        kind: IDENTIFIERS[*at],
        tokens: vec![(1, stored(agency, *at))],
        as_canary: Vec::new(),
    });
    let mut fresh = [agency; 16];
    fresh[0] = u8::try_from(nth).unwrap();
    FindSubject {
        act: Act {
            agency: AgencyId::new([agency; 16]),
            kind: AgencyKind::ProvincialPolice,
            certificate_sha256: [0; 32],
            officer: Arc::new(Officer {
                id: "officer 7".to_owned(),
                rights: BTreeSet::from([Right::CaseWorker]),
                station: "Lahore".to_owned(),
            }),
            request_sha256: [0; 32],
            request: None,
        },
        reason,
        identifiers: identifiers.collect(),
        fresh: SubjectId(fresh),
        officer_handle: [0; 16],
    }
}

/// The nth find of an agency; whom it is answered with.
fn find(
    facts: &mut SubjectFacts,
    agency: u8,
    nth: usize,
    (reason, given): &(FindReason, Given),
) -> SubjectId {
    let now = Time::from_millis(1_772_357_400_000).unwrap();
    facts.find(&keys(), &call(agency, nth, *reason, given), now)
}

/// To whom an identifier leads, by itself.
fn leads(facts: &SubjectFacts, agency: u8, at: usize) -> Option<SubjectId> {
    let key = (AgencyId::new([agency; 16]), stored(agency, at));
    facts.known.get(&key).copied()
}

fn given() -> impl Strategy<Value = Given> {
    btree_set(0..IDENTIFIERS.len(), 0..5)
}

fn finds() -> impl Strategy<Value = Vec<(FindReason, Given)>> {
    let reason = prop_oneof![Just(FindReason::Search), Just(FindReason::Intake)];
    vec((reason, given()), 0..16)
}

/// Which identifiers intakes say to be one person's: those given together, and those whom they share one with.
struct Submitted(Vec<Given>);

impl Submitted {
    fn of(finds: &[(FindReason, Given)]) -> Self {
        let mut groups: Vec<Given> = Vec::new();
        for (reason, given) in finds {
            if *reason == FindReason::Intake {
                let (met, apart) = groups
                    .into_iter()
                    .partition::<Vec<_>, _>(|group| !group.is_disjoint(given));
                groups = apart;
                groups.push(met.into_iter().flatten().chain(given.clone()).collect());
            }
        }
        Self(groups)
    }

    fn together(&self, one: usize, other: usize) -> bool {
        let mut groups = self.0.iter();
        groups.any(|group| group.contains(&one) && group.contains(&other))
    }
}

proptest! {
    #[test]
    fn searches_lead_no_two_identifiers_to_one_subject(searches in vec(given(), 0..16)) {
        let mut facts = SubjectFacts::default();
        for (nth, given) in searches.into_iter().enumerate() {
            let before = (facts.made.len(), facts.joined.len());
            find(&mut facts, OURS, nth, &(FindReason::Search, given));
            prop_assert!(facts.made.len() <= before.0 + 1);
            prop_assert!(facts.joined.len() <= before.1 + 1);
        }
        let subjects: BTreeSet<_> = facts.known.values().collect();
        prop_assert_eq!(subjects.len(), facts.known.len());
        prop_assert!(facts.joined.iter().all(|joined| joined.kind != Composite));
        prop_assert_eq!(facts.kinship.changed().count(), 0);
    }

    #[test]
    fn two_identifiers_that_no_intake_put_together_never_lead_to_one_subject(finds in finds()) {
        let mut facts = SubjectFacts::default();
        for (nth, one) in finds.iter().enumerate() {
            let proposed = facts.kinship.changed().count();
            let (made, joined) = (facts.made.len(), facts.joined.len());
            find(&mut facts, OURS, nth, one);
            if one.0 == FindReason::Search {
                prop_assert_eq!(facts.kinship.changed().count(), proposed);
                prop_assert!(facts.made.len() > made || facts.joined.len() == joined);
            }
        }
        let submitted = Submitted::of(&finds);
        for one in 0..IDENTIFIERS.len() {
            for other in (0..one).filter(|other| !submitted.together(one, *other)) {
                let (one, other) = (leads(&facts, OURS, one), leads(&facts, OURS, other));
                prop_assert!(one.is_none() || one != other);
            }
        }
    }

    #[test]
    fn a_search_with_a_document_or_a_phone_is_answered_again_as_it_was(
        finds in finds(), given in given(),
    ) {
        let mut facts = SubjectFacts::default();
        for (nth, one) in finds.iter().enumerate() {
            find(&mut facts, OURS, nth, one);
        }
        let search = (FindReason::Search, given);
        let [first, again] = [16, 17].map(|nth| find(&mut facts, OURS, nth, &search));
        let links = search.1.iter().any(|at| IDENTIFIERS[*at] != Composite);
        prop_assert_eq!(first == again, links);
    }

    #[test]
    fn what_an_agency_is_answered_and_what_is_written_for_it_rest_on_its_own_finds(
        ours in finds(), theirs in finds(),
    ) {
        let (mut alone, mut among) = (SubjectFacts::default(), SubjectFacts::default());
        for nth in 0..ours.len().max(theirs.len()) {
            if let Some(one) = theirs.get(nth) {
                find(&mut among, THEIRS, nth, one);
            }
            if let Some(one) = ours.get(nth) {
                let [expected, answered] = [&mut alone, &mut among].map(|facts| find(facts, OURS, nth, one));
                prop_assert_eq!(expected, answered);
            }
        }
        let written = |facts: &SubjectFacts| {
            let ours = AgencyId::new([OURS; 16]);
            let made = facts.made.iter().filter(|made| made.agency == ours);
            let joined = facts.joined.iter().filter(|joined| joined.agency == ours);
            let pairs = facts.kinship.changed().filter(|pair| pair.agency == ours);
            let mut pairs: Vec<_> = pairs.map(|pair| (pair.into, pair.from)).collect();
            pairs.sort_unstable();
            (
                made.map(|made| made.subject).collect::<Vec<_>>(),
                joined.map(|joined| (joined.stored.0, joined.subject)).collect::<Vec<_>>(),
                pairs,
            )
        };
        prop_assert_eq!(written(&alone), written(&among));
    }
}
