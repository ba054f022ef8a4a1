//! A replica of the custodian under test, over the exchange's database.

use std::{
    ops::{Deref, DerefMut},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use amanat_database::{Engine, Place, Sql};
use amanat_desk::{
    Desk,
    consent::{ConsentDesk, Evidence},
    reload::Reload,
    settings::DirectoryFiles,
};
use amanat_identity::{
    Directory, Registrars, RevocationFolder, TokenVerifier, Trust, Trusted, token::Audience,
};
use amanat_journal::Keys;
use amanat_schema::audit::Action;
use amanat_seal::{WrapKey, statement::SigningKey};
use amanat_server::Guard;
use prost::Message as _;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{
    database,
    exchange::{Exchange, REGISTRARS, TABLE},
    oprf::{AGENCYS, OFFICERS, OPRF_KEYS, write_seeds},
};
use crate::{
    CustodianError,
    follower::{Follower, Gateway},
    kek::Kek,
    key::KeyDesk,
    proofs::Proofs,
    store::{CHANGING, Custody, Memory, STEPS, budget::Limits, evaluation::Terms},
};

pub(super) struct World {
    exchange: Arc<Exchange>,
    pub(super) custodian: KeyDesk,
    /// Its state files; and the database, if that is a file.
    pub(super) folder: TempDir,
    tasks: Vec<JoinHandle<()>>,
}

impl Deref for World {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        &self.exchange
    }
}

impl DerefMut for World {
    /// While there is one replica.
    fn deref_mut(&mut self) -> &mut Exchange {
        Arc::get_mut(&mut self.exchange).unwrap()
    }
}

impl World {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_seeds(folder.path());
        let owner = database::fresh(folder.path(), "custodian.db").await;
        let place = database::for_service(&owner).await;
        let journal = journal(&place, &folder);
        amanat_journal::init(&journal, Some(&owner)).await.unwrap();
        let exchange = Exchange::new(owner, place);
        amanat_journal::note_file::begin(&folder.path().join("observed-head"), "").unwrap();
        Self::start(Arc::new(exchange), folder).await
    }

    /// Another replica, which gets copies of this one's state files; `None` where the database has one writer.
    pub(super) async fn replica(&self) -> Option<Self> {
        if self.place.engine() == Engine::Sqlite {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        write_seeds(folder.path());
        for file in ["checkpoint", "observed-head"] {
            let from = self.folder.path().join(file);
            std::fs::copy(from, folder.path().join(file)).unwrap();
        }
        Some(Self::start(Arc::clone(&self.exchange), folder).await)
    }

    pub(super) async fn start(exchange: Arc<Exchange>, folder: TempDir) -> Self {
        let (custodian, tasks) = open(&exchange, &folder).await.unwrap();
        Self {
            exchange,
            custodian,
            folder,
            tasks,
        }
    }

    /// Stops the custodian and lets the test at its files.
    pub(super) async fn stopped(
        self,
        meanwhile: impl AsyncFnOnce(&PathBuf),
    ) -> (Arc<Exchange>, TempDir) {
        drop(self.custodian);
        for task in self.tasks {
            task.await.unwrap();
        }
        meanwhile(&self.folder.path().to_owned()).await;
        (self.exchange, self.folder)
    }

    /// Stops the custodian, lets the test at its files, and starts it again.
    pub(super) async fn restarted(self, meanwhile: impl AsyncFnOnce(&PathBuf)) -> Self {
        let (exchange, folder) = self.stopped(meanwhile).await;
        Self::start(exchange, folder).await
    }

    pub(super) fn consents(&self) -> ConsentDesk<Custody> {
        ConsentDesk {
            desk: self.custodian.desk.clone(),
            evidence: Evidence::NotKept,
        }
    }

    /// A newer directory lies in its file, and is not looked at yet.
    pub(super) fn publish(&self) -> Arc<Directory> {
        let newer = self.newer(&OPRF_KEYS).directory;
        let write =
            |name, bytes: &[u8]| std::fs::write(self.folder.path().join(name), bytes).unwrap();
        write("directory.bin", &newer.envelope().encode_to_vec());
        write("decision-table.txt", TABLE.as_bytes());
        newer
    }

    /// All that the custodian keeps: what lies in its folder, and what its database holds where that is no file.
    pub(super) async fn kept(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let read = |file: std::io::Result<std::fs::DirEntry>| {
            let path = file.unwrap().path();
            std::fs::read(&path).unwrap_or_else(|error| {
                // By now it has the name that it was written for.
                let is_temporary = path.extension().is_some_and(|kind| kind == "new");
                assert!(is_temporary, "{}: {error}", path.display());
                Vec::new()
            })
        };
        let mut kept: Vec<u8> = files.flat_map(read).collect();
        if self.place.engine() == Engine::Postgres {
            kept.extend(self.stored().await);
        }
        kept
    }

    /// Each value of each table, numbers left out.
    async fn stored(&self) -> Vec<u8> {
        let mut database = self.database().await;
        let columns = Sql::new(
            "SELECT format(CASE data_type WHEN 'bytea' THEN 'SELECT %I FROM %I' \
             ELSE 'SELECT convert_to(%I, ''UTF8'') FROM %I' END, column_name, table_name) \
             FROM information_schema.columns \
             WHERE table_schema = current_schema() AND data_type IN ('bytea', 'text')",
        )
        .fetch_all(&mut database)
        .await
        .unwrap();
        let mut stored = Vec::new();
        for column in columns {
            let query: String = column.get(0).unwrap();
            for row in Sql::new(query).fetch_all(&mut database).await.unwrap() {
                stored.extend(row.get::<Option<Vec<u8>>>(0).unwrap().unwrap_or_default());
            }
        }
        stored
    }

    /// Of the newest entry in the custodian's own log.
    pub(super) async fn last_action(&self) -> Action {
        let action: i32 = self
            .value("SELECT action FROM entries ORDER BY idx DESC LIMIT 1")
            .await;
        Action::try_from(action).unwrap()
    }
}

