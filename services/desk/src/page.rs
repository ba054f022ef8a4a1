//! Pages of a list: capped, with a token that says where the last page ended.

use amanat_schema::{
    AgencyId, Violation,
    audit::ListEntriesRequest,
    consent::ListConsentsRequest,
    record::ListVersionsRequest,
    referral::ListReferralsRequest,
    subject::{ListCanaryHitsRequest, ListMergesRequest, ListUnusedEvaluationsRequest},
};
use amanat_seal::WrapKey;
use amanat_server::Refusal;
use prost::{Message, Name};

const LARGEST: u32 = 200;
const USUAL: u32 = 50;
const LABEL: &str = "amanat/page/v1";

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    pub size: u32,
    /// Rows after this sequence number.
    pub after: i64,
}

impl Page {
    /// # Errors
    /// The [`Violation`] of a size over 200.
    pub fn new(size: u32, after: i64) -> Result<Self, Violation> {
        match size {
            0 => Ok(Self { size: USUAL, after }),
            1..=LARGEST => Ok(Self { size, after }),
            _ => Err(violation("page_size", "at most 200")),
        }
    }

    /// Where the next page begins, if this one was full.
    pub fn next(self, rows: usize, last: Option<i64>) -> Option<i64> {
        last.filter(|_| rows >= usize::try_from(self.size).unwrap_or(usize::MAX))
    }
}

/// A request for a page of a list.
pub trait Paged: Message + Name + Clone {
    /// The same list without a word about pages.
    fn whole(&self) -> Self;
}

macro_rules! paged {
    ($($request:ty),+ $(,)?) => {$(
        impl Paged for $request {
            fn whole(&self) -> Self {
                let mut whole = self.clone();
                whole.page_size = 0;
                whole.page_token.clear();
                whole
            }
        }
    )+};
}

paged!(
    ListEntriesRequest,
    ListConsentsRequest,
    ListVersionsRequest,
    ListReferralsRequest,
    ListMergesRequest,
    ListCanaryHitsRequest,
    ListUnusedEvaluationsRequest,
);

/// The page tokens of one list, with its filters, as one agency reads it. Sequence numbers count what all
/// agencies do, so they travel sealed, and a token is good for nobody and nothing else. It gives no right:
/// every page is authorised and looked up as if it were the first.
pub struct Pages<'a> {
    key: &'a WrapKey,
    agency: AgencyId,
    /// Of the request's name and filters.
    list_sha256: [u8; 32],
}

impl<'a> Pages<'a> {
    pub fn new(key: &'a WrapKey, agency: AgencyId, request: &impl Paged) -> Self {
        Self {
            key,
            agency,
            list_sha256: amanat_identity::request_sha256(&request.whole()),
        }
    }

    /// From a list request.
    ///
    /// # Errors
    /// The [`Violation`] of a size over 200 or of a token that this list did not give this agency.
    pub fn parse(&self, size: u32, token: &str) -> Result<Page, Violation> {
        let after = match token {
            "" => Some(0),
            token => self.open(token),
        };
        let expected = "the next_page_token of the page before, with the same filters";
        Page::new(
            size,
            after.ok_or_else(|| violation("page_token", expected))?,
        )
    }

    /// The token of the next page; empty if there is none.
    ///
    /// # Errors
    /// AUDIT_UNAVAILABLE if the system gives no random bytes.
    pub fn token(&self, next: Option<i64>) -> Result<String, Refusal> {
        let Some(next) = next else {
            return Ok(String::new());
        };
        self.key
            .wrap(LABEL, &self.context(), &next.to_be_bytes())
            .map(hex::encode)
            .map_err(|_| Refusal::audit_unavailable())
    }

    fn open(&self, token: &str) -> Option<i64> {
        let wrapped = hex::decode(token).ok()?;
        let after = self.key.unwrap(LABEL, &self.context(), &wrapped).ok()?;
        Some(i64::from_be_bytes(after.as_slice().try_into().ok()?))
    }

    fn context(&self) -> [&[u8]; 2] {
        [self.agency.as_bytes(), &self.list_sha256]
    }
}

fn violation(path: &str, expected: &str) -> Violation {
    Violation {
        path: path.to_owned(),
        expected: expected.to_owned(),
    }
}
