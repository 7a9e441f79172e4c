//! `export`: messages as files that other programs read.
//!
//! Each is what a final delivery would have made of it: `Return-Path:` with the reverse-path and a `Delivered-To:` for each
//! recipient that was asked for, with the address that its sender meant (`Original-Recipient:`, RFC 8098 2.3) where DSN told
//! it, then our Received field, then the message as it came.

mod body;
mod target;

pub(crate) use body::{Body, Form};
pub(crate) use target::Format;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use futures_lite::future::block_on;
use storage::inspect::{Directory, Filter, Mail, MailError, ReadOnly};
use stratamx::smtp::dsn::decode_xtext;

use super::progress::Progress;
use super::text::{asctime, plain};
use target::Target;

/// Why a message does not get there.
enum Failure {
    /// It cannot be read: the others can.
    Message(String),
    /// Nothing more can be written.
    Target(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Target(error)
    }
}

impl From<MailError<io::Error>> for Failure {
    fn from(error: MailError<io::Error>) -> Self {
        match error {
            MailError::Taker(error) => Self::Target(error),
            other => Self::Message(other.to_string()),
        }
    }
}

pub(crate) fn export(
    directory: &Directory<ReadOnly>,
    filter: &Filter,
    format: Format,
    path: &Path,
) -> io::Result<ExitCode> {
    let at_target = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => error,
        _ => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
    };
    let mut target = Target::open(format, path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let progress = Progress::messages("export");
    let all = directory.messages();
    let (mut exported, mut unreadable) = (0_u64, 0_u64);
    let written = block_on(directory.mails(filter, async |mail: Result<Mail, MailError<io::Error>>| {
        let put = match mail {
            Ok(mail) => put(directory, &mut target, &mail, filter),
            Err(error) => Err(error.into()),
        };
        match put {
            Ok(()) => exported += 1,
            Err(Failure::Message(what)) => {
                unreadable += 1;
                eprintln!("not exported: {}", plain(&what));
            }
            Err(Failure::Target(error)) => return Err(error),
        }
        progress.at(exported + unreadable, all);
        Ok(())
    }));
    written.map_err(at_target)?;
    target.finish().map_err(at_target)?;
    drop(progress);
    eprintln!("{exported} messages exported, {unreadable} unreadable");
    Ok(if unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn put(
    directory: &Directory<ReadOnly>,
    target: &mut Target,
    mail: &Mail,
    filter: &Filter,
) -> Result<(), Failure> {
    let form = target.form();
    let name = match mail.record.queue_id.as_str() {
        "" => format!("stamp-{}", mail.record.stamp),
        queue_id => queue_id.to_owned(),
    };
    let name = match target {
        // Names in a Maildir begin with a time, by which readers sort.
        Target::Maildir(_) => format!("{}.{name}", mail.record.received_ms / 1000),
        _ => name,
    };
    target.put(&name, &separator(mail), |output| write(directory, mail, filter, form, output))
}

/// The line in front of a message in an mbox.
fn separator(mail: &Mail) -> String {
    let sender = match mail.record.reverse_path.as_deref() {
        None | Some("") => "MAILER-DAEMON".to_owned(),
        Some(sender) => sender.replace(|c: char| c.is_whitespace() || c.is_control(), "_"),
    };
    format!("From {sender} {}", asctime(mail.record.received_ms))
}

fn write(
    directory: &Directory<ReadOnly>,
    mail: &Mail,
    filter: &Filter,
    form: Form,
    mut output: &mut dyn Write,
) -> Result<(), Failure> {
    // An address cannot break its line.
    let clean = |text: &str| text.replace(char::is_control, "?");
    let mut head = format!("Return-Path: <{}>\r\n", clean(mail.record.reverse_path.as_deref().unwrap_or("")));
    let recipients = mail.record.recipients.iter().enumerate();
    for (ordinal, recipient) in recipients.filter(|(_, recipient)| filter.admits_recipient(recipient)) {
        head.push_str(&format!("Delivered-To: {}\r\n", clean(&recipient.mailbox)));
        let dsn = mail.record.extensions.as_ref().and_then(|said| said.recipients.get(ordinal));
        if let Some(field) = dsn.and_then(|dsn| original_recipient(&dsn.orcpt)) {
            head.push_str(&format!("Original-Recipient: {}\r\n", clean(&field)));
        }
    }
    let mut fields = Body::new(&mut output, form);
    fields.write(head.as_bytes())?;
    fields.write(&mail.trace)?;
    fields.finish()?;
    let mut body = Body::new(&mut output, Form { stuffed: true, ..form });
    block_on(directory.data(mail, |part| body.write(part)))?;
    Ok(body.finish()?)
}

/// The address that the sender meant, decoded (RFC 8098 2.3). RFC 3461 4.2 has it in xtext, but for the type of RFC 6533.
fn original_recipient(orcpt: &str) -> Option<String> {
    let (kind, address) = orcpt.split_once(';')?;
    let decoded = decode_xtext(address).filter(|_| !kind.eq_ignore_ascii_case("utf-8"));
    let address = match &decoded {
        Some(octets) => String::from_utf8_lossy(octets),
        None => address.into(),
    };
    Some(format!("{kind}; {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_recipient_is_decoded() {
        let shown = |orcpt| original_recipient(orcpt).unwrap_or_default();
        assert_eq!(shown("rfc822;a+2Bb@one.test"), "rfc822; a+b@one.test");
        assert_eq!(shown("utf-8;\u{fc}@one.test"), "utf-8; \u{fc}@one.test");
        assert_eq!(shown(""), "");
    }
}
