//! `stratamx-segment`: looks into a data directory while nothing runs on it. It never writes there; `export` and `repair`
//! write into places of their own.
#![allow(clippy::disallowed_methods, reason = "a tool uses the machine's clock and files as they are")]

mod audit;
mod cursors;
mod dump;
mod export;
mod layout;
mod list;
mod progress;
mod repair;
mod said;
mod selection;
mod show;
mod text;
mod trace;
mod verify;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use futures_lite::future::block_on;
use storage::inspect::{Directory, Keys, ReadOnly};

use export::Format;
use progress::Progress;
use selection::Selection;

const EXIT_HELP: &str = "\
Exit status: 0 done, 1 damage found or the operation failed, 2 usage.
The directory may be that of a dead node or a copy. While a node works on it, its newest records may look torn.";

/// Looks into the data directory of a StrataMX, and takes mail out of it; never writes there.
#[derive(Parser)]
#[command(name = "stratamx-segment", version, after_help = EXIT_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show every segment and journal: size, records, units, stamps, state of its index
    #[command(after_help = "Example: stratamx-segment list /var/lib/stratamx")]
    List(Place),
    /// Print every record, one a line
    #[command(
        after_help = "Example: stratamx-segment dump /var/lib/stratamx --domain example.com --state queued --since 2h"
    )]
    Dump {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        selection: Selection,
    },
    /// Print all that is known of one message: envelope, states with code and time, chunks, trace, header
    #[command(after_help = "Example: stratamx-segment show /var/lib/stratamx 0000G00000002")]
    Show {
        #[command(flatten)]
        place: Place,
        /// The queue id, as logs and dump have it
        #[arg(value_name = "ID")]
        queue_id: String,
    },
    /// Write messages as files that other programs read; what is there already is not overwritten
    ///
    /// Each has Return-Path and, for each recipient that was asked for, Delivered-To in front, as a final delivery would
    /// write them; then our Received field; then the message, dots unstuffed. Without options all messages that are still on
    /// disk are written, delivered ones too.
    #[command(
        after_help = "Example: stratamx-segment export /var/lib/stratamx /tmp/mail --format maildir --domain example.com --state queued"
    )]
    Export {
        #[command(flatten)]
        source: Source,
        /// Where to: a directory, for mbox a new file
        #[arg(value_name = "DEST")]
        target: PathBuf,
        /// What to make
        #[arg(long, value_enum, default_value = "eml")]
        format: Format,
        #[command(flatten)]
        selection: Selection,
    },
    /// Print what the server told of messages: each try, each end, a line a recipient
    #[command(after_help = "Example: stratamx-segment trace /var/lib/stratamx | grep 0000G00000002")]
    Trace(Place),
    /// Check everything against everything: checksums, indexes, order of stamps, settlements; print what is wrong
    #[command(
        after_help = "Example: stratamx-segment verify /var/lib/stratamx --key-file /etc/stratamx/keys"
    )]
    Verify(Place),
    /// Recount the ledger from records and tallies: accepted units of each domain, and what became of them
    #[command(after_help = "Example: stratamx-segment audit /var/lib/stratamx")]
    Audit(Place),
    /// Show for each domain and shard directory the place before which everything that can be read is settled
    #[command(after_help = "Example: stratamx-segment cursors /var/lib/stratamx")]
    Cursors(Place),
    /// Draw how each file is filled, and whose its octets are
    #[command(after_help = layout::LEGEND)]
    Layout {
        #[command(flatten)]
        place: Place,
        /// Only the file whose path ends so, with all its extents
        #[arg(long, value_name = "PATH")]
        file: Option<String>,
    },
    /// Copy everything that can be read into a new data directory that opens; the source is only read
    ///
    /// Damaged records are left out and told; their units count as damaged from then on, so that the ledger of the copy
    /// balances. What was left out is printed, and the copy is verified and audited. Encrypted mail is copied without its key.
    #[command(after_help = REPAIR_HELP)]
    Repair {
        #[command(flatten)]
        place: Place,
        /// The copy: a directory that is not there yet, or empty
        #[arg(value_name = "DEST")]
        target: PathBuf,
        /// Go on though this shard directory is missing, and leave its mail out; as often as needed
        #[arg(long, value_name = "N")]
        without_shard: Vec<u16>,
    },
}

const REPAIR_HELP: &str = "\
Exit status: 0 the copy is clean, whatever was left out; 1 there is no copy, or it is not clean; 2 usage.
Example: stratamx-segment repair /var/lib/stratamx /var/lib/stratamx-repaired";

#[derive(Args)]
struct Source {
    /// The data directory
    #[arg(value_name = "DATA_DIR")]
    directory: PathBuf,
    /// The key file of an encrypted store; without it mail stays locked
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Args)]
struct Place {
    #[command(flatten)]
    source: Source,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
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
        Command::List(Place { source, json }) => list::list(&walk(&source)?, json, output),
        Command::Dump { place: Place { source, json }, selection } => {
            dump::dump(&walk(&source)?, &selection.filter(), json, output)
        }
        Command::Show { place: Place { source, json }, queue_id } => {
            show::show(&walk(&source)?, &queue_id, json, output)
        }
        Command::Export { source, target, format, selection } => {
            export::export(&walk(&source)?, &selection.filter(), format, &target)
        }
        Command::Trace(Place { source, json }) => {
            let keys = keys(source.key_file.as_deref())?;
            trace::trace(&ReadOnly::new(source.directory), &keys, json, output)
        }
        Command::Verify(Place { source, json }) => verify::verify(&walk(&source)?, json, output),
        Command::Audit(Place { source, json }) => audit::audit(&walk(&source)?, json, output),
        Command::Cursors(Place { source, json }) => cursors::cursors(&walk(&source)?, json, output),
        Command::Layout { place: Place { source, json }, file } => {
            layout::layout(&walk(&source)?, file.as_deref(), json, output)
        }
        Command::Repair { place: Place { source, json }, target, without_shard } => {
            let key_file = source.key_file.clone();
            let copy = Source { directory: target.clone(), key_file };
            let walk_copy = || walk(&copy);
            repair::repair(&walk(&source)?, &target, &without_shard, json, output, walk_copy)
        }
    }
}

fn walk(source: &Source) -> io::Result<Directory<ReadOnly>> {
    let directory = &source.directory;
    let keys = Arc::new(keys(source.key_file.as_deref())?);
    let failed = |what: String| io::Error::other(format!("{}: {what}", directory.display()));
    let progress = Progress::octets("read");
    let disk = ReadOnly::new(directory.clone());
    let walked = block_on(Directory::walk_with(disk, keys, &mut |done, all| progress.at(done, all)));
    let walked = walked.map_err(|error| failed(error.to_string()))?;
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
