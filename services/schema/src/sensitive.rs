//! `Debug` for what carries a key, a token, a pseudonym, an opening or a survivor's data: it names itself and shows
//! nothing, so no log line, span or panic can.

use std::fmt;

use crate::{
    audit::Opening,
    case_file::CaseFile,
    identifier::Identifier,
    key::{DepositKeyRequest, FieldKey},
    statement::Statement,
    subject::{
        EpochToken, FindSubjectRequest, FindSubjectResponse, Merge, MergeSubjectsRequest,
        PlantCanaryRequest, SplitSubjectsRequest,
    },
};

macro_rules! shows_nothing {
    ($($message:ident),+) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), "(..)"))
            }
        }
    )+};
}

shows_nothing!(
    CaseFile,
    Identifier,
    Opening,
    DepositKeyRequest,
    FieldKey,
    Statement,
    EpochToken,
    FindSubjectRequest,
    FindSubjectResponse,
    Merge,
    MergeSubjectsRequest,
    PlantCanaryRequest,
    SplitSubjectsRequest
);
