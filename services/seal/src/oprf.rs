//! The verifiable oblivious pseudorandom function: RFC 9497, mode VOPRF, suite ristretto255-SHA512.
//!
//! The asking side blinds its inputs ([`Blinding`]), the holder of the key evaluates what it cannot read
//! ([`OprfKey`]), and the asking side checks the proof against the key's published half before it unblinds
//! a [`Token`]. Who holds the key can try out identifiers as fast as it can compute, so a token is only as
//! secret as the key.
//!
//! INVARIANT: nothing here has Debug, and no type of the `voprf` crate leaves: its Debug prints secrets.

use amanat_schema::{
    identifier::{CANON_VERSION, Identifier},
    subject::{IdentifierDomain, SubjectIdentifierType},
};
use rand_core::{CryptoRng, OsRng, RngCore};
use voprf::{
    BlindedElement, EvaluationElement, Group, Proof, Ristretto255, VoprfClient, VoprfServer,
};
use zeroize::{Zeroize as _, Zeroizing};

use crate::input::Input;

/// The most elements of one batch, and so under one proof.
pub const MAX_BATCH: usize = 100;

const ELEMENT_LEN: usize = 32;
const PROOF_LEN: usize = 64;

/// What RFC 9497 calls the key's info: the same seed makes another key elsewhere.
const KEY_INFO: &[u8] = b"amanat/oprf-key/v1";

/// Why nothing was blinded, evaluated or unblinded. Never holds a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OprfError {
    #[error("the seed of an OPRF key is 32 bytes")]
    Seed,
    /// A composite identifier in the domain of another, or the other way round; or no domain.
    #[error("the identifier does not belong to this domain")]
    Domain,
    #[error("an input is at most 65,535 bytes")]
    Input,
    #[error("a batch is 1 to 100 elements")]
    Batch,
    /// Not 32 bytes, not the canonical encoding of a group element, or the identity.
    #[error("element {at} of the batch is none of the group")]
    Element {
        /// From 0.
        at: usize,
    },
    #[error("the answer has another number of elements than the question")]
    Count,
    #[error("the public key is no element of the group")]
    PublicKey,
    /// Missing, malformed, or of another key, batch or order.
    #[error("the proof does not show that the public key's owner evaluated this batch")]
    Proof,
}

/// The secret half: evaluates without seeing. Wiped on drop.
pub struct OprfKey(VoprfServer<Ristretto255>);

/// The answer to a batch, in its order.
pub struct Evaluated {
    pub elements: Vec<[u8; ELEMENT_LEN]>,
    /// One for the whole batch.
    pub proof: [u8; PROOF_LEN],
}

impl OprfKey {
    /// The key that this seed makes, the same for ever.
    ///
    /// # Errors
    /// [`OprfError::Seed`] unless there are 32 bytes.
    pub fn from_seed(seed: &[u8]) -> Result<Self, OprfError> {
        if seed.len() != 32 {
            return Err(OprfError::Seed);
        }
        Self::derive(seed, KEY_INFO)
    }

    fn derive(seed: &[u8], info: &[u8]) -> Result<Self, OprfError> {
        VoprfServer::new_from_seed(seed, info)
            .map(Self)
            .map_err(|_| OprfError::Seed)
    }

    /// For the directory.
    pub fn public_key(&self) -> [u8; ELEMENT_LEN] {
        bytes(&Ristretto255::serialize_elem(self.0.get_public_key()))
    }

    /// Evaluates blinded elements, and proves that this key did.
    ///
    /// # Errors
    /// [`OprfError::Batch`] and [`OprfError::Element`].
    pub fn evaluate(&self, blinded: &[Vec<u8>]) -> Result<Evaluated, OprfError> {
        self.evaluate_with(&mut OsRng, blinded)
    }

    fn evaluate_with(
        &self,
        random: &mut (impl RngCore + CryptoRng),
        blinded: &[Vec<u8>],
    ) -> Result<Evaluated, OprfError> {
        check_size(blinded.len())?;
        let blinded = elements(blinded, BlindedElement::deserialize)?;
        let answer = self
            .0
            .batch_blind_evaluate(random, &blinded)
            .map_err(|_| OprfError::Batch)?;
        Ok(Evaluated {
            elements: answer
                .messages
                .iter()
                .map(|element| bytes(&element.serialize()))
                .collect(),
            proof: bytes(&answer.proof.serialize()),
        })
    }
}

/// One identifier in one domain, as it goes into the function. Wiped on drop.
pub struct OprfInput(Input);

impl OprfInput {
    /// The same identifier of a victim and of a suspect are two inputs.
    ///
    /// # Errors
    /// [`OprfError::Domain`] unless a composite identifier, and no other, is for COMPOSITE;
    /// [`OprfError::Input`].
    pub fn new(domain: IdentifierDomain, identifier: &Identifier) -> Result<Self, OprfError> {
        // The label names the version of the spelling too: another spelling is another function.
        const { assert!(CANON_VERSION == 1) };
        let (domain, is_composite) = match domain {
            IdentifierDomain::Victim => ("victim", false),
            IdentifierDomain::Suspect => ("suspect", false),
            IdentifierDomain::Composite => ("composite", true),
            IdentifierDomain::Unspecified => return Err(OprfError::Domain),
        };
        if is_composite != (identifier.kind() == SubjectIdentifierType::Composite) {
            return Err(OprfError::Domain);
        }
        let parts = [domain, type_name(identifier.kind()), identifier.canonical()];
        parts
            .iter()
            .try_fold(Input::new("amanat/oprf/v1"), |input, part| {
                input.part(part.as_bytes())
            })
            .map(Self)
            .ok_or(OprfError::Input)
    }
}

