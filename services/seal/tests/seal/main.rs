//! The claims of this crate, through its public interface.

#![cfg(test)]

mod fixture;
mod header;
mod oprf;
mod pseudonym;
mod record;
mod statement;
mod vectors;
