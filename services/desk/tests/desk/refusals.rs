//! Credentials that are not accepted reach the log, under the agency whose certificate brought them.

use std::{collections::BTreeMap, sync::Arc};

use amanat_database::{Connection, Error};
use amanat_desk::{Desk, Refused, Rulebook};
use amanat_identity::{Peer, PeerName, TokenVerifier, token::Audience};
use amanat_journal::{Access, Book, EntryFilter, Keys, Opened, Overtaking, Ruling};
use amanat_schema::{
    AgencyId, Time,
    audit::{Action, EntryBody},
    consent::{ListConsentsRequest, WithdrawConsentRequest},
    policy::{AgencyKind, Decision},
    statement::{Statement, Withdrawal},
};
use amanat_seal::WrapKey;
use amanat_server::{Guard, Refusal};
use prost::Message as _;
use tonic::Request;

use crate::{
    ledger::{journal, rules},
    support::{Agency, Exchange, now},
};

/// A server that does nothing but refuse.
pub(crate) struct Refuser {
    pub(crate) rules: Rulebook,
}

impl Book for Refuser {
    type Call = Refused;
    type Answer = Result<(), Refusal>;
    type Facts = ();

    fn access(&self, call: &Refused) -> Access {
        call.access()
    }

    fn agency(&self, call: &Refused) -> Option<AgencyId> {
        call.agency()
    }

    async fn load(&self, _: &mut Connection, _: &[&Refused]) -> Result<(), Error> {
        Ok(())
    }

    fn decide(&self, (): &mut (), call: &Refused, _: Time) -> Ruling<Self::Answer> {
        call.decide(&self.rules.current())
    }

    async fn write(&self, _: &mut Connection, (): ()) -> Result<(), Error> {
        Ok(())
    }

    fn overtaken(&self, _: Overtaking<'_>) {}

    fn replay(&self, _: &Refused, _: &[u8]) -> Self::Answer {
        Ok(())
    }
}

fn from<T>(agency: &Agency, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Peer {
        name: PeerName::Agency(agency.id),
        certificate_sha256: agency.client.sha256(),
    });
    request
}

fn unsigned(agency: &Agency) -> WithdrawConsentRequest {
    let withdrawal = Withdrawal {
        head: Some(agency.head(1, "no token", now())),
        consent_id: vec![1; 16],
    };
    WithdrawConsentRequest {
        withdrawal: Some(Statement {
            officer_token: "no token".to_owned(),
            ..agency.sign(&withdrawal, "")
        }),
        request_id: vec![1; 16],
    }
}

#[tokio::test]
async fn what_is_refused_without_an_entry_of_its_own_is_one_an_agency_and_one_for_strangers() {
    let exchange = Exchange::new();
    let rules = Rulebook::new(rules(&exchange));
    let (_folder, config) = journal().await;
    let keys = Keys {
        signer: exchange.gateway.log_signer(),
        openings: WrapKey::generate().unwrap(),
    };
    let book = Refuser {
        rules: rules.clone(),
    };
    let Opened {
        journal, reader, ..
    } = amanat_journal::open(&config, keys, book, Arc::new(now))
        .await
        .unwrap();
    let guard = Guard::new(
        exchange.trusted_without_lists(),
        TokenVerifier::new(Audience::Gateway),
        Arc::new(now),
    );
    let desk = Desk {
        guard,
        rules,
        journal,
        reader,
        openings: Arc::new(WrapKey::generate().unwrap()),
    };

    let (shelter, police) = (&exchange.shelter, &exchange.police);
    let without_token = from(shelter, ListConsentsRequest::default());
    for _ in 0..2 {
        assert!(desk.asked(&without_token).is_err());
    }
    let request = from(police, unsigned(police));
    let statement = request.get_ref().withdrawal.as_ref();
    let delivered =
        desk.delivered::<_, Withdrawal>(&request, "WithdrawConsent", &[1; 16], statement);
    assert_eq!(delivered.err().unwrap().reason(), "CREDENTIAL_INVALID");
    desk.guard.refuse(None);
    for _ in 0..5 {
        desk.guard.crowd(Some(shelter.id));
    }
    desk.log_refused().await;
    desk.log_refused().await;

    let filter = EntryFilter {
        limit: 10,
        ..EntryFilter::default()
    };
    let entries = desk.reader.page(&filter).await.unwrap();
    let logged: BTreeMap<(Vec<u8>, Action), (AgencyKind, u64)> = entries
        .iter()
        .map(|entry| {
            let body = EntryBody::decode(entry.body.as_slice()).unwrap();
            assert_eq!(body.decision(), Decision::Deny);
            let (kind, action) = (body.agency_kind(), body.action());
            ((body.agency_id, action), (kind, body.count))
        })
        .collect();
    let (id, failures) = (AgencyId::to_vec, Action::AuthenticationFailures);
    assert_eq!(
        logged,
        BTreeMap::from([
            ((Vec::new(), failures), (AgencyKind::Unspecified, 1)),
            ((id(shelter.id), failures), (shelter.kind, 2)),
            ((id(police.id), failures), (police.kind, 1)),
            ((id(shelter.id), Action::QuotaRefusals), (shelter.kind, 5)),
        ])
    );
    assert_eq!(entries.len(), 4, "a quiet minute leaves no entry");
}
