//! The service as operators set it up on PostgreSQL: in a role that owns nothing.

use super::*;

#[tokio::test]
async fn what_is_only_added_to_nobody_changes_and_what_changes_keeps_what_it_says() {
    if database::engine() == Engine::Sqlite {
        eprintln!("skipped on SQLite: rights and triggers");
        return;
    }
    let folder = TempDir::new().unwrap();
    let owner = database::fresh(folder.path(), "").await;
    let config = config(database::for_service(&owner).await, folder.path());
    amanat_journal::init(&config, Some(&owner)).await.unwrap();
    let mut service = config.database.connect().await.unwrap();
    let mut owner = owner.connect().await.unwrap();
    for (table, column) in [
        ("records", "sealed"),
        ("referral_steps", "envelope"),
        ("subjects", "pseudonym"),
        ("referrals", "submission"),
        ("identifiers", "subject_id"),
        ("aliases", "into_subject"),
        ("merges", "agency"),
        ("canaries", "planter"),
        ("canary_hits", "agency"),
        ("consents", "envelope"),
    ] {
        for change in [
            format!("UPDATE {table} SET {column} = ''"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table}"),
        ] {
            for connection in [&mut service, &mut owner] {
                let changed = Sql::new(change.clone()).execute(connection).await;
                assert!(changed.is_err(), "{change}");
            }
        }
    }
    let forgotten = "UPDATE pepper_state SET applied = 0";
    assert!(service.run(forgotten).await.is_ok(), "what it may do");
}

#[tokio::test]
async fn the_service_may_change_what_it_changes_and_nothing_else() {
    if database::engine() == Engine::Sqlite {
        eprintln!("skipped on SQLite: rights");
        return;
    }
    let folder = TempDir::new().unwrap();
    let owner = database::fresh(folder.path(), "").await;
    let config = config(database::for_service(&owner).await, folder.path());
    amanat_journal::init(&config, Some(&owner)).await.unwrap();
    let mut service = config.database.connect().await.unwrap();
    let all = [
        "DELETE referred_versions",
        "aliases.split_time",
        "canaries.live_time",
        "canaries.second",
        "canaries.stored",
        "canary_hits.alarm_time",
        "consents.reads",
        "head.checkpoint",
        "head.frozen",
        "head.root",
        "head.size",
        "identifiers.stored",
        "merges.decide_time",
        "merges.from_subject",
        "merges.into_subject",
        "merges.status",
        "pepper_state.applied",
        "pepper_state.pepper_check",
        "pepper_state.pseudonym_check",
        "referrals.last_sha256",
        "referrals.state",
    ];
    assert_eq!(database::changes(&mut service).await, all);

    // As an earlier version gave it.
    let role = config.database.role().unwrap();
    let tables = "head, consents, referrals, merges, canaries, records";
    let wide = format!("GRANT UPDATE, DELETE, TRUNCATE ON {tables} TO {role}");
    let mut connection = owner.connect().await.unwrap();
    Sql::new(wide).execute(&mut connection).await.unwrap();
    assert!(database::changes(&mut service).await.len() > all.len());
    let migrated = amanat_journal::migrate(&config, Some(&owner)).await;
    assert!(migrated.unwrap().is_empty());
    assert_eq!(database::changes(&mut service).await, all);
}
