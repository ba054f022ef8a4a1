//! What is wrong with one field of an input.

/// One field that is not as the schema wants it. Says what was expected, never the value found, so that
/// it can be shown, logged and answered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[error("{path}: expected {expected}")]
pub struct Violation {
    /// Where: `subject.cnic`, `journey[1].month`.
    pub path: String,
    /// A phrase that follows "expected": `13 digits`.
    pub expected: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_reads_as_where_and_what_was_expected() {
        let violation = Violation {
            path: "subject.cnic".into(),
            expected: "13 digits".into(),
        };
        assert_eq!(violation.to_string(), "subject.cnic: expected 13 digits");
    }
}
