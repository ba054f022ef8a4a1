//! The service as operators set it up on PostgreSQL: in a role that owns nothing.

use amanat_database::Place;

use super::*;

/// The same database for a new role, or the same file.
pub(super) async fn of(owner: &Place) -> Place {
    let Ok(address) = std::env::var("AMANAT_POSTGRES") else {
        return owner.clone();
    };
    let mut connection = owner.connect().await.unwrap();
    let named = Sql::new("SELECT current_schema::text");
    let row = named.fetch_one(&mut connection).await.unwrap();
    let schema: String = row.get(0).unwrap();
    let role = format!("{schema}_service");
    let make = Sql::new(format!("CREATE ROLE {role} LOGIN"));
    make.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let (_, server) = address.split_once('@').expect("an owner in the address");
    let and = if server.contains('?') { '&' } else { '?' };
    let path = format!("options=-c%20search_path%3D{schema}");
    let address = format!("postgres://{role}@{server}{and}{path}");
    Place::of_address(&address).unwrap().unwrap()
}

#[tokio::test]
async fn what_is_only_added_to_nobody_changes_and_what_changes_keeps_what_it_says() {
    if database::engine() == Engine::Sqlite {
        eprintln!("skipped on SQLite: rights and triggers");
        return;
    }
    let folder = TempDir::new().unwrap();
    let owner = database::fresh(folder.path(), "").await;
    let config = config(of(&owner).await, folder.path());
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
