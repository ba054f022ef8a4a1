//! Keys out of custody: only against an entry of the gateway's log that proves an allowed read, and only if
//! the same decision on the custodian's own facts comes to the same.

mod entry;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use amanat_desk::{
    Act, Rules,
    consent::{ConsentFacts, SourceCase, case_key},
    release::{log_release, record_facts, truths},
};
use amanat_identity::{Directory, Signed, SignedError};
use amanat_journal::{Access, Ruling, Touch};
use amanat_policy::{
    Choice, Context, Grant, Outcome, Question, Reader, ReferralFacts, Release, parse_referral,
};
use amanat_schema::{
    AgencyId, CaseId, ConsentId, EntryId, RecordId, Time,
    audit::{Action, EntryBody, Opening},
    catalogue::FieldId,
    statement::Referral,
};
use amanat_seal::Binding;
use amanat_server::Refusal;

use super::{
    Facts, Objection, Reply, Ruled, Shown, Unseen,
    claim::Claim,
    deposit::{Deposit, DepositFacts},
    linkage,
    missing::MissingFacts,
    redeemed::{RedeemedFacts, Redemption},
};
pub(crate) use entry::names_newer_rules;
use entry::{
    has_our_rules, is_allowed_read, is_in_time, is_the_callers, is_the_officers, verified,
};

/// What changed here within this time explains why the gateway decided otherwise.
pub(super) const RECENT: Duration = Duration::from_secs(600);

pub(crate) struct ReleaseKeys {
    pub(super) act: Act,
    /// The gateway's receipt of the read.
    pub(crate) read: Shown,
    /// `None` if the entry does not make sense of itself.
    claim: Option<Claim>,
    officer: Opening,
    referral: Option<Result<Arc<Signed<Referral>>, SignedError>>,
    fields: BTreeSet<FieldId>,
}

/// What an allowed release hands out: the key still wrapped, so that nothing secret exists before the entry
/// is durable.
pub(crate) struct Released {
    pub(crate) wrapped: Vec<u8>,
    pub(crate) binding: Binding,
    pub(crate) fields: BTreeSet<FieldId>,
}

impl ReleaseKeys {
    pub(crate) fn new(
        act: Act,
        read: Shown,
        officer: Opening,
        referral: Option<Result<Arc<Signed<Referral>>, SignedError>>,
        fields: BTreeSet<FieldId>,
    ) -> Self {
        let claim = read.as_ref().ok().and_then(Claim::parse);
        Self {
            act,
            read,
            claim,
            officer,
            referral,
            fields,
        }
    }

    pub(crate) fn access(&self) -> Access {
        Access {
            keys: self.case().map(case_key).into_iter().collect(),
            touch: Touch::Reads,
            request: None,
        }
    }

    pub(super) fn case(&self) -> Option<CaseId> {
        self.claim.as_ref().map(|claim| claim.case)
    }

    pub(super) fn source_case(&self) -> Option<SourceCase> {
        self.claim.as_ref().map(|claim| (claim.source, claim.case))
    }

    /// The record version, by its source.
    pub(super) fn key(&self) -> Option<(RecordId, AgencyId, u32)> {
        let claim = self.claim.as_ref()?;
        Some((claim.record, claim.source, claim.version))
    }

    /// The consents that the entry names and that were not recorded here.
    pub(super) fn consents_missing(&self, here: &ConsentFacts) -> BTreeSet<ConsentId> {
        let Some(claim) = &self.claim else {
            return BTreeSet::new();
        };
        let grants = here.grants((claim.source, claim.case));
        let is_here = |consent: &ConsentId| grants.iter().any(|g| g.terms.consent == *consent);
        let named = claim.consents().into_iter();
        named.filter(|consent| !is_here(consent)).collect()
    }

    pub(super) fn entry_id(&self) -> Option<EntryId> {
        EntryId::parse(&self.read.as_ref().ok()?.body.entry_id).ok()
    }
}

pub(super) fn release(
    facts: &mut Facts,
    rules: &Rules,
    call: &ReleaseKeys,
    unseen: Unseen,
    now: Time,
) -> Ruled {
    let observed = facts.heads.size();
    let mut ruling = match check(facts, rules, call, unseen, now) {
        Ok((release, released)) => {
            let linkage = linkage(&call.read);
            let mut draft = call.act.allowed(rules, Action::ReleaseKeys, linkage);
            let purpose = call.read.as_ref().map(|entry| entry.body.purpose());
            log_release(&mut draft, &release, purpose.unwrap_or_default());
            Ruling {
                answer: Ok(Reply::Released(Box::new(released))),
                draft: Some(draft),
                remember: None,
            }
        }
        Err(objection) => {
            objection.rule(&call.act, rules, Action::ReleaseKeys, linkage(&call.read))
        }
    };
    if let (Some(draft), Ok(entry)) = (&mut ruling.draft, &call.read) {
        draft.body.counterpart_entry_sha256 = entry.entry.sha256().to_vec();
        draft.body.counterpart_index = entry.index;
        draft.body.observed_size = observed;
    }
    ruling
}

