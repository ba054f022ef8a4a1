//! RFC 9497, appendix A.1.2: ristretto255-SHA512, mode VOPRF. Here and not with the other claims, because
//! the inputs, the blinds and the proof's random scalar of the vectors stand in no identifier.

use rand_core::{CryptoRng, RngCore};

use super::{Blinding, Evaluated, OprfInput, OprfKey};
use crate::input::Input;

const KEY_INFO: &[u8] = b"test key";
const PUBLIC_KEY: &str = "c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e";

const BLIND_1: &str = "64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706";
const BLIND_2: &str = "222a5e897cf59db8145db8d16e597e8facb80ae7d4e26d9881aa6f61d645fc0e";
const OUTPUT_1: &str = "b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7d\
    a4d8527693914139caee5bd03903af43a491351d23b430948dd50cde10d32b3c";
const OUTPUT_2: &str = "8a9a2f3c7f085b65933594309041fc1898d42d0858e59f90814ae90571a6df60\
    356f4610bf816f27afdd84f47719e480906d27ecd994985890e5f539e7ea74b6";

struct Vector {
    inputs: &'static [&'static str],
    blinds: &'static [&'static str],
    blinded: &'static [&'static str],
    evaluated: &'static [&'static str],
    proof: &'static str,
    proof_random_scalar: &'static str,
    outputs: &'static [&'static str],
}

const VECTORS: [Vector; 3] = [
    Vector {
        inputs: &["00"],
        blinds: &[BLIND_1],
        blinded: &["863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945"],
        evaluated: &["aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e"],
        proof: "ddef93772692e535d1a53903db24367355cc2cc78de93b3be5a8ffcc6985dd06\
            6d4346421d17bf5117a2a1ff0fcb2a759f58a539dfbe857a40bce4cf49ec600d",
        proof_random_scalar: BLIND_2,
        outputs: &[OUTPUT_1],
    },
    Vector {
        inputs: &["5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"],
        blinds: &[BLIND_1],
        blinded: &["cc0b2a350101881d8a4cba4c80241d74fb7dcbfde4a61fde2f91443c2bf9ef0c"],
        evaluated: &["60a59a57208d48aca71e9e850d22674b611f752bed48b36f7a91b372bd7ad468"],
        proof: "401a0da6264f8cf45bb2f5264bc31e109155600babb3cd4e5af7d181a2c9dc0a\
            67154fabf031fd936051dec80b0b6ae29c9503493dde7393b722eafdf5a50b02",
        proof_random_scalar: BLIND_2,
        outputs: &[OUTPUT_2],
    },
    Vector {
        inputs: &["00", "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"],
        blinds: &[BLIND_1, BLIND_2],
        blinded: &[
            "863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945",
            "90a0145ea9da29254c3a56be4fe185465ebb3bf2a1801f7124bbbadac751e654",
        ],
        evaluated: &[
            "aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e",
            "cc5ac221950a49ceaa73c8db41b82c20372a4c8d63e5dded2db920b7eee36a2a",
        ],
        proof: "cc203910175d786927eeb44ea847328047892ddf8590e723c37205cb74600b0a\
            5ab5337c8eb4ceae0494c2cf89529dcf94572ed267473d567aeed6ab873dee08",
        proof_random_scalar: "419c4f4f5052c53c45f3da494d2b67b220d02118e0857cdbcf037f9ea84bbe0c",
        outputs: &[OUTPUT_1, OUTPUT_2],
    },
];

/// Random scalars known beforehand, each asked for as 64 bytes that are reduced; the upper ones are 0.
struct Known(std::vec::IntoIter<Vec<u8>>);

impl Known {
    fn scalars(scalars: &[&str]) -> Self {
        Self(all(scalars).into_iter())
    }
}

impl RngCore for Known {
    fn next_u32(&mut self) -> u32 {
        unreachable!("scalars are drawn as bytes")
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("scalars are drawn as bytes")
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        let scalar = self.0.next().unwrap();
        assert_eq!((bytes.len(), scalar.len()), (64, 32));
        bytes.fill(0);
        bytes[..32].copy_from_slice(&scalar);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Known {}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn all(hex: &[&str]) -> Vec<Vec<u8>> {
    hex.iter().map(|hex| unhex(hex)).collect()
}

fn key() -> OprfKey {
    OprfKey::derive(&[0xa3; 32], KEY_INFO).unwrap()
}

/// The raw bytes of a vector in the place of what an identifier makes.
fn blinding(vector: &Vector) -> Blinding {
    let inputs = all(vector.inputs);
    let inputs = inputs.iter().map(|input| OprfInput(Input::raw(input)));
    Blinding::new_with(&mut Known::scalars(vector.blinds), inputs.collect()).unwrap()
}

#[test]
fn the_key_pair_is_the_one_of_the_rfc() {
    assert_eq!(key().public_key().as_slice(), unhex(PUBLIC_KEY));
}

#[test]
fn inputs_are_blinded_as_in_the_rfc() {
    for vector in &VECTORS {
        let blinded = blinding(vector).elements();
        assert_eq!(all(vector.blinded), blinded);
    }
}

#[test]
fn blinded_elements_are_evaluated_and_proved_as_in_the_rfc() {
    for vector in &VECTORS {
        let mut random = Known::scalars(&[vector.proof_random_scalar]);
        let Evaluated { elements, proof } = key()
            .evaluate_with(&mut random, &all(vector.blinded))
            .unwrap();
        assert_eq!(all(vector.evaluated), elements);
        assert_eq!(proof.as_slice(), unhex(vector.proof));
    }
}

#[test]
fn the_answer_is_checked_and_unblinded_to_the_outputs_of_the_rfc() {
    let public_key = unhex(PUBLIC_KEY).try_into().unwrap();
    for vector in &VECTORS {
        let tokens = blinding(vector)
            .finalize(&all(vector.evaluated), &unhex(vector.proof), &public_key)
            .unwrap();
        let outputs: Vec<_> = tokens
            .iter()
            .map(|token| token.as_bytes().to_vec())
            .collect();
        assert_eq!(outputs, all(vector.outputs));
    }
}
