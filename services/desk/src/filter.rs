//! The filters of a list request: absent means any, and what cannot be understood is refused, never taken
//! for "any".

use amanat_schema::{IdError, Time, Violation};
use prost_types::Timestamp;

use crate::Page;

/// Reads one list request and collects all that is wrong with it.
#[derive(Debug, Default)]
pub struct Filters {
    violations: Vec<Violation>,
}

impl Filters {
    /// An id, as in `Filters::id(.., CaseId::parse)`; empty means any.
    pub fn id<T>(
        &mut self,
        path: &str,
        bytes: &[u8],
        parse: impl FnOnce(&[u8]) -> Result<T, IdError>,
    ) -> Option<T> {
        if bytes.is_empty() {
            return None;
        }
        let id = parse(bytes).ok();
        self.that(id.is_some(), path, "16 bytes, or nothing");
        id
    }

    /// An enum's number; 0 means any.
    pub fn code<T: TryFrom<i32>>(&mut self, path: &str, number: i32) -> Option<T> {
        if number == 0 {
            return None;
        }
        let code = T::try_from(number).ok();
        self.that(code.is_some(), path, "a code of the schema, or nothing");
        code
    }

    /// A time; absent means any.
    pub fn time(&mut self, path: &str, time: Option<&Timestamp>) -> Option<Time> {
        time?;
        let time = Time::parse(time).ok();
        let expected = "a time between 1970 and 9999 in whole milliseconds, or nothing";
        self.that(time.is_some(), path, expected);
        time
    }

    pub fn that(&mut self, holds: bool, path: &str, expected: &str) {
        if !holds {
            self.violations.push(Violation {
                path: path.to_owned(),
                expected: expected.to_owned(),
            });
        }
    }

    /// What `list` makes of the page, if nothing was found wrong.
    ///
    /// # Errors
    /// Every [`Violation`] of the request.
    pub fn finish<T>(
        mut self,
        page: Result<Page, Violation>,
        list: impl FnOnce(Page) -> T,
    ) -> Result<T, Vec<Violation>> {
        match page {
            Ok(page) if self.violations.is_empty() => Ok(list(page)),
            page => {
                self.violations.extend(page.err());
                Err(self.violations)
            }
        }
    }
}
