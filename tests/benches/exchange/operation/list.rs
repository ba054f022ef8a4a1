//! What a case worker looks at first: a page of the referrals that came, or of the record versions that they open,
//! with its durable entry. The first page as well as pages far from it.

use std::{
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use amanat_schema::{
    record::{ListVersionsRequest, ListVersionsResponse},
    referral::{Direction, ListReferralsRequest, ListReferralsResponse},
};
use amanat_tests::raw;
use bytes::Bytes;
use prost::Message;
use tonic::codegen::http::uri::PathAndQuery;

use crate::{
    empty::Payload,
    load::{Failure, Operation},
    operation::{Verb, scattered},
    stage::{Agency, Stage, of},
};

/// What is asked for if nobody says otherwise.
const PAGE: u32 = 50;
/// The most that may be asked for: how the pages are found before.
const LARGEST_PAGE: u32 = 200;
/// How many of those are walked for it.
const MOST_PAGES: usize = 250;

/// One of the lists.
pub(crate) trait Listed: Send + Sync + 'static {
    const NAME: &'static str;
    const METHOD: &'static str;
    type Request: Message;
    type Answer: Message + Default;

    fn request(page_size: u32, page_token: String) -> Self::Request;

    fn next(answer: Self::Answer) -> String;
}

/// Referrals that the reader received.
pub(crate) struct Referrals;

impl Listed for Referrals {
    const NAME: &'static str = "list referrals";
    const METHOD: &'static str = "/amanat.referral.v1.ReferralService/ListReferrals";
    type Request = ListReferralsRequest;
    type Answer = ListReferralsResponse;

    fn request(page_size: u32, page_token: String) -> ListReferralsRequest {
        ListReferralsRequest {
            direction: Direction::Received.into(),
            page_size,
            page_token,
            ..ListReferralsRequest::default()
        }
    }

    fn next(answer: ListReferralsResponse) -> String {
        answer.next_page_token
    }
}

/// Record versions that accepted referrals let the reader know of.
pub(crate) struct Versions;

impl Listed for Versions {
    const NAME: &'static str = "list versions";
    const METHOD: &'static str = "/amanat.record.v1.RecordService/ListVersions";
    type Request = ListVersionsRequest;
    type Answer = ListVersionsResponse;

    fn request(page_size: u32, page_token: String) -> ListVersionsRequest {
        ListVersionsRequest {
            page_size,
            page_token,
            ..ListVersionsRequest::default()
        }
    }

    fn next(answer: ListVersionsResponse) -> String {
        answer.next_page_token
    }
}

pub(crate) struct List<L> {
    reader: Arc<Agency>,
    /// Requests for pages that begin here and there.
    pages: Vec<Bytes>,
    next: AtomicUsize,
    listed: PhantomData<L>,
}

impl<L: Listed> List<L> {
    /// Walks the list.
    async fn find_pages(&mut self) {
        let mut token = String::new();
        loop {
            let page = L::request(PAGE, token.clone()).encode_to_vec();
            let answer = self.ask(0, L::request(LARGEST_PAGE, token).encode_to_vec().into());
            token = L::next(L::Answer::decode(answer.await.unwrap()).unwrap());
            // The last one may be short.
            if self.pages.is_empty() || !token.is_empty() {
                self.pages.push(page.into());
            }
            if token.is_empty() || self.pages.len() == MOST_PAGES {
                return;
            }
        }
    }

    async fn ask(&self, worker: usize, request: Bytes) -> Result<Bytes, Failure> {
        let channel = of(&self.reader.gateway, worker);
        let path = PathAndQuery::from_static(L::METHOD);
        Ok(raw::unary(channel, path, self.reader.asked(request)).await?)
    }
}

impl<L: Listed> Verb for List<L> {
    const NAME: &'static str = L::NAME;

    async fn on(stage: Arc<Stage>) -> Self {
        let mut list = Self {
            reader: Arc::clone(&stage.reader),
            pages: Vec::new(),
            next: AtomicUsize::new(0),
            listed: PhantomData,
        };
        list.find_pages().await;
        list
    }

    async fn payloads(self: &Arc<Self>) -> Vec<Payload> {
        let request = self.pages[0].clone();
        vec![Payload {
            request: request.len(),
            answer: self.ask(0, request).await.unwrap().len(),
        }]
    }
}

impl<L: Listed> Operation for List<L> {
    type Request = Bytes;

    async fn prepare(self: &Arc<Self>, count: usize) -> Vec<Bytes> {
        let from = self.next.fetch_add(count, Ordering::Relaxed);
        let page = |number| self.pages[scattered(number, self.pages.len())].clone();
        (from..from + count).map(page).collect()
    }

    async fn call(&self, worker: usize, request: Bytes) -> Result<(), Failure> {
        let answer = self.ask(worker, request).await?;
        // Each row has two ids at least.
        let least = usize::try_from(PAGE).unwrap() * 32;
        assert!(answer.len() > least, "not a whole page");
        Ok(())
    }
}