/// INVARIANT: these are hashed; none may ever change.
fn type_name(kind: SubjectIdentifierType) -> &'static str {
    match kind {
        SubjectIdentifierType::Unspecified => "",
        // A child's B-form number becomes her CNIC number: she stays one person when she turns 18.
        SubjectIdentifierType::Cnic | SubjectIdentifierType::BForm => "cnic",
        SubjectIdentifierType::Passport => "passport",
        SubjectIdentifierType::AfghanPor => "afghan_por",
        SubjectIdentifierType::AfghanAcc => "afghan_acc",
        SubjectIdentifierType::Phone => "phone",
        SubjectIdentifierType::Composite => "composite",
    }
}

/// A batch under way: the inputs and what hides them. Good for one answer, so that a retry blinds afresh.
/// Wiped on drop.
pub struct Blinding {
    inputs: Vec<OprfInput>,
    clients: Vec<VoprfClient<Ristretto255>>,
    elements: Vec<[u8; ELEMENT_LEN]>,
}

impl Blinding {
    /// # Errors
    /// [`OprfError::Batch`] and [`OprfError::Input`].
    pub fn new(inputs: Vec<OprfInput>) -> Result<Self, OprfError> {
        Self::new_with(&mut OsRng, inputs)
    }

    fn new_with(
        random: &mut (impl RngCore + CryptoRng),
        inputs: Vec<OprfInput>,
    ) -> Result<Self, OprfError> {
        check_size(inputs.len())?;
        let mut clients = Vec::with_capacity(inputs.len());
        let mut elements = Vec::with_capacity(inputs.len());
        for OprfInput(input) in &inputs {
            let blinded =
                VoprfClient::blind(input.as_ref(), random).map_err(|_| OprfError::Input)?;
            elements.push(bytes(&blinded.message.serialize()));
            clients.push(blinded.state);
        }
        Ok(Self {
            inputs,
            clients,
            elements,
        })
    }

    /// To be evaluated; they tell nothing about the inputs.
    pub fn elements(&self) -> Vec<[u8; ELEMENT_LEN]> {
        self.elements.clone()
    }

    /// The token of each input, in their order, if the key with this public half evaluated them all.
    ///
    /// # Errors
    /// [`OprfError`]: of the answer, or the public key. Then none of the answer is worth anything.
    pub fn finalize(
        self,
        evaluated: &[Vec<u8>],
        proof: &[u8],
        public_key: &[u8; ELEMENT_LEN],
    ) -> Result<Vec<Token>, OprfError> {
        if evaluated.len() != self.inputs.len() {
            return Err(OprfError::Count);
        }
        let evaluated = elements(evaluated, EvaluationElement::deserialize)?;
        if proof.len() != PROOF_LEN {
            return Err(OprfError::Proof);
        }
        let proof = Proof::deserialize(proof).map_err(|_| OprfError::Proof)?;
        let public_key =
            Ristretto255::deserialize_elem(public_key).map_err(|_| OprfError::PublicKey)?;
        let inputs: Vec<&[u8]> = self.inputs.iter().map(|input| input.0.as_ref()).collect();
        VoprfClient::batch_finalize(&inputs, &self.clients, &evaluated, &proof, public_key)
            .map_err(|_| OprfError::Proof)?
            .map(|output| {
                let mut output = output.map_err(|_| OprfError::Input)?;
                let token = Token(Zeroizing::new(bytes(&output)));
                output.as_mut_slice().zeroize();
                Ok(token)
            })
            .collect()
    }
}

/// What the function makes of an identifier: the same for everybody, and for nobody without the key. As
/// good as the identifier to who holds the key, so it is never stored. Wiped on drop.
pub struct Token(Zeroizing<[u8; 64]>);

impl Token {
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

/// Whether a batch may hold these bytes: a canonical element of the group, and not the identity.
pub fn is_element(bytes: &[u8]) -> bool {
    bytes.len() == ELEMENT_LEN && BlindedElement::<Ristretto255>::deserialize(bytes).is_ok()
}

fn check_size(len: usize) -> Result<(), OprfError> {
    if (1..=MAX_BATCH).contains(&len) {
        Ok(())
    } else {
        Err(OprfError::Batch)
    }
}

/// Checks the lengths too: the crate reads the beginning of what is longer.
fn elements<T>(
    batch: &[Vec<u8>],
    read: fn(&[u8]) -> voprf::Result<T>,
) -> Result<Vec<T>, OprfError> {
    let element = |(at, bytes): (usize, &Vec<u8>)| {
        if bytes.len() != ELEMENT_LEN {
            return Err(OprfError::Element { at });
        }
        read(bytes).map_err(|_| OprfError::Element { at })
    };
    batch.iter().enumerate().map(element).collect()
}

/// INVARIANT: `from` is as long as what is asked for; the suite fixes both.
fn bytes<const N: usize>(from: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(from);
    bytes
}

#[cfg(test)]
mod vectors;