/// The checks in their order; the first that fails refuses. What changes in the facts, changes only when
/// all have passed, but for the note of a consent that is missing here.
fn check(
    facts: &mut Facts,
    rules: &Rules,
    call: &ReleaseKeys,
    unseen: Unseen,
    now: Time,
) -> Result<(Release, Released), Objection> {
    let Facts {
        heads,
        deposits,
        consents,
        missing,
        redeemed,
        ..
    } = facts;
    heads.running()?;
    let entry = verified(&call.read)?;
    is_allowed_read(&entry.body)?;
    is_the_callers(&entry.body, &call.act)?;
    is_the_officers(&entry.body, call)?;
    // Before its rules: an old receipt names old ones, and whoever keeps it could alarm at will.
    is_in_time(&entry.body, now)?;
    has_our_rules(&entry.body, rules, now)?;
    heads.has_seen(&entry.checkpoint.head, unseen)?;
    let claim = is_asked_exactly(call)?;
    let redemption = redeemed.redemption(entry)?;
    let deposit = newest_active(deposits, claim, now)?;
    if !deposit.is_own_word(&rules.directory) {
        // Its source puts a corrected version, signed with its new key.
        let truth = "somebody else may have signed the header";
        return Err(Objection::quiet(Refusal::access(), truth));
    }
    let referral = bringing_referral(call, claim, &entry.body)?;

    let asked: Vec<FieldId> = claim.released.keys().copied().collect();
    let outcome = amanat_policy::decide(&Question {
        asked: &asked,
        purpose: entry.body.purpose(),
        reader: Reader {
            agency: call.act.agency,
            kind: call.act.kind,
        },
        record: record_facts(&deposit.header),
        referral,
        grants: &grants(consents, &rules.directory, claim, redemption),
        context: Context::default(),
        table: &rules.table,
        now,
    });
    let release = agrees(outcome, call, claim, consents, missing, redeemed, now)?;
    let Some(wrapped) = deposit.wrapped.clone() else {
        // An active deposit always holds its key.
        return Err(Objection::alarm(Refusal::access(), "the key is gone"));
    };
    let released = Released {
        wrapped,
        binding: *deposit.header.binding(),
        fields: claim.sealed(),
    };
    if redemption == Redemption::First {
        redeemed.redeem(entry, now);
        for consent in claim.consents() {
            consents.count_read((claim.source, claim.case), consent);
        }
    }
    Ok((release, released))
}

/// An entry is good for exactly its released paths.
fn is_asked_exactly(call: &ReleaseKeys) -> Result<&Claim, Objection> {
    let Some(claim) = &call.claim else {
        let truth = "the entry's released paths and bases do not make sense";
        return Err(Objection::alarm(Refusal::access(), truth));
    };
    if claim.sealed() == call.fields {
        Ok(claim)
    } else {
        let truth = "other paths than the entry released";
        Err(Objection::alarm(Refusal::access(), truth))
    }
}

/// Only the newest active version is released.
fn newest_active<'a>(
    deposits: &'a DepositFacts,
    claim: &Claim,
    now: Time,
) -> Result<&'a Deposit, Objection> {
    let newest = deposits.newest_active(claim.record, claim.source);
    let of_version = deposits
        .get((claim.record, claim.source, claim.version))
        .filter(|named| *named.header.binding() == claim.binding());
    match (newest, of_version) {
        (Some(newest), _) if *newest.header.binding() == claim.binding() => Ok(newest),
        (_, Some(named)) if named.is_pending(now) => {
            let truth = "the version is not activated yet";
            Err(Objection::quiet(Refusal::ledger_behind(), truth))
        }
        (
            Some(Deposit {
                activated: Some(at),
                ..
            }),
            Some(_),
        ) if at.distance(now) <= RECENT => {
            let truth = "a newer version has just been activated";
            Err(Objection::quiet(Refusal::access(), truth))
        }
        _ => {
            let truth = "not the newest active version in custody";
            Err(Objection::alarm(Refusal::access(), truth))
        }
    }
}

