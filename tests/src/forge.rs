//! A hand in a server's database: what an administrator can change, and what one can who holds the log's
//! key besides.

use std::{
    fs,
    path::{Path, PathBuf},
};

use amanat::development::Server;
use amanat_database::{Connection, Insert, Place, Sql};
use amanat_ledger::{Edge, LogEntry, LogSigner, body};
use amanat_schema::audit::EntryBody;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};

use crate::postgres;

/// What keeps rows as they are on PostgreSQL keeps the service from changing them, and not whoever owns the tables.
const UNGUARD: &str = "DO $$ DECLARE guarded regclass; BEGIN
    FOR guarded IN SELECT DISTINCT t.tgrelid FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal AND t.tgenabled <> 'D'
    LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', guarded); END LOOP; END $$";

/// What is behind one server's log.
pub struct Books {
    pub database: Place,
    pub checkpoint_file: PathBuf,
    signing_key: PathBuf,
    /// The database, as the configuration names it.
    setting: String,
}

/// A database as it was.
pub enum Backup {
    /// The file with what SQLite keeps beside it.
    Files(Vec<(PathBuf, Vec<u8>)>),
    /// Statements that make it anew.
    Dump(String),
}

/// A column of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Entry,
    Body,
    Salt,
    Linkage,
    LinkageSalt,
}

impl Column {
    const fn name(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Body => "body",
            Self::Salt => "salt",
            Self::Linkage => "linkage",
            Self::LinkageSalt => "linkage_salt",
        }
    }
}

impl Books {
    pub fn of(server: &Server) -> Self {
        let config: toml::Table =
            toml::from_str(&fs::read_to_string(&server.config).unwrap()).unwrap();
        // Relative paths count from the configuration's folder.
        let folder = server.config.parent().unwrap();
        let path = |key: &str| folder.join(config["log"][key].as_str().unwrap());
        let setting = config["log"]["database"].as_str().unwrap().to_owned();
        let address = Place::of_address(&setting).unwrap();
        Self {
            database: address.unwrap_or_else(|| Place::Sqlite(path("database"))),
            checkpoint_file: path("checkpoint_file"),
            signing_key: path("signing_key"),
            setting,
        }
    }

    /// To look.
    pub async fn open(&self) -> Connection {
        self.database.connect().await.unwrap()
    }

    /// To change what the service could not.
    pub async fn tamper(&self) -> Connection {
        let mut connection = self.open().await;
        if self.database.file().is_none() {
            connection.run(UNGUARD).await.unwrap();
        }
        connection
    }

    pub async fn size(&self) -> usize {
        let mut connection = self.open().await;
        let row = Sql::new("SELECT size FROM head").fetch_one(&mut connection);
        row.await.unwrap().get(0).unwrap()
    }

    pub async fn get(&self, index: usize, column: Column) -> Vec<u8> {
        let mut connection = self.open().await;
        let select = format!("SELECT {} FROM entries WHERE idx = ", column.name());
        let row = Sql::new(select)
            .bind(signed(index))
            .fetch_one(&mut connection);
        row.await.unwrap().get(0).unwrap()
    }

    pub async fn set(&self, index: usize, column: Column, value: &[u8]) {
        let mut connection = self.tamper().await;
        let done = Sql::new(format!("UPDATE entries SET {} = ", column.name()))
            .bind(value)
            .push(" WHERE idx = ")
            .bind(signed(index))
            .execute(&mut connection);
        assert_eq!(done.await.unwrap(), 1, "{} of {index}", column.name());
        connection.close().await.unwrap();
    }

    /// Changes one bit, and again changes it back.
    pub async fn flip(&self, index: usize, column: Column, at: usize) {
        let mut value = self.get(index, column).await;
        value[at] ^= 1;
        self.set(index, column, &value).await;
    }

    /// Two entries change places, with all that stands beside them.
    pub async fn swap(&self, one: usize, other: usize) {
        let mut connection = self.tamper().await;
        for (from, to) in [
            (signed(one), -1),
            (signed(other), signed(one)),
            (-1, signed(other)),
        ] {
            let moved = Sql::new("UPDATE entries SET idx = ")
                .bind(to)
                .push(" WHERE idx = ")
                .bind(from)
                .execute(&mut connection);
            assert_eq!(moved.await.unwrap(), 1);
        }
        connection.close().await.unwrap();
    }

    /// Deletes entries, and nothing else, from this size on.
    pub async fn cut(&self, size: usize) {
        let mut connection = self.tamper().await;
        Sql::new("DELETE FROM entries WHERE idx >= ")
            .bind(signed(size))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }

