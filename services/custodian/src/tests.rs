//! The custodian's services on a real database, before a gateway whose log can be made to lie.

mod acts;
mod deposit;
mod gateway;
mod head;
mod release;
mod world;
