//! The parties of a ceremony, each in a folder of its own, acting by commands.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use amanat_identity::{Directory, Registrars};
use amanat_schema::{directory, statement::Envelope};
use prost::Message as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::Told;

pub const TABLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/policies/decision-table.txt"
);
pub const EXCHANGE: [&str; 2] = ["--exchange", "pilot.amanat.example"];
pub const REGISTRARS: [&str; 4] = [
    "--registrar",
    "one/registrar.card.toml",
    "--registrar",
    "two/registrar.card.toml",
];
pub const FIRST: &str = "1.draft";

/// The folders of everybody, side by side, and the program.
pub struct Ceremony {
    folder: TempDir,
    program: &'static str,
}

impl Ceremony {
    /// Everybody has made their keys, and a draft lists the servers and the police.
    pub fn drafted(program: &'static str) -> Self {
        let folder = TempDir::new().unwrap();
        let ceremony = Self { folder, program };
        fs::create_dir(ceremony.path("public")).unwrap();
        for name in ["one", "two", "stranger"] {
            ceremony.does(&["keys", "init", "registrar", "--name", name, "--out", name]);
        }
        ceremony.server("gateway", &[]);
        ceremony.server("custodian", &["--gateway", "https://127.0.0.1:8443"]);
        ceremony.agency("police", "PROVINCIAL_POLICE", &["--display-name", "Police"]);
        ceremony.agency("shelter", "DARUL_AMAN", &[]);
        ceremony.does(
            &[
                &["directory", "draft"][..],
                &EXCHANGE,
                &REGISTRARS,
                &["--gateway", "gateway/gateway.card.toml"],
                &["--custodian", "custodian/custodian.card.toml"],
                &["--table", TABLE, "--out", FIRST],
            ]
            .concat(),
        );
        ceremony.enrols("police", FIRST);
        ceremony
    }

    /// The draft is signed by both, and published.
    pub fn published(program: &'static str) -> Self {
        let ceremony = Self::drafted(program);
        ceremony.signs("one", FIRST, &[]);
        ceremony.signs("two", FIRST, &[]);
        ceremony.does(&[
            "directory",
            "publish",
            FIRST,
            "--to",
            "public",
            "--table",
            TABLE,
        ]);
        ceremony
    }

    pub fn server(&self, kind: &str, more: &[&str]) {
        let name = format!("{kind}.pilot.amanat.example");
        self.does(
            &[
                &["keys", "init", kind, "--server-name", &name][..],
                &[
                    "--listen",
                    "127.0.0.1:8443",
                    "--public",
                    "public",
                    "--out",
                    kind,
                ],
                &EXCHANGE,
                &REGISTRARS,
                more,
            ]
            .concat(),
        );
    }

    pub fn agency(&self, name: &str, kind: &str, more: &[&str]) {
        let told = self.founds(name, kind, more);
        assert_eq!(told.code, 0, "{}", told.err);
    }

    pub fn founds(&self, name: &str, kind: &str, more: &[&str]) -> Told {
        self.run(
            &[
                &["keys", "init", "agency", "--name", name, "--kind", kind][..],
                &["--province", "PUNJAB", "--public", "public", "--out", name],
                &["--gateway", "https://127.0.0.1:8443"],
                &["--custodian", "https://127.0.0.1:8444"],
                &["--development-officer", "default=CASE_WORKER@Lahore"],
                &EXCHANGE,
                &REGISTRARS,
                more,
            ]
            .concat(),
        )
    }

    pub fn enrols(&self, agency: &str, draft: &str) -> Value {
        let card = format!("{agency}/agency.card.toml");
        self.tells(&["agency", "enrol", &card, "--draft", draft])
    }

    pub fn signs(&self, registrar: &str, draft: &str, more: &[&str]) -> Value {
        let key = format!("{registrar}/registrar.key");
        let sign = ["directory", "sign", draft, "--key", &key, "--yes"];
        self.tells(&[&sign[..], more].concat())
    }

    /// Drafts the next version after the published one.
    pub fn drafts(&self, draft: &str) {
        self.does(&[
            "directory",
            "draft",
            "--from",
            "public/directory.bin",
            "--out",
            draft,
        ]);
    }

    pub fn publishes(&self, draft: &str) {
        for registrar in ["one", "two"] {
            self.signs(registrar, draft, &["--in-use", "public/directory.bin"]);
        }
        self.does(&["directory", "publish", draft, "--to", "public"]);
    }

    pub fn run(&self, arguments: &[&str]) -> Told {
        let mut command = Command::new(self.program);
        command
            .current_dir(self.folder.path())
            .args(arguments)
            .stdin(Stdio::null());
        Told::by(&mut command)
    }

    pub fn does(&self, arguments: &[&str]) {
        let told = self.run(arguments);
        assert_eq!(told.code, 0, "{arguments:?}: {}", told.err);
    }

    pub fn tells(&self, arguments: &[&str]) -> Value {
        let told = self.run(&[&["--json"], arguments].concat());
        assert_eq!(told.code, 0, "{arguments:?}: {}", told.err);
        serde_json::from_str(&told.out).unwrap()
    }

    /// It is refused for this reason, and says so.
    pub fn refuses(&self, code: i32, reason: &str, says: &str, arguments: &[&str]) {
        let told = self.run(arguments);
        assert_eq!(told.code, code, "{arguments:?}: {}{}", told.out, told.err);
        assert!(told.err.contains(reason), "{arguments:?}: {}", told.err);
        assert!(told.err.contains(says), "{arguments:?}: {}", told.err);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn changes(&self, file: &str, from: &str, to: &str) {
        let text = self.text(file);
        assert!(text.contains(from), "{file}: {text}");
        fs::write(self.path(file), text.replace(from, to)).unwrap();
    }

    pub fn envelope(&self, file: &str) -> Envelope {
        Envelope::decode(fs::read(self.path(file)).unwrap().as_slice()).unwrap()
    }

    pub fn in_use(&self) -> directory::Directory {
        let envelope = self.envelope("public/directory.bin");
        directory::Directory::decode(envelope.payload.as_slice()).unwrap()
    }

    /// As a party that pins both registrars sees it.
    pub fn directory(&self) -> Directory {
        let keys = self.in_use().registrars.into_iter();
        let keys = keys.map(|listed| listed.public_key.try_into().unwrap());
        let registrars = Registrars {
            keys: keys.collect(),
            threshold: 2,
        };
        Directory::verify(&self.envelope("public/directory.bin"), &registrars).unwrap()
    }
}