/// The referral that brings the record to the caller, as its sender signed it. Its later state is the one
/// thing that the gateway's word is taken for.
fn bringing_referral(
    call: &ReleaseKeys,
    claim: &Claim,
    body: &EntryBody,
) -> Result<Option<ReferralFacts>, Objection> {
    if call.act.agency == claim.source {
        return Ok(None);
    }
    let signed = match &call.referral {
        Some(Ok(signed)) => signed,
        Some(Err(SignedError::Suspended)) => {
            // Its recipient need not know.
            let truth = "the referral is signed with a suspended key";
            return Err(Objection::quiet(Refusal::access(), truth));
        }
        // Nothing shows when it was signed, or it was signed too late.
        Some(Err(SignedError::Retired | SignedError::Compromised)) => {
            let expected = "one by a key that counts: ask its sender to submit the referral again";
            let refusal = Refusal::field("referral", expected);
            return Err(Objection::quiet(refusal, "signed with a retired key"));
        }
        Some(Err(why)) => {
            let objection = Objection::alarm(Refusal::access(), "the referral is not signed");
            return Err(objection.with(why.to_string()));
        }
        None => {
            let refusal = Refusal::field("referral", "the referral as its sender signed it");
            return Err(Objection::quiet(refusal, "referral not shown"));
        }
    };
    match parse_referral(signed.message()) {
        Ok(terms)
            if terms.sender == claim.source
                && terms.recipient == call.act.agency
                && terms.case == claim.case
                && Some(terms.referral) == claim.referral =>
        {
            Ok(Some(ReferralFacts {
                id: terms.referral,
                statement_sha256: *signed.payload_sha256(),
                state: body.referral_state(),
            }))
        }
        _ => {
            let truth = "the referral does not bring this record to the caller";
            Err(Objection::alarm(Refusal::access(), truth))
        }
    }
}

/// The case's consents as the decision needs them: refusals, and the permits that the entry names. The
/// gateway counts reads that were never brought here, so of two permits it may have had to take the other.
fn grants(
    consents: &ConsentFacts,
    directory: &Directory,
    claim: &Claim,
    redemption: Redemption,
) -> Vec<Grant> {
    let named = claim.consents();
    let of = (claim.source, claim.case);
    let mut grants = consents.counting(of, directory).into_owned();
    grants
        .retain(|grant| grant.terms.choice == Choice::Deny || named.contains(&grant.terms.consent));
    if redemption == Redemption::Again {
        // This read is counted already.
        for grant in &mut grants {
            grant.reads = grant.reads.saturating_sub(1);
        }
    }
    grants
}

/// The release, if it is the gateway's field by field, each on the same basis.
fn agrees(
    outcome: Outcome,
    call: &ReleaseKeys,
    claim: &Claim,
    consents: &ConsentFacts,
    missing: &mut MissingFacts,
    redeemed: &RedeemedFacts,
    now: Time,
) -> Result<Release, Objection> {
    let Outcome { release, withheld } = outcome;
    let claimed = claim.released.iter().map(|(field, basis)| (*field, *basis));
    match release {
        Some(release) if release.fields().eq(claimed) => return Ok(release),
        _ => {}
    }
    let of = (claim.source, claim.case);
    let grants = consents.grants(of);
    let here = |id: &ConsentId| grants.iter().any(|grant| grant.terms.consent == *id);
    let not_here = claim.consents().into_iter().filter(|id| !here(id));
    if let Some(since) = not_here.map(|id| missing.since(of, id, now)).min() {
        let objection = if since.distance(now) <= RECENT {
            Objection::quiet
        } else {
            Objection::alarm
        };
        return Err(objection(
            Refusal::ledger_behind(),
            "the consent is not here",
        ));
    }
    // A field that no changed consent speaks of differs for another reason than time.
    let explained = !withheld.is_empty()
        && withheld.iter().all(|withheld| {
            grants.iter().any(|grant| {
                grant.terms.recipient == call.act.agency
                    && grant.terms.paths.contains(&withheld.field)
                    && has_just_changed(grant, redeemed, now)
            })
        });
    let objection = if explained {
        Objection::quiet
    } else {
        Objection::alarm
    };
    Err(objection(Refusal::access(), "decided otherwise here").with(truths(&withheld)))
}

/// Recorded, withdrawn, begun or expired: two honest ledgers may differ about it for a while.
fn has_just_changed(grant: &Grant, redeemed: &RedeemedFacts, now: Time) -> bool {
    let recent = now - RECENT..=now;
    [grant.terms.valid_from, grant.terms.expires_at]
        .into_iter()
        .chain(redeemed.changed((grant.terms.source, grant.terms.case), grant.terms.consent))
        .any(|at| recent.contains(&at))
}
