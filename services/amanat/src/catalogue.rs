//! `amanat errors`: the catalogue of reasons, and the page made of it.

use amanat_connector::{Reason, withheld};
use amanat_schema::policy::WithheldReason;
use clap::Args;
use serde_json::json;

use crate::{CommandError, agency::codes::withheld_name, exit::Exit, output::Report};

const EXAMPLES: &str = "\
Examples:
  amanat errors                      every reason with its exit code
  amanat errors LEDGER_BEHIND        what it means and what to do
  amanat errors CONSENT_NOT_IN_FORCE the same of a field's reason";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Errors {
    /// As in `amanat: LEDGER_BEHIND: …` or `withheld case.fir_number: NOT_ALLOWED_FOR_ROLE`; otherwise all
    #[arg(value_name = "REASON")]
    reason: Option<String>,
}

/// What the catalogue says of a reason.
struct Shown {
    name: &'static str,
    /// `None` for a field's reason: the command may well have succeeded.
    exit: Option<Exit>,
    meaning: &'static str,
    next: &'static str,
    urdu: Option<&'static str>,
}

impl From<Reason> for Shown {
    fn from(reason: Reason) -> Self {
        Self {
            name: reason.name(),
            exit: Some(Exit::of(reason)),
            meaning: reason.meaning(),
            next: reason.next_step(),
            urdu: reason.urdu(),
        }
    }
}

/// The reasons of fields that stay closed.
fn of_fields() -> impl Iterator<Item = Shown> {
    // The list is numbered from 1 and shorter than this.
    let reasons = (1..64).filter_map(|number| WithheldReason::try_from(number).ok());
    reasons.filter_map(|reason| {
        let told = withheld(reason)?;
        Some(Shown {
            name: withheld_name(reason),
            exit: None,
            meaning: told.meaning,
            next: told.next,
            urdu: told.urdu,
        })
    })
}

fn all() -> impl Iterator<Item = Shown> {
    let reasons = Exit::ALL.into_iter().flat_map(of_exit);
    reasons.chain(of_fields())
}

fn of_exit(exit: Exit) -> impl Iterator<Item = Shown> {
    let reasons = Reason::ALL.iter().copied();
    reasons
        .filter(move |reason| Exit::of(*reason) == exit)
        .map(Shown::from)
}

pub(crate) fn run(args: &Errors) -> Result<Report, CommandError> {
    let Some(name) = &args.reason else {
        return Ok(Report::list(
            all().map(|shown| shown.in_a_line()).collect(),
            "",
        ));
    };
    let name = name.to_ascii_uppercase().replace('-', "_");
    let found = all().find(|shown| shown.name == name);
    Ok(found.ok_or(CommandError::UnknownReason)?.in_full())
}

impl Shown {
    fn in_a_line(&self) -> Report {
        let exit = self
            .exit
            .map_or_else(|| "-".to_owned(), |exit| exit.code().to_string());
        let text = format!("{exit}  {:<24} {}", self.name, self.meaning);
        Report::new(text, self.json())
    }

    fn in_full(&self) -> Report {
        let mut text = format!("{}: {}", self.name, self.meaning);
        if let Some(exit) = self.exit {
            let (code, meaning) = (exit.code(), exit.meaning());
            text.push_str(&format!("\n  exit code {code}: {meaning}"));
        }
        text.push_str(&format!("\n  next: {}", self.next));
        if let Some(urdu) = self.urdu {
            text.push_str(&format!("\n  {urdu}"));
        }
        Report::new(text, self.json())
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "reason": self.name, "exit_code": self.exit.map(Exit::code),
            "retry": self.exit.map(|exit| exit == Exit::Later),
            "meaning": self.meaning, "next": self.next, "urdu": self.urdu,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, env, fs, path::Path};

    use super::*;

    const PAGE: &str = "../../deploy/errors.md";
    const HEAD: &str = "\
# What can go wrong, and what to do

Made from the program's own list; `amanat errors REASON` prints an entry at the terminal. A failure stands on
standard error as `amanat: REASON: what happened`, the fields or settings concerned, and `next: what to do`; with
`--json` as one object with `error`, `message`, `next` and, where there are any, `violations` and `withheld`. A
reason that is not listed comes from a newer server: the command ends with 4 if that server says when to come
back, and with 1 otherwise.

A command that did a part ends with 0 if what it gave is whole by itself (a read that left fields or records
closed). If deliveries failed, the gravest decides: 5 before 1, before 3, before 4.

A log that is verified and does not hold what its server signed ends in 1. Two things that a server signed and
that contradict each other end in 5, whoever finds them: they are evidence. A server that ran with its log frozen
ends in 5 when it is stopped.
";

