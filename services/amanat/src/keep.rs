//! What is done with a server's database beside serving from it: backups, and the move to another place.

use std::{
    io::IsTerminal as _,
    path::{self, Path, PathBuf},
};

use amanat_config::read_file;
use amanat_database::{Place, PlaceError};
use amanat_desk::keeping::{self, KeepError, Keeping, Origin};
use amanat_journal::backup::{self, Backup};
use amanat_ledger::Head;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    CommandError,
    ceremony::{self, Card, CeremonyError, Draft},
    clock::system_clock,
    output::{Printer, Report, progress},
    serve::ServerError,
};

pub(crate) const BACKUP: &str = "\
Examples:
  amanat gateway backup --config gateway.toml --out gateway.backup
  amanat custodian backup --config custodian.toml --key /mnt/key/backup.key \\
    --out custodian.backup

The server may be at work: the backup is its database at one moment. Nothing
in it can be read without the key. It is no backup of the keys.";

pub(crate) const RESTORE: &str = "\
Examples:
  amanat gateway restore --config gateway.toml --from gateway.backup
  amanat gateway restore --config gateway.toml --from gateway.backup \\
    --seen observed-head
  amanat gateway restore --config gateway.toml --from gateway.backup \\
    --as 'postgres://amanat_owner@db.example/amanat?…'

Nothing is written unless the whole file holds. The server must be stopped,
and there must be no database. The checkpoint file stays as it is: if more
was signed than the backup holds, the server starts frozen. Where that file
is lost, --seen takes the newest checkpoint that others hold: of the gateway,
the custodian's observed-head file; of the custodian, the checkpoint of the
newest receipt that an agency has of it.";

pub(crate) const MOVE: &str = "\
Examples:
  amanat gateway move --config gateway.toml --to data/new.sqlite
  amanat gateway move --config gateway.toml \\
    --to 'postgres://amanat_gateway@db.example/amanat?…' \\
    --as 'postgres://amanat_owner@db.example/amanat?…'

The server must be stopped, every replica of it. The copy is verified from the
bodies of the log up before it counts. What was moved away from is kept, and
not served again: a file is renamed to FILE.moved, on PostgreSQL the log is
frozen.";

const VERIFY: &str = "\
Example:
  amanat backup verify gateway.backup --key backup.key \\
    --directory directory.bin \\
    --registrar one.card.toml --registrar two.card.toml

Needs no server and no database. Ends with exit code 1 if anything differs
from what the server wrote and signed.";

#[derive(Debug, Args)]
pub(crate) struct BackUp {
    /// The server's configuration, TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// A new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// 32 bytes, hexadecimal; backup.key of the configuration if absent
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The server's configuration, TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The backup
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The key that it was sealed with; backup.key of the configuration if absent
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The newest checkpoint of this log that others hold, where the checkpoint file is lost
    #[arg(long, value_name = "FILE")]
    seen: Option<PathBuf>,
    #[command(flatten)]
    role: Role,
}

#[derive(Debug, Args)]
pub(crate) struct Move {
    /// The server's configuration, TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The path of a new file, or the address of an empty PostgreSQL database
    #[arg(long, value_name = "DATABASE", value_parser = destination)]
    to: Destination,
    #[command(flatten)]
    role: Role,
}

/// Who makes tables where the service may not.
#[derive(Debug, Args)]
pub(crate) struct Role {
    /// The PostgreSQL database's address for the role that owns its tables, if the service's is another
    #[arg(long = "as", value_name = "ADDRESS", value_parser = address)]
    owner: Option<Place>,
}

impl Role {
    /// The owner of the tables, if it is not the service itself.
    pub(crate) fn of(&self, database: &Place) -> Result<Option<&Place>, ServerError> {
        match (&self.owner, database) {
            (Some(_), Place::Sqlite(file)) => Err(ServerError::Ownerless { file: file.clone() }),
            (owner, Place::Sqlite(_) | Place::Postgres(_)) => Ok(owner.as_ref()),
        }
    }
}

/// A database, and how a configuration names it.
#[derive(Debug, Clone)]
struct Destination {
    place: Place,
    setting: String,
}

fn destination(text: &str) -> Result<Destination, PlaceError> {
    let servers = Place::of_address(text)?;
    // Wherever the configuration lies.
    let file = path::absolute(text).map_err(|_| PlaceError::Form)?;
    Ok(match servers {
        Some(place) => Destination {
            place,
            setting: text.to_owned(),
        },
        None => Destination {
            setting: file.display().to_string(),
            place: Place::Sqlite(file),
        },
    })
}

fn address(text: &str) -> Result<Place, PlaceError> {
    Place::of_address(text)?.ok_or(PlaceError::Form)
}

pub(crate) async fn back_up(
    keeping: &Keeping<'_>,
    args: &BackUp,
    printer: Printer,
) -> Result<(), ServerError> {
    let (key, now) = (args.key.as_deref(), system_clock()());
    let backup = keeping.back_up(&args.out, key, now, told).await?;
    let (file, log) = (args.out.display(), in_words(&backup));
    let report = Report::new(
        format!("backed up the {} to {file}: {log}", backup.owner.server),
        facts(&backup),
    );
    print(printer, &report.with_value("file", json!(args.out)))
}

