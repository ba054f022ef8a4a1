//! Pages of a list: capped, with an opaque token that says only where the last page ended.

use amanat_schema::Violation;

const LARGEST: u32 = 200;
const USUAL: u32 = 50;

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    pub size: u32,
    /// Rows after this sequence number.
    pub after: i64,
}

impl Page {
    /// From a list request.
    ///
    /// # Errors
    /// The [`Violation`] of a size over 200 or a token that no list of ours gave.
    pub fn parse(size: u32, token: &str) -> Result<Self, Violation> {
        let violation = |path: &str, expected: &str| Violation {
            path: path.into(),
            expected: expected.into(),
        };
        if size > LARGEST {
            return Err(violation("page_size", "at most 200"));
        }
        let after = match token {
            "" => 0,
            token => i64::from_str_radix(token, 16)
                .ok()
                .filter(|after| *after > 0 && format!("{after:x}") == token)
                .ok_or_else(|| violation("page_token", "the next_page_token of the page before"))?,
        };
        Ok(Self {
            size: if size == 0 { USUAL } else { size },
            after,
        })
    }

    /// The token of the next page, if this one was full.
    pub fn next(self, rows: usize, last: Option<i64>) -> String {
        match last {
            Some(last) if rows >= usize::try_from(self.size).unwrap_or(usize::MAX) => {
                format!("{last:x}")
            }
            _ => String::new(),
        }
    }
}
