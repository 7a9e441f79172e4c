//! `repair`: a copy that opens, what it leaves out, and proof that it is sound.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use futures_lite::future::block_on;
use serde_json::json;
use storage::inspect::{Directory, Problem, ReadOnly};
use storage::repair::{CopyDisk, SystemClock, repair as copy};

use super::progress::Progress;
use super::text::plain;

pub(crate) fn repair(
    source: &Directory<ReadOnly>,
    target: &Path,
    without: &[u16],
    as_json: bool,
    output: &mut impl Write,
    walk: impl FnOnce() -> io::Result<Directory<ReadOnly>>,
) -> io::Result<ExitCode> {
    let failed = |what: String| io::Error::other(format!("{}: {what}", target.display()));
    let disk = CopyDisk::make(target)
        .map_err(|error| failed(format!("{error}; a copy is made into a new or empty directory")))?;
    let progress = Progress::octets("copy");
    let clock = SystemClock::start();
    let made = block_on(async {
        copy(source, &disk, &clock, without, &mut |done, all| progress.at(done, all)).await
    });
    drop(progress);
    let repaired = made.map_err(|error| failed(error.to_string()))?;
    print(output, "left_out", &repaired.left_out, as_json)?;
    let made = walk()?;
    let mut problems = made.verify();
    let audit = made.audit();
    let balances = audit.balances();
    problems.extend(audit.problems);
    print(output, "problem", &problems, as_json)?;
    eprintln!(
        "copied {} segments with {} records; {} units are damaged now",
        repaired.segments, repaired.frames, repaired.damaged
    );
    if problems.is_empty() && balances {
        eprintln!("the copy is clean, and its ledger balances");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("the copy is NOT clean: {} problems", problems.len());
    Ok(ExitCode::FAILURE)
}

fn print(output: &mut impl Write, key: &str, problems: &[Problem], as_json: bool) -> io::Result<()> {
    for problem in problems {
        if as_json {
            let object = json!({"path": problem.path, "offset": problem.offset, "what": problem.what});
            writeln!(output, "{}", json!({ key: object }))?;
        } else {
            writeln!(output, "{}", plain(&problem.to_string()))?;
        }
    }
    Ok(())
}
