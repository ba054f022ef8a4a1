//! Officer tokens: short-lived JWTs (RFC 8725 profile) from an agency's own identity provider, bound to
//! the client certificate they are used with (RFC 8705).

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use amanat_schema::{AgencyId, Time, policy::Right};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};

use crate::{Directory, Officer};

/// The only accepted `typ`; keeps any other JWT of the agency's provider out.
const TYPE: &str = "amanat-officer+jwt";
/// The longest life of a token.
const LONGEST_LIFE_S: u64 = 15 * 60;
/// How far two clocks may be apart.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);
/// Longer ones are refused before they are parsed.
const LONGEST_TOKEN: usize = 4096;
/// The cache is emptied of expired tokens, then wholly, when it holds this many.
const CACHED: usize = 10_000;

/// Which server a token is meant for; a token names both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    Gateway,
    Custodian,
}

impl Audience {
    const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "amanat-gateway",
            Self::Custodian => "amanat-custodian",
        }
    }
}

/// A token that is no good. Callers are not told which rule it broke; operators are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is not a signed officer token")]
    Malformed,
    #[error("the token's type is not {TYPE}")]
    Type,
    #[error("the token's issuer or key is not one that the directory lists for the agency")]
    Issuer,
    #[error("the token's signature does not hold")]
    Signature,
    #[error("the token is not meant for this server")]
    Audience,
    #[error("the token is outside its time, or lives longer than 15 minutes")]
    Time,
    #[error("the token's agency is suspended")]
    Suspended,
    #[error("the token is bound to another certificate")]
    Binding,
    #[error("the token names a right that does not exist")]
    Right,
    #[error("a token could not be signed with the issuer's key")]
    Signing,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    sub: String,
    aud: Vec<String>,
    exp: u64,
    nbf: u64,
    jti: String,
    cnf: Confirmation,
    rights: Vec<String>,
    station: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    /// SHA-256 of the client certificate's DER, base64url.
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

/// A token whose signature and audience hold; its time and binding are for the use at hand to check.
#[derive(Clone)]
struct Verified {
    officer: Arc<Officer>,
    not_before: u64,
    expires: u64,
    certificate: [u8; 32],
}

/// The agency, and the SHA-256 of the token and of the directory.
type Question = (AgencyId, [u8; 32], [u8; 32]);

/// Verifies tokens for one server, and remembers verified ones by hash until they expire.
pub struct TokenVerifier {
    audience: Audience,
    /// Keyed by agency and directory too: the same bytes under another one are another question.
    verified: Mutex<HashMap<Question, Verified>>,
}

impl TokenVerifier {
    pub fn new(audience: Audience) -> Self {
        Self {
            audience,
            verified: Mutex::default(),
        }
    }

