//! `cursors`: a line for each domain and shard directory.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use storage::inspect::{Cursor, Directory, Oldest, ReadOnly};

use super::text::{plain, table, utc};

const COLUMNS: [&str; 11] = [
    "domain",
    "shard",
    "messages",
    "units",
    "settled",
    "queued",
    "held",
    "settled below",
    "queue id",
    "received",
    "place",
];

pub(crate) fn cursors(
    directory: &Directory<ReadOnly>,
    as_json: bool,
    output: &mut impl Write,
) -> io::Result<ExitCode> {
    let cursors = directory.cursors();
    if as_json {
        for cursor in &cursors {
            writeln!(output, "{}", object(cursor))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    table(output, &COLUMNS, cursors.iter().map(cells))?;
    Ok(ExitCode::SUCCESS)
}

fn cells(cursor: &Cursor) -> Vec<String> {
    let dash = || "-".to_owned();
    let oldest = |text: fn(&Oldest) -> String| cursor.oldest.as_ref().map_or_else(dash, text);
    vec![
        plain(&cursor.domain),
        cursor.shard.to_string(),
        cursor.messages.to_string(),
        cursor.units.to_string(),
        cursor.settled.to_string(),
        cursor.queued.to_string(),
        cursor.held.to_string(),
        oldest(|oldest| oldest.stamp.to_string()),
        oldest(|oldest| oldest.queue_id.clone()),
        oldest(|oldest| utc(u64::from(oldest.received_s) * 1000)),
        oldest(|oldest| format!("{}@{}", oldest.path, oldest.offset)),
    ]
}

fn object(cursor: &Cursor) -> serde_json::Value {
    let oldest = cursor.oldest.as_ref().map(|oldest| {
        json!({
            "stamp": oldest.stamp,
            "queue_id": oldest.queue_id,
            "received": utc(u64::from(oldest.received_s) * 1000),
            "path": oldest.path,
            "offset": oldest.offset,
        })
    });
    json!({
        "domain": cursor.domain,
        "shard": cursor.shard,
        "messages": cursor.messages,
        "units": cursor.units,
        "settled": cursor.settled,
        "queued": cursor.queued,
        "held": cursor.held,
        "last_stamp": cursor.last_stamp,
        "oldest": oldest,
    })
}
