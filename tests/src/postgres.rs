//! Throw-away PostgreSQL clusters, made by the script that benchmark and CI use too, with the configuration that
//! operators are handed.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/postgres/cluster");
/// The script's exit code where there is no PostgreSQL.
const NOT_INSTALLED: i32 = 3;
/// Names the database of a run that holds the services to the same on PostgreSQL.
const GIVEN: &str = "AMANAT_POSTGRES";

/// A running server with its folder; both are gone when it is dropped.
pub struct Cluster {
    folder: TempDir,
}

/// Whether a commit on the primary waits for the standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standby {
    Sync,
    Async,
}

/// Whether PostgreSQL is here. Where it is not, says loudly which test was skipped; with `CI` set it fails instead.
#[expect(
    clippy::print_stderr,
    reason = "whoever runs the tests hears what was skipped"
)]
pub fn is_here(test: &str) -> bool {
    if binaries().is_some() {
        return true;
    }
    assert!(
        env::var_os("CI").is_none(),
        "{test}: PostgreSQL is not installed, and nothing is skipped in CI"
    );
    eprintln!(
        "SKIPPED {test}: POSTGRESQL IS NOT INSTALLED HERE. On Debian: apt install postgresql"
    );
    false
}

/// The address of a new schema in the database that `AMANAT_POSTGRES` names; `None` where the run is about SQLite.
pub fn given_schema() -> Option<String> {
    env::var(GIVEN).ok().map(|address| fresh_schema(&address))
}

/// The folder of psql, pgbench and their like; `None` where PostgreSQL is not installed.
pub fn binaries() -> Option<PathBuf> {
    let output = Command::new(SCRIPT).arg("binaries").output().unwrap();
    if output.status.code() == Some(NOT_INSTALLED) {
        return None;
    }
    assert!(output.status.success(), "{output:?}");
    Some(text(output.stdout).into())
}

impl Cluster {
    pub fn start() -> Self {
        Self::start_with([])
    }

    /// With further lines of its configuration, as in `max_wal_size=8GB`.
    pub fn start_with<const N: usize>(settings: [&str; N]) -> Self {
        Self::start_in(&env::temp_dir(), settings)
    }

    /// The same, with all its files in a folder of this one, which the servers' user must be able to reach.
    pub fn start_in<const N: usize>(folder: &Path, settings: [&str; N]) -> Self {
        let folder = TempDir::with_prefix_in("amanat-postgres-", folder).unwrap();
        let cluster = Self { folder };
        let mut arguments = vec!["start".as_ref(), cluster.path().as_os_str()];
        for setting in settings {
            arguments.extend(["--set".as_ref(), OsStr::new(setting)]);
        }
        script(arguments);
        cluster
    }

    /// One that streams from this one.
    pub fn standby(&self, standby: Standby) -> Self {
        self.standby_at(standby, None)
    }

    /// The same, at a port of the caller's choice.
    pub fn standby_at(&self, standby: Standby, port: Option<u16>) -> Self {
        let cluster = Self::folder();
        let wait = match standby {
            Standby::Sync => "--sync",
            Standby::Async => "--async",
        };
        let (own, primary) = (cluster.path(), self.path());
        let port = port.map(|port| port.to_string());
        let mut arguments = vec![
            "standby".as_ref(),
            wait.as_ref(),
            own.as_os_str(),
            primary.as_os_str(),
        ];
        if let Some(port) = &port {
            arguments.extend(["--port".as_ref(), OsStr::new(port)]);
        }
        script(arguments);
        cluster
    }

    pub fn port(&self) -> u16 {
        let port = fs::read_to_string(self.path().join("port")).unwrap();
        port.trim().parse().unwrap()
    }

    /// The process whose children are all others.
    pub fn postmaster(&self) -> u32 {
        let file = self.path().join("data/postmaster.pid");
        let text = fs::read_to_string(file).unwrap();
        text.lines().next().unwrap().parse().unwrap()
    }

    pub fn promote(&self) {
        self.script("promote");
    }

    /// As a crash: all its processes at once, nothing is flushed.
    pub fn kill(&self) {
        self.script("kill");
    }

