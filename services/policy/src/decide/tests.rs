use amanat_schema::catalogue::{self, FIELDS};

use super::*;
use crate::{
    grant::ConsentTerms,
    table::tests::{deployed, every},
};

mod consent;
mod golden;
mod properties;

const SOURCE: AgencyId = AgencyId::new([1; 16]);
const READER: AgencyId = AgencyId::new([2; 16]);
const OTHER: AgencyId = AgencyId::new([3; 16]);
const CASE: CaseId = CaseId::new([9; 16]);

fn at(second: i64) -> Time {
    Time::from_millis(second * 1000).unwrap()
}

fn leaf(path: &str) -> FieldId {
    catalogue::by_path(path).unwrap().id
}

/// One read with facts of its own.
#[derive(Debug, Clone)]
struct Read {
    asked: Vec<FieldId>,
    purpose: Purpose,
    reader: Reader,
    record: RecordFacts,
    referral: Option<ReferralFacts>,
    grants: Vec<Grant>,
    context: Context,
    table: DecisionTable,
    now: Time,
}

impl Read {
    /// The same read by another agency than the source.
    fn by_another(mut self) -> Self {
        self.reader.agency = READER;
        self
    }

    /// A shelter reads an adult's whole record behind an accepted referral, without consent.
    fn by_shelter() -> Self {
        Self {
            asked: FIELDS.iter().map(|field| field.id).collect(),
            purpose: Purpose::Shelter,
            reader: Reader {
                agency: READER,
                kind: AgencyKind::NgoShelter,
            },
            record: RecordFacts {
                case: CASE,
                record: RecordId::new([4; 16]),
                version: 2,
                source: SOURCE,
                minor_band: MinorBand::Adult,
                guardian_conflict: GuardianConflict::None,
                handling_code: HandlingCode::H0None,
            },
            referral: Some(referral(ReferralState::Accepted)),
            grants: Vec::new(),
            context: Context::default(),
            table: deployed(),
            now: at(50),
        }
    }

    fn asking(self, path: &str) -> Self {
        Self {
            asked: vec![leaf(path)],
            ..self
        }
    }

    fn with(mut self, grant: Grant) -> Self {
        self.grants.push(grant);
        self
    }

    fn decide(&self) -> Outcome {
        decide(&Question {
            asked: &self.asked,
            purpose: self.purpose,
            reader: self.reader,
            record: self.record,
            referral: self.referral,
            grants: &self.grants,
            context: self.context,
            table: &self.table,
            now: self.now,
        })
    }

    fn released(&self) -> BTreeSet<FieldId> {
        let release = self.decide().release;
        release
            .iter()
            .flat_map(Release::fields)
            .map(|(field, _)| field)
            .collect()
    }

    /// Why the only field asked was withheld.
    fn truth(&self) -> TrueReason {
        let outcome = self.decide();
        assert_eq!(outcome.release, None);
        outcome.withheld[0].truth
    }
}

fn referral(state: ReferralState) -> ReferralFacts {
    ReferralFacts {
        id: ReferralId::new([8; 16]),
        statement_sha256: [80; 32],
        state,
    }
}

/// To the reader, for shelter, from second 10 to second 90, in writing, for every sealed leaf.
fn grant(id: u8, choice: Choice) -> Grant {
    Grant {
        terms: ConsentTerms {
            consent: ConsentId::new([id; 16]),
            case: CASE,
            choice,
            paths: catalogue::sealed().map(|field| field.id).collect(),
            recipient: READER,
            source: SOURCE,
            purpose: Purpose::Shelter,
            valid_from: at(10),
            expires_at: at(90),
            max_reads: 0,
            supersedes: None,
            formal_mode: true,
        },
        statement_sha256: [id; 32],
        signed_by: [0; 32],
        recorded: at(0),
        reads: 0,
        withdrawn: false,
        superseded: false,
    }
}

fn permit(id: u8) -> Grant {
    grant(id, Choice::Permit)
}

const NEEDS: &str = "needs.narrative";

#[test]
fn bases_are_listed_once_in_order_and_a_source_needs_none() {
    let shelter = Read::by_shelter().with(permit(7));
    let bases = shelter.decide().release.unwrap().bases();
    assert_eq!(
        bases,
        [
            Basis::Consent {
                id: ConsentId::new([7; 16]),
                statement_sha256: [7; 32]
            },
            Basis::ReferralParty {
                id: ReferralId::new([8; 16]),
                statement_sha256: [80; 32]
            },
        ]
    );
    let source = Read {
        reader: Reader {
            agency: SOURCE,
            ..shelter.reader
        },
        ..shelter
    };
    assert!(source.decide().release.unwrap().bases().is_empty());
}

