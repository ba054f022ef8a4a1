//! Every reason that a user can meet, with what it means and what to do: the servers' published ones, the
//! connector's own and those of the program around it. This is the only place that says so; the printed
//! errors, the catalogue and the exit codes go by it.

use std::{fmt, io};

mod withheld;

pub use withheld::{Withheld, withheld};

/// What is told of a reason.
struct Entry {
    name: &'static str,
    means: &'static str,
    next: &'static str,
    urdu: Option<&'static str>,
}

/// Lines of `Variant = "NAME": "what it means", "what to do next"`, and in plain Urdu both in one for what a
/// shelter's worker meets.
macro_rules! reasons {
    ($($variant:ident = $name:literal: $means:literal, $next:literal $(, $urdu:literal)?;)+) => {
        /// Why something was not done, by its published name or a name of the same form.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $means] $variant,)+
        }

        impl Reason {
            /// In the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            const fn entry(self) -> Entry {
                match self {
                    $(Self::$variant => Entry {
                        name: $name,
                        means: $means,
                        next: $next,
                        urdu: reasons!(@urdu $($urdu)?),
                    },)+
                }
            }
        }
    };
    (@urdu) => { None };
    (@urdu $urdu:literal) => { Some($urdu) };
}

reasons! {
    // Published by the servers: amanat.error.v1.Reason.
    FieldInvalid = "FIELD_INVALID":
        "One or more fields are not as the shared schema wants them; each is named.",
        "correct the fields and send it again; nothing was recorded",
        "کچھ خانے درست نہیں بھرے گئے۔ انہیں درست کریں اور دوبارہ بھیجیں۔ کچھ بھی درج نہیں ہوا۔";
    TooLarge = "TOO_LARGE":
        "One submission holds more than a server takes, or an answer more than the connector does.",
        "shorten the narratives; 512 KiB is the limit of one submission";
    CredentialInvalid = "CREDENTIAL_INVALID":
        "The certificate or the officer's token is not accepted. Which rule it broke stands in the server \
         operator's log only.",
        "check the certificate, the clock and the officer's token with your administrator",
        "آپ کی شناخت قبول نہیں ہوئی۔ اپنے ادارے کے منتظم سے رابطہ کریں۔";
    AccessDenied = "ACCESS_DENIED":
        "There is no such thing here for this officer. Whether it is forbidden or absent is not told apart.",
        "check the id; if it is right, your officer or agency has no right to it",
        "اس نمبر پر آپ کے لیے کچھ نہیں، یا آپ کو اس کی اجازت نہیں۔ نمبر دوبارہ دیکھ لیں۔";
    NothingReleasable = "NOTHING_RELEASABLE":
        "None of the fields asked for may be released to this agency now; each is told with its reason.",
        "have the record's source record a consent, and the recipient accept the referral; do not retry \
         unchanged",
        "جو مانگا گیا اس میں سے کچھ بھی اس وقت آپ کو نہیں دیا جا سکتا۔ اسی طرح دوبارہ کوشش نہ کریں؛ پہلے رضامندی اور \
         ریفرل دیکھیں۔";
    StateConflict = "STATE_CONFLICT":
        "What was asked for is well said, and does not fit how things stand, as in accepting a referral that \
         was rejected.",
        "look at the present state with a list command, then decide";
    RequestIdReused = "REQUEST_ID_REUSED":
        "The request's id was used before, for another request.",
        "run the command again; it takes a new id";
    VersionMismatch = "VERSION_MISMATCH":
        "Somebody else corrected the record meanwhile; nothing was changed.",
        "another correction came first: see `amanat case list`, read the newest version, then correct it \
         again",
        "اس دوران کسی اور نے یہ ریکارڈ بدل دیا ہے۔ نیا ریکارڈ پڑھیں، پھر دوبارہ درست کریں۔";
    QuotaExceeded = "QUOTA_EXCEEDED":
        "A budget is used up: the identifiers of a day, or the requests of one agency at a time.",
        "try again later: what `amanat outbox list` shows is kept, and `amanat outbox deliver` sends it; run \
         anything else again",
        "مقررہ حد پوری ہو گئی ہے۔ انتظار کریں اور بعد میں دوبارہ کوشش کریں۔";
    AuditUnavailable = "AUDIT_UNAVAILABLE":
        "A server's log cannot be written or checked now, so nothing is disclosed.",
        "try again later: what `amanat outbox list` shows is kept, and `amanat outbox deliver` sends it; run \
         anything else again",
        "سرور اس وقت اندراج نہیں کر سکتا، اس لیے کچھ ظاہر نہیں کیا گیا۔ انتظار کریں، پھر دوبارہ کوشش کریں۔";
    LogInconsistent = "LOG_INCONSISTENT":
        "What was signed of a log contradicts itself: entries were taken back, or two readers were shown two \
         logs. A server that finds this discloses nothing any more.",
        "stop and call the duty contact: a log contradicts itself",
        "رک جائیں۔ سرور کے اندراجات ایک دوسرے سے نہیں ملتے۔ فوراً ڈیوٹی پر موجود ذمہ دار شخص کو فون کریں۔";
    LedgerBehind = "LEDGER_BEHIND":
        "One server has not yet received a consent or a directory that the other has.",
        "one server is a little behind the other; try again in a moment",
        "ایک سرور ابھی دوسرے سے ذرا پیچھے ہے۔ چند لمحے انتظار کریں، پھر دوبارہ کوشش کریں۔";

    // Of the connector.
    Unreachable = "UNREACHABLE":
        "A server does not answer, or not in time. What it last heard it may have done.",
        "try again later: what `amanat outbox list` shows is kept, and `amanat outbox deliver` sends it; run \
         anything else again",
        "سرور سے رابطہ نہیں ہو رہا۔ انتظار کریں اور بعد میں دوبارہ کوشش کریں۔ جو بھیجے جانے کے انتظار میں ہے وہ محفوظ ہے۔";
    ProfileMissing = "PROFILE_MISSING":
        "No profile was named, or there is none in the folder that was named. A profile is the folder with an \
         agency's keys and its profile.toml.",
        "give the folder with --profile DIR; your administrator makes one with `amanat keys init agency`, and \
         `amanat quickstart --dir DIR` makes some to try out",
        "ادارے کا پروفائل نہیں ملا۔ اپنے ادارے کے منتظم سے رابطہ کریں۔";
    ProfileInvalid = "PROFILE_INVALID":
        "The profile, or a key file that it names, is not as it must be.",
        "mend the file that is named, or choose another --profile";
    DirectoryInvalid = "DIRECTORY_INVALID":
        "The signed directory of the exchange is missing, not in force, not signed by enough registrars, or \
         lacks what is needed.",
        "fetch the newest directory from your registrars; check the clock";
    DirectoryRolledBack = "DIRECTORY_ROLLED_BACK":
        "The directory is older than the one that was in use here, or says something else under the same \
         number.",
        "stop; fetch the newest directory from your registrars, and find out with them who put this one there";
    RevocationUnknown = "REVOCATION_UNKNOWN":
        "The revocation list of an authority is missing, out of date or not its own, so none of its \
         certificates counts.",
        "put the list there that the message names; then `amanat outbox deliver` sends what `amanat outbox \
         list` shows; run anything else again";
    ServerRevoked = "SERVER_REVOKED":
        "The server shows a certificate that its own authority has revoked: whoever answers is not that \
         server.",
        "send nothing to this server; call the duty contact, and ask the registrars for the newest directory";
    AnswerUntrustworthy = "ANSWER_UNTRUSTWORTHY":
        "A server's answer lacks the proof that it must carry, or the proof does not hold.",
        "do not use the answer; keep it and call the duty contact",
        "اس جواب پر بھروسا نہ کریں اور اسے استعمال نہ کریں۔ ڈیوٹی پر موجود ذمہ دار شخص کو فون کریں۔";
    VerificationFailed = "VERIFICATION_FAILED":
        "A log does not hold what its server signed: an entry is altered or missing. The first one is named \
         where it can be.",
        "keep the output and call the duty contact; believe nothing of this log from the entry named";
    CallUnknown = "CALL_UNKNOWN":
        "The server does not know this call: it is of another version than this program.",
        "ask your administrator for the program's version that fits the exchange";
    AnotherPerson = "ANOTHER_PERSON":
        "The file's identifiers lead to somebody else than the record is known to be of; nothing was handed \
         in.",
        "if she really is one person, merge the two with `amanat subject merge`, or pass --person-checked once \
         you have checked it yourself; if not, her file is another record's",
        "یہ فائل کسی اور شخص کی معلوم ہوتی ہے۔ کچھ نہیں بھیجا گیا۔ پہلے خود تسلی کر لیں کہ یہ وہی شخص ہے۔";
    OutboxUnusable = "OUTBOX_UNUSABLE":
        "The outbox, where the connector keeps what is to be delivered, cannot be opened, read or written.",
        "check that its folder is there and this user's to write; if it is damaged, keep it and call your \
         administrator";
    OutboxBusy = "OUTBOX_BUSY":
        "Another command of this profile has held the outbox for more than ten seconds.",
        "wait until the other command has ended, then run this one again";
    DiskFull = "DISK_FULL":
        "The disk has no space left, or this user may use no more of it; what was being written is not done.",
        "make space on the disk that the message is about, then run the command again",
        "کمپیوٹر کی ڈسک بھر گئی ہے۔ جگہ خالی کریں، پھر دوبارہ کوشش کریں۔";

    // Of the program.
    UsageInvalid = "USAGE_INVALID":
        "The arguments of the command are not understood.",
        "see `amanat COMMAND --help`";
    InputInvalid = "INPUT_INVALID":
        "An argument or a file that was given does not fit: it is of another form, or names what is not \
         known here.",
        "change what the message names, then run it again; the command's --help shows what it takes";
    FileUnusable = "FILE_UNUSABLE":
        "A file cannot be read or written.",
        "check that it is there, its owner and its permissions";
    ConfigInvalid = "CONFIG_INVALID":
        "A server's configuration is missing, or a setting is not valid; each is named with its line.",
        "mend the file; `amanat config check` tells all that is wrong with it";
    KeyInvalid = "KEY_INVALID":
        "A key or certificate is not in its form, can be read by others, or is not the one that the directory \
         or the stored data were made with.",
        "put the right file there, readable by its owner only";
    DecisionTableInvalid = "DECISION_TABLE_INVALID":
        "The decision table is not valid, or not the one that the directory names.",
        "put the table there that was published with the directory";
    SuspensionInvalid = "SUSPENSION_INVALID":
        "A file among the registrars' suspensions cannot be read or is none. It may close an agency that is \
         not to be trusted, so the server does not start without it.",
        "do what the message says of the file, then start again";
    DatabaseExists = "DATABASE_EXISTS":
        "There is a database where a new one was to be made; it was left as it is.",
        "run `serve`; to set up another server, name another file in log.database";
    DatabaseMissing = "DATABASE_MISSING":
        "There is no database where the configuration says.",
        "before the first start run `init`; if this server has run before, its log is lost: restore it, do \
         not make a new one";
    DatabaseInvalid = "DATABASE_INVALID":
        "The database is not one of this server, or another version of the program made it.",
        "check log.database; `migrate` brings an earlier version's up to date, and a later version's needs that \
         version";
    BackupDamaged = "BACKUP_DAMAGED":
        "A backup is not what its server wrote and signed: it was altered or cut off. Nothing of it was \
         restored.",
        "take another copy of it, or the backup before it; keep this one, and find out who could write to it";
    LogFrozen = "LOG_FROZEN":
        "The server ran frozen, because what is stored, what was signed or what the gateway showed contradicts \
         itself. It served proofs, and disclosed nothing.",
        "do not restart it in the hope that it passes: call the duty contact, who compares the log with \
         backups, the checkpoint file and the other server";
    LogUnwritable = "LOG_UNWRITABLE":
        "The log's database cannot be written or read now: the disk is full, or another process holds it.",
        "check the disk's free space and that no other server uses this database, then start again";
    AddressUnavailable = "ADDRESS_UNAVAILABLE":
        "The address or port cannot be listened on: another process has it, or it is not this machine's to \
         use.",
        "end the other process or change server.listen, then start again";
    SystemRefused = "SYSTEM_REFUSED":
        "The operating system refused what every program needs: threads, signals, an open standard output.",
        "check the machine's limits and where standard output leads to, then run it again";
    CardInvalid = "CARD_INVALID":
        "A party's card is of another party or exchange than was expected, or was changed after its maker signed \
         it.",
        "ask its owner for the card again, and compare its fingerprint by telephone";
    DraftRefused = "DRAFT_REFUSED":
        "A directory or a draft of one is not edited, signed or published: it does not follow the one in use, or \
         lacks what is needed.",
        "do what the message says; `amanat directory show` and `diff` tell what a file says";
    RotationRefused = "ROTATION_REFUSED":
        "Keys or certificates of a party stay as they are: what must come before is not done yet.",
        "do what the message says, then run the command again";
    ExchangeNotMade = "EXCHANGE_NOT_MADE":
        "The files of a new exchange could not be made.",
        "do what the message says; `amanat quickstart --dir DIR` wants an empty or a new folder";
    ServerNotStarted = "SERVER_NOT_STARTED":
        "A server of the quickstart ended before it answered.",
        "read its log, which the message names, then run the quickstart again";
    Interrupted = "INTERRUPTED":
        "A signal ended the command before it was done.",
        "run it again";
    PlayFailed = "PLAY_FAILED":
        "A step of the quickstart did not go as it must.",
        "this is a fault of the program: keep the output and report it";
}

