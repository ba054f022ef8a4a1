//! The custodian's services on a real database, before a gateway whose log can be made to lie.

mod acts;
mod deposit;
mod evaluation;
mod gateway;
mod head;
mod oprf;
mod release;
mod rules;
mod unused;
mod world;