#[test]
fn a_source_reads_its_own_records_for_any_purpose_but_one() {
    let source = Read {
        reader: Reader {
            agency: SOURCE,
            kind: AgencyKind::Oversight,
        },
        referral: None,
        purpose: Purpose::Statistics,
        ..Read::by_shelter()
    };
    let outcome = source.decide();
    assert_eq!(outcome.withheld, []);
    assert!(
        outcome
            .release
            .unwrap()
            .fields()
            .all(|(_, basis)| basis == Basis::Source)
    );
    for purpose in [Purpose::ImmigrationEnforcement, Purpose::Unspecified] {
        let outcome = Read {
            purpose,
            ..source.clone()
        }
        .decide();
        assert_eq!(outcome.release, None);
        assert!(
            outcome
                .withheld
                .iter()
                .all(|field| field.truth == TrueReason::PurposeNotAllowed)
        );
    }
}

#[test]
fn a_purpose_without_a_cell_is_told_from_a_group_without_one() {
    let fir = Read::by_shelter().asking("case.fir_number").with(permit(7));
    assert_eq!(fir.truth(), TrueReason::NotAllowedForRole);
    let investigation = Read {
        purpose: Purpose::Investigation,
        ..fir
    };
    assert_eq!(investigation.truth(), TrueReason::PurposeNotAllowed);
}

#[test]
fn the_shelter_that_keeps_her_reads_its_own_placement() {
    let room = Read::by_shelter().asking("placement.room").with(permit(7));
    assert_eq!(room.truth(), TrueReason::NotAllowedForRole);
    let context = Context {
        recipient_holds_placement: true,
        ..room.context
    };
    assert_eq!(
        Read { context, ..room }.released(),
        BTreeSet::from([leaf("placement.room")])
    );
}

#[test]
fn content_opens_only_on_acceptance() {
    let read = Read::by_shelter().asking(NEEDS).with(permit(7));
    let behind = |referral| {
        Read {
            referral,
            ..read.clone()
        }
        .truth()
    };
    assert_eq!(behind(None), TrueReason::NoReferral);
    for (state, truth) in [
        (ReferralState::Unspecified, TrueReason::ReferralClosed),
        (ReferralState::Submitted, TrueReason::ReferralNotAccepted),
        (ReferralState::Acknowledged, TrueReason::ReferralNotAccepted),
        (ReferralState::Rejected, TrueReason::ReferralClosed),
        (ReferralState::Suspended, TrueReason::ReferralClosed),
        (ReferralState::Completed, TrueReason::ReferralClosed),
        (ReferralState::Revoked, TrueReason::ReferralClosed),
    ] {
        assert_eq!(behind(Some(referral(state))), truth, "{state:?}");
        assert_eq!(truth.public(), WithheldReason::ReferralNotOpen);
    }
}

#[test]
fn routing_opens_from_acceptance_to_completion_too() {
    let seen = |referral| {
        let released = Read {
            referral,
            ..Read::by_shelter()
        }
        .released();
        released
            .iter()
            .map(|id| id.field().path)
            .collect::<Vec<_>>()
    };
    let all: Vec<_> = catalogue::routing().map(|field| field.path).collect();
    assert!(seen(None).is_empty());
    for state in every::<ReferralState>() {
        let opens = [ReferralState::Accepted, ReferralState::InService].contains(&state);
        let expected = if opens { &all[..] } else { &[] };
        assert_eq!(seen(Some(referral(state))), expected, "{state:?}");
    }
}

#[test]
fn a_minors_record_shows_a_recipient_nothing() {
    for minor_band in [
        MinorBand::Unspecified,
        MinorBand::From15To17,
        MinorBand::Under15,
    ] {
        let adult = Read::by_shelter().with(permit(7));
        let record = RecordFacts {
            minor_band,
            ..adult.record
        };
        let minor = Read { record, ..adult };
        assert_eq!(minor.decide().release, None);
        assert_eq!(minor.clone().asking(NEEDS).truth(), TrueReason::Minor);
        assert_eq!(
            minor.clone().asking("case.status").truth(),
            TrueReason::Minor
        );
        for guardian_conflict in [
            GuardianConflict::Unspecified,
            GuardianConflict::Conflict,
            GuardianConflict::Unknown,
        ] {
            let record = RecordFacts {
                guardian_conflict,
                ..minor.record
            };
            let blocked = Read {
                record,
                ..minor.clone()
            }
            .asking(NEEDS);
            assert_eq!(blocked.truth(), TrueReason::GuardianConflict);
        }
    }
}

