//! `show`: one message with all that is known of it.

use std::io::{self, Write};
use std::process::ExitCode;

use futures_lite::future::block_on;
use serde_json::json;
use storage::inspect::{ChunkPlace, Directory, Filter, Mail, MailError, ReadOnly, Recipient};

use super::export::{Body, Form};
use super::said;
use super::text::{plain, utc};

/// A header section is shown up to this.
const HEADER_OCTETS_MAX: usize = 256 * 1024;

pub(crate) fn show(
    directory: &Directory<ReadOnly>,
    queue_id: &str,
    as_json: bool,
    output: &mut impl Write,
) -> io::Result<ExitCode> {
    let filter = Filter { queue_id: Some(queue_id.to_owned()), ..Filter::default() };
    let (mut found, mut unreadable) = (0_u64, 0_u64);
    block_on(directory.mails(&filter, async |mail: Result<Mail, MailError<io::Error>>| {
        let mail = match mail {
            Ok(mail) => mail,
            Err(error) => {
                unreadable += 1;
                eprintln!("{}", plain(&error.to_string()));
                return Ok(());
            }
        };
        found += 1;
        let headers = headers(directory, &mail);
        if let Err(error) = &headers {
            unreadable += 1;
            eprintln!("{}", plain(error));
        }
        let headers = headers.unwrap_or_default();
        match as_json {
            true => writeln!(output, "{}", object(&mail, &headers)),
            false => text(output, &mail, &headers),
        }
    }))?;
    if found == 0 && unreadable == 0 {
        eprintln!(
            "no message {} can be shown: it never was, is void or damaged, or its segment was unlinked",
            plain(queue_id)
        );
    }
    Ok(if found > 0 && unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The lines of the header section.
fn headers(directory: &Directory<ReadOnly>, mail: &Mail) -> Result<Vec<String>, String> {
    let mut head: Vec<u8> = Vec::new();
    let mut raw: Vec<u8> = Vec::new();
    let read = block_on(directory.data(mail, |part| {
        raw.extend_from_slice(&part[..part.len().min(HEADER_OCTETS_MAX)]);
        let ended = raw.starts_with(b"\r\n") || memchr::memmem::find(&raw, b"\r\n\r\n").is_some();
        if ended || raw.len() >= HEADER_OCTETS_MAX { Err("enough was read") } else { Ok(()) }
    }));
    if let Err(error @ (MailError::Read { .. } | MailError::Lost { .. })) = &read {
        return Err(error.to_string());
    }
    let end = if raw.starts_with(b"\r\n") {
        0
    } else {
        memchr::memmem::find(&raw, b"\r\n\r\n").unwrap_or(raw.len().min(HEADER_OCTETS_MAX))
    };
    let mut body = Body::new(&mut head, Form { line_feed: true, quoted: false, stuffed: true });
    body.write(&raw[..end]).and_then(|()| body.finish()).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&head).lines().map(str::to_owned).collect())
}

fn text(output: &mut impl Write, mail: &Mail, headers: &[String]) -> io::Result<()> {
    let record = &mail.record;
    let mut line = |name: &str, value: String| writeln!(output, "{name:<10}{}", plain(&value));
    line("queue id", record.queue_id.clone())?;
    line("stamp", record.stamp.to_string())?;
    line("received", utc(record.received_ms))?;
    line("place", format!("{} at {}, {} octets", record.path, record.offset, record.octets))?;
    line("from", format!("<{}>", record.reverse_path.as_deref().unwrap_or("")))?;
    let extensions = record.extensions.clone().unwrap_or_default();
    for (ordinal, recipient) in record.recipients.iter().enumerate() {
        line("to", state(recipient) + &said::recipient(&extensions, ordinal))?;
    }
    for word in said::message(&extensions) {
        line("said", word)?;
    }
    if !record.authentication.is_empty() {
        line("checked", record.authentication.clone())?;
    }
    let body = if mail.body_8bit { ", BODY=8BITMIME" } else { "" };
    line("client", format!("[{}] called itself {}, {}{body}", mail.client, mail.helo, mail.protocol))?;
    let kinds = match (mail.has_8bit, mail.has_nul) {
        (false, false) => "",
        (true, false) => ", octets above 127",
        (false, true) => ", NUL",
        (true, true) => ", octets above 127, NUL",
    };
    let sizes = format!(
        "{} octets, {} as stored, {} lines with an added dot{kinds}",
        mail.octets, record.data_octets, mail.stuffed_lines
    );
    line("size", sizes)?;
    line("key", if mail.key_id == 0 { "not encrypted".to_owned() } else { mail.key_id.to_string() })?;
    for chunk in &mail.chunks {
        line("chunk", format!("{} at {}, {} octets of data", chunk.path, chunk.offset, chunk.octets))?;
    }
    for (number, trace) in String::from_utf8_lossy(&mail.trace).lines().enumerate() {
        line(if number == 0 { "trace" } else { "" }, trace.replace('\t', " "))?;
    }
    for (number, header) in headers.iter().enumerate() {
        line(if number == 0 { "header" } else { "" }, header.replace('\t', " "))?;
    }
    writeln!(output)
}

fn state(recipient: &Recipient) -> String {
    let mut text = format!("<{}> {}", recipient.mailbox, recipient.state);
    if recipient.code != 0 {
        text.push_str(&format!(" by {}", recipient.code));
    }
    if recipient.since_s != 0 {
        text.push_str(&format!(" since {}", utc(u64::from(recipient.since_s) * 1000)));
    }
    text
}

fn object(mail: &Mail, headers: &[String]) -> serde_json::Value {
    let record = &mail.record;
    let recipient = |recipient: &Recipient| {
        let since = (recipient.since_s != 0).then(|| utc(u64::from(recipient.since_s) * 1000));
        let code = (recipient.code != 0).then_some(recipient.code);
        json!({"mailbox": recipient.mailbox, "state": recipient.state, "code": code, "since": since})
    };
    let chunk =
        |chunk: &ChunkPlace| json!({"path": chunk.path, "offset": chunk.offset, "octets": chunk.octets});
    json!({
        "queue_id": record.queue_id,
        "stamp": record.stamp,
        "received": utc(record.received_ms),
        "path": record.path,
        "offset": record.offset,
        "octets": record.octets,
        "reverse_path": record.reverse_path,
        "recipients": record.recipients.iter().map(recipient).collect::<Vec<_>>(),
        "client": mail.client.to_string(),
        "helo": mail.helo,
        "protocol": mail.protocol,
        "body_8bit": mail.body_8bit,
        "extensions": record.extensions.as_ref().map(said::object),
        "authentication": said::authentication(record),
        "has_8bit": mail.has_8bit,
        "has_nul": mail.has_nul,
        "message_octets": mail.octets,
        "data_octets": record.data_octets,
        "stuffed_lines": mail.stuffed_lines,
        "key": mail.key_id,
        "chunks": mail.chunks.iter().map(chunk).collect::<Vec<_>>(),
        "trace": String::from_utf8_lossy(&mail.trace),
        "headers": headers,
    })
}
