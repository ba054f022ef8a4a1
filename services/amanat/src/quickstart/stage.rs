//! The stage: a development exchange in a folder, and its two servers as processes.

use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::{QuickstartError, servitude::Played};
use crate::{
    clock::system_clock,
    development::{self, Blueprint, Exchange, Server},
    output::{Printer, Report},
};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(30);
/// How long a server may take to stop.
const STOP: Duration = Duration::from_secs(12);

/// What can be tried with the case of scenario 1, each after the name of the agency that does it.
const OF_THE_CASE: [&str; 5] = [
    "darul-aman-lahore case list",
    "darul-aman-lahore case read $CASE --fields needs.needs,case.urgency --purpose SHELTER",
    "police-lahore case history $CASE",
    "police-lahore consent list",
    "prosecution-lahore refer list",
];

/// An exchange with its servers running; they end with it.
pub(super) struct Stage {
    pub(super) exchange: Exchange,
    gateway: Child,
    custodian: Child,
    printer: Printer,
    /// Removes the folder, unless it is kept.
    _folder: Option<TempDir>,
}

impl Stage {
    /// Makes the exchange and starts its servers.
    pub(super) async fn set(
        dir: Option<PathBuf>,
        filter: &str,
        printer: Printer,
    ) -> Result<Self, QuickstartError> {
        let temporary =
            match dir {
                Some(_) => None,
                None => Some(TempDir::with_prefix("amanat-").map_err(|source| {
                    QuickstartError::File {
                        path: env::temp_dir(),
                        source,
                    }
                })?),
            };
        let folder = match (&dir, &temporary) {
            (Some(dir), _) => dir.as_path(),
            (None, Some(temporary)) => temporary.path(),
            (None, None) => Path::new("."),
        };
        let exchange = development::make(folder, &system_clock(), &Blueprint::pilot())?;
        let gateway = start("gateway", &exchange.gateway, filter).await?;
        let custodian = start("custodian", &exchange.custodian, filter).await?;
        Ok(Self {
            exchange,
            gateway,
            custodian,
            printer,
            _folder: temporary,
        })
    }

    /// Stops both servers as their operators would, and removes a temporary folder.
    pub(super) async fn strike(mut self) {
        for child in [&mut self.custodian, &mut self.gateway] {
            if let Some(pid) = child.id() {
                // A plain SIGTERM, so that the graceful path is the one that is shown.
                let told = Command::new("kill").arg(pid.to_string()).status().await;
                if !told.is_ok_and(|status| status.success()) {
                    tracing::debug!("a server had ended before");
                }
            }
            if tokio::time::timeout(STOP, child.wait()).await.is_err() {
                tracing::warn!("a server did not stop in time and is killed");
            }
        }
    }

    /// What to try next, ready to paste, and the same names in `tour.env`.
    pub(super) fn print_next(&self, played: Option<&Played>) -> io::Result<()> {
        let folder = &self.exchange.folder;
        let amanat = env::current_exe()?;
        let mut tour = File::create(folder.join("tour.env"))?;
        writeln!(tour, "AMANAT={}", amanat.display())?;
        writeln!(tour, "DIR={}", folder.display())?;
        let mut commands = vec![
            "oversight audit list --decision DENY",
            "oversight audit verify",
        ];
        if let Some(played) = played {
            writeln!(tour, "CASE={}", played.case)?;
            writeln!(tour, "RECORD={}", played.record)?;
            writeln!(tour, "CONSENT={}", played.consent)?;
            writeln!(tour, "REFERRAL={}", played.referral)?;
            commands.splice(..0, OF_THE_CASE);
        }
        let commands: String = commands
            .iter()
            .map(|command| format!("$AMANAT --profile $DIR/agencies/{command}\n"))
            .collect();
        let text = format!(
            "\nThe services stay up: gateway {}, custodian {}. From another shell:\n\n\
             . {}/tour.env\n{commands}\nCtrl-C stops them.",
            self.exchange.gateway.address,
            self.exchange.custodian.address,
            folder.display(),
        );
        self.printer.print(&Report::new(
            text,
            json!({ "tour": folder.join("tour.env") }),
        ))
    }
}

/// Makes a server's database and starts it; returns when it answers.
async fn start(
    name: &'static str,
    server: &Server,
    filter: &str,
) -> Result<Child, QuickstartError> {
    let log = server.folder.join(format!("{name}.log"));
    let failed = |source| QuickstartError::File {
        path: log.clone(),
        source,
    };
    let program = env::current_exe().map_err(failed)?;
    set_filter(&server.config, filter).map_err(failed)?;
    let output = File::create(&log).map_err(failed)?;
    let made = Command::new(&program)
        .args([name, "init", "--config"])
        .arg(&server.config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output.try_clone().map_err(failed)?)
        .status()
        .await
        .map_err(failed)?;
    let not_started = || QuickstartError::Start {
        name,
        log: log.clone(),
    };
    if !made.success() {
        return Err(not_started());
    }
    let mut child = Command::new(&program)
        .args([name, "serve", "--config"])
        .arg(&server.config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(output)
        .kill_on_drop(true)
        // Ctrl-C is for the quickstart, which then stops them in order.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let stdout = child.stdout.take().ok_or_else(not_started)?;
    let mut lines = BufReader::new(stdout).lines();
    match tokio::time::timeout(START, lines.next_line()).await {
        Ok(Ok(Some(line))) if line.contains("listening") => Ok(child),
        _ => Err(not_started()),
    }
}

/// The development configuration logs at `info`; a play can ask for more.
fn set_filter(config: &Path, filter: &str) -> io::Result<()> {
    let text = fs::read_to_string(config)?;
    let mut table: toml::Table = toml::from_str(&text).map_err(io::Error::other)?;
    if let Some(telemetry) = table.get_mut("telemetry").and_then(|t| t.as_table_mut()) {
        telemetry.insert("filter".to_owned(), filter.into());
    }
    fs::write(config, toml::to_string(&table).map_err(io::Error::other)?)
}
