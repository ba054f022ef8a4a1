//! Salted commitments: what is personal stands behind one in an entry's body, and is shown by giving
//! salt and value to who may see it.

use amanat_schema::audit::Opening;

use crate::{LedgerError, Salt, hash::sha256_of};

/// Commits to an encoded linkage.
///
/// # Errors
/// [`LedgerError::ValueTooLong`] over 65535 bytes.
pub fn linkage(salt: &Salt, value: &[u8]) -> Result<[u8; 32], LedgerError> {
    commit(b"amanat/linkage/v1", salt, value)
}

/// Commits to the id of the officer who acted.
///
/// # Errors
/// [`LedgerError::ValueTooLong`] over 65535 bytes.
pub fn officer(salt: &Salt, value: &[u8]) -> Result<[u8; 32], LedgerError> {
    commit(b"amanat/officer/v1", salt, value)
}

/// Commits to the true reasons of what was withheld or refused.
///
/// # Errors
/// [`LedgerError::ValueTooLong`] over 65535 bytes.
pub fn reasons(salt: &Salt, value: &[u8]) -> Result<[u8; 32], LedgerError> {
    commit(b"amanat/reasons/v1", salt, value)
}

/// Whether the opening is that of the commitment, as in `opens(officer, &opening, &commitment)`.
pub fn opens(
    commit: fn(&Salt, &[u8]) -> Result<[u8; 32], LedgerError>,
    opening: &Opening,
    commitment: &[u8],
) -> bool {
    let Ok(salt) = <&Salt>::try_from(opening.salt.as_slice()) else {
        return false;
    };
    commit(salt, &opening.value).is_ok_and(|committed| committed == commitment)
}

/// SHA-256(domain ‖ lp(salt) ‖ lp(value)), lp(x) being u16 length ‖ x.
fn commit(domain: &[u8], salt: &Salt, value: &[u8]) -> Result<[u8; 32], LedgerError> {
    const SALT_LENGTH: [u8; 2] = 32_u16.to_be_bytes();
    let length = u16::try_from(value.len()).map_err(|_| LedgerError::ValueTooLong)?;
    Ok(sha256_of(&[
        domain,
        &SALT_LENGTH,
        salt,
        &length.to_be_bytes(),
        value,
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(salt: &[u8], value: &[u8]) -> Opening {
        Opening {
            salt: salt.to_vec(),
            value: value.to_vec(),
        }
    }

    #[test]
    fn only_the_salt_and_value_that_were_committed_open() {
        let salt = [7; 32];
        let commitment = officer(&salt, b"officer 7").unwrap();
        assert!(opens(officer, &opening(&salt, b"officer 7"), &commitment));
        assert!(!opens(officer, &opening(&salt, b"officer 8"), &commitment));
        assert!(!opens(
            officer,
            &opening(&[0; 32], b"officer 7"),
            &commitment
        ));
        assert!(!opens(
            officer,
            &opening(&salt[..31], b"officer 7"),
            &commitment
        ));
        assert!(!opens(
            officer,
            &opening(&salt, b"officer 7"),
            &commitment[..31]
        ));
        assert!(!opens(officer, &opening(&salt, b"officer 7"), &[]));
    }

    #[test]
    fn a_commitment_to_one_thing_is_not_one_to_another() {
        let of = [linkage, officer, reasons].map(|commit| commit(&[7; 32], b"same").unwrap());
        assert!(of[0] != of[1] && of[1] != of[2] && of[0] != of[2]);
    }

    #[test]
    fn the_bytes_under_the_hash_are_fixed_for_ever() {
        let under = [
            b"amanat/reasons/v1".as_slice(),
            &[0, 32],
            &[9; 32],
            &[0, 3],
            b"why",
        ]
        .concat();
        assert_eq!(reasons(&[9; 32], b"why"), Ok(crate::sha256(&under)));
    }

    #[test]
    fn a_value_whose_length_does_not_fit_is_refused() {
        assert!(linkage(&[0; 32], &[0; 65_535]).is_ok());
        assert_eq!(
            linkage(&[0; 32], &[0; 65_536]),
            Err(LedgerError::ValueTooLong)
        );
        assert!(!opens(linkage, &opening(&[0; 32], &[0; 65_536]), &[0; 32]));
    }
}
