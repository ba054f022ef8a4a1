//! `amanat config`: a configuration looked at before a server or a connector starts with it.

use std::path::{Path, PathBuf};

use amanat_config::{ConfigError, Inspection, Remark, Settings, check_form, outline};
use amanat_connector::{PROFILE_FILE, Profile, Reason};
use amanat_schema::Time;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::{ceremony::is_card, clock::system_clock, error::CommandError, output::Report};

const EXAMPLES: &str = "\
Examples:
  amanat config check /etc/amanat/gateway/gateway.toml
  amanat config check gateway custodian agencies/police-lahore";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Tells every mistake of a configuration and of the files that it names
    ///
    /// All mistakes are told at once, each with its line. If there is none, the files are looked at as they
    /// would be at the start: whether they can be read, by whom, whether keys and certificates are those of
    /// the directory and how long they last, and whether keys, data and state lie apart. Nothing is made or
    /// changed. Run it as the user whose server it is.
    #[command(after_help = EXAMPLES)]
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// A configuration, TOML; of a folder, the gateway.toml, custodian.toml or profile.toml in it
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// What the files configure, where their content does not tell
    #[arg(long, value_enum)]
    kind: Option<Kind>,
}

/// What a file configures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Gateway,
    Custodian,
    Profile,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Gateway, Self::Custodian, Self::Profile];

    const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Custodian => "custodian",
            Self::Profile => "profile",
        }
    }

    /// As its file is called in the folder of its party.
    const fn file(self) -> &'static str {
        match self {
            Self::Gateway => "gateway.toml",
            Self::Custodian => "custodian.toml",
            Self::Profile => PROFILE_FILE,
        }
    }

    /// By the names that one kind of file alone has, or else by what the file is called.
    fn of(file: &Path, names: &[String]) -> Option<Self> {
        let has = |any: &[&str]| names.iter().any(|name| any.contains(&name.as_str()));
        if has(&["subjects"]) {
            Some(Self::Gateway)
        } else if has(&["custody", "oprf"]) {
            Some(Self::Custodian)
        } else if has(&["agency", "outbox", "tls", "statements"]) {
            Some(Self::Profile)
        } else {
            let called = file.file_name()?;
            Self::ALL.into_iter().find(|kind| called == kind.file())
        }
    }
}

/// # Errors
/// [`CommandError::Unfit`] with all that was found.
pub(crate) fn run(verb: &Verb) -> Result<Report, CommandError> {
    let Verb::Check(Check { files, kind }) = verb;
    let now = system_clock()();
    let looks: Vec<_> = files
        .iter()
        .flat_map(|path| configurations(path))
        .map(|file| Look::at(file, *kind, now))
        .collect();
    if looks.iter().all(|look| look.faults.is_empty()) {
        Ok(Report::all(looks.iter().map(Look::in_order).collect()))
    } else {
        Err(CommandError::Unfit(Box::new(faults(&looks))))
    }
}

/// The file itself; of a folder, those in it that are called as configurations are.
fn configurations(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let named = Kind::ALL.map(|kind| path.join(kind.file()));
    let found: Vec<_> = named.into_iter().filter(|file| file.exists()).collect();
    if found.is_empty() {
        vec![path.to_owned()]
    } else {
        found
    }
}

/// What was found in a file, and in those that it names.
struct Look {
    file: PathBuf,
    kind: Option<Kind>,
    /// Whether its settings could be read, so that the files which they name were looked at too.
    is_read: bool,
    faults: Vec<Fault>,
    in_order: Vec<Remark>,
}

struct Fault {
    /// Where the setting stands, if it does.
    line: Option<usize>,
    setting: String,
    why: String,
}

