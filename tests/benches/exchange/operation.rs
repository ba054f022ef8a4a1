//! What the servers are asked.

pub(crate) mod evaluate;
pub(crate) mod intake;
pub(crate) mod read;
pub(crate) mod release;
pub(crate) mod submit;
