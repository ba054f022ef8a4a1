//! Every mistake of a configuration file is told at once, with its line, and nothing of the file is quoted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    num::NonZeroU64,
    path::{Path, PathBuf},
};

use amanat_config::{
    ConfigError, Section, Settings, check_form, outline, read, read_with_settings,
};
use tempfile::TempDir;

#[derive(Debug)]
struct Office {
    desks: u8,
    door: Door,
    keys: Vec<Key>,
    staff: BTreeMap<String, u8>,
    rooms: BTreeMap<String, Key>,
    lamp: Option<Key>,
    heating: u8,
}

#[derive(Debug)]
struct Door {
    listen: SocketAddr,
    reload_s: NonZeroU64,
    files: Vec<PathBuf>,
}

#[derive(Debug)]
struct Key {
    seed: PathBuf,
}

fn office(top: &mut Section<'_>) -> Option<Office> {
    let desks = top.required("desks", "how many desks");
    let door = top.section("door", |section| {
        let listen = section.required("listen", "an address with its port");
        let reload_s = section.required("reload_s", "a number of seconds, at least 1");
        let files = section.paths("files");
        Some(Door {
            listen: listen?,
            reload_s: reload_s?,
            files: files?,
        })
    });
    let keys = top.list("keys", key);
    let staff = top.values("staff", "a number");
    let rooms = top.named("rooms", key);
    let lamp = top.optional_section("lamp", key);
    let heating = top.section_or_default("heating", |section| section.or("degrees", 20, "degrees"));
    Some(Office {
        desks: desks?,
        door: door?,
        keys: keys?,
        staff: staff?,
        rooms: rooms?,
        lamp: lamp?,
        heating: heating?,
    })
}

fn key(section: &mut Section<'_>) -> Option<Key> {
    let seed = section.path("seed");
    Some(Key { seed: seed? })
}

const VALID: &str = "\
desks = 4
staff = { morning = 2, evening = 1 }
[door]
listen = '127.0.0.1:1'
reload_s = 5
files = ['a', '/b']
[[keys]]
seed = 'one'
[[keys]]
seed = 'keys/two'
[rooms.large]
seed = '../three'
";

fn reading(text: &str) -> Result<(Office, Settings), ConfigError> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("office.toml");
    fs::write(&path, text).unwrap();
    read_with_settings(&path, office)
}

/// Line and setting of each mistake.
fn mistakes(text: &str) -> Vec<(usize, String)> {
    let violations = violations(text).into_iter();
    violations
        .map(|violation| (violation.line, violation.setting))
        .collect()
}

fn violations(text: &str) -> Vec<amanat_config::Violation> {
    match reading(text) {
        Err(ConfigError::Invalid { violations, .. }) => violations,
        Err(error @ ConfigError::File { .. }) => panic!("{error}"),
        Ok((office, _)) => panic!("{office:?} was read"),
    }
}

fn told(expected: &[(usize, &str)]) -> Vec<(usize, String)> {
    let expected = expected.iter();
    expected
        .map(|(line, setting)| (*line, (*setting).to_owned()))
        .collect()
}

#[test]
fn what_is_in_order_is_read_and_relative_paths_count_from_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("office.toml");
    fs::write(&path, VALID).unwrap();
    let office = read(&path, office).unwrap();
    let at = |name: &str| folder.path().join(name);
    assert_eq!(office.desks, 4);
    assert_eq!(office.door.listen, "127.0.0.1:1".parse().unwrap());
    assert_eq!(office.door.reload_s.get(), 5);
    assert_eq!(office.door.files, [at("a"), PathBuf::from("/b")]);
    let seeds: Vec<_> = office.keys.iter().map(|key| &key.seed).collect();
    assert_eq!(seeds, [&at("one"), &at("keys/two")]);
    assert_eq!(office.staff.get("evening"), Some(&1));
    assert_eq!(office.rooms.get("large").unwrap().seed, at("../three"));
    assert!(office.lamp.is_none());
    assert_eq!(
        office.heating, 20,
        "a section that is absent has its defaults"
    );
}

#[test]
fn every_mistake_is_told_at_once_in_the_order_of_the_lines() {
    let text = "\
desks = 'many'
chairs = 3
[door]
listen = 'here'
reload_s = 0
colour = 'red'
[[keys]]
seed = 7
[[keys]]
sed = 'two'
[staff]
morning = 'two'
[rooms.large]
[lamp]
seed = 'x'
[heating]
degrees = 'warm'
";
    assert_eq!(
        mistakes(text),
        told(&[
            (1, "desks"),
            (2, "chairs"),
            (3, "door.files"),
            (4, "door.listen"),
            (5, "door.reload_s"),
            (6, "door.colour"),
            (8, "keys[0].seed"),
            (9, "keys[1].seed"),
            (10, "keys[1].sed"),
            (12, "staff.*"),
            (13, "rooms.*.seed"),
            (17, "heating.degrees"),
        ])
    );
}

