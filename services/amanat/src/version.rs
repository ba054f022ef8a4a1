//! What this program was built from: two parties that exchange records compare it.

use std::sync::LazyLock;

use amanat_seal::sha256;
use serde_json::json;

use crate::output::Report;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Of the sources; `unknown` outside their repository.
const COMMIT: &str = env!("AMANAT_COMMIT");
const TARGET: &str = env!("AMANAT_TARGET");
const DECISION_TABLE: &[u8] = include_bytes!("../../../deploy/policies/decision-table.txt");

/// For `amanat --version`, after the program's name.
pub(crate) static LONG: LazyLock<String> = LazyLock::new(|| {
    let (schema, table) = hashes();
    format!(
        "{VERSION}\ncommit          {COMMIT}\nschema          SHA-256 {schema}\n\
         decision table  SHA-256 {table}\ntarget          {TARGET}"
    )
});

/// The same for a program.
pub(crate) fn report() -> Report {
    let (schema, table) = hashes();
    let json = json!({
        "version": VERSION,
        "commit": COMMIT,
        "schema_sha256": schema,
        "decision_table_sha256": table,
        "target": TARGET,
    });
    Report::new(format!("amanat {}", *LONG), json)
}

/// Of the compiled schema, and of the decision table that a new exchange starts with.
fn hashes() -> (String, String) {
    let hash = |bytes: &[u8]| hex::encode(sha256(bytes));
    (hash(amanat_schema::DESCRIPTORS), hash(DECISION_TABLE))
}
