//! The service as operators set it up on PostgreSQL: in a role that owns nothing.

use amanat_database::{Engine, Sql};

use super::{
    database,
    world::{World, journal},
};

/// Nothing of `evidence`: only a person takes it away.
const ALL: [&str; 19] = [
    "DELETE observed_heads",
    "allowances.points",
    "allowances.until_time",
    "budgets.day",
    "budgets.items",
    "consents.reads",
    "deposits.activate_time",
    "deposits.deposit_time",
    "deposits.header",
    "deposits.header_sha256",
    "deposits.kek_epoch",
    "deposits.receipt",
    "deposits.wrapped",
    "evaluations.unaccounted",
    "head.checkpoint",
    "head.frozen",
    "head.root",
    "head.size",
    "missing_consents.alarm_time",
];

#[tokio::test]
async fn the_service_may_change_what_it_changes_and_nothing_else() {
    let world = World::new().await;
    if world.place.engine() == Engine::Sqlite {
        eprintln!("skipped on SQLite: rights");
        return;
    }
    let mut service = world.place.connect().await.unwrap();
    assert_eq!(database::changes(&mut service).await, ALL);

    // As an earlier version gave it.
    let role = world.place.role().unwrap();
    let wide = format!("GRANT UPDATE, DELETE ON head, consents, deposits, budgets TO {role}");
    Sql::new(wide)
        .execute(&mut world.database().await)
        .await
        .unwrap();
    assert!(database::changes(&mut service).await.len() > ALL.len());
    let config = journal(&world.place, &world.folder);
    let migrated = amanat_journal::migrate(&config, Some(&world.owner)).await;
    assert!(migrated.unwrap().is_empty());
    assert_eq!(database::changes(&mut service).await, ALL);
}

#[tokio::test]
async fn a_leaked_role_neither_forgets_nor_forges_what_was_seen() {
    let world = World::new().await;
    if world.place.engine() == Engine::Sqlite {
        eprintln!("skipped on SQLite: rights");
        return;
    }
    world.keep(&world.first_version()).await;
    let mut service = world.place.connect().await.unwrap();
    for change in [
        "DELETE FROM head",
        "DELETE FROM evidence",
        "DELETE FROM budgets",
        "DELETE FROM allowances",
        "DELETE FROM deposits",
        "UPDATE evidence SET why = ''",
        "UPDATE observed_heads SET root = ''",
        "UPDATE deposits SET source = ''",
        "UPDATE budgets SET agency = ''",
        "UPDATE evaluations SET officer_handle = ''",
        "UPDATE own_keys SET proof = ''",
        "UPDATE entry_spans SET last_time = 0",
        "UPDATE entries SET openings = ''",
        "TRUNCATE observed_heads",
    ] {
        let changed = Sql::new(change).execute(&mut service).await;
        let code = changed
            .err()
            .and_then(|error| error.as_database_error()?.code().map(String::from));
        assert_eq!(code.as_deref(), Some("42501"), "{change}");
    }
}
