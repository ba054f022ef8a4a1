//! What must hold of every decision, whatever the facts.

use std::time::Duration;

use amanat_schema::catalogue::FieldGroup;
use proptest::{collection::vec, prelude::*, sample::select, sample::subsequence};

use super::*;
use crate::table::tests::{contexts, every};

/// Permits every cell that a table can, so that nothing hides behind the ceiling.
fn widest_table() -> DecisionTable {
    let mut text = String::from("format 1\n");
    for kind in every::<AgencyKind>() {
        for purpose in every::<Purpose>()
            .into_iter()
            .filter(|p| *p != Purpose::ImmigrationEnforcement)
        {
            for group in every::<FieldGroup>() {
                text += &format!(
                    "{} {} {} ffffffff\n",
                    kind.as_str_name().trim_start_matches("AGENCY_KIND_"),
                    purpose.as_str_name().trim_start_matches("PURPOSE_"),
                    group.as_str_name().trim_start_matches("FIELD_GROUP_"),
                );
            }
        }
    }
    DecisionTable::parse(&text).unwrap()
}

fn fields() -> impl Strategy<Value = Vec<FieldId>> {
    let all: Vec<FieldId> = FIELDS.iter().map(|field| field.id).collect();
    let most = all.len();
    subsequence(all, 0..=most)
}

/// One purpose mostly, so that consents and reads meet.
fn purposes() -> impl Strategy<Value = Purpose> {
    prop_oneof![4 => Just(Purpose::Shelter), 1 => select(every::<Purpose>())]
}

/// The likely agency mostly, another sometimes.
fn mostly(agency: AgencyId, other: AgencyId) -> impl Strategy<Value = AgencyId> {
    prop_oneof![6 => Just(agency), 1 => Just(other)]
}

fn seconds(from: i64, to: i64) -> impl Strategy<Value = Time> {
    (from..to).prop_map(at)
}

fn grants(choice: impl Strategy<Value = Choice>) -> impl Strategy<Value = Grant> {
    let parties = (mostly(READER, OTHER), mostly(SOURCE, OTHER), purposes());
    let limits = (seconds(0, 60), seconds(40, 100), 0..3_u32, 0..3_u32);
    let bits = (
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    );
    (any::<u8>(), choice, fields(), parties, limits, bits).prop_map(
        |(
            id,
            choice,
            paths,
            (recipient, source, purpose),
            limits,
            (formal_mode, withdrawn, superseded),
        )| {
            let (valid_from, expires_at, max_reads, reads) = limits;
            let base = grant(id, choice);
            Grant {
                terms: ConsentTerms {
                    paths: paths.into_iter().collect(),
                    recipient,
                    source,
                    purpose,
                    valid_from,
                    expires_at,
                    max_reads,
                    formal_mode,
                    ..base.terms
                },
                reads,
                withdrawn,
                superseded,
                ..base
            }
        },
    )
}

fn permits() -> impl Strategy<Value = Grant> {
    grants(Just(Choice::Permit))
}

fn denials() -> impl Strategy<Value = Grant> {
    grants(Just(Choice::Deny))
}

fn records() -> impl Strategy<Value = RecordFacts> {
    let bands = prop_oneof![
        3 => Just(MinorBand::Adult),
        1 => select(vec![MinorBand::Unspecified, MinorBand::From15To17, MinorBand::Under15]),
    ];
    let conflicts = select(vec![GuardianConflict::None, GuardianConflict::Conflict]);
    let codes = prop_oneof![
        3 => Just(HandlingCode::H0None),
        1 => select(vec![
            HandlingCode::Unspecified,
            HandlingCode::H1NotInCourt,
            HandlingCode::H2NotOnward,
        ]),
    ];
    (bands, conflicts, codes).prop_map(|(minor_band, guardian_conflict, handling_code)| {
        RecordFacts {
            minor_band,
            guardian_conflict,
            handling_code,
            ..Read::by_shelter().record
        }
    })
}

fn referrals() -> impl Strategy<Value = Option<ReferralFacts>> {
    let states = prop_oneof![
        3 => Just(ReferralState::Accepted),
        1 => select(every::<ReferralState>()),
    ];
    prop::option::weighted(0.9, states.prop_map(referral))
}

