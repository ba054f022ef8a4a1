//! Newer files are taken into use together, or not at all.

use std::{
    fs,
    num::NonZeroU64,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use amanat_desk::{
    Rulebook,
    reload::Reload,
    settings::{DirectoryFiles, Listen},
    setup::{Setup, SetupError},
};
use amanat_identity::token::Audience;
use amanat_schema::{
    Time,
    clock::Clock,
    directory::{self, Suspension},
};
use amanat_server::Guard;
use prost::Message as _;
use tempfile::TempDir;

use crate::support::{EXCHANGE, Exchange, now};

const TABLE: &str = "format 1\nPROVINCIAL_POLICE INVESTIGATION IDENTITY ffffffff\n";
const OTHER_TABLE: &str = "format 1\nNGO_SHELTER SHELTER IDENTITY ffffffff\n";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A server that has loaded its files, version 7 of the directory, and serves nobody.
struct Office {
    exchange: Exchange,
    folder: TempDir,
    time: Arc<Mutex<Time>>,
    guard: Guard,
    rules: Rulebook,
    reload: Arc<Reload>,
}

fn wire(exchange: &Exchange) -> directory::Directory {
    directory::Directory {
        table_sha256: amanat_seal::sha256(TABLE.as_bytes()).to_vec(),
        ..exchange.wire()
    }
}

impl Office {
    fn new() -> Self {
        Self::fitting(|_| Ok(()))
    }

    fn fitting(
        fits: impl Fn(&amanat_identity::Directory) -> Result<(), SetupError> + Send + Sync + 'static,
    ) -> Self {
        let exchange = Exchange::new();
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["crls", "suspensions"] {
            fs::create_dir(path(name)).unwrap();
        }
        exchange.put_lists(&path("crls"));
        fs::write(path("table"), TABLE).unwrap();
        let signed = exchange.publish(&wire(&exchange));
        fs::write(path("directory"), signed.encode_to_vec()).unwrap();
        let leaf = &exchange.gateway.leaf;
        fs::write(path("server.pem"), &leaf.certificate_pem).unwrap();
        amanat_config::write_private(&path("server.key"), leaf.key_pem.as_bytes()).unwrap();
        let time = Arc::new(Mutex::new(now()));
        let clock: Clock = {
            let time = Arc::clone(&time);
            Arc::new(move || *time.lock().unwrap())
        };
        let files = files(&exchange, &folder);
        let setup = Setup::load(&listen(&folder), &files, Audience::Gateway, clock).unwrap();
        Self {
            guard: setup.guard,
            rules: setup.rules,
            reload: Arc::new(setup.reload.fitting(fits)),
            exchange,
            folder,
            time,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Publishes a directory, version 8 unless it is changed otherwise.
    fn publish(&self, change: impl FnOnce(&mut directory::Directory)) {
        let mut next = wire(&self.exchange);
        next.version = 8;
        change(&mut next);
        let signed = self.exchange.publish(&next).encode_to_vec();
        fs::write(self.path("directory"), signed).unwrap();
    }

    fn pass(&self, time: Duration) {
        let mut now = self.time.lock().unwrap();
        *now = *now + time;
    }

    /// The version in use after a look, for the requests and for the connections alike.
    async fn looks(&self) -> u64 {
        self.reload.now().await;
        let version = self.rules.current().directory.version();
        assert_eq!(self.guard.directory().version(), version);
        version
    }

    /// The version that is remembered.
    fn seen(&self) -> String {
        let seen = fs::read_to_string(self.path("seen")).unwrap();
        seen.split_once(' ').unwrap().0.to_owned()
    }

    /// The shelter revokes its only client.
    fn revoke(&self) {
        let shelter = &self.exchange.shelter;
        let list = self.path(&format!("crls/{}.crl", shelter.id));
        fs::write(list, shelter.authority.list(&[&shelter.client])).unwrap();
    }

    /// A registrar suspends the shelter; returns the file.
    fn suspend(&self) -> PathBuf {
        let suspension = Suspension {
            exchange_id: EXCHANGE.to_owned(),
            suspension_id: vec![9; 16],
            agency_id: self.exchange.shelter.id.to_vec(),
            statement_key: Vec::new(),
            directory_version: 7,
            suspend_time: Some(now().to_timestamp()),
        };
        let file = self.path("suspensions/1.bin");
        let signed = self.exchange.registrars[1].sign(&suspension);
        fs::write(&file, signed.encode_to_vec()).unwrap();
        file
    }

    fn start(&self) -> Result<Setup, SetupError> {
        let files = files(&self.exchange, &self.folder);
        Setup::load(
            &listen(&self.folder),
            &files,
            Audience::Gateway,
            Arc::new(now),
        )
    }

    fn admits_shelter(&self) -> bool {
        let chain = self.exchange.shelter.client.chain();
        self.guard.trust().admit(&chain, now()).is_some()
    }
}

fn listen(folder: &TempDir) -> Listen {
    Listen {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificate: folder.path().join("server.pem"),
        private_key: folder.path().join("server.key"),
    }
}

fn files(exchange: &Exchange, folder: &TempDir) -> DirectoryFiles {
    let path = |name: &str| folder.path().join(name);
    DirectoryFiles {
        file: path("directory"),
        seen: path("seen"),
        registrars: exchange.pinned(),
        decision_table: path("table"),
        crls: path("crls"),
        suspensions: path("suspensions"),
        reload_s: NonZeroU64::MIN,
    }
}

#[tokio::test]
async fn a_newer_directory_is_taken_into_use_with_its_table() {
    let office = Office::new();
    let old = office.rules.current();
    office.pass(Duration::from_secs(60));
    fs::write(office.path("table"), OTHER_TABLE).unwrap();
    office.publish(|next| {
        next.table_sha256 = amanat_seal::sha256(OTHER_TABLE.as_bytes()).to_vec();
    });
    assert_eq!(office.looks().await, 8);
    let rules = office.rules.current();
    assert_eq!(
        rules.table_sha256,
        amanat_seal::sha256(OTHER_TABLE.as_bytes())
    );
    assert_eq!(rules.since, now() + Duration::from_secs(60));
    assert_eq!(rules.previous, Some(old.superseded()));
    assert_eq!(office.seen(), "8");
}

#[tokio::test]
async fn nothing_new_changes_nothing() {
    let office = Office::new();
    let generation = office.guard.trust().generation();
    office.looks().await;
    office.looks().await;
    assert_eq!(office.guard.trust().generation(), generation);
}

/// What is wrong with the files of a directory, and how they are made so.
type Spoil = (&'static str, fn(&Office));

const SPOILS: [Spoil; 10] = [
    ("not yet in force", |office| {
        office.publish(|next| next.not_before_time = Some((now() + DAY).to_timestamp()));
    }),
    ("rolled back", |office| {
        office.publish(|next| next.version = 6)
    }),
    ("expired", |office| {
        office.publish(|next| next.valid_until_time = Some(now().to_timestamp()));
    }),
    ("of another table", |office| {
        office.publish(|next| next.table_sha256 = vec![1; 32]);
    }),
    ("of another exchange", |office| {
        office.publish(|next| next.exchange_id.push('x'));
    }),
    ("the same version, saying something else", |office| {
        office.publish(|next| {
            next.version = 7;
            next.agencies.pop();
        });
    }),
    ("unsigned", |office| {
        let mut signed = office.exchange.publish(&wire(&office.exchange));
        signed.signatures.pop();
        fs::write(office.path("directory"), signed.encode_to_vec()).unwrap();
    }),
    ("malformed", |office| {
        fs::write(office.path("directory"), [0xff; 9]).unwrap();
    }),
    ("gone", |office| {
        fs::remove_file(office.path("directory")).unwrap()
    }),
    ("a table that does not parse", |office| {
        fs::write(office.path("table"), "format 2\n").unwrap();
        office.publish(|next| {
            next.table_sha256 = amanat_seal::sha256(b"format 2\n").to_vec();
        });
    }),
];

#[tokio::test]
async fn a_directory_that_is_refused_leaves_the_old_one_in_use_and_is_not_remembered() {
    for (what, spoil) in SPOILS {
        let office = Office::new();
        spoil(&office);
        let generation = office.guard.trust().generation();
        assert_eq!(office.looks().await, 7, "{what}");
        assert_eq!(office.guard.trust().generation(), generation, "{what}");
        assert_eq!(office.seen(), "7", "{what}");
        // A good one that comes then is taken.
        fs::write(office.path("table"), TABLE).unwrap();
        office.publish(|_| {});
        assert_eq!(office.looks().await, 8, "{what}");
    }
}

#[tokio::test]
async fn a_directory_that_is_refused_keeps_out_nothing_that_closes() {
    for (what, spoil) in SPOILS {
        let office = Office::new();
        spoil(&office);
        office.revoke();
        assert_eq!(office.looks().await, 7, "{what}");
        assert!(!office.admits_shelter(), "{what}");

        let office = Office::new();
        spoil(&office);
        office.looks().await;
        office.suspend();
        assert_eq!(office.looks().await, 7, "{what}");
        assert!(!office.admits_shelter(), "{what}");
        let (rules, shelter) = (office.rules.current(), office.exchange.shelter.id);
        assert!(rules.directory.is_suspended(shelter, now()), "{what}");
        assert_eq!(
            (rules.since, rules.previous),
            (now(), None),
            "the same rules: {what}"
        );
        // What stays refused is not taken into use again and again.
        let generation = office.guard.trust().generation();
        office.looks().await;
        assert_eq!(office.guard.trust().generation(), generation, "{what}");
    }
}

#[tokio::test]
async fn a_directory_counts_from_its_own_time_without_being_published_again() {
    let office = Office::new();
    office.publish(|next| next.not_before_time = Some((now() + DAY).to_timestamp()));
    assert_eq!(office.looks().await, 7);
    office.pass(DAY);
    assert_eq!(office.looks().await, 8);
}

#[tokio::test]
async fn a_lost_memory_does_not_roll_a_running_server_back() {
    let office = Office::new();
    office.publish(|_| {});
    assert_eq!(office.looks().await, 8);
    fs::remove_file(office.path("seen")).unwrap();
    office.publish(|next| next.version = 7);
    assert_eq!(office.looks().await, 8);
}

#[tokio::test]
async fn a_directory_that_does_not_fit_the_servers_keys_is_refused() {
    let office = Office::fitting(|new| match new.version() {
        8 => Err(SetupError::Unfit("log key of the gateway")),
        _ => Ok(()),
    });
    office.publish(|_| {});
    assert_eq!(office.looks().await, 7);
    office.publish(|next| next.version = 9);
    assert_eq!(office.looks().await, 9);
}

#[tokio::test]
async fn a_revocation_list_is_taken_into_use_under_the_same_rules() {
    let office = Office::new();
    let shelter = &office.exchange.shelter;
    assert!(office.admits_shelter());
    office.pass(DAY);
    office.revoke();
    let list = office.path(&format!("crls/{}.crl", shelter.id));
    office.looks().await;
    assert!(!office.admits_shelter());
    let rules = office.rules.current();
    assert_eq!(
        (rules.since, rules.previous),
        (now(), None),
        "no new directory"
    );
    fs::remove_file(&list).unwrap();
    office.looks().await;
    assert!(!office.admits_shelter(), "no list is no good list");
    fs::write(&list, shelter.authority.list(&[])).unwrap();
    office.looks().await;
    assert!(office.admits_shelter());
}

#[tokio::test]
async fn a_suspension_outlives_its_file_until_a_newer_directory_comes() {
    let office = Office::new();
    let file = office.suspend();
    office.looks().await;
    assert!(!office.admits_shelter());
    fs::remove_file(&file).unwrap();
    office.looks().await;
    assert!(!office.admits_shelter());
    office.publish(|_| {});
    assert_eq!(office.looks().await, 8);
    assert!(office.admits_shelter());
}

#[tokio::test]
async fn a_suspension_that_cannot_be_read_is_kept_while_running_and_keeps_a_server_from_starting() {
    let office = Office::new();
    let file = office.suspend();
    office.looks().await;
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    office.publish(|_| {});
    assert_eq!(office.looks().await, 8);
    assert!(!office.admits_shelter(), "nobody knows what stands there");

    let told = office.start().map(drop).unwrap_err().to_string();
    for text in [
        "suspensions/1.bin: it cannot be read",
        "check that it is there, its owner and permissions; until it can be read this server does not start",
    ] {
        assert!(told.contains(text), "{told}");
    }

    // It is looked at again and again, until it can be.
    fs::remove_dir(&file).unwrap();
    office.looks().await;
    assert!(!office.admits_shelter(), "the next directory lifts it");
    office.publish(|next| next.version = 9);
    assert_eq!(office.looks().await, 9);
    assert!(office.admits_shelter());
    office.start().map(drop).unwrap();
}

#[tokio::test]
async fn a_look_that_did_not_come_to_its_end_is_made_again() {
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looks);
    let office = Office::fitting(move |_| {
        assert!(counted.fetch_add(1, Ordering::SeqCst) > 0, "the first one");
        Ok(())
    });
    office.publish(|_| {});
    office.reload.now().await;
    let version = || office.rules.current().directory.version();
    assert_ne!(version(), 8);
    office.reload.now().await;
    assert_eq!(version(), 8);
}

#[tokio::test]
async fn requests_make_it_look_once_a_second_and_miss_nothing() {
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looks);
    let office = Office::fitting(move |new| {
        counted.fetch_add(1, Ordering::SeqCst);
        match new.version() {
            8 => Err(SetupError::Unfit("log key of the gateway")),
            _ => Ok(()),
        }
    });
    office.reload.soon().await;
    // What is refused is looked at each time; these wait for the same look.
    office.publish(|_| {});
    let begun = Instant::now();
    let soon = || office.reload.soon();
    tokio::join!(soon(), soon(), soon());
    assert_eq!(looks.load(Ordering::SeqCst), 1);
    office.publish(|next| next.version = 9);
    soon().await;
    assert_eq!(looks.load(Ordering::SeqCst), 2);
    assert_eq!(office.rules.current().directory.version(), 9);
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn what_is_refused_says_what_to_do() {
    for (error, advice) in [
        (
            SetupError::OtherTable {
                path: "table.txt".into(),
            },
            "table.txt is not the decision table that the directory names; put the table there",
        ),
        (
            SetupError::OtherExchange,
            "fetch that of this one from your registrars",
        ),
        (
            SetupError::Unfit("log key of the gateway"),
            "another log key of the gateway than this server works with; change the configuration",
        ),
    ] {
        assert!(error.to_string().contains(advice), "{error}");
    }
}
