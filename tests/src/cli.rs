//! The program as an officer uses it.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    Running,
    story::{POLICE, SHELTER},
};

/// An adult's case file, as the police write it.
pub fn case_file() -> Value {
    serde_json::from_str(include_str!("../../deploy/quickstart/police-case.json")).unwrap()
}

/// What a command came to.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Running {
    /// Runs a command of an agency's default officer.
    pub fn tell(&self, agency: &str, arguments: &[&str]) -> Told {
        let profile = &self.exchange.agencies[agency].folder;
        let mut command = Command::new(&self.gateway.program);
        command
            .arg("--profile")
            .arg(profile)
            .args(arguments)
            .stdin(Stdio::null());
        Told::by(&mut command)
    }

    /// The JSON that a command prints; it must succeed.
    pub fn tell_json(&self, agency: &str, arguments: &[&str]) -> Value {
        let told = self.tell(agency, &[&["--json"], arguments].concat());
        assert_eq!(told.code, 0, "{arguments:?}: {}", told.err);
        serde_json::from_str(&told.out).unwrap()
    }

    /// A file of the exchange's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Writes a file for a command to read, and returns its path.
    pub fn write(&self, file: &Value) -> String {
        let path = self.path("written.json");
        fs::write(&path, file.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// The police submit a case file; returns its case.
pub fn submit(running: &Running, file: &Value) -> String {
    let file = running.write(file);
    let told = running.tell_json(POLICE, &["case", "submit", &file]);
    told["case"].as_str().unwrap().to_owned()
}

/// The police let the Dar-ul-Aman read, for SHELTER, on these terms; returns the consent.
pub fn grant(running: &Running, case: &str, terms: &Value) -> String {
    let mut file = json!({ "recipient": SHELTER, "purpose": "SHELTER", "mode": "WRITTEN" });
    for (key, value) in terms.as_object().unwrap() {
        file[key] = value.clone();
    }
    let file = running.write(&file);
    let told = running.tell_json(POLICE, &["consent", "grant", &file, "--case", case]);
    told["consent"].as_str().unwrap().to_owned()
}

/// The command that refers a case, for SHELTER.
pub fn refer<'a>(case: &'a str, to: &'a str, fields: &'a str) -> [&'a str; 12] {
    [
        "refer",
        "submit",
        "--purpose",
        "SHELTER",
        "--services",
        "SAFEHOUSE",
        "--case",
        case,
        "--to",
        to,
        "--fields",
        fields,
    ]
}

/// The police refer a case to the Dar-ul-Aman, which accepts.
pub fn share(running: &Running, case: &str, fields: &str) {
    let told = running.tell_json(POLICE, &refer(case, SHELTER, fields));
    let referral = told["referral"].as_str().unwrap();
    for step in ["acknowledge", "accept"] {
        let told = running.tell(SHELTER, &["refer", step, referral]);
        assert_eq!(told.code, 0, "{}", told.err);
    }
}

impl Told {
    /// Runs the program to its end.
    pub fn by(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code().expect("it ends by itself"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Both streams: what an officer sees.
    pub fn shown(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}
