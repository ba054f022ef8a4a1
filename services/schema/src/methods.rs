//! Every method of every service, as the path of its calls.

include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// The one of a call, as in `/amanat.record.v1.RecordService/PutRecord`; `None` if there is no such method.
pub fn by_path(path: &str) -> Option<&'static str> {
    let at = METHODS.binary_search(&path).ok()?;
    METHODS.get(at).copied()
}