pub(super) fn journal(place: &Place, folder: &TempDir) -> amanat_journal::Config {
    amanat_journal::Config {
        database: place.clone(),
        checkpoint_file: folder.path().join("checkpoint"),
        steps: STEPS,
        changing: CHANGING,
        waiting_per_agency: amanat_server::Limits::default().waiting_per_agency,
    }
}

/// Of files that are not there until one is published: what is in use stays.
fn reload(folder: &TempDir, guard: Guard, exchange: &Exchange) -> Reload {
    let file = |name| folder.path().join(name);
    let files = DirectoryFiles {
        file: file("directory.bin"),
        seen: file("directory.seen"),
        registrars: Registrars {
            keys: REGISTRARS.iter().map(SigningKey::public_key).collect(),
            threshold: 2,
        },
        decision_table: file("decision-table.txt"),
        crls: file("crls"),
        suspensions: file("suspensions"),
        reload_s: 60.try_into().unwrap(),
    };
    let registrars = files.registrars.clone();
    Reload::new(files, registrars, guard, exchange.rules.clone())
}

pub(super) async fn open(
    exchange: &Exchange,
    folder: &TempDir,
) -> Result<(KeyDesk, Vec<JoinHandle<()>>), CustodianError> {
    let secret = || WrapKey::from_bytes(&[7; 32]).unwrap();
    let keys = Keys {
        signer: exchange.custodian_signer(),
        openings: secret(),
    };
    let (rules, clock) = (&exchange.rules, exchange.clock());
    let book = Custody {
        rules: rules.clone(),
        statement_key: Arc::clone(&exchange.statement_key),
        evaluation: Terms {
            limits: Limits {
                officer: OFFICERS,
                agency: AGENCYS,
            },
            deposit_within: Duration::from_hours(72),
        },
        memory: Memory::default(),
    };
    let journal = journal(&exchange.place, folder);
    let opened = amanat_journal::open(&journal, keys, book, Arc::clone(&clock)).await?;
    let (follower, following) = Follower::start(
        opened.journal.clone(),
        Gateway::plain(exchange.client.clone()),
        &rules.current().directory.gateway().log,
        &folder.path().join("observed-head"),
        exchange.place.engine(),
    )
    .await?;
    let tokens = TokenVerifier::new(Audience::Custodian);
    let crls = folder.path().join("crls");
    let directory = Arc::clone(&rules.current().directory);
    let trust = Trust::new(directory, &RevocationFolder::new(&crls)).unwrap();
    let guard = Guard::new(Trusted::new(trust), tokens, clock);
    let desk = Desk {
        guard: guard.clone(),
        rules: rules.clone(),
        journal: opened.journal,
        reader: opened.reader,
        openings: Arc::new(secret()),
    };
    let custodian = KeyDesk {
        proofs: Proofs::default(),
        desk,
        kek: Kek::new(secret()),
        follower,
        statement_key: Arc::clone(&exchange.statement_key),
        reload: Arc::new(reload(folder, guard, exchange)),
    };
    let tasks = following.into_iter().chain(opened.tasks).collect();
    Ok((custodian, tasks))
}
