//! `list`: one line a file.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use storage::inspect::{Directory, LogFile, ReadOnly};

use super::text::table;

pub(crate) fn list(
    directory: &Directory<ReadOnly>,
    as_json: bool,
    output: &mut impl Write,
) -> io::Result<ExitCode> {
    if as_json {
        for file in directory.files() {
            writeln!(output, "{}", object(file))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let heads = [
        "file", "purpose", "header", "index", "octets", "frames", "messages", "units", "settled", "first",
        "last",
    ];
    table(output, &heads, directory.files().map(|file| row(file).to_vec()))?;
    let (units, settled) = directory
        .files()
        .filter(|file| file.purpose == "mail")
        .fold((0, 0), |sum, file| (sum.0 + file.units, sum.1 + file.settled));
    let files = directory.files().count();
    eprintln!("{files} files in {} shards: {units} units, {settled} settled", directory.shards());
    Ok(ExitCode::SUCCESS)
}

fn row(file: &LogFile) -> [String; 11] {
    let number = |value: u64| value.to_string();
    [
        file.path.clone(),
        file.purpose.to_owned(),
        file.header.to_owned(),
        file.index.to_owned(),
        number(file.octets),
        number(file.frames),
        number(file.messages),
        number(file.units),
        number(file.settled),
        number(file.first_stamp),
        number(file.last_stamp),
    ]
}

fn object(file: &LogFile) -> serde_json::Value {
    json!({
        "path": file.path,
        "shard": file.shard,
        "purpose": file.purpose,
        "segment": file.segment,
        "octets": file.octets,
        "header": file.header,
        "index": file.index,
        "frames": file.frames,
        "messages": file.messages,
        "units": file.units,
        "settled": file.settled,
        "first_stamp": file.first_stamp,
        "last_stamp": file.last_stamp,
    })
}
