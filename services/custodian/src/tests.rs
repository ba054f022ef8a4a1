//! The custodian's services on a real database, before a gateway whose log can be made to lie.

mod acts;
#[path = "../../database/tests/support/mod.rs"]
mod database;
mod deposit;
mod evaluation;
mod exchange;
mod gateway;
mod head;
mod oprf;
mod release;
mod replicas;
mod rules;
mod service_role;
mod unused;
mod world;