fn reads() -> impl Strategy<Value = Read> {
    let readers = (mostly(READER, SOURCE), select(every::<AgencyKind>()))
        .prop_map(|(agency, kind)| Reader { agency, kind });
    let tables = select(vec![deployed(), widest_table()]);
    let consents = vec(prop_oneof![4 => permits(), 1 => denials()], 0..5);
    let context = select(contexts().collect::<Vec<_>>());
    let facts = (
        records(),
        referrals(),
        consents,
        context,
        tables,
        seconds(30, 80),
    );
    (fields(), purposes(), readers, facts).prop_map(
        |(asked, purpose, reader, (record, referral, grants, context, table, now))| Read {
            asked,
            purpose,
            reader,
            record,
            referral,
            grants,
            context,
            table,
            now,
        },
    )
}

/// A read with its fields and consents in another order, and some fields asked twice.
fn reordered_reads() -> impl Strategy<Value = (Read, Read)> {
    reads().prop_flat_map(|read| {
        let asked = Just([read.asked.clone(), read.asked.clone()].concat()).prop_shuffle();
        let grants = Just(read.grants.clone()).prop_shuffle();
        (asked, grants).prop_map(move |(asked, grants)| {
            (
                read.clone(),
                Read {
                    asked,
                    grants,
                    ..read.clone()
                },
            )
        })
    })
}

proptest! {
    #[test]
    fn what_is_asked_is_released_or_withheld_and_nothing_else_is(read in reads()) {
        let outcome = read.decide();
        let released = read.released();
        let withheld: BTreeSet<FieldId> = outcome.withheld.iter().map(|field| field.field).collect();
        let asked: BTreeSet<FieldId> = read.asked.iter().copied().collect();
        prop_assert!(released.is_subset(&asked));
        prop_assert!(released.is_disjoint(&withheld));
        prop_assert_eq!(&released | &withheld, asked);
        prop_assert_eq!(outcome.release.is_some(), !released.is_empty());
    }

    #[test]
    fn more_consent_never_releases_less(read in reads(), permit in permits()) {
        prop_assert!(read.released().is_subset(&read.clone().with(permit).released()));
    }

    #[test]
    fn a_withdrawal_never_releases_more(read in reads()) {
        for at in 0..read.grants.len() {
            let mut after = read.clone();
            after.grants[at].withdrawn = true;
            prop_assert!(after.released().is_subset(&read.released()));
        }
    }

    #[test]
    fn a_further_refusal_never_releases_more(read in reads(), denial in denials()) {
        prop_assert!(read.clone().with(denial).released().is_subset(&read.released()));
    }

    #[test]
    fn any_refusal_in_force_closes_what_it_lists(read in reads(), denial in denials()) {
        let mut denial = denial;
        denial.terms.recipient = READER;
        denial.terms.source = SOURCE;
        denial.terms.purpose = read.purpose;
        denial.superseded = false;
        denial.terms.valid_from = read.now;
        denial.terms.expires_at = read.now + Duration::from_millis(1);
        let read = read.by_another();
        let released = read.with(denial.clone()).released();
        prop_assert!(released.iter().all(|id| !id.field().is_sealed() || !denial.terms.paths.contains(id)));
    }

    #[test]
    fn the_order_of_fields_and_consents_does_not_matter(reads in reordered_reads()) {
        // Two different consents of one id cannot be recorded.
        let ids: BTreeSet<_> = reads.0.grants.iter().map(|grant| grant.terms.consent).collect();
        prop_assume!(ids.len() == reads.0.grants.len());
        prop_assert_eq!(reads.0.decide(), reads.1.decide());
    }

    #[test]
    fn of_a_minor_nobody_but_the_source_reads_anything(read in reads(), older in any::<bool>()) {
        let mut read = read.by_another();
        read.record.minor_band = if older { MinorBand::From15To17 } else { MinorBand::Under15 };
        prop_assert_eq!(read.decide().release, None);
    }

    #[test]
    fn no_read_for_immigration_enforcement_releases(read in reads()) {
        let read = Read { purpose: Purpose::ImmigrationEnforcement, ..read };
        prop_assert_eq!(read.decide().release, None);
    }

    #[test]
    fn nothing_sealed_leaves_without_a_permit_for_this_reader_and_purpose(read in reads()) {
        let read = read.by_another();
        let permits = |field: &FieldId| read.grants.iter().any(|grant| {
            grant.terms.choice == Choice::Permit
                && grant.terms.recipient == READER
                && grant.terms.purpose == read.purpose
                && grant.terms.paths.contains(field)
                && !grant.withdrawn
        });
        prop_assert!(read.released().iter().filter(|id| id.field().is_sealed()).all(permits));
    }
}