#[test]
fn lines_are_right_in_inline_and_dotted_tables_and_with_returns() {
    let text = "\
desks = 1
door.reload_s = 1
door.files = []
door.listen = 9
keys = [
    { seed = 'one' },
    { seed = 2 },
    3,
]
rooms = { small = { seed = 1 } }
";
    let expected = told(&[
        (3, "door.files"),
        (4, "door.listen"),
        (7, "keys[1].seed"),
        (8, "keys[2]"),
        (10, "rooms.*.seed"),
    ]);
    assert_eq!(mistakes(text), expected);
    assert_eq!(mistakes(&text.replace('\n', "\r\n")), expected);
}

#[test]
fn what_is_missing_is_told_with_what_it_is() {
    let all = told(&[(1, "desks"), (1, "door"), (1, "keys")]);
    assert_eq!(mistakes(""), all);
    let found = violations(&VALID.replace("reload_s = 5\n", ""));
    let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["line 3: door.reload_s: it is missing; a number of seconds, at least 1"]
    );
}

#[test]
fn a_setting_that_nobody_knows_is_told_with_those_that_are_known() {
    let found = violations(&VALID.replace("reload_s = 5", "reload_s = 5\nreload_ms = 5"));
    let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["line 6: door.reload_ms: there is no such setting; known here: files, listen, reload_s"]
    );
}

#[test]
fn a_value_where_a_section_belongs_is_told_and_so_is_a_section_for_a_value() {
    let text = VALID.replace("desks = 4", "desks = { a = 1 }");
    assert_eq!(mistakes(&text), told(&[(1, "desks")]));
    for (key, expected) in [("lamp", "lamp"), ("heating", "heating")] {
        let text = format!("{key} = 1\n{VALID}");
        assert_eq!(mistakes(&text), told(&[(1, expected)]));
    }
    let text = VALID.replace("[rooms.large]\nseed = '../three'\n", "");
    for wrong in ["rooms = 1", "rooms = []"] {
        assert_eq!(mistakes(&format!("{wrong}\n{text}")), told(&[(1, "rooms")]));
    }
    let text = text.replace("[[keys]]\nseed = 'one'\n[[keys]]\nseed = 'keys/two'\n", "");
    assert_eq!(mistakes(&format!("keys = 1\n{text}")), told(&[(1, "keys")]));
}

#[test]
fn what_stands_twice_is_told() {
    let twice = format!("{VALID}seed = 'four'\n");
    let found = violations(&twice);
    let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["line 13: this is not TOML: duplicate key"]);
    assert_eq!(mistakes(&format!("{VALID}[door]\n")), told(&[(13, "")]));
}

#[test]
fn several_lines_that_are_no_toml_are_told_at_once() {
    let text = "desks 4\n[door]\nlisten = 'x'\n[rooms\n";
    assert_eq!(mistakes(text), told(&[(1, ""), (4, "")]));
    let text = "desks = 4\n[door]\nlisten = \n\nreload_s = 5 seconds\n";
    assert_eq!(mistakes(text), told(&[(3, ""), (5, "")]));
}

#[test]
fn nothing_that_stands_in_the_file_is_quoted() {
    const SECRET: &str = "5ec4e70123456789abcdef5ec4e70123456789abcdef5ec4e70123456789abcdef";
    let places = [
        format!("{SECRET}\n{VALID}"),
        format!("{SECRET} = 1\n{VALID}"),
        format!("'{SECRET}' = 1\n{VALID}"),
        format!("desks = '{SECRET}'"),
        format!("desks = {SECRET}"),
        format!("desks = \"{SECRET}"),
        format!("desks = '''{SECRET}"),
        format!("desks = [{SECRET}, '{SECRET}']"),
        format!("desks = 2026-{SECRET}"),
        format!("[{SECRET}]\n{VALID}"),
        format!("[{SECRET}\n{VALID}"),
        format!("[door.{SECRET}]\n{VALID}"),
        format!("[[{SECRET}]]\n[{SECRET}]\n{VALID}"),
        format!("{SECRET}.a = 1\n{SECRET}.a = 2\n{VALID}"),
        format!("{SECRET} = 1\n{SECRET}.a = 2\n{VALID}"),
        format!("[door]\nlisten = '{SECRET}'\nreload_s = '{SECRET}'\nfiles = '{SECRET}'"),
        format!("[staff]\n{SECRET} = '{SECRET}'"),
        format!("[rooms.{SECRET}]\n{SECRET} = '{SECRET}'"),
        format!("\"\\q{SECRET}\" = 1"),
    ];
    for text in places {
        let error = reading(&text).unwrap_err();
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("5ec4e7"), "{text} led to {shown}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_told_by_its_path() {
    let error = read(Path::new("no/such.toml"), office).unwrap_err();
    assert!(error.to_string().starts_with("cannot read no/such.toml: "));
}

#[test]
fn the_known_settings_are_those_asked_for_with_the_lines_where_they_stand() {
    let (_, settings) = reading(VALID).unwrap();
    let known: Vec<_> = settings.known().collect();
    assert_eq!(
        known,
        [
            "desks",
            "door",
            "door.files",
            "door.listen",
            "door.reload_s",
            "heating",
            "heating.degrees",
            "keys",
            "keys[0].seed",
            "keys[1].seed",
            "lamp",
            "rooms",
            "rooms.*.seed",
            "staff"
        ]
    );
    assert_eq!(settings.line("keys[1].seed"), Some(10));
    assert_eq!(settings.line("heating.degrees"), None);
}

#[test]
fn an_outline_is_had_even_of_a_file_with_mistakes() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("office.toml");
    fs::write(&path, "desks = = 4\n[door]\nlisten = \n[keys]\n").unwrap();
    assert_eq!(outline(&path).unwrap(), ["desks", "door", "keys"]);
}