impl Reason {
    /// The reason that is called so; `None` for one of a newer server.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.name() == name)
    }

    /// Why an operation on a file failed.
    pub fn of_io(error: &io::Error) -> Self {
        if matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            Self::DiskFull
        } else {
            Self::FileUnusable
        }
    }

    /// As in `FIELD_INVALID`.
    pub const fn name(self) -> &'static str {
        self.entry().name
    }

    /// What it means, in whole sentences.
    pub const fn meaning(self) -> &'static str {
        self.entry().means
    }

    /// What to do next.
    pub const fn next_step(self) -> &'static str {
        self.entry().next
    }

    /// Both in plain Urdu, for what a shelter's worker meets.
    pub const fn urdu(self) -> Option<&'static str> {
        self.entry().urdu
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use amanat_schema::error;

    use super::*;

    #[test]
    fn every_published_reason_is_in_the_catalogue() {
        let published: Vec<_> = (1..64)
            .filter_map(|number| error::Reason::try_from(number).ok())
            .map(|reason| reason.as_str_name().strip_prefix("REASON_").unwrap())
            .collect();
        assert!(published.len() >= 12);
        for name in published {
            assert_eq!(Reason::of_name(name).map(Reason::name), Some(name));
        }
    }

    #[test]
    fn each_reason_has_a_name_of_its_own_and_says_what_to_do() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let told = [reason.meaning(), reason.next_step()];
            assert!(told[0].ends_with('.'), "{reason}: a sentence");
            assert!(!told[1].ends_with('.'), "{reason}: stands in a line");
            for text in told {
                assert!(!text.contains("  "), "{reason}: {text}");
                assert!(text.len() > 10, "{reason}: {text}");
            }
        }
    }

    #[test]
    fn urdu_is_in_its_own_script_and_for_what_a_worker_meets() {
        let told: Vec<_> = Reason::ALL.iter().filter_map(|r| r.urdu()).collect();
        assert!((10..=16).contains(&told.len()), "{}", told.len());
        for text in told {
            assert!(text.ends_with('۔'), "{text}");
            assert!(!text.contains("  "), "{text}");
            // Arabic letters in the place of Urdu's own look right in some fonts and are found by no search.
            assert!(!text.contains(['ي', 'ك', 'ه']), "{text}");
            assert!(!text.chars().any(|c| c.is_ascii_alphabetic()), "{text}");
        }
    }

    #[test]
    fn a_full_disk_is_told_apart_from_other_faults_of_a_file() {
        let of = |kind: io::ErrorKind| Reason::of_io(&kind.into());
        assert_eq!(of(io::ErrorKind::StorageFull), Reason::DiskFull);
        assert_eq!(of(io::ErrorKind::NotFound), Reason::FileUnusable);
    }
}
