//! `verify`: one line a problem.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use storage::inspect::{Directory, ReadOnly};

use super::text::plain;

pub(crate) fn verify(
    directory: &Directory<ReadOnly>,
    as_json: bool,
    output: &mut impl Write,
) -> io::Result<ExitCode> {
    let problems = directory.verify();
    for problem in &problems {
        if as_json {
            let object = json!({"path": problem.path, "offset": problem.offset, "what": problem.what});
            writeln!(output, "{object}")?;
        } else {
            writeln!(output, "{}", plain(&problem.to_string()))?;
        }
    }
    let (files, frames) = directory.files().fold((0, 0), |sum, file| (sum.0 + 1, sum.1 + file.frames));
    if problems.is_empty() {
        eprintln!("clean: {files} files, {frames} records");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{} problems in {files} files with {frames} valid records", problems.len());
    Ok(ExitCode::FAILURE)
}
