//! `stratamx unlock` and `stratamx at-rest`: the keys of mail at rest on the appliance; and, of a disk that was pulled out of it, the key file.
//!
//! Secrets are typed without being shown, or read as one line of standard input; never given as an argument, where others see them.

use super::Exit;
use super::client::{Client, Remote, fail, print, print_json};
use super::domain::text;
use crate::config;
use crate::init::at_rest::sealed::Sealed;
use crate::limits::AT_REST_FILE_OCTETS_MAX;
use clap::Subcommand;
use console::Term;
use rustix::fs::{Mode, OFlags, open};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _, stdin};
use std::path::{Path, PathBuf};

/// What is done.
#[derive(Clone, Debug, Subcommand)]
pub enum AtRest {
    /// The key file, out of the data partition of a disk without its machine; asks for recovery key or passphrase. It is for stratamx-segment --key-file
    Export {
        /// state/at-rest of the data partition
        file: PathBuf,
        /// Where it is written, for you alone; else standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Set or change the passphrase
    Passphrase,
    /// Make a new recovery key; the one before opens nothing any more
    RecoveryKey,
    /// Whether mail on the disk is encrypted, and what opens it
    Status {
        /// For scripts
        #[arg(long)]
        json: bool,
    },
}

/// Opens the keys of a locked machine.
#[must_use]
pub fn unlock(remote: Remote) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let unlocked = ask("Passphrase or recovery key")
        .and_then(|secret| client.post("/api/v1/machine/unlock", Some(&json!({ "secret": secret }))));
    match unlocked {
        Ok(_) => print("The keys are open; the machine takes mail soon.\n"),
        Err(error) => fail(&error),
    }
}

/// Runs the command.
#[must_use]
pub fn run(remote: Remote, command: &AtRest) -> Exit {
    if let AtRest::Export { file, out } = command {
        return match export(file, out.as_deref()) {
            Ok(exit) => exit,
            Err(error) => fail(&error),
        };
    }
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let done = match command {
        AtRest::Export { .. } | AtRest::RecoveryKey => {
            client.post("/api/v1/machine/recovery-key", None).map(|made| recovery_key(&made))
        }
        AtRest::Passphrase => new_passphrase().and_then(|passphrase| {
            let body = json!({ "passphrase": passphrase });
            client.post("/api/v1/machine/passphrase", Some(&body)).map(|made| recovery_key(&made))
        }),
        AtRest::Status { json } => client
            .get("/api/v1/machine/at-rest")
            .map(|status| if *json { print_json(&status) } else { print(&shown(&status)) }),
    };
    done.unwrap_or_else(|error| fail(&error))
}

fn recovery_key(made: &Value) -> Exit {
    match made["recovery_key"].as_str() {
        Some(key) => {
            eprintln!("the recovery key is told once, here");
            print(&format!("{key}\n"))
        }
        None => print("The passphrase is set.\n"),
    }
}

fn shown(status: &Value) -> String {
    let mut out = match status["state"].as_str() {
        Some("locked" | "unset") => "LOCKED: no mail is taken".to_owned(),
        Some("open") => "mail on the disk is encrypted; its keys are open".to_owned(),
        Some("own") => "mail on the disk is encrypted by a key file of the configuration".to_owned(),
        _ => "mail on the disk is not encrypted".to_owned(),
    };
    if status["why"].is_string() {
        out.push_str(&format!(": {}", text(&status["why"])));
    }
    let openers: Vec<String> = status["opened_by"].as_array().into_iter().flatten().map(text).collect();
    if !openers.is_empty() {
        out.push_str(&format!("\nopened by {}", openers.join(", ")));
    }
    out.push('\n');
    out
}

fn export(file: &Path, out: Option<&Path>) -> Result<Exit, String> {
    let named = |error: &dyn core::fmt::Display| format!("{}: {error}", file.display());
    let octets = config::read(file).map_err(|error| named(&error))?;
    if octets.len() as u64 > AT_REST_FILE_OCTETS_MAX {
        return Err(named(&"this is too large to be the file with the keys"));
    }
    let sealed = core::str::from_utf8(&octets).map_err(|error| named(&error))?;
    let sealed = Sealed::parse(sealed).map_err(|error| named(&error))?;
    let wrapping = sealed.open_by(&ask("Recovery key or passphrase")?).map_err(|error| error.to_string())?;
    let keys = sealed.keys(&wrapping).map_err(|error| named(&error))?;
    let Some(out) = out else { return Ok(print(&keys)) };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let made = open(out, flags, Mode::RUSR | Mode::WUSR).map_err(std::io::Error::from).map(File::from);
    let written = made.and_then(|mut made| made.write_all(keys.as_bytes()).and_then(|()| made.sync_all()));
    written.map_err(|error| format!("{}: {error}", out.display())).map(|()| Exit::Done)
}

/// Typed twice where somebody types it.
fn new_passphrase() -> Result<String, String> {
    let passphrase = ask("New passphrase")?;
    if stdin().is_terminal() && ask("Once more")? != passphrase {
        return Err("that is another one; nothing was changed".to_owned());
    }
    Ok(passphrase)
}

/// A secret, without its line's end.
fn ask(what: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{what}: {error}");
    if stdin().is_terminal() {
        eprint!("{what}, not shown: ");
        return Term::stderr().read_secure_line().map_err(failed);
    }
    let mut line = String::new();
    stdin().lock().take(AT_REST_FILE_OCTETS_MAX).read_line(&mut line).map_err(failed)?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() { Err(format!("{what}: nothing was given")) } else { Ok(line.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_told_in_words() {
        let status =
            json!({ "state": "locked", "why": "there is no TPM any more", "opened_by": ["tpm", "recovery"] });
        let expected = "LOCKED: no mail is taken: there is no TPM any more\nopened by tpm, recovery\n";
        assert_eq!(shown(&status), expected);
        let open = json!({ "state": "open", "why": null, "opened_by": ["passphrase"] });
        assert!(shown(&open).ends_with("open\nopened by passphrase\n"));
        assert_eq!(
            shown(&json!({ "state": "plain", "why": "as set", "opened_by": [] })),
            "mail on the disk is not encrypted: as set\n"
        );
    }
}
