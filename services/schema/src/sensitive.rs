//! `Debug` for the messages that carry a key, a token or an opening: they name themselves and show
//! nothing, so no log line, span or panic can.

use std::fmt;

use crate::{audit::Opening, key::DepositKeyRequest, key::FieldKey, statement::Statement};

macro_rules! shows_nothing {
    ($($message:ident),+) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), "(..)"))
            }
        }
    )+};
}

shows_nothing!(Opening, DepositKeyRequest, FieldKey, Statement);
