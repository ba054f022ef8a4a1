//! A hand in a server's database: what an administrator can change, and what one can who holds the log's
//! key besides.

use std::{fs, path::PathBuf};

use amanat::development::Server;
use amanat_ledger::{Edge, LogEntry, LogSigner, body};
use amanat_schema::audit::EntryBody;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions,
};

/// The files behind one server's log.
pub struct Books {
    pub database: PathBuf,
    pub checkpoint_file: PathBuf,
    signing_key: PathBuf,
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
        Self {
            database: path("database"),
            checkpoint_file: path("checkpoint_file"),
            signing_key: path("signing_key"),
        }
    }

    pub async fn open(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(&self.database)
            .busy_timeout(std::time::Duration::from_secs(10))
            .connect()
            .await
            .unwrap()
    }

    pub async fn size(&self) -> usize {
        let mut connection = self.open().await;
        let row = sqlx::query("SELECT size FROM head")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        usize::try_from(row.get::<i64, _>(0)).unwrap()
    }

    pub async fn get(&self, index: usize, column: Column) -> Vec<u8> {
        let mut connection = self.open().await;
        let select = match column {
            Column::Entry => "SELECT entry FROM entries WHERE idx = $1",
            Column::Body => "SELECT body FROM entries WHERE idx = $1",
            Column::Salt => "SELECT salt FROM entries WHERE idx = $1",
            Column::Linkage => "SELECT linkage FROM entries WHERE idx = $1",
            Column::LinkageSalt => "SELECT linkage_salt FROM entries WHERE idx = $1",
        };
        let row = sqlx::query(select)
            .bind(signed(index))
            .fetch_one(&mut connection)
            .await
            .unwrap();
        row.get(0)
    }

    pub async fn set(&self, index: usize, column: Column, value: &[u8]) {
        let mut connection = self.open().await;
        let update = match column {
            Column::Entry => "UPDATE entries SET entry = $2 WHERE idx = $1",
            Column::Body => "UPDATE entries SET body = $2 WHERE idx = $1",
            Column::Salt => "UPDATE entries SET salt = $2 WHERE idx = $1",
            Column::Linkage => "UPDATE entries SET linkage = $2 WHERE idx = $1",
            Column::LinkageSalt => "UPDATE entries SET linkage_salt = $2 WHERE idx = $1",
        };
        let done = sqlx::query(update)
            .bind(signed(index))
            .bind(value)
            .execute(&mut connection);
        assert_eq!(
            done.await.unwrap().rows_affected(),
            1,
            "{} of {index}",
            column.name()
        );
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
        let mut connection = self.open().await;
        for (from, to) in [
            (signed(one), -1),
            (signed(other), signed(one)),
            (-1, signed(other)),
        ] {
            sqlx::query("UPDATE entries SET idx = $2 WHERE idx = $1")
                .bind(from)
                .bind(to)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        connection.close().await.unwrap();
    }

    /// Deletes entries, and nothing else, from this size on.
    pub async fn cut(&self, size: usize) {
        let mut connection = self.open().await;
        sqlx::query("DELETE FROM entries WHERE idx >= $1")
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

        let mut connection = self.open().await;
        let rows = sqlx::query("SELECT body, salt FROM entries ORDER BY idx")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let mut transaction = connection.begin().await.unwrap();
        sqlx::query("DELETE FROM nodes")
            .execute(&mut *transaction)
            .await
            .unwrap();
        let mut edge = Edge::empty();
        for row in rows {
            let (body, salt): (Vec<u8>, Vec<u8>) = (row.get(0), row.get(1));
            let entry = LogEntry::new(&salt.try_into().unwrap(), &body);
            sqlx::query("UPDATE entries SET entry = $2 WHERE idx = $1")
                .bind(i64::try_from(edge.size()).unwrap())
                .bind(entry.as_bytes().as_slice())
                .execute(&mut *transaction)
                .await
                .unwrap();
            for (index, hash) in edge.append(&entry) {
                sqlx::query("INSERT INTO nodes (idx, hash) VALUES ($1, $2)")
                    .bind(i64::try_from(index).unwrap())
                    .bind(hash.0.as_slice())
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
            }
        }
        let head = edge.head();
        let note = amanat_ledger::sign(&signer, head).unwrap().text;
        sqlx::query("UPDATE head SET size = $1, root = $2, checkpoint = $3")
            .bind(i64::try_from(head.size).unwrap())
            .bind(head.root.0.as_slice())
            .bind(&note)
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        connection.close().await.unwrap();
        match file {
            CheckpointFile::Left => {}
            CheckpointFile::Replaced => fs::write(&self.checkpoint_file, note).unwrap(),
        }
    }

    /// The database as it is now, as a backup takes it. The server must be stopped.
    pub fn backup(&self) -> Vec<(PathBuf, Vec<u8>)> {
        self.database_files()
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    /// Puts a backup in the place of the database. The server must be stopped.
    pub fn restore(&self, backup: &[(PathBuf, Vec<u8>)]) {
        for path in self.database_files() {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in backup {
            fs::write(path, bytes).unwrap();
        }
    }

    /// The database with what SQLite keeps beside it.
    fn database_files(&self) -> impl Iterator<Item = PathBuf> {
        let database = self.database.to_str().unwrap();
        let files = ["", "-wal", "-shm"].map(|end| PathBuf::from(format!("{database}{end}")));
        files.into_iter().filter(|path| path.exists())
    }
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
