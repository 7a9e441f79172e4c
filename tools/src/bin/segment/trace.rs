//! `trace`: a line for each recipient and what became of it, as the server told it.

use std::io::{self, Write};
use std::process::ExitCode;

use futures_lite::future::block_on;
use serde_json::json;
use storage::inspect::{Keys, ReadOnly, TraceLine, traces};

use super::text::{plain, utc};

pub(crate) fn trace(
    disk: &ReadOnly,
    keys: &Keys,
    as_json: bool,
    output: &mut impl Write,
) -> io::Result<ExitCode> {
    let mut written = Ok(());
    let read = block_on(traces(disk, keys, |line| {
        if written.is_ok() {
            written = if as_json {
                writeln!(output, "{}", object(&line))
            } else {
                writeln!(output, "{}", text(&line))
            };
        }
    }));
    written?;
    let problems = read.map_err(|error| io::Error::other(error.to_string()))?;
    for (path, error) in &problems {
        eprintln!("stratamx-segment: {path}: {error}");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(line: &TraceLine) -> String {
    let host = line.host.as_deref().map_or_else(String::new, |host| format!(" by {host}"));
    let code = if line.code == 0 { String::new() } else { format!(": {} {}", line.code, plain(&line.text)) };
    let (from, to) = (plain(&line.reverse_path), plain(&line.recipient));
    format!("{} {} <{from}> {to} {}{host}{code}", utc(line.at_ms), line.queue_id, line.what)
}

fn object(line: &TraceLine) -> serde_json::Value {
    json!({
        "at_ms": line.at_ms,
        "id": line.queue_id,
        "order": line.stamp,
        "domain": line.domain,
        "reverse_path": line.reverse_path,
        "host": line.host,
        "recipient": line.recipient,
        "what": line.what,
        "code": line.code,
        "text": line.text,
    })
}
