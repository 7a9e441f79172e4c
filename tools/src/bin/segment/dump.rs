//! `dump`: one line a record.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use futures_lite::future::block_on;
use serde_json::json;
use storage::inspect::{Directory, Filter, ReadOnly, Recipient, Record};

use super::said;
use super::text::{plain, utc};

pub(crate) fn dump(
    directory: &Directory<ReadOnly>,
    filter: &Filter,
    as_json: bool,
    output: &mut impl Write,
) -> io::Result<ExitCode> {
    let mut written = Ok(());
    let walked = block_on(directory.records(filter, |record| {
        if written.is_ok() {
            written = match as_json {
                true => writeln!(output, "{}", object(record)),
                false => writeln!(output, "{}", line(record)),
            };
        }
    }));
    written?;
    walked.map_err(io::Error::other)?;
    Ok(ExitCode::SUCCESS)
}

fn line(record: &Record) -> String {
    let mut line = format!("{}@{} {}", record.path, record.offset, record.kind);
    let mut add = |text: String| {
        line.push(' ');
        line.push_str(&text);
    };
    if record.stamp != 0 {
        add(format!("stamp={}", record.stamp));
    }
    if !record.queue_id.is_empty() {
        add(record.queue_id.clone());
    }
    if record.kind != "gap" {
        add(utc(record.received_ms));
    }
    if let Some(reverse_path) = &record.reverse_path {
        let extensions = record.extensions.clone().unwrap_or_default();
        let mut to = String::new();
        for (ordinal, recipient) in record.recipients.iter().enumerate() {
            let separator = if to.is_empty() { "" } else { ", " };
            let said = plain(&said::recipient(&extensions, ordinal));
            let _ = write!(to, "{separator}<{}> {}{said}", plain(&recipient.mailbox), recipient.state);
        }
        add(format!("from <{}> to {to}", plain(reverse_path)));
        for word in said::message(&extensions) {
            add(plain(&word));
        }
        if !record.authentication.is_empty() {
            add(record.authentication.clone());
        }
    }
    if record.data_octets != 0 {
        add(format!("data={}", record.data_octets));
    }
    add(format!("octets={}", record.octets));
    if !record.text.is_empty() {
        add(format!("({})", plain(&record.text)));
    }
    if let Some(damage) = record.damage {
        add(format!("DAMAGED: {damage}"));
    }
    line
}

fn object(record: &Record) -> serde_json::Value {
    let recipient = |recipient: &Recipient| {
        let code = (recipient.code != 0).then_some(recipient.code);
        json!({"mailbox": recipient.mailbox, "state": recipient.state, "code": code})
    };
    json!({
        "path": record.path,
        "shard": record.shard,
        "segment": record.segment,
        "offset": record.offset,
        "octets": record.octets,
        "kind": record.kind,
        "stamp": record.stamp,
        "received": utc(record.received_ms),
        "queue_id": record.queue_id,
        "reverse_path": record.reverse_path,
        "recipients": record.recipients.iter().map(recipient).collect::<Vec<_>>(),
        "extensions": record.extensions.as_ref().map(said::object),
        "authentication": said::authentication(record),
        "data_octets": record.data_octets,
        "text": record.text,
        "damage": record.damage,
    })
}