#[test]
fn a_file_that_is_empty_or_no_toml_is_told_with_its_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("office.toml");
    let faults = |text: &str| {
        fs::write(&path, text).unwrap();
        match check_form(&path) {
            Ok(()) => Vec::new(),
            Err(ConfigError::Invalid { violations, .. }) => violations
                .into_iter()
                .map(|violation| (violation.line, violation.expected))
                .collect(),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(faults("anything = 1\n"), []);
    for empty in ["", "\n\n", "# nothing but words\n"] {
        assert_eq!(faults(empty), [(1, "the file is empty".to_owned())]);
    }
    let told = faults("desks = 4\nthis is a letter\n");
    assert_eq!(told[0].0, 2);
    assert!(told[0].1.starts_with("this is not TOML: "), "{told:?}");
}

#[test]
fn a_file_that_never_ends_is_refused_before_it_takes_the_memory() {
    let endless = Path::new("/dev/zero");
    let refused = read(endless, office).unwrap_err().to_string();
    assert!(refused.contains("longer than 1 MiB"), "{refused}");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("office.toml");
    fs::write(&path, " ".repeat(1024 * 1024 + 1)).unwrap();
    assert!(matches!(check_form(&path), Err(ConfigError::File { .. })));
    fs::write(&path, format!("a = 1{}", " ".repeat(1024 * 1024 - 5))).unwrap();
    assert!(check_form(&path).is_ok());
}

#[test]
fn a_servers_address_is_https_with_nothing_behind_it() {
    let address = |text: &str| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("one.toml");
        fs::write(&path, format!("at = '{text}'")).unwrap();
        read(&path, |top| top.server_addresses("at", "an address")).is_ok()
    };
    for good in [
        "https://gateway.example:8443",
        "https://gateway.example",
        "https://127.0.0.1:1",
        "https://[::1]:8443/",
    ] {
        assert!(address(good), "{good}");
    }
    for bad in [
        "http://gateway.example:8443",
        "gateway.example:8443",
        "https://",
        "https://gateway.example/path",
        "https://gateway.example/?q=1",
        "https://user:word@gateway.example",
        "https://gateway.example:port",
        "https://gate way.example",
        "",
    ] {
        assert!(!address(bad), "{bad}");
    }
}

#[test]
fn a_server_is_at_one_address_or_at_each_of_a_list() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("one.toml");
    let addresses = |text: &str| {
        fs::write(&path, text).unwrap();
        let read = read(&path, |top| top.server_addresses("at", "an address"));
        match read {
            Ok(addresses) => addresses.to_string(),
            Err(ConfigError::Invalid { violations, .. }) => {
                let told: Vec<_> = violations.iter().map(ToString::to_string).collect();
                told.join("; ")
            }
            Err(error) => panic!("{error}"),
        }
    };
    for (text, told) in [
        ("at = 'https://a'", "https://a:443"),
        ("at = ['https://a:1']", "https://a:1"),
        (
            "at = ['https://a:1', 'https://B:2/']",
            "https://a:1, https://b:2",
        ),
        ("", "line 1: at: it is missing; an address"),
        ("at = 3", "line 1: at: an address"),
        (
            "at = []",
            "line 1: at: a list with at least one address, and with each once",
        ),
        (
            "\nat = ['https://a', 'https://a:443']",
            "line 2: at: a list with at least one address, and with each once",
        ),
        (
            "at = [\n'https://a',\n'http://b',\n'https://c',\n7]",
            "line 3: at[1]: an address; line 5: at[3]: an address",
        ),
        ("at = [['https://a']]", "line 1: at[0]: an address"),
    ] {
        assert_eq!(addresses(text), told, "{text}");
    }
}