/// The server's address is held meanwhile.
pub(crate) async fn restore(
    keeping: &Keeping<'_>,
    args: &Restore,
    printer: Printer,
) -> Result<(), ServerError> {
    let database = &keeping.log.database;
    let owner = args.role.of(database)?;
    let seen = args.seen.as_deref().map(note).transpose()?;
    let origin = Origin {
        file: &args.from,
        key: args.key.as_deref(),
        seen: seen.as_deref(),
    };
    let restored = keeping
        .restore(origin, owner, system_clock()(), told)
        .await?;
    let log = in_words(&restored.backup);
    let mut report = Report::new(
        format!("restored {database}: {log}"),
        facts(&restored.backup),
    );
    if let Some(signed) = restored.behind {
        report = report.with(
            &format!(
                "WARNING: {signed} entries were signed. The server will start frozen, for the newest of them \
                 are missing here:\nrestore a newer backup. If there is none, do not serve: see \"A backup that \
                 ends too early\" in operators.md"
            ),
            "behind",
            json!({ "signed": signed }),
        );
    }
    print(printer, &report)
}

/// The server's address is held meanwhile.
pub(crate) async fn transfer(
    keeping: &Keeping<'_>,
    args: &Move,
    printer: Printer,
) -> Result<(), ServerError> {
    let Destination { place, setting } = &args.to;
    let owner = args.role.of(place)?;
    let now = system_clock()();
    let Head { size, root } = keeping.transfer(place.clone(), owner, now, told).await?;
    let from = &keeping.log.database;
    let left = match from.file() {
        Some(file) => format!("{} is what it was", backup::moved(file).display()),
        None => format!("{from} is frozen"),
    };
    let line = format!("database = {}", json!(setting));
    let text = format!(
        "moved {size} entries, root {root}, to {place}\n  {left}; remove it when the new one is backed up\n  \
         next: in {}, under [log], set\n{line}",
        args.config.display()
    );
    let json = json!({
        "database": setting, "entries": size, "root": hex::encode(root.0), "setting": line,
    });
    print(printer, &Report::new(text, json))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Verifies a backup far from its server: signature, every part, every entry of its log
    #[command(after_help = VERIFY)]
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The backup
    file: PathBuf,
    /// The key that it was sealed with
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A directory of the exchange, which lists the log's key; it need not be in force any more
    #[arg(long, value_name = "FILE")]
    directory: PathBuf,
    /// The card of a registrar, once for each
    #[arg(long = "registrar", value_name = "CARD", required = true)]
    registrars: Vec<PathBuf>,
    /// How many registrars must have signed the directory
    #[arg(long, value_name = "N", default_value_t = 2)]
    threshold: usize,
}

/// `amanat backup`.
pub(crate) fn run(verb: &Verb) -> Result<Report, CommandError> {
    let Verb::Verify(args) = verb;
    let cards = args.registrars.iter();
    let cards = cards.map(|path| Ok((path.as_path(), Card::read(path)?)));
    let cards: Vec<_> = cards.collect::<Result<_, CeremonyError>>()?;
    let registrars = ceremony::registrars(&cards, args.threshold)?;
    let directory = Draft::read(&args.directory)?.is_signed_by(&registrars)?;
    let backup = keeping::verify(&args.file, &directory, &args.key, told);
    let backup = backup.map_err(ServerError::Keep)?;
    let Backup { owner, origin, .. } = &backup;
    let text = format!(
        "the backup holds: the {} of {}, as of {}\n  signed by the key of {origin}\n  {}; each entry hashed anew \
         from its body, up to the signed root",
        owner.server,
        owner.exchange_id,
        backup.time,
        in_words(&backup),
    );
    let report = Report::new(text, facts(&backup));
    Ok(report.with_value("verified", json!(true)))
}

fn head(backup: &Backup) -> Head {
    let checkpoint = backup.checkpoint.as_ref();
    checkpoint.map_or(Head::EMPTY, |checkpoint| checkpoint.head)
}

fn in_words(backup: &Backup) -> String {
    let Head { size, root } = head(backup);
    format!("{size} entries, root {root}; {} rows", backup.rows)
}

fn facts(backup: &Backup) -> Value {
    let Head { size, root } = head(backup);
    json!({
        "server": backup.owner.server, "exchange": backup.owner.exchange_id, "log": backup.origin,
        "time": backup.time.to_string(), "entries": size, "root": hex::encode(root.0), "rows": backup.rows,
        "checkpoint": backup.checkpoint.as_ref().map(|checkpoint| &checkpoint.text),
    })
}

fn note(path: &Path) -> Result<String, ServerError> {
    let bytes = read_file(path).map_err(KeepError::File)?;
    // What is no text is no checkpoint either, and is found to be none.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A person at a terminal sees how far it is.
fn told(rows: u64) {
    if rows > 10_000 && std::io::stderr().is_terminal() {
        progress(&format!("{rows} rows"));
    }
}

fn print(printer: Printer, report: &Report) -> Result<(), ServerError> {
    printer.print(report).map_err(ServerError::Output)
}