    /// Writes another body in the place of one, with its salt as it was.
    pub async fn rewrite(&self, index: usize, change: impl FnOnce(&mut EntryBody)) {
        let mut changed = body::parse(&self.get(index, Column::Body).await).unwrap();
        change(&mut changed);
        self.set(index, Column::Body, &body::encode(&changed)).await;
    }

    /// Makes one log again of whatever bodies are stored: entries, nodes, head and a checkpoint signed with
    /// the log's own key, in the database and, if asked for, in the file outside it.
    pub async fn sign_anew(&self, file: CheckpointFile) {
        let note = fs::read_to_string(&self.checkpoint_file).unwrap();
        let key = PrivatePkcs8KeyDer::from_pem_file(&self.signing_key).unwrap();
        let signer =
            LogSigner::from_pkcs8(note.lines().next().unwrap(), key.secret_pkcs8_der()).unwrap();

        let mut connection = self.tamper().await;
        let rows = Sql::new("SELECT body, salt FROM entries ORDER BY idx")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        connection.begin_filling().await.unwrap();
        connection.run("DELETE FROM nodes").await.unwrap();
        let (mut edge, mut nodes) = (Edge::empty(), Vec::new());
        for row in rows {
            let (body, salt): (Vec<u8>, [u8; 32]) = (row.get(0).unwrap(), row.get(1).unwrap());
            let entry = LogEntry::new(&salt, &body);
            Sql::new("UPDATE entries SET entry = ")
                .bind(entry.as_bytes())
                .push(" WHERE idx = ")
                .bind(i64::try_from(edge.size()).unwrap())
                .execute(&mut connection)
                .await
                .unwrap();
            nodes.extend(edge.append(&entry));
        }
        let columns = [
            amanat_database::Column::Number("idx"),
            amanat_database::Column::Bytes("hash"),
        ];
        let rows = nodes.iter().map(|(index, hash)| {
            let index = i64::try_from(*index).unwrap();
            [index.into(), hash.0.into()]
        });
        Insert::into("nodes", columns, rows)
            .execute(&mut connection)
            .await
            .unwrap();
        let head = edge.head();
        let note = amanat_ledger::sign(&signer, head).unwrap().text;
        Sql::new("UPDATE head SET size = ")
            .bind(i64::try_from(head.size).unwrap())
            .push(", root = ")
            .bind(head.root.0)
            .push(", checkpoint = ")
            .bind(&note)
            .execute(&mut connection)
            .await
            .unwrap();
        connection.commit().await.unwrap();
        connection.close().await.unwrap();
        match file {
            CheckpointFile::Left => {}
            CheckpointFile::Replaced => fs::write(&self.checkpoint_file, note).unwrap(),
        }
    }

    /// The database as it is now. The server must be stopped.
    pub fn backup(&self) -> Backup {
        let Some(file) = self.database.file() else {
            return Backup::Dump(postgres::dump(&self.setting));
        };
        let files = files(file);
        Backup::Files(
            files
                .map(|path| (path.clone(), fs::read(path).unwrap()))
                .collect(),
        )
    }

    /// Puts a backup in the place of the database. The server must be stopped.
    pub fn restore(&self, backup: &Backup) {
        match backup {
            Backup::Files(old) => {
                for path in files(self.database.file().unwrap()) {
                    fs::remove_file(path).unwrap();
                }
                for (path, bytes) in old {
                    fs::write(path, bytes).unwrap();
                }
            }
            Backup::Dump(statements) => postgres::replace(&self.setting, statements),
        }
    }

    /// A database that can be opened without changing any file of the one that is a file: a copy in this folder.
    pub fn apart(&self, folder: &Path) -> Place {
        let Some(file) = self.database.file() else {
            return self.database.clone();
        };
        for path in files(file) {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
        Place::Sqlite(folder.join(file.file_name().unwrap()))
    }
}

/// The database with what SQLite keeps beside it.
fn files(database: &Path) -> impl Iterator<Item = PathBuf> {
    let database = database.to_str().unwrap();
    let files = ["", "-wal", "-shm"].map(|end| PathBuf::from(format!("{database}{end}")));
    files.into_iter().filter(|path| path.exists())
}

/// What becomes of the checkpoint file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointFile {
    Left,
    Replaced,
}

fn signed(index: usize) -> i64 {
    i64::try_from(index).unwrap()
}
