//! What `amanat config check` says of files that are no configuration, of folders, and of what others have done to
//! a party meanwhile.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use amanat::{
    development::{Blueprint, Certifier, Exchange, Registrar, make},
    system_clock,
};
use tempfile::TempDir;

const AGENCY: &str = "police-lahore";

fn exchange(folder: &TempDir) -> Exchange {
    make(folder.path(), &system_clock(), &Blueprint::pilot()).unwrap()
}

fn amanat(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_amanat"))
        .args(arguments)
        .output()
        .unwrap()
}

/// What is said of a path that is not in order.
fn refused(path: &Path) -> String {
    let checked = amanat(&["config", "check", path.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(3));
    String::from_utf8(checked.stderr).unwrap()
}

/// What is said of a path that is in order.
fn in_order(path: &Path) -> String {
    let checked = amanat(&["config", "check", path.to_str().unwrap()]);
    let told = String::from_utf8(checked.stderr).unwrap();
    assert!(checked.status.success(), "{told}");
    String::from_utf8(checked.stdout).unwrap()
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_mistyped_section_is_told_beside_the_one_that_is_missing() {
    let folder = TempDir::new().unwrap();
    let exchange = exchange(&folder);
    for (server, section) in [
        (&exchange.gateway, "subjects"),
        (&exchange.custodian, "custody"),
    ] {
        edit(&server.config, &format!("[{section}]"), "[mistyped]");
        let told = refused(&server.config);
        assert!(told.contains(": mistyped: "), "{told}");
        assert!(told.contains(&format!(": {section}: ")), "{told}");
        assert!(!told.contains("--kind"), "{told}");
        assert!(
            told.contains("looked at once its own settings are right"),
            "{told}"
        );
    }
    // With its settings in order the files are looked at, and that is not said.
    let profile = &exchange.agencies[AGENCY].folder;
    fs::remove_file(profile.join("keys/statement.key")).unwrap();
    assert!(!refused(profile).contains("looked at once"));
}

#[test]
fn what_is_no_toml_is_told_before_anything_else() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("anything");
    for (text, fault) in [
        ("", ":1: the file is empty"),
        ("Dear operator,\n", ":1: this is not TOML: "),
        ("[server]\nlisten = \n", ":2: this is not TOML: "),
    ] {
        fs::write(&path, text).unwrap();
        let told = refused(&path);
        assert!(
            told.contains(&format!("{}{fault}", path.display())),
            "{told}"
        );
        assert!(!told.contains("--kind"), "{told}");
    }
    assert!(refused(Path::new("/dev/zero")).contains("longer than 1 MiB"));
}

#[test]
fn of_a_folder_the_configuration_in_it_is_looked_at() {
    let folder = TempDir::new().unwrap();
    let exchange = exchange(&folder);
    for (path, kind) in [
        (&exchange.gateway.folder, "gateway"),
        (&exchange.custodian.folder, "custodian"),
        (&exchange.agencies[AGENCY].folder, "profile"),
    ] {
        let told = in_order(path);
        assert!(
            told.contains(&format!("{kind}.toml: in order ({kind})")),
            "{told}"
        );
    }
    let told = refused(&exchange.folder);
    assert!(told.contains("without a gateway.toml"), "{told}");
}

#[test]
fn a_profile_may_be_named_by_its_folder_or_its_file() {
    let folder = TempDir::new().unwrap();
    let profile = exchange(&folder).agencies[AGENCY].folder.clone();
    for path in [profile.clone(), profile.join("profile.toml")] {
        let listed = amanat(&["--profile", path.to_str().unwrap(), "outbox", "list"]);
        let told = String::from_utf8_lossy(&listed.stderr);
        assert!(listed.status.success(), "{told}");
    }
}

#[test]
fn a_log_filter_is_no_word_alone_that_is_no_level() {
    let folder = TempDir::new().unwrap();
    let config = exchange(&folder).gateway.config;
    for (filter, is_one) in [
        ("WARN", true),
        ("off,amanat_desk=debug", true),
        ("loud", false),
        ("info,amanat_desk", false),
    ] {
        let text = fs::read_to_string(&config).unwrap();
        let line = text.lines().find(|line| line.starts_with("filter = "));
        edit(&config, line.unwrap(), &format!("filter = \"{filter}\""));
        if is_one {
            in_order(&config);
        } else {
            let told = refused(&config);
            assert!(
                told.contains(": telemetry.filter: what is logged"),
                "{told}"
            );
        }
    }
}

#[test]
fn a_party_hears_that_its_own_authority_has_revoked_its_certificate() {
    for (certifier, setting) in [
        (Certifier::Agency(AGENCY), "tls.certificate"),
        (Certifier::Gateway, "server.certificate"),
        (Certifier::Custodian, "server.certificate"),
    ] {
        let folder = TempDir::new().unwrap();
        let exchange = exchange(&folder);
        let path = match certifier {
            Certifier::Agency(name) => exchange.agencies[name].folder.clone(),
            Certifier::Gateway => exchange.gateway.folder.clone(),
            Certifier::Custodian => exchange.custodian.folder.clone(),
        };
        in_order(&path);
        let list: PathBuf = exchange.list(certifier).unwrap();
        exchange.revoke(certifier, system_clock()()).unwrap();
        let told = refused(&path);
        let fault = format!(": {setting}: it is revoked by its own authority");
        assert!(told.contains(&fault), "{told}");
        // What nobody can know is said, unless it is a fault for another reason.
        fs::remove_file(list).unwrap();
        if setting == "tls.certificate" || path == exchange.gateway.folder {
            let told = in_order(&path);
            assert!(
                told.contains("whether it is revoked is not known here"),
                "{told}"
            );
        }
    }
}

#[test]
fn who_is_suspended_is_told_of_a_configuration_in_order() {
    let folder = TempDir::new().unwrap();
    let exchange = exchange(&folder);
    assert!(!in_order(&exchange.gateway.folder).contains("suspended"));
    let agency = exchange.agencies[AGENCY].id;
    exchange
        .suspend(Registrar::One, agency, None, system_clock()())
        .unwrap();
    let told = in_order(&exchange.gateway.folder);
    let line = format!("directory.suspensions: suspended: agency {agency} until ");
    assert!(told.contains(&line), "{told}");
}
