//! A server as whoever watches over it sees it: its health, its log, its disks.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use amanat::development::free_address;
use serde_json::Value;

use crate::Process;

/// For what a server notices by itself.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where a server tells of its health: a port that was free.
#[derive(Debug, Clone, Copy)]
pub struct HealthAt(SocketAddr);

impl HealthAt {
    /// Into the server's configuration.
    pub fn configure(config: &mut toml::Table) -> Self {
        let address = free_address().unwrap();
        let mut section = toml::Table::new();
        section.insert("listen".to_owned(), address.to_string().into());
        config.insert("health".to_owned(), section.into());
        Self(address)
    }

    /// The status and the JSON of a question, as in `/ready`; `None` while nobody answers.
    pub fn ask(self, path: &str) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(self.0).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.0).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, serde_json::from_str(body).unwrap()))
    }

    /// Returns when it is ready, without a warning or with one.
    pub fn until_ready(self) -> Value {
        self.until("ready", |status, _| status == 200)
    }

    /// Returns when it is not ready for a reason with these words.
    pub fn until_not_ready(self, words: &str) -> Value {
        self.until(words, |status, told| {
            status == 503 && told["reasons"].to_string().contains(words)
        })
    }

    /// Returns when one of its warnings has these words.
    pub fn until_warned(self, words: &str) -> Value {
        self.until(words, |_, told| {
            told["warnings"].to_string().contains(words)
        })
    }

    fn until(self, what: &str, is_so: impl Fn(u16, &Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let told = self.ask("/ready");
            if let Some((status, told)) = &told
                && is_so(*status, told)
            {
                return told.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "never {what}: {told:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Process {
    /// How many lines of its log have these words.
    pub fn told(&self, words: &str) -> usize {
        self.lines(words).len()
    }

    /// The lines of its log with these words.
    pub fn lines(&self, words: &str) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        let lines = log.lines().filter(|line| line.contains(words));
        lines.map(str::to_owned).collect()
    }

    /// Returns when its log has had these words as many times.
    pub fn until_told(&self, words: &str, times: usize) {
        let begun = Instant::now();
        while self.told(words) < times {
            let log = fs::read_to_string(&self.log).unwrap();
            assert!(begun.elapsed() < PATIENCE, "never {words}: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A small disk of its own, unmounted when it is dropped.
pub struct Disk {
    folder: PathBuf,
    /// Where its filling lies, if it is full.
    ballast: PathBuf,
}

impl Disk {
    /// Whether this process may mount one.
    pub fn is_permitted() -> bool {
        let folder = tempfile::tempdir().unwrap();
        mount(folder.path(), 1).is_some_and(|disk| {
            drop(disk);
            true
        })
    }

    pub fn mount(folder: PathBuf, mib: u32) -> Self {
        fs::create_dir_all(&folder).unwrap();
        mount(&folder, mib).expect("mounting is permitted")
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// Takes all space that is left.
    pub fn fill(&self) {
        let mut ballast = fs::File::create(&self.ballast).unwrap();
        let block = [0; 4096];
        while ballast.write_all(&block).is_ok() {}
    }

    /// Gives it back.
    pub fn clear(&self) {
        fs::remove_file(&self.ballast).unwrap();
    }
}

fn mount(folder: &Path, mib: u32) -> Option<Disk> {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
        .arg(folder)
        .output();
    mounted.ok()?.status.success().then(|| Disk {
        folder: folder.to_owned(),
        ballast: folder.join("ballast"),
    })
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server may still have its files open.
        Command::new("umount")
            .arg("-l")
            .arg(&self.folder)
            .status()
            .ok();
    }
}
