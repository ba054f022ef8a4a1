//! Who reads which entries of the log.

use std::sync::Arc;

use amanat_database::{
    Column::{Bytes, Number},
    Insert, Value,
};
use amanat_desk::{
    Act, Rulebook, Rules,
    audit::{AuditCall, AuditReply, Linkage},
};
use amanat_journal::{EntryFilter, Keys, Opened};
use amanat_schema::policy::{Decision, Right};
use amanat_seal::WrapKey;
use tempfile::TempDir;

use crate::{
    ledger::{act, journal, rules},
    refusals::Refuser,
    support::{Agency, Exchange, now},
};

/// A log of six entries, of the shelter and the police by turns.
struct Log {
    exchange: Exchange,
    rules: Rules,
    opened: Opened<Refuser>,
    _folder: TempDir,
}

/// What an officer asks for.
enum Asked {
    List { act: Act, filter: EntryFilter },
    Get { act: Act, idx: u64 },
}

impl Log {
    async fn new() -> Self {
        let exchange = Exchange::new();
        let (folder, config) = journal().await;
        let mut connection = config.database.connect().await.unwrap();
        let columns = [
            Number("idx"),
            Bytes("entry"),
            Bytes("body"),
            Bytes("salt"),
            Bytes("linkage"),
            Bytes("linkage_salt"),
            Bytes("openings"),
            Bytes("agency"),
            Number("action"),
            Number("decision"),
        ];
        let agencies = [&exchange.shelter, &exchange.police].into_iter().cycle();
        let entries = (0..6).zip(agencies).map(|(idx, agency)| {
            let nothing = || Value::from([0; 0]);
            [
                Value::Number(idx),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                agency.id.as_bytes().into(),
                1.into(),
                1.into(),
            ]
        });
        Insert::into("entries", columns, entries)
            .execute(&mut connection)
            .await
            .unwrap();
        // Nobody signed them, so the log is frozen, and can still be read.
        let keys = Keys {
            signer: exchange.gateway.log_signer(),
            openings: WrapKey::generate().unwrap(),
        };
        let book = Refuser {
            rules: Rulebook::new(rules(&exchange)),
        };
        let opened = amanat_journal::open(&config, keys, book, Arc::new(now)).await;
        let opened = opened.unwrap();
        Self {
            rules: rules(&exchange),
            exchange,
            opened,
            _folder: folder,
        }
    }

    /// As the service does: first what is asked for is looked for, then it is decided who sees it.
    async fn find(&self, asked: Asked) -> AuditCall {
        match asked {
            Asked::List { act, filter } => AuditCall::List {
                act,
                limit: filter.limit,
                page: self.opened.reader.page(&filter).await.unwrap(),
            },
            Asked::Get { act, idx } => AuditCall::Get {
                act,
                found: self.opened.reader.entry(idx).await.unwrap().map(Box::new),
            },
        }
    }

    /// Decides calls in one batch: what each sees, with whether linkage is shown, or its refusal.
    async fn seen(
        &mut self,
        asked: impl IntoIterator<Item = Asked>,
    ) -> Vec<Result<(Vec<(u64, Linkage)>, Option<i64>), &'static str>> {
        let mut calls = Vec::new();
        for asked in asked {
            calls.push(self.find(asked).await);
        }
        calls
            .iter()
            .map(|call| {
                let ruling = call.decide(&self.rules);
                let draft = ruling.draft.expect("each reading is an entry itself");
                let decision = if ruling.answer.is_ok() {
                    Decision::Allow
                } else {
                    Decision::Deny
                };
                assert_eq!(draft.body.decision(), decision);
                match ruling.answer {
                    Ok(AuditReply::Listed { entries, next }) => Ok((
                        entries
                            .iter()
                            .map(|entry| (entry.stored.idx, entry.linkage))
                            .collect(),
                        next,
                    )),
                    Ok(AuditReply::Got(entry)) => {
                        Ok((vec![(entry.stored.idx, entry.linkage)], None))
                    }
                    Err(refusal) => Err(refusal.reason()),
                }
            })
            .collect()
    }
}