    /// How many are remembered.
    pub fn cached(&self) -> usize {
        self.verified
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// A token presented with a request over the connection of `certificate_sha256`.
    ///
    /// # Errors
    /// [`TokenError`], by the first rule that it breaks.
    pub fn verify_presented(
        &self,
        token: &str,
        agency: AgencyId,
        certificate_sha256: &[u8; 32],
        directory: &Directory,
        now: Time,
    ) -> Result<Arc<Officer>, TokenError> {
        let verified = self.verify(token, agency, directory, now)?;
        if verified.certificate != *certificate_sha256 {
            return Err(TokenError::Binding);
        }
        verified.in_time(now)?;
        Ok(verified.officer)
    }

    /// A token carried by a statement: it must have been valid when the statement was signed. The statement's
    /// own signature and the delivering connection take the place of the binding.
    ///
    /// # Errors
    /// [`TokenError`], by the first rule that it breaks.
    pub fn verify_carried(
        &self,
        token: &str,
        agency: AgencyId,
        directory: &Directory,
        signed: Time,
        now: Time,
    ) -> Result<Arc<Officer>, TokenError> {
        let verified = self.verify(token, agency, directory, now)?;
        verified.in_time(signed)?;
        Ok(verified.officer)
    }

    fn verify(
        &self,
        token: &str,
        agency: AgencyId,
        directory: &Directory,
        now: Time,
    ) -> Result<Verified, TokenError> {
        if directory.is_suspended(agency, now) {
            return Err(TokenError::Suspended);
        }
        let sha256 = amanat_seal::sha256(token.as_bytes());
        let key = (agency, sha256, *directory.sha256());
        // A panic elsewhere cannot leave a map of verified tokens half written.
        let cached = self
            .verified
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(verified) = cached {
            return Ok(verified);
        }
        let verified = decode(token, agency, self.audience, directory)?;
        let mut cache = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED {
            cache.retain(|_, token| token.expires > now.seconds());
            if cache.len() >= CACHED {
                cache.clear();
            }
        }
        cache.insert(key, verified.clone());
        Ok(verified)
    }
}

impl Verified {
    fn in_time(&self, at: Time) -> Result<(), TokenError> {
        let skew = CLOCK_SKEW.as_secs();
        let at = at.seconds();
        if at + skew < self.not_before || at >= self.expires {
            return Err(TokenError::Time);
        }
        Ok(())
    }
}

fn decode(
    token: &str,
    agency: AgencyId,
    audience: Audience,
    directory: &Directory,
) -> Result<Verified, TokenError> {
    if token.len() > LONGEST_TOKEN {
        return Err(TokenError::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
    if header.typ.as_deref() != Some(TYPE) || header.crit.is_some() {
        return Err(TokenError::Type);
    }
    let key_id = header.kid.ok_or(TokenError::Issuer)?;
    let issuers = directory.agency(agency).map(|a| a.token_issuers.as_slice());
    let issuer = issuers
        .and_then(|issuers| issuers.iter().find(|issuer| issuer.key_id == key_id))
        .ok_or(TokenError::Issuer)?;
    let key = DecodingKey::from_ed_components(&BASE64_URL_SAFE_NO_PAD.encode(issuer.public_key))
        .map_err(|_| TokenError::Issuer)?;
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    rules.set_audience(&[audience.name()]);
    rules.set_issuer(&[&issuer.issuer]);
    // The library reads the wall clock; times are checked against ours instead.
    rules.validate_exp = false;
    rules.validate_nbf = false;
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &rules)
        .map_err(refused)?
        .claims;
    if claims.exp <= claims.nbf || claims.exp - claims.nbf > LONGEST_LIFE_S {
        return Err(TokenError::Time);
    }
    let certificate = BASE64_URL_SAFE_NO_PAD
        .decode(&claims.cnf.certificate)
        .ok()
        .and_then(|hash| hash.try_into().ok())
        .ok_or(TokenError::Binding)?;
    let rights = claims
        .rights
        .iter()
        .map(|name| {
            Right::from_str_name(&format!("RIGHT_{name}"))
                .filter(|right| *right != Right::Unspecified)
                .ok_or(TokenError::Right)
        })
        .collect::<Result<BTreeSet<_>, _>>()?;
    if claims.sub.is_empty() || claims.jti.is_empty() {
        return Err(TokenError::Malformed);
    }
    let officer = Officer {
        id: claims.sub,
        rights,
        station: claims.station,
    };
    Ok(Verified {
        officer: Arc::new(officer),
        not_before: claims.nbf,
        expires: claims.exp,
        certificate,
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add kinds; whatever is not told apart is malformed"
)]
fn refused(error: jsonwebtoken::errors::Error) -> TokenError {
    match error.kind() {
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenError::Signature,
        _ => TokenError::Malformed,
    }
}

/// The development issuer: what an agency's identity provider does in production.
pub struct TokenIssuer {
    issuer: String,
    key_id: String,
    key: EncodingKey,
}

impl TokenIssuer {
    /// From an Ed25519 key in PKCS#8 DER.
    pub fn new(issuer: String, key_id: String, pkcs8: &[u8]) -> Self {
        Self {
            issuer,
            key_id,
            key: EncodingKey::from_ed_der(pkcs8),
        }
    }

    /// A token for 15 minutes from `now`, bound to a client certificate.
    ///
    /// # Errors
    /// [`TokenError::Signing`] if the key is not usable.
    pub fn issue(
        &self,
        officer: &Officer,
        certificate_sha256: &[u8; 32],
        token_id: &[u8; 16],
        now: Time,
    ) -> Result<String, TokenError> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(self.key_id.clone());
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: officer.id.clone(),
            aud: vec![
                Audience::Gateway.name().to_owned(),
                Audience::Custodian.name().to_owned(),
            ],
            exp: now.seconds() + LONGEST_LIFE_S,
            nbf: now.seconds(),
            jti: hex::encode(token_id),
            cnf: Confirmation {
                certificate: BASE64_URL_SAFE_NO_PAD.encode(certificate_sha256),
            },
            rights: officer
                .rights
                .iter()
                .map(|right| right.as_str_name().trim_start_matches("RIGHT_").to_owned())
                .collect(),
            station: officer.station.clone(),
        };
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| TokenError::Signing)
    }
}
