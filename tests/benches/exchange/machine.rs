//! What the numbers were measured on.

use std::{collections::BTreeMap, fs, path::Path, process::Command, thread};

/// File systems that are no disk.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// Facts by name; the databases are in `folder`.
///
/// # Panics
/// If they would be in memory.
pub(crate) fn facts(folder: &Path) -> BTreeMap<String, String> {
    let (file_system, device) = mounted(folder);
    assert!(
        !IN_MEMORY.contains(&file_system.as_str()),
        "{} is {file_system}; set TMPDIR to a folder on a disk",
        folder.display()
    );
    let cores = thread::available_parallelism().unwrap();
    let commit = told("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
    let facts = [
        ("cores", cores.to_string()),
        ("cpu", cpu_model()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("rustc", told("rustc", &["--version"])),
        ("commit", commit),
        ("folder", folder.display().to_string()),
        ("file_system", format!("{file_system} on {device}")),
    ];
    let named = facts.map(|(name, fact)| (name.to_owned(), fact));
    named.into()
}

fn cpu_model() -> String {
    let info = read("/proc/cpuinfo");
    let model = info.lines().find(|line| line.starts_with("model name"));
    let name = model.and_then(|line| line.split_once(':'));
    name.map_or("unknown", |(_, name)| name.trim()).to_owned()
}

/// The file system that a folder is on, and its device.
fn mounted(folder: &Path) -> (String, String) {
    let folder = fs::canonicalize(folder).unwrap();
    let mounts = read("/proc/self/mounts");
    let fields = mounts.lines().map(|line| {
        let mut fields = line.split(' ').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        (next(), next(), next())
    });
    // The longest wins, and of two on the same place the later.
    let (device, _, kind) = fields
        .filter(|(_, place, _)| folder.starts_with(place))
        .max_by_key(|(_, place, _)| place.len())
        .unwrap();
    (kind, device)
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn told(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
