//! Ids: 16 random bytes each, one type a thing, so that a case id can never stand where a record id
//! belongs. Written as 32 lower-case hexadecimal digits; they say nothing about what they name.

use std::{fmt, str::FromStr};

/// Not 16 bytes, or not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 16 bytes, written as 32 lower-case hexadecimal digits")]
pub struct IdError;

macro_rules! ids {
    ($($(#[doc = $doc:literal])* $name:ident),+ $(,)?) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From 16 bytes, random ones where the id is new.
            pub const fn new(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// From the wire.
            ///
            /// # Errors
            /// [`IdError`] unless there are exactly 16 bytes.
            pub fn parse(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError)
            }

            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            pub fn to_vec(self) -> Vec<u8> {
                self.0.to_vec()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                decode(text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

ids! {
    /// An agency of the directory.
    AgencyId,
    /// One start of a server process.
    BootId,
    /// One survivor's case.
    CaseId,
    ConsentId,
    /// One log entry.
    EntryId,
    /// One agency's record in a case; it has versions.
    RecordId,
    ReferralId,
    /// A caller's name for one mutation, so that a repeat is answered and not done twice.
    RequestId,
    StatementId,
}

fn decode(text: &str) -> Result<[u8; 16], IdError> {
    let mut bytes = [0; 16];
    let mut digits = text.bytes();
    for byte in &mut bytes {
        let high = digits.next().and_then(nibble).ok_or(IdError)?;
        let low = digits.next().and_then(nibble).ok_or(IdError)?;
        *byte = high << 4 | low;
    }
    match digits.next() {
        None => Ok(bytes),
        Some(_) => Err(IdError),
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        let id = CaseId::new(std::array::from_fn(|i| u8::try_from(i * 16).unwrap()));
        assert_eq!(id.to_string(), "00102030405060708090a0b0c0d0e0f0");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "00",
            "00102030405060708090A0B0C0D0E0F0",
            "00102030405060708090a0b0c0d0e0f0a",
        ] {
            assert_eq!(text.parse::<CaseId>(), Err(IdError), "{text}");
        }
        assert_eq!(CaseId::parse(&[0; 15]), Err(IdError));
    }
}
