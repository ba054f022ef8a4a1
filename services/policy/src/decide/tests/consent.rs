//! What opens and closes a sealed field.

use super::*;

#[test]
fn a_consented_field_is_released_on_that_consent() {
    let outcome = Read::by_shelter().asking(NEEDS).with(permit(7)).decide();
    let release = outcome.release.unwrap();
    let basis = Basis::Consent {
        id: ConsentId::new([7; 16]),
        statement_sha256: [7; 32],
    };
    assert_eq!(release.fields().collect::<Vec<_>>(), [(leaf(NEEDS), basis)]);
    assert_eq!(basis.kind(), BasisKind::Consent);
    assert_eq!(basis.statement(), Some((&[7; 16], &[7; 32])));
    assert!(release.covers(leaf(NEEDS)) && !release.covers(leaf("needs.needs")));
    assert_eq!((release.case(), release.source()), (CASE, SOURCE));
    assert_eq!(
        (release.record(), release.version()),
        (RecordId::new([4; 16]), 2)
    );
}

#[test]
fn a_consent_opens_from_its_first_moment_until_its_last() {
    let read = Read::by_shelter().asking(NEEDS).with(permit(7));
    let truth = |now| Read {
        now: at(now),
        ..read.clone()
    };
    assert_eq!(truth(9).truth(), TrueReason::ConsentNotYetValid);
    assert_eq!(truth(10).released(), BTreeSet::from([leaf(NEEDS)]));
    assert_eq!(truth(89).released(), BTreeSet::from([leaf(NEEDS)]));
    assert_eq!(truth(90).truth(), TrueReason::ConsentExpired);
}

#[test]
fn what_became_of_a_consent_is_known_to_the_log_and_told_to_nobody() {
    let change = |edit: fn(&mut Grant)| {
        let mut grant = permit(7);
        edit(&mut grant);
        grant
    };
    let lapsed = [
        (grant(7, Choice::Deny), TrueReason::ConsentDenied),
        (
            change(|grant| grant.withdrawn = true),
            TrueReason::ConsentWithdrawn,
        ),
        (
            change(|grant| grant.superseded = true),
            TrueReason::ConsentSuperseded,
        ),
        (
            change(|grant| grant.terms.expires_at = at(50)),
            TrueReason::ConsentExpired,
        ),
        (
            change(|grant| grant.terms.valid_from = at(51)),
            TrueReason::ConsentNotYetValid,
        ),
        (
            change(|grant| (grant.terms.max_reads, grant.reads) = (2, 2)),
            TrueReason::ConsentUsedUp,
        ),
        (
            change(|grant| grant.terms.formal_mode = false),
            TrueReason::ConsentNotFormal,
        ),
        (
            change(|grant| grant.terms.recipient = OTHER),
            TrueReason::ConsentNeverGiven,
        ),
        (
            change(|grant| grant.terms.source = OTHER),
            TrueReason::ConsentNeverGiven,
        ),
        (
            change(|grant| grant.terms.purpose = Purpose::LegalAid),
            TrueReason::ConsentNeverGiven,
        ),
        (
            change(|grant| grant.terms.case = CaseId::new([0; 16])),
            TrueReason::ConsentNeverGiven,
        ),
        (
            change(|grant| grant.terms.paths.clear()),
            TrueReason::ConsentNeverGiven,
        ),
    ];
    for (grant, truth) in lapsed {
        let read = Read::by_shelter().asking("subject.given_name").with(grant);
        assert_eq!(read.truth(), truth);
        assert_eq!(
            read.decide().withheld[0].reason(),
            WithheldReason::ConsentNotInForce,
            "{truth:?}"
        );
    }
}

#[test]
fn a_refusal_beats_any_number_of_permits() {
    let read = Read::by_shelter()
        .asking(NEEDS)
        .with(permit(5))
        .with(permit(7));
    assert_eq!(
        read.with(grant(6, Choice::Deny)).truth(),
        TrueReason::ConsentDenied
    );
}

#[test]
fn a_withdrawal_does_not_lift_a_refusal_but_a_later_consent_does() {
    let read = Read::by_shelter().asking(NEEDS).with(permit(5));
    let withdrawn = Grant {
        withdrawn: true,
        ..grant(6, Choice::Deny)
    };
    assert_eq!(
        read.clone().with(withdrawn).truth(),
        TrueReason::ConsentDenied
    );
    let superseded = Grant {
        superseded: true,
        ..grant(6, Choice::Deny)
    };
    assert_eq!(
        read.with(superseded).released(),
        BTreeSet::from([leaf(NEEDS)])
    );
}

#[test]
fn of_two_permits_the_uncounted_one_is_used_and_then_the_smaller_id() {
    let counted = |id| {
        let mut grant = permit(id);
        grant.terms.max_reads = 5;
        grant
    };
    let basis = |grants: &[Grant]| {
        let read = Read {
            grants: grants.to_vec(),
            ..Read::by_shelter().asking(NEEDS)
        };
        let release = read.decide().release.unwrap();
        release.bases()[0]
    };
    let by = |id| Basis::Consent {
        id: ConsentId::new([id; 16]),
        statement_sha256: [id; 32],
    };
    assert_eq!(basis(&[counted(1), permit(3), permit(2)]), by(2));
    assert_eq!(basis(&[counted(4), counted(1)]), by(1));
}
