//! The program as an officer uses it.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Running;

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
        command.arg("--profile").arg(profile).args(arguments).stdin(Stdio::null());
        Told::by(&mut command)
    }

    /// The JSON that a command prints; it must succeed.
    pub fn tell_json(&self, agency: &str, arguments: &[&str]) -> Value {
        let told = self.tell(agency, &[&["--json"], arguments].concat());
        assert_eq!(told.code, 0, "{arguments:?}: {}", told.err);
        serde_json::from_str(&told.out).unwrap()
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