    /// After [`kill`](Self::kill), or when it has ended by itself: as it was, where it was.
    pub fn restart(&self) {
        self.script("start");
    }

    /// Whether it lives: one that is dead and that nobody buried does not.
    pub fn is_running(&self) -> bool {
        let data = self.path().join("data");
        let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else {
            return false;
        };
        let folder = format!("/proc/{}/cwd", text.lines().next().unwrap());
        fs::read_link(folder).is_ok_and(|folder| folder == data)
    }

    /// For the owner of the database, through the unix socket.
    pub fn url(&self) -> String {
        self.script("url")
    }

    /// For the superuser, through the unix socket.
    pub fn superuser_url(&self) -> String {
        script(["url".as_ref(), self.path().as_os_str(), "postgres".as_ref()])
    }

    /// For a role over TCP and TLS, without a client certificate.
    pub fn tls_url(&self, role: &str) -> String {
        let root = self.tls("root.crt");
        format!(
            "postgres://{role}@localhost:{}/amanat?sslmode=verify-full&sslrootcert={}",
            self.port(),
            root.display()
        )
    }

    /// What [`tls_url`](Self::tls_url) lacks: some role's certificate.
    pub fn certificate_of(&self, role: &str) -> String {
        let [certificate, key] = ["crt", "key"].map(|kind| self.tls(&format!("{role}.{kind}")));
        format!(
            "&sslcert={}&sslkey={}",
            certificate.display(),
            key.display()
        )
    }

    /// For the owner of the database, in a new schema of its own.
    pub fn fresh_schema(&self) -> String {
        fresh_schema(&self.url())
    }

    /// The rows of statements by the owner of the database: a line each, columns divided by `|`.
    pub fn query(&self, sql: &str) -> String {
        query(&self.url(), sql)
    }

    /// Everything that the server ever wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path().join("server.log")).unwrap()
    }

    fn folder() -> Self {
        let folder = TempDir::with_prefix("amanat-postgres-").unwrap();
        Self { folder }
    }

    /// Where the script puts everything.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn tls(&self, file: &str) -> PathBuf {
        self.path().join("tls").join(file)
    }

    fn script(&self, verb: &str) -> String {
        script([verb.as_ref(), self.path().as_os_str()])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test that has failed already says why by itself.
        let stopped = Command::new(SCRIPT).arg("stop").arg(self.path()).output();
        drop(stopped);
    }
}

/// No two tests, in whichever process, share one.
fn fresh_schema(address: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let schema = format!("test_{}_{}_{next}", process::id(), now.as_nanos());
    query(address, &format!("CREATE SCHEMA {schema}"));
    let and = if address.contains('?') { '&' } else { '?' };
    format!("{address}{and}options=-c%20search_path%3D{schema}")
}

/// The rows of statements at an address.
pub fn query(url: &str, sql: &str) -> String {
    try_query(url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// # Errors
/// What `psql` said.
pub fn try_query(url: &str, sql: &str) -> Result<String, String> {
    let output = psql(url, sql).wait_with_output().unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// The schema of an address, as the statements that make it anew.
pub fn dump(address: &str) -> String {
    let output = Command::new(binaries().unwrap().join("pg_dump"))
        .args(["--schema", schema_of(address), address])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
    text(output.stdout)
}

/// Puts what was dumped in the place of the schema.
pub fn replace(address: &str, dump: &str) {
    query(
        address,
        &format!("DROP SCHEMA {} CASCADE", schema_of(address)),
    );
    let mut psql = Command::new(binaries().unwrap().join("psql"))
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "--single-transaction"])
        .arg(address)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut statements = psql.stdin.take().unwrap();
    statements.write_all(dump.as_bytes()).unwrap();
    drop(statements);
    assert!(psql.wait().unwrap().success());
}

fn schema_of(address: &str) -> &str {
    address.rsplit_once("search_path%3D").unwrap().1
}

/// Statements under way.
pub fn psql(url: &str, sql: &str) -> Child {
    Command::new(binaries().unwrap().join("psql"))
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql, url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn script(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(SCRIPT).args(arguments).output().unwrap();
    assert!(status.success(), "{}", text(stderr));
    text(stdout)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap().trim().to_owned()
}
