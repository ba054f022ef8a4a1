//! Newer files are taken into use together, or not at all.

use std::{
    fs,
    num::NonZeroU64,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use amanat_desk::{
    Rulebook,
    reload::Reload,
    setup::{DirectoryFiles, Listen, Setup, SetupError},
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
        amanat_server::write_private(&path("server.key"), leaf.key_pem.as_bytes()).unwrap();
        let time = Arc::new(Mutex::new(now()));
        let clock: Clock = {
            let time = Arc::clone(&time);
            Arc::new(move || *time.lock().unwrap())
        };
        let listen = Listen {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificate: path("server.pem"),
            private_key: path("server.key"),
        };
        let files = files(&exchange, &folder);
        let setup = Setup::load(&listen, &files, Audience::Gateway, clock).unwrap();
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

    fn seen(&self) -> String {
        fs::read_to_string(self.path("seen")).unwrap()
    }

    fn admits_shelter(&self) -> bool {
        let chain = self.exchange.shelter.client.chain();
        self.guard.trust().admit(&chain, now()).is_some()
    }
}

fn files(exchange: &Exchange, folder: &TempDir) -> DirectoryFiles {
    let path = |name: &str| folder.path().join(name);
    DirectoryFiles {
        file: path("directory"),
        seen: path("seen"),
        registrars: exchange.pinned().keys.iter().map(hex::encode).collect(),
        threshold: 2,
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
    assert_eq!(office.seen(), "8\n");
}

#[tokio::test]
async fn nothing_new_changes_nothing() {
    let office = Office::new();
    let generation = office.guard.trust().generation();
    office.looks().await;
    office.looks().await;
    assert_eq!(office.guard.trust().generation(), generation);
}

#[tokio::test]
async fn a_directory_that_is_refused_leaves_the_old_one_in_use_and_is_not_remembered() {
    type Spoil = fn(&Office);
    let spoils: [(&str, Spoil); 9] = [
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
    for (what, spoil) in spoils {
        let office = Office::new();
        spoil(&office);
        let generation = office.guard.trust().generation();
        assert_eq!(office.looks().await, 7, "{what}");
        assert_eq!(office.guard.trust().generation(), generation, "{what}");
        assert_eq!(office.seen(), "7\n", "{what}");
        // A good one that comes then is taken.
        fs::write(office.path("table"), TABLE).unwrap();
        office.publish(|_| {});
        assert_eq!(office.looks().await, 8, "{what}");
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
    let list = office.path(&format!("crls/{}.crl", shelter.id));
    fs::write(&list, shelter.authority.list(&[&shelter.client])).unwrap();
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
async fn a_suspension_is_taken_into_use_and_ends_with_its_file() {
    let office = Office::new();
    let suspension = Suspension {
        exchange_id: EXCHANGE.to_owned(),
        suspension_id: vec![9; 16],
        agency_id: office.exchange.shelter.id.to_vec(),
        statement_key: Vec::new(),
        directory_version: 7,
        suspend_time: Some(now().to_timestamp()),
    };
    let file = office.path("suspensions/1.bin");
    let signed = office.exchange.registrars[1].sign(&suspension);
    fs::write(&file, signed.encode_to_vec()).unwrap();
    office.looks().await;
    assert!(!office.admits_shelter());
    fs::remove_file(&file).unwrap();
    office.looks().await;
    assert!(office.admits_shelter());
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
            SetupError::SameVersion { version: 8 },
            "ask your registrars which of the two",
        ),
        (
            SetupError::Unfit("log key of the gateway"),
            "another log key of the gateway than this server works with; change the configuration",
        ),
    ] {
        assert!(error.to_string().contains(advice), "{error}");
    }
}