fn auditor(agency: &Agency) -> Act {
    act(agency, &[Right::Auditor], 1)
}

/// As the service narrows it: others than auditors to their own agency's.
fn all(agency: Option<&Agency>, limit: u32) -> EntryFilter {
    EntryFilter {
        agency: agency.map(|agency| agency.id),
        limit,
        ..EntryFilter::default()
    }
}

#[tokio::test]
async fn an_agency_sees_its_own_entries_with_what_they_are_about() {
    let mut log = Log::new().await;
    let shelter = &log.exchange.shelter;
    let filter = all(Some(shelter), 10);
    let call = Asked::List {
        act: act(shelter, &[Right::Supervisor], 1),
        filter,
    };
    let shown = vec![
        (0, Linkage::Shown),
        (2, Linkage::Shown),
        (4, Linkage::Shown),
    ];
    assert_eq!(log.seen([call]).await, [Ok((shown, None))]);
}

#[tokio::test]
async fn who_asks_for_another_agencys_entries_is_shown_none_and_no_next_page() {
    let mut log = Log::new().await;
    let (shelter, police) = (&log.exchange.shelter, &log.exchange.police);
    let calls: Vec<_> = [1, 3, 10]
        .into_iter()
        .map(|limit| Asked::List {
            act: act(shelter, &[Right::Supervisor, Right::Auditor], 1),
            filter: all(Some(police), limit),
        })
        .collect();
    for seen in log.seen(calls).await {
        assert_eq!(seen, Ok((Vec::new(), None)));
    }
}

#[tokio::test]
async fn anothers_entry_looks_like_one_that_is_not_there() {
    let mut log = Log::new().await;
    let get = |agency: &Agency, rights: &[Right], idx| Asked::Get {
        act: act(agency, rights, u8::try_from(idx).unwrap()),
        idx,
    };
    let (shelter, oversight) = (&log.exchange.shelter, &log.exchange.oversight);
    let calls = [
        get(shelter, &[Right::Supervisor], 2),
        get(shelter, &[Right::Supervisor], 3),
        get(shelter, &[Right::Auditor], 3),
        get(shelter, &[Right::Supervisor], 99),
        get(oversight, &[Right::Supervisor], 3),
        get(oversight, &[Right::Auditor], 3),
        get(oversight, &[Right::Auditor], 99),
    ];
    let one = |idx, linkage| Ok((vec![(idx, linkage)], None));
    let denied = || Err("ACCESS_DENIED");
    assert_eq!(
        log.seen(calls).await,
        [
            one(2, Linkage::Shown),
            denied(),
            denied(),
            denied(),
            denied(),
            one(3, Linkage::Withheld),
            denied(),
        ]
    );
}

#[tokio::test]
async fn an_auditor_reads_all_page_by_page_without_what_they_are_about() {
    let mut log = Log::new().await;
    let (mut from, mut seen) = (0, Vec::new());
    loop {
        let filter = EntryFilter {
            from,
            ..all(None, 4)
        };
        let call = Asked::List {
            act: auditor(&log.exchange.oversight),
            filter,
        };
        let (entries, next) = log.seen([call]).await.pop().unwrap().unwrap();
        assert!(
            entries
                .iter()
                .all(|(_, linkage)| *linkage == Linkage::Withheld)
        );
        seen.extend(entries.into_iter().map(|(idx, _)| idx));
        match next {
            Some(next) => from = u64::try_from(next).unwrap(),
            None => break,
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn officers_who_ask_in_the_same_words_at_once_see_each_by_their_own_rights() {
    let mut log = Log::new().await;
    let oversight = &log.exchange.oversight;
    let auditor = Asked::List {
        act: auditor(oversight),
        filter: all(None, 10),
    };
    let other = Asked::List {
        act: act(oversight, &[Right::CaseWorker], 1),
        filter: all(Some(oversight), 10),
    };
    let seen = log.seen([auditor, other]).await;
    assert_eq!(seen[0].as_ref().unwrap().0.len(), 6);
    assert!(seen[1].as_ref().unwrap().0.is_empty());
}