#[test]
fn an_adult_has_no_guardian_to_be_in_conflict_with() {
    let read = Read::by_shelter().asking(NEEDS).with(permit(7));
    let record = RecordFacts {
        guardian_conflict: GuardianConflict::Unknown,
        ..read.record
    };
    assert_eq!(
        Read { record, ..read }.released(),
        BTreeSet::from([leaf(NEEDS)])
    );
}

#[test]
fn whether_the_subject_is_a_minor_is_the_records_word_not_the_callers() {
    let mut consent = permit(7);
    consent.terms.purpose = Purpose::ChildProtection;
    let read = Read {
        purpose: Purpose::ChildProtection,
        reader: Reader {
            agency: READER,
            kind: AgencyKind::ChildProtection,
        },
        context: Context {
            subject_is_minor: true,
            ..Context::default()
        },
        ..Read::by_shelter()
            .asking("subject.given_name")
            .with(consent)
    };
    assert_eq!(read.truth(), TrueReason::NotAllowedForRole);
}

#[test]
fn what_may_not_be_used_in_court_goes_to_no_prosecutor() {
    let mut consent = permit(7);
    consent.terms.purpose = Purpose::Prosecution;
    for kind in [AgencyKind::Prosecution, AgencyKind::Court] {
        let h1 = |handling_code| {
            let read = Read::by_shelter()
                .asking("case.fir_number")
                .with(consent.clone());
            Read {
                purpose: Purpose::Prosecution,
                reader: Reader {
                    agency: READER,
                    kind,
                },
                record: RecordFacts {
                    handling_code,
                    ..read.record
                },
                ..read
            }
        };
        assert_eq!(
            h1(HandlingCode::H1NotInCourt).truth(),
            TrueReason::NotInCourt,
            "{kind:?}"
        );
        assert_eq!(
            h1(HandlingCode::H2NotOnward).released().len(),
            1,
            "{kind:?}"
        );
    }
    let shelter = Read::by_shelter().asking(NEEDS).with(permit(7));
    let record = RecordFacts {
        handling_code: HandlingCode::H1NotInCourt,
        ..shelter.record
    };
    assert_eq!(Read { record, ..shelter }.released().len(), 1);
}

#[test]
fn an_unknown_handling_code_forbids() {
    let read = Read::by_shelter().with(permit(7));
    let record = RecordFacts {
        handling_code: HandlingCode::Unspecified,
        ..read.record
    };
    let read = Read { record, ..read };
    assert!(read.released().is_empty());
    assert_eq!(read.asking(NEEDS).truth(), TrueReason::HandlingUnknown);
}

#[test]
fn who_asks_for_nothing_gets_nothing() {
    let outcome = Read {
        asked: Vec::new(),
        ..Read::by_shelter().with(permit(7))
    }
    .decide();
    assert_eq!(
        outcome,
        Outcome {
            release: None,
            withheld: Vec::new()
        }
    );
}

#[test]
fn the_logged_codes_never_change() {
    let codes = [
        (TrueReason::PurposeNotAllowed, 1),
        (TrueReason::NotAllowedForRole, 2),
        (TrueReason::NoReferral, 3),
        (TrueReason::ReferralNotAccepted, 4),
        (TrueReason::ReferralClosed, 5),
        (TrueReason::Minor, 6),
        (TrueReason::GuardianConflict, 7),
        (TrueReason::ConsentDenied, 8),
        (TrueReason::ConsentWithdrawn, 9),
        (TrueReason::ConsentSuperseded, 10),
        (TrueReason::ConsentExpired, 11),
        (TrueReason::ConsentNotYetValid, 12),
        (TrueReason::ConsentUsedUp, 13),
        (TrueReason::ConsentNotFormal, 14),
        (TrueReason::ConsentNeverGiven, 15),
        (TrueReason::NotInCourt, 16),
        (TrueReason::HandlingUnknown, 17),
    ];
    for (reason, code) in codes {
        assert_eq!(reason.code(), code);
    }
}
