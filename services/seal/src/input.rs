//! The one encoding of what is hashed, derived from or authenticated.

use amanat_schema::catalogue::FieldId;
use zeroize::Zeroizing;

/// A domain label, then parts that carry their length: no two lists of parts share an encoding. Wiped on
/// drop; what growing left behind of the parts before is not, so a secret part comes last.
pub(crate) struct Input(Zeroizing<Vec<u8>>);

impl Input {
    /// INVARIANT: no label is the beginning of another; lib.rs lists them.
    pub(crate) fn new(label: &'static str) -> Self {
        Self(Zeroizing::new(label.as_bytes().to_vec()))
    }

    /// What another document's test vectors feed in.
    #[cfg(test)]
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// An id, a hash, a salt.
    pub(crate) fn fixed<const N: usize>(self, part: &[u8; N]) -> Self {
        const { assert!(N <= u16::MAX as usize) };
        self.prefixed(part)
    }

    pub(crate) fn path(self, field: FieldId) -> Self {
        // The catalogue's paths are two short names.
        self.prefixed(field.field().path.as_bytes())
    }

    /// `None` if the part is longer than 65,535 bytes.
    pub(crate) fn part(self, part: &[u8]) -> Option<Self> {
        u16::try_from(part.len())
            .is_ok()
            .then(|| self.prefixed(part))
    }

    pub(crate) fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// INVARIANT: `part` is at most 65,535 bytes, so its length is the last two bytes.
    fn prefixed(mut self, part: &[u8]) -> Self {
        let [.., high, low] = part.len().to_be_bytes();
        self.0.extend([high, low]);
        self.0.extend(part);
        self
    }
}

impl AsRef<[u8]> for Input {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_run_into_each_other() {
        let split = |a: &[u8], b: &[u8]| Input::new("l").part(a).unwrap().part(b).unwrap().0;
        assert_eq!(split(b"a", b"bc").as_slice(), b"l\0\x01a\0\x02bc");
        assert_ne!(split(b"a", b"bc"), split(b"ab", b"c"));
    }

    #[test]
    fn a_part_longer_than_its_length_can_say_is_refused() {
        assert!(Input::new("l").part(&[0; 65_535]).is_some());
        assert!(Input::new("l").part(&[0; 65_536]).is_none());
    }
}
