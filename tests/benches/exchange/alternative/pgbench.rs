//! A closed loop by PostgreSQL's own load generator, which costs the client less than any driver.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStderr, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

use crate::{alternative::server::Server, cpu::Used, load::Measured, servers::Servers};

/// It reports after each second; the first is the warm-up.
const REPORT_S: u64 = 1;
/// Of the whole run, for its connections, which count, and so that it is still at work when the measurement ends.
const SLACK_S: u64 = 3;

/// Who asks what.
pub(crate) struct Script<'a> {
    pub(crate) agency: &'a str,
    pub(crate) sql: &'a str,
    /// Sent as parameters.
    pub(crate) variables: &'a [(String, String)],
}

pub(crate) struct Run {
    pub(crate) measured: Measured,
    /// Before and after what was measured too.
    pub(crate) calls: usize,
}

impl Script<'_> {
    /// Once, with no measurement.
    pub(crate) fn once(&self, server: &Server) {
        let folder = TempDir::new().unwrap();
        let mut child = self.spawn(server, folder.path(), &["-c", "1", "-t", "1"]);
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(child.wait().unwrap().success(), "{said}");
    }

    pub(crate) fn run(&self, server: &Server, in_flight: usize, longest: Duration) -> Run {
        let folder = TempDir::new().unwrap();
        let whole = longest.as_secs_f64().ceil() + (REPORT_S + SLACK_S) as f64;
        let (clients, whole) = (in_flight.to_string(), whole.to_string());
        let report = REPORT_S.to_string();
        let arguments = ["-c", &clients, "-j", "2", "-T", &whole, "-P", &report];
        let mut child = self.spawn(server, folder.path(), &arguments);
        let mut said = BufReader::new(child.stderr.take().unwrap());
        await_report(&mut said);
        let servers = Servers::new([], Some(server.postmaster));
        let used = || Used::now_by(&servers, child.id());
        let (begin, from, before) = (Instant::now(), since_epoch(), used());
        thread::sleep(longest);
        let (elapsed, until, used) = (begin.elapsed(), since_epoch(), used().since(before));
        let memory_mib = servers.memory_mib();
        let early = child.try_wait().unwrap();
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert!(early.is_none() && child.wait().unwrap().success(), "{rest}");
        let calls = calls(folder.path());
        let window = from..=until;
        let within = calls.iter().filter(|call| window.contains(&call.end));
        let latencies = within.map(|call| call.latency).collect();
        Run {
            measured: Measured::new(elapsed, latencies, used, memory_mib),
            calls: calls.len(),
        }
    }

    fn spawn(&self, server: &Server, folder: &Path, arguments: &[&str]) -> Child {
        let script = folder.join("script.sql");
        fs::write(&script, self.sql).unwrap();
        let mut pgbench = server.program("pgbench");
        pgbench
            .args(["--no-vacuum", "--protocol=prepared", "--log"])
            .arg(format!("--log-prefix={}", folder.join("calls").display()))
            .arg("--file")
            .arg(script)
            .args(arguments);
        for (name, value) in self.variables {
            pgbench.arg("-D").arg(format!("{name}={value}"));
        }
        pgbench
            .arg(server.url(self.agency))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

/// # Panics
/// With what it said, if it ended without one.
fn await_report(said: &mut BufReader<ChildStderr>) {
    let mut all = String::new();
    let mut from = 0;
    while !all[from..].starts_with("progress:") {
        from = all.len();
        assert_ne!(said.read_line(&mut all).unwrap(), 0, "{all}");
    }
}

struct Call {
    end: Duration,
    latency: Duration,
}

/// From the logs of all its threads.
fn calls(folder: &Path) -> Vec<Call> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let logs = files.filter(|file| file.file_name().to_string_lossy().starts_with("calls."));
    let texts: Vec<String> = logs
        .map(|log| fs::read_to_string(log.path()).unwrap())
        .collect();
    texts
        .iter()
        .flat_map(|text| text.lines())
        .map(call)
        .collect()
}

/// As in `client transaction microseconds script seconds microseconds`, the last two since the epoch.
fn call(line: &str) -> Call {
    let fields: Vec<u64> = line
        .split(' ')
        .map(|field| field.parse().unwrap())
        .collect();
    Call {
        end: Duration::from_secs(fields[4]) + Duration::from_micros(fields[5]),
        latency: Duration::from_micros(fields[2]),
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
