//! `stratamx support`: a support bundle of the running server, or, where it does not run, of what lies there.

use super::Exit;
use super::client::{Client, Remote, fail, print};
use crate::config::Source;
use crate::support::{Bundle, system};
use clap::Args;
use jiff::Timestamp;
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What is to be done.
#[derive(Clone, Debug, Args)]
pub struct Wanted {
    /// The file that is made, as support.tar.zst
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the command.
#[must_use]
pub fn run(remote: Remote, wanted: &Wanted) -> Exit {
    let path = &wanted.file;
    let is_elsewhere = remote.is_elsewhere();
    let configuration = remote.config.clone();
    let mut octets = Vec::new();
    let fetched = Client::open(remote).map_err(|_| "the admin API cannot be asked".to_owned());
    let fetched = fetched.and_then(|client| client.copy("/api/v1/support", &mut octets));
    if let Err(error) = fetched {
        if is_elsewhere {
            return fail(&error);
        }
        eprintln!("stratamx: {error}; the bundle is of what lies here");
        octets = match of_files(configuration.as_deref(), &error) {
            Ok(octets) => octets,
            Err(error) => return fail(&error),
        };
    }
    match write(path, &octets) {
        Ok(()) => print(&format!(
            "{}: no mail, no secrets, addresses without local parts. Look through it before you hand it on\n",
            path.display()
        )),
        Err(error) => fail(&format!("{}: {error}", path.display())),
    }
}

/// Of a server that does not answer.
fn of_files(configuration: Option<&Path>, silent: &str) -> Result<Vec<u8>, String> {
    let (mut bundle, mut missing) = (Bundle::new(), vec![format!("the admin API: {silent}")]);
    match crate::config::Config::discover(configuration) {
        Ok((config, source)) => {
            bundle.add("configuration.toml", config.effective().to_string().as_bytes());
            if source == Source::Embedded {
                missing.push("a configuration file: the embedded configuration is shown".to_owned());
            }
            system::add(&mut bundle, &config.data_dir, &mut missing);
        }
        Err(error) => missing.push(format!("the configuration: {error}")),
    }
    let about = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "made_at": Timestamp::now().to_string(),
        "running": false,
        "missing": missing,
    });
    bundle.add("about.json", format!("{about:#}\n").as_bytes());
    bundle.packed().map_err(|error| error.to_string())
}

/// A new file, its owner's alone.
fn write(path: &Path, octets: &[u8]) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = File::from(openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(octets)
}
