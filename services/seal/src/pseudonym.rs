//! From a token to what is stored, and from an agency's subject to the pseudonym that only this agency
//! knows. Keys of the gateway.

use std::{fmt, str::FromStr};

use amanat_schema::AgencyId;
use zeroize::Zeroizing;

use crate::{SealError, input::Input, secret::Secret, sha256};

/// Crockford's digits, then the five symbols that only a check can be.
const SYMBOLS: &[u8; 37] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U";
const BASE: u128 = 32;
/// A prime above [`BASE`], none of whose multiples the difference of two digits is: so the check symbol
/// tells any one wrong character, and any two neighbours swapped.
const CHECK: u128 = 37;
/// Of 128 bits.
const DIGITS: usize = 26;

/// The secrets between a token and what is stored of it, the oldest first. A new one is put on top of the
/// others, so nothing has to be asked again. Wiped on drop.
pub struct Peppers {
    first: Secret,
    later: Vec<Secret>,
}

impl Peppers {
    /// # Errors
    /// [`SealError::NoPepper`] if there is none.
    pub fn from_keys(keys: Vec<Zeroizing<[u8; 32]>>) -> Result<Self, SealError> {
        let mut keys = keys.into_iter().map(Secret::from);
        Ok(Self {
            first: keys.next().ok_or(SealError::NoPepper)?,
            later: keys.collect(),
        })
    }

    /// How many there are, and so how many [`Peppers::stored`] and [`Peppers::canary`] apply; at least 1.
    pub fn count(&self) -> usize {
        1 + self.later.len()
    }

    /// What is stored of a token that an agency submitted. Without the peppers it matches nothing, even
    /// with the OPRF key in hand; and it has nothing to do with what is stored of the same token for
    /// another agency, so that whoever takes the database cannot tell whom two agencies both know.
    pub fn stored(&self, agency: AgencyId, token: &[u8; 64]) -> [u8; 32] {
        let input = Input::new("amanat/token/v1").fixed(agency.as_bytes());
        self.under_all(&input.fixed(token))
    }

    /// What is stored of an invented person's token, whichever agency asks for it: the one value that is
    /// the same for all, and so for nobody real.
    pub fn canary(&self, token: &[u8; 64]) -> [u8; 32] {
        self.under_all(&Input::new("amanat/canary/v1").fixed(token))
    }

    fn under_all(&self, input: &Input) -> [u8; 32] {
        self.advance(&self.first.mac(input), 1)
    }

    /// Brings a stored value, to which the first `applied` peppers were applied, at least 1, to all.
    pub fn advance(&self, stored: &[u8; 32], applied: usize) -> [u8; 32] {
        let missing = self.later.iter().skip(applied.saturating_sub(1));
        missing.fold(*stored, |stored, pepper| {
            pepper.mac(&Input::new("amanat/pepper/v1").fixed(&stored))
        })
    }
}

/// Makes the pseudonyms of every agency, each under a key of its own. Wiped on drop.
pub struct PseudonymKey(Secret);

impl PseudonymKey {
    /// # Errors
    /// [`SealError::KeyLength`] unless there are 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        Secret::parse(bytes).map(Self)
    }

    /// Of an agency's subject. Another agency's, even of the same 16 bytes, has nothing to do with it.
    pub fn pseudonym(&self, agency: AgencyId, subject: &[u8; 16]) -> Pseudonym {
        let agency = Input::new("amanat/pseudonym-key/v1").fixed(agency.as_bytes());
        let mac = self
            .0
            .derive(&agency)
            .mac(&Input::new("amanat/pseudonym/v1").fixed(subject));
        Pseudonym(first_half(mac))
    }
}

/// Names officers towards those who oversee them without naming them. Wiped on drop.
pub struct HandleKey(Secret);

impl HandleKey {
    /// From a secret that may have another use: a key of its own is derived of it.
    ///
    /// # Errors
    /// [`SealError::KeyLength`] unless there are 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let label = Input::new("amanat/handle-key/v1");
        Secret::parse(bytes).map(|secret| Self(secret.derive(&label)))
    }

    /// The same for the same officer of the agency, as its tokens name him.
    pub fn handle(&self, agency: AgencyId, officer: &str) -> [u8; 16] {
        let officer = Input::new("amanat/officer-handle/v1")
            .fixed(agency.as_bytes())
            .fixed(&sha256(officer.as_bytes()));
        first_half(self.0.mac(&officer))
    }
}

fn first_half(mac: [u8; 32]) -> [u8; 16] {
    std::array::from_fn(|at| mac.get(at).copied().unwrap_or_default())
}

/// An agency's own name for one of its subjects: 128 bits that say nothing.
///
/// Written as 26 digits of Crockford's base 32 and his check symbol. In lower case, with hyphens, with O
/// for 0 and I or L for 1 it reads just as well. The check symbol tells every single wrong character and
/// every two neighbours swapped; where two or more are wrong, it misses about one case in 37.
/// INVARIANT: in nothing that is signed, forwarded or logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pseudonym([u8; 16]);

/// Not a pseudonym. Never repeats what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PseudonymError {
    #[error("a pseudonym is 26 letters and digits and a check symbol, hyphens aside")]
    Form,
    #[error("the check symbol of the pseudonym does not match: it was written down wrong")]
    Check,
}

impl Pseudonym {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u128::from_be_bytes(self.0);
        let mut rest = number;
        let mut digits = [0; DIGITS];
        for digit in digits.iter_mut().rev() {
            *digit = rest % BASE;
            rest /= BASE;
        }
        digits
            .into_iter()
            .chain([number % CHECK])
            .try_for_each(|value| write!(f, "{}", symbol(value)))
    }
}

/// A pseudonym leads to a survivor's records: shown on purpose only, by `Display`.
impl fmt::Debug for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonym(..)")
    }
}

impl FromStr for Pseudonym {
    type Err = PseudonymError;

    fn from_str(text: &str) -> Result<Self, PseudonymError> {
        let symbols: Vec<_> = text.chars().filter(|c| *c != '-').collect();
        let (check, digits) = symbols.split_last().ok_or(PseudonymError::Form)?;
        if digits.len() != DIGITS {
            return Err(PseudonymError::Form);
        }
        let number = digits
            .iter()
            .try_fold(0_u128, |number, digit| {
                let digit = value(*digit).filter(|value| *value < BASE)?;
                number.checked_mul(BASE)?.checked_add(digit)
            })
            .ok_or(PseudonymError::Form)?;
        if value(*check).ok_or(PseudonymError::Form)? != number % CHECK {
            return Err(PseudonymError::Check);
        }
        Ok(Self(number.to_be_bytes()))
    }
}

/// INVARIANT: a value is under 37.
fn symbol(value: u128) -> char {
    let at = usize::try_from(value).unwrap_or(usize::MAX);
    SYMBOLS.get(at).copied().map_or('?', char::from)
}

fn value(symbol: char) -> Option<u128> {
    let symbol = match symbol.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    (0..)
        .zip(SYMBOLS)
        .find(|(_, known)| char::from(**known) == symbol)
        .map(|(value, _)| value)
}