    fn page() -> String {
        let mut page = HEAD.to_owned();
        for exit in Exit::ALL {
            let (code, meaning) = (exit.code(), exit.meaning());
            page.push_str(&format!("\n## Exit code {code}: {meaning}\n"));
            page.push_str(match exit {
                Exit::Later => "\nThe same command, unchanged, works once the cause has passed.\n",
                Exit::Denied | Exit::Usage | Exit::BadInput | Exit::Inconsistent => {
                    "\nNothing of this passes by itself.\n"
                }
            });
            of_exit(exit).for_each(|shown| entry(&mut page, &shown));
        }
        page.push_str(
            "\n## Fields that stay closed\n\nA read tells them as `withheld FIELD: REASON`.\n",
        );
        of_fields().for_each(|shown| entry(&mut page, &shown));
        page
    }

    fn entry(page: &mut String, shown: &Shown) {
        let Shown {
            name,
            meaning,
            next,
            urdu,
            ..
        } = shown;
        page.push_str(&format!("\n### {name}\n\n{meaning}\n\n*Next:* {next}.\n"));
        if let Some(urdu) = urdu {
            page.push_str(&format!("\n<p dir=\"rtl\" lang=\"ur\">{urdu}</p>\n"));
        }
    }

    #[test]
    fn the_page_of_errors_is_made_from_the_catalogue() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
        let made = page();
        if env::var_os("AMANAT_BLESS").is_some() {
            fs::write(&path, &made).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == made,
            "deploy/errors.md is not what the catalogue says; write it anew with AMANAT_BLESS=1"
        );
    }

    #[test]
    fn every_reason_stands_in_the_catalogue_once() {
        let names: Vec<_> = all().map(|shown| shown.name).collect();
        let each: BTreeSet<_> = names.iter().collect();
        assert_eq!(each.len(), names.len());
        assert_eq!(names.len(), Reason::ALL.len() + of_fields().count());
        assert!(of_fields().count() >= 6);
    }

    #[test]
    fn every_reason_is_explained_in_whatever_case_it_is_typed() {
        for shown in all() {
            let reason = Some(shown.name.to_ascii_lowercase().replace('_', "-"));
            assert!(run(&Errors { reason }).is_ok(), "{}", shown.name);
        }
        let reason = Some("NO_SUCH_REASON".to_owned());
        assert!(matches!(
            run(&Errors { reason }),
            Err(CommandError::UnknownReason)
        ));
    }

    /// The whole table: a reason that moves to another code breaks somebody's script.
    #[test]
    fn each_reason_ends_with_its_published_code() {
        let table = [
            (
                Exit::Denied,
                "CREDENTIAL_INVALID ACCESS_DENIED NOTHING_RELEASABLE STATE_CONFLICT REQUEST_ID_REUSED \
                 VERSION_MISMATCH SERVER_REVOKED VERIFICATION_FAILED CALL_UNKNOWN ANOTHER_PERSON \
                 DRAFT_REFUSED ROTATION_REFUSED BACKUP_DAMAGED PLAY_FAILED",
            ),
            (Exit::Usage, "USAGE_INVALID"),
            (
                Exit::BadInput,
                "FIELD_INVALID TOO_LARGE PROFILE_MISSING PROFILE_INVALID DIRECTORY_INVALID REVOCATION_UNKNOWN \
                 OUTBOX_UNUSABLE INPUT_INVALID FILE_UNUSABLE CONFIG_INVALID KEY_INVALID \
                 DECISION_TABLE_INVALID SUSPENSION_INVALID DATABASE_EXISTS DATABASE_MISSING DATABASE_INVALID \
                 CARD_INVALID EXCHANGE_NOT_MADE",
            ),
            (
                Exit::Later,
                "QUOTA_EXCEEDED AUDIT_UNAVAILABLE LEDGER_BEHIND UNREACHABLE OUTBOX_BUSY DISK_FULL \
                 LOG_UNWRITABLE ADDRESS_UNAVAILABLE SYSTEM_REFUSED SERVER_NOT_STARTED INTERRUPTED",
            ),
            (
                Exit::Inconsistent,
                "LOG_INCONSISTENT DIRECTORY_ROLLED_BACK ANSWER_UNTRUSTWORTHY LOG_FROZEN",
            ),
        ];
        for (exit, names) in table {
            let found: BTreeSet<_> = of_exit(exit).map(|shown| shown.name).collect();
            let listed: BTreeSet<_> = names.split_whitespace().collect();
            assert_eq!(found, listed, "exit code {}", exit.code());
        }
    }
}
