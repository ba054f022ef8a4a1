//! A fresh, empty database for one test: a file, or, where `AMANAT_POSTGRES` names a PostgreSQL database, a schema of
//! its own in it. So one suite holds both engines to the same.
#![allow(dead_code, unreachable_pub, reason = "no suite uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use amanat_database::{Connection, Engine, Place, Sql};

const POSTGRES: &str = "AMANAT_POSTGRES";

/// Which engine this run is about.
pub fn engine() -> Engine {
    match std::env::var_os(POSTGRES) {
        Some(_) => Engine::Postgres,
        None => Engine::Sqlite,
    }
}

/// `file` is its name in `folder` if it is one.
pub async fn fresh(folder: &Path, file: &str) -> Place {
    let Ok(address) = std::env::var(POSTGRES) else {
        return Place::Sqlite(folder.join(file));
    };
    let schema = schema();
    let mut connection = place(&address).connect().await.unwrap();
    Sql::new(format!("CREATE SCHEMA {schema}"))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let and = if address.contains('?') { '&' } else { '?' };
    place(&format!(
        "{address}{and}options=-c%20search_path%3D{schema}"
    ))
}

/// The same database for a new role that owns nothing, as operators give it to a service; or the same file.
pub async fn for_service(owner: &Place) -> Place {
    let Ok(address) = std::env::var(POSTGRES) else {
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

    let (_, server) = address.split_once('@').unwrap();
    let and = if server.contains('?') { '&' } else { '?' };
    let path = format!("options=-c%20search_path%3D{schema}");
    place(&format!("postgres://{role}@{server}{and}{path}"))
}

/// What the role of this connection may do beyond reading and adding: each column that it may change, and each table
/// that it may do something to as a whole.
pub async fn changes(service: &mut Connection) -> Vec<String> {
    let rows = Sql::new(
        "SELECT table_name || '.' || column_name FROM information_schema.column_privileges \
         WHERE grantee = current_user AND table_schema = current_schema AND privilege_type = 'UPDATE' \
         UNION SELECT privilege_type || ' ' || table_name FROM information_schema.table_privileges \
         WHERE grantee = current_user AND table_schema = current_schema \
         AND privilege_type NOT IN ('SELECT', 'INSERT') ORDER BY 1",
    );
    let rows = rows.fetch_all(service).await.unwrap();
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

fn place(address: &str) -> Place {
    Place::of_address(address).unwrap().unwrap()
}

/// No two tests, in whichever process, share a name.
fn schema() -> String {
    use std::{
        process,
        sync::atomic::{AtomicU64, Ordering},
        time::{SystemTime, UNIX_EPOCH},
    };
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("test_{}_{}_{next}", process::id(), now.as_nanos())
}

/// Runs statements without values, as whoever owns the database may.
pub async fn run(connection: &mut Connection, sql: &'static str) {
    connection.run(sql).await.unwrap();
}
