//! The sample configurations are valid, say what counts where a setting is left out, and leave no setting out.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
};

use amanat_config::{ConfigError, Settings};
use amanat_connector::Profile;
use tempfile::TempDir;

/// A sample's file, and how it is read.
struct Sample {
    name: &'static str,
    read: fn(&Path) -> Result<(String, Settings), ConfigError>,
}

const SAMPLES: [Sample; 3] = [
    Sample {
        name: "gateway.toml",
        read: |path| shown(amanat_gateway::Config::load_with_settings(path)),
    },
    Sample {
        name: "custodian.toml",
        read: |path| shown(amanat_custodian::Config::load_with_settings(path)),
    },
    Sample {
        name: "profile.toml",
        read: |path| shown(Profile::load_with_settings(path)),
    },
];

/// What was read, to be compared.
fn shown<T: Debug>(
    read: Result<(T, Settings), ConfigError>,
) -> Result<(String, Settings), ConfigError> {
    read.map(|(config, settings)| (format!("{config:?}"), settings))
}

impl Sample {
    fn text(&self) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config");
        fs::read_to_string(folder.join(self.name)).unwrap()
    }

    /// The sample with some of its settings written out, in the place of the sample.
    fn with(&self, folder: &TempDir, is_taken: fn(Counts) -> bool) -> (String, Settings) {
        let path: PathBuf = folder.path().join(self.name);
        fs::write(&path, written_out(&self.text(), is_taken)).unwrap();
        (self.read)(&path).unwrap_or_else(|error| unreachable!("{error}"))
    }
}

/// What counts where a setting is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// What the sample shows.
    Shown,
    /// Something else, as its comment says with the words `Without it`; so for all of such a section.
    Otherwise,
}

/// The settings that may be left out stand behind a `#` without a space.
fn written_out(text: &str, is_taken: fn(Counts) -> bool) -> String {
    let (mut comment, mut section, mut out) = (String::new(), Counts::Shown, String::new());
    for line in text.lines() {
        if line.starts_with("# ") || line == "#" {
            comment.push_str(line.trim_start_matches('#'));
        } else if let Some(setting) = line.strip_prefix('#') {
            let own = if comment.contains("Without it") {
                Counts::Otherwise
            } else {
                Counts::Shown
            };
            if setting.starts_with('[') {
                section = own;
            }
            let counts = if section == Counts::Otherwise {
                section
            } else {
                own
            };
            out.push_str(if is_taken(counts) { setting } else { line });
            comment.clear();
        } else {
            out.push_str(line);
            comment.clear();
            if line.starts_with('[') {
                section = Counts::Shown;
            }
        }
        out.push('\n');
    }
    out
}

#[test]
fn each_sample_is_valid_as_it_is_and_with_every_setting_written_out() {
    for sample in SAMPLES {
        let folder = TempDir::new().unwrap();
        sample.with(&folder, |_| false);
        sample.with(&folder, |_| true);
    }
}

#[test]
fn what_a_sample_shows_of_a_setting_that_is_left_out_is_what_counts_then() {
    for sample in SAMPLES {
        let folder = TempDir::new().unwrap();
        let (left_out, _) = sample.with(&folder, |_| false);
        let (defaults, _) = sample.with(&folder, |counts| counts == Counts::Shown);
        assert_eq!(left_out, defaults, "{}", sample.name);
        let (everything, _) = sample.with(&folder, |_| true);
        assert_ne!(left_out, everything, "{}", sample.name);
    }
}

#[test]
fn no_setting_is_left_out_of_a_sample() {
    for sample in SAMPLES {
        let folder = TempDir::new().unwrap();
        let (_, settings) = sample.with(&folder, |_| true);
        let missing: Vec<_> = settings
            .known()
            .filter(|setting| settings.line(setting).is_none())
            .collect();
        assert!(missing.is_empty(), "{} lacks {missing:?}", sample.name);
    }
}