impl Look {
    fn at(file: PathBuf, kind: Option<Kind>, now: Time) -> Self {
        let mut look = Self {
            file,
            kind: None,
            is_read: false,
            faults: Vec::new(),
            in_order: Vec::new(),
        };
        if look.file.is_dir() {
            look.fault("it is a folder without a gateway.toml, custodian.toml or profile.toml");
            return look;
        }
        // Before its kind: of a file that is not TOML nothing else can be told.
        match check_form(&look.file).and_then(|()| outline(&look.file)) {
            Ok(names) if is_card(&names) => {
                look.fault("this is a card, not a configuration; `amanat directory show` shows it");
            }
            Ok(names) => match kind.or_else(|| Kind::of(&look.file, &names)) {
                Some(kind) => look.inspect(kind, now),
                None => look.fault("it does not tell what it configures; say it with --kind"),
            },
            Err(error) => look.refuse(error),
        }
        look
    }

    /// Of the file as a whole.
    fn fault(&mut self, why: impl Into<String>) {
        self.faults.push(Fault {
            line: None,
            setting: String::new(),
            why: why.into(),
        });
    }

    fn inspect(&mut self, kind: Kind, now: Time) {
        self.kind = Some(kind);
        let file = &self.file;
        let inspected = match kind {
            Kind::Gateway => amanat_gateway::Config::load_with_settings(file)
                .map(|(config, lines)| (amanat_gateway::inspect(&config, now), lines)),
            Kind::Custodian => amanat_custodian::Config::load_with_settings(file)
                .map(|(config, lines)| (amanat_custodian::inspect(&config, now), lines)),
            Kind::Profile => Profile::load_with_settings(file)
                .map(|(profile, lines)| (profile.inspect(now), lines)),
        };
        match inspected {
            Ok((found, settings)) => self.take(found, &settings),
            Err(error) => self.refuse(error),
        }
    }

    fn take(&mut self, found: Inspection, settings: &Settings) {
        self.is_read = true;
        let faults = found.faults.into_iter().map(|fault| Fault {
            line: settings.line(&fault.setting),
            setting: fault.setting,
            why: fault.text,
        });
        self.faults.extend(faults);
        self.faults.sort_by_key(|fault| fault.line);
        self.in_order = found.in_order;
    }

    fn refuse(&mut self, error: ConfigError) {
        match error {
            ConfigError::File { source, .. } => self.fault(format!("it cannot be read: {source}")),
            ConfigError::Invalid { violations, .. } => {
                let faults = violations.into_iter().map(|violation| Fault {
                    line: Some(violation.line),
                    setting: violation.setting,
                    why: violation.expected,
                });
                self.faults.extend(faults);
            }
        }
    }

    fn in_order(&self) -> Report {
        let kind = self.kind.map(Kind::name).unwrap_or_default();
        let file = self.file.display().to_string();
        let mut text = format!("{file}: in order ({kind})");
        for remark in &self.in_order {
            text.push_str(&format!("\n  {remark}"));
        }
        let remarks = self.in_order.iter();
        let remarks: Vec<_> = remarks
            .map(|remark| json!({ "path": remark.setting, "text": remark.text }))
            .collect();
        Report::new(
            text,
            json!({ "file": file, "kind": kind, "in_order": remarks }),
        )
    }
}

fn faults(looks: &[Look]) -> Report {
    let (mut lines, mut violations) = (String::new(), Vec::new());
    for look in looks {
        let file = look.file.display().to_string();
        for fault in &look.faults {
            lines.push_str(&format!("\n  {file}{fault}"));
            violations.push(json!({
                "file": file,
                "line": fault.line,
                "path": fault.setting,
                "expected": fault.why,
            }));
        }
    }
    let reason = Reason::ConfigInvalid;
    let mut message = match violations.len() {
        1 => "there is a fault".to_owned(),
        count => format!("there are {count} faults"),
    };
    if looks.iter().any(|look| !look.is_read) {
        message.push_str(
            "; the files that a configuration names are looked at once its own settings are right",
        );
    }
    let next = reason.next_step();
    Report::new(
        format!("amanat: {reason}: {message}{lines}\n  next: {next}"),
        json!({ "error": reason.name(), "message": message, "next": next, "violations": Value::from(violations) }),
    )
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.setting.is_empty() {
            write!(f, ": {}", self.setting)?;
        }
        write!(f, ": {}", self.why)
    }
}
