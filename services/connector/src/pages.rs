//! Walking a list page by page, without trusting the server to end it.

use crate::ConnectorError;

/// More pages than any honest list of ours has.
const MOST: u32 = 100_000;

/// The largest page that a server gives.
const LARGEST: u32 = 200;

/// How long a page to ask for when so many rows are there; `None` if no more are wanted.
pub(crate) fn size(limit: Option<usize>, rows: usize) -> Option<u32> {
    let left = limit.map_or(usize::MAX, |limit| limit.saturating_sub(rows));
    (left > 0).then(|| u32::try_from(left).map_or(LARGEST, |left| left.min(LARGEST)))
}

/// Where a walk is.
#[derive(Default)]
pub(crate) struct Pages {
    token: String,
    walked: u32,
}

impl Pages {
    /// The token of the page to ask for.
    pub(crate) fn token(&self) -> String {
        self.token.clone()
    }

    /// Moves on; false if this was the last page.
    pub(crate) fn next(
        &mut self,
        server: &'static str,
        token: String,
    ) -> Result<bool, ConnectorError> {
        self.walked += 1;
        if token == self.token && !token.is_empty() || self.walked > MOST {
            return Err(ConnectorError::untrustworthy(
                server,
                "the list does not end",
            ));
        }
        self.token = token;
        Ok(!self.token.is_empty())
    }
}
