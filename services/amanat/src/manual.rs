//! `amanat man` and `amanat completions`: both are made from the arguments themselves.

use std::{fs, path::PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use serde_json::json;

use crate::{Cli, CommandError, output::Report};

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  amanat man /usr/local/share/man/man1\n\nPages of an older version are written over. One is shown by\n`man amanat-case-submit`."
)]
pub(crate) struct Man {
    /// The folder for the pages; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  amanat completions bash > ~/.local/share/bash-completion/completions/amanat\n  amanat completions fish > ~/.config/fish/completions/amanat.fish"
)]
pub(crate) struct Completions {
    #[arg(value_enum)]
    shell: Shell,
}

/// A page for the program and one for each of its commands.
pub(crate) fn man(args: Man) -> Result<Report, CommandError> {
    let Man { folder } = args;
    if folder.is_file() {
        return Err(CommandError::NotFolder { path: folder });
    }
    let written = fs::create_dir_all(&folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &folder));
    written.map_err(|source| CommandError::File {
        path: folder.clone(),
        source,
    })?;
    let folder = folder.display().to_string();
    let text = format!("wrote the manual's pages into {folder}");
    Ok(Report::new(text, json!({ "folder": folder })))
}

/// A shell's completion script.
pub(crate) fn completions(args: &Completions) -> Report {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "amanat", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let json = json!({ "shell": args.shell.to_string(), "script": script });
    Report::new(script, json)
}
