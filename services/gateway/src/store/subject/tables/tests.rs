#![allow(clippy::unwrap_used, reason = "a test may panic")]

use amanat_database::Place;
use tempfile::TempDir;

use super::{
    canaries::{WAITING, alarming, planted},
    peppers::repeppering,
    *,
};
use crate::store::tests::{list_of_merges, plans};

/// All that is looked up in tables that grow; of nothing and nobody, for a plan is the same whatever is asked for.
fn statements(list: &ListMerges) -> Vec<Sql<'_>> {
    static NOBODY: BTreeSet<SubjectId> = BTreeSet::new();
    vec![
        known(&[]),
        named(&[]),
        families(&NOBODY),
        pairs_among(&NOBODY),
        carried(&NOBODY),
        ending(&[]),
        repeppering(&[]),
        planted(&[]),
        alarming(&[]),
        Sql::new(WAITING),
        listing(list),
    ]
}

#[tokio::test]
async fn no_lookup_walks_a_whole_table() {
    let folder = TempDir::new().unwrap();
    let place = Place::Sqlite(folder.path().join("subjects.db"));
    let mut database = place.create().await.unwrap();
    let tables = include_str!("../../../../migrations/0004_subjects.sql");
    database.run(tables).await.unwrap();
    for sql in statements(&list_of_merges()) {
        let plan = plans::sqlite(&mut database, sql).await;
        // What was asked for, and what waits for an alarm, is walked; nothing else.
        let walks = |step: &&String| {
            step.starts_with("SCAN")
                && !["VIRTUAL TABLE", "SCAN f", "canary_hits_waiting"]
                    .iter()
                    .any(|small| step.contains(small))
        };
        assert_eq!(plan.iter().find(walks), None, "{plan:#?}");
        let sorted = plan.iter().any(|step| step.contains("ORDER BY"));
        assert!(!sorted, "{plan:#?}");
    }
}

#[tokio::test]
async fn no_lookup_walks_a_large_table_on_postgresql() {
    plans::hold_postgres_to(statements(&list_of_merges())).await;
}
