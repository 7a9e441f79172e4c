//! `stratamx-segment`: looks into a data directory while nothing runs on it. It cannot write.

mod dump;
mod list;
mod text;
mod verify;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use futures_lite::future::block_on;
use storage::inspect::{Directory, Filter, Keys, ReadOnly};

const EXIT_HELP: &str = "\
Exit status: 0 done, 1 damage found or the directory cannot be read, 2 usage.
The directory may be that of a dead node or a copy. While a node works on it, its newest records may look torn.";

/// Looks into the data directory of a StrataMX: lists, dumps and verifies, and never writes.
#[derive(Parser)]
#[command(name = "stratamx-segment", version, after_help = EXIT_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show every segment and journal: size, records, units, stamps, state of its index
    List(Place),
    /// Print every record, one a line
    Dump {
        #[command(flatten)]
        place: Place,
        /// Only messages with a recipient in this domain
        #[arg(long, value_name = "DOMAIN")]
        domain: Option<String>,
        /// Only the records of this message
        #[arg(long, value_name = "ID")]
        queue_id: Option<String>,
    },
    /// Check everything against everything: checksums, indexes, order of stamps, settlements; print what is wrong
    Verify(Place),
}

#[derive(Args)]
struct Place {
    /// The data directory
    #[arg(value_name = "DATA_DIR")]
    directory: PathBuf,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// The key file of an encrypted store; without it mail stays locked
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut output = BufWriter::new(io::stdout().lock());
    let result = run(Arguments::parse().command, &mut output).and_then(|code| {
        output.flush()?;
        Ok(code)
    });
    match result {
        Ok(code) => code,
        // Whoever reads us has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stratamx-segment: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, output: &mut impl Write) -> io::Result<ExitCode> {
    match command {
        Command::List(place) => list::list(&walk(&place)?, place.json, output),
        Command::Dump { place, domain, queue_id } => {
            dump::dump(&walk(&place)?, &Filter { domain, queue_id }, place.json, output)
        }
        Command::Verify(place) => verify::verify(&walk(&place)?, place.json, output),
    }
}

fn walk(place: &Place) -> io::Result<Directory<ReadOnly>> {
    let directory = &place.directory;
    let keys = Arc::new(keys(place.key_file.as_deref())?);
    let failed = |what: String| io::Error::other(format!("{}: {what}", directory.display()));
    let walked =
        block_on(Directory::at(directory.clone(), keys)).map_err(|error| failed(error.to_string()))?;
    if walked.is_nothing() {
        return Err(failed("no data directory: there is neither `store` nor a shard in it".to_owned()));
    }
    Ok(walked)
}

fn keys(file: Option<&Path>) -> io::Result<Keys> {
    let Some(file) = file else { return Ok(Keys::default()) };
    let failed = |what: String| io::Error::other(format!("{}: {what}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    Keys::parse(&text).map_err(|error| failed(error.to_string()))
}
