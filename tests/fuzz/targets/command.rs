//! Command lines: what was understood says the same when it is written again, in capitals or not; parts lie in the line.

use std::fmt::Write as _;

use stratamx::limits::DOMAIN_OCTETS_MAX;
use stratamx::smtp::command::{Body, Command, CommandError, EtrnNode};

use super::engine::Signs;

pub const WORDS: &[&[u8]] = &[
    b"MAIL FROM:<a@example.org>",
    b"RCPT TO:<b@example.test>",
    b"EHLO ",
    b"HELO ",
    b"BDAT 5 LAST",
    b"ETRN @",
    b"ETRN #",
    b"VRFY ",
    b"EXPN x",
    b"HELP",
    b"NOOP",
    b"QUIT",
    b"RSET",
    b"DATA",
    b"STARTTLS",
    b"XCLIENT NAME=x ADDR=192.0.2.1",
    b" SIZE=100",
    b" BODY=8BITMIME",
    b" BODY=7BIT",
    b" SMTPUTF8",
    b" RET=HDRS",
    b" RET=FULL",
    b" ENVID=x+2B",
    b" NOTIFY=NEVER",
    b" NOTIFY=SUCCESS,FAILURE,DELAY",
    b" ORCPT=rfc822;a@b",
    b" ORCPT=utf-8;\\x{FC}",
    b"=",
    b";",
    b",",
    b" ",
    b"<>",
    b"<postmaster>",
    "ü".as_bytes(),
];

/// See the module. CR, LF and NUL never get into a line.
pub fn run(input: &[u8]) -> Signs {
    let line: Vec<u8> = input.iter().filter(|octet| !b"\r\n\0".contains(octet)).copied().collect();
    let mut signs = Signs::default();
    let parsed = Command::parse(&line);
    assert_eq!(
        Command::parse(&[&line, &b" \t "[..]].concat()),
        parsed,
        "white space at the end says nothing"
    );
    for case in [<[u8]>::to_ascii_lowercase, <[u8]>::to_ascii_uppercase] {
        let verb_end = line.iter().position(|octet| *octet == b' ').unwrap_or(line.len());
        let changed = [&case(&line[..verb_end]), &line[verb_end..]].concat();
        assert_eq!(Command::parse(&changed), parsed, "verbs in any case");
    }
    match parsed {
        Ok(command) => {
            let again = written(&command);
            assert_eq!(
                Command::parse(again.as_bytes()),
                Ok(command),
                "{again:?} is {:?}",
                line.escape_ascii()
            );
            check(&command, &mut signs);
        }
        Err(error) => {
            let reply = error.reply();
            assert!((500..=555).contains(&reply.code().value()));
            assert!(
                !line.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT "))
                    || error == CommandError::BadChunk
            );
            signs.note((reply.to_string(), line.first()));
        }
    }
    signs
}

fn check(command: &Command<'_>, signs: &mut Signs) {
    signs.note(core::mem::discriminant(command));
    match command {
        Command::Ehlo(name) | Command::Helo(name) => check_token(name),
        Command::Etrn(node) => {
            check_token(node.name());
            signs.note(core::mem::discriminant(node));
        }
        Command::Mail(mail) => {
            assert!(mail.smtputf8 || mail.reverse_path.as_str().is_ascii(), "RFC 6531 3.5");
            assert!(!mail.dsn.envid.contains(char::is_whitespace) && mail.dsn.envid.is_ascii());
            signs.note((mail.declared_size.is_some(), mail.body == Body::EightBitMime, mail.smtputf8));
            signs.note((mail.dsn.ret.map(|ret| ret.to_string()), mail.dsn.envid.is_empty()));
        }
        Command::Rcpt(rcpt) => {
            assert!(!rcpt.dsn.orcpt.contains(|c: char| c.is_whitespace() || c.is_control()));
            signs.note((rcpt.dsn.notify.bits(), rcpt.dsn.orcpt.is_empty(), rcpt.is_ascii()));
        }
        _ => {}
    }
}

fn check_token(name: &str) {
    assert!((1..=DOMAIN_OCTETS_MAX).contains(&name.len()));
    assert!(!name.contains(|c: char| c.is_whitespace() || c.is_control()), "{name:?}");
}

/// The command as a client of ours would say it.
fn written(command: &Command<'_>) -> String {
    match command {
        Command::Bdat { octets, is_last } => format!("BDAT {octets}{}", if *is_last { " LAST" } else { "" }),
        Command::Data => "DATA".to_owned(),
        Command::Ehlo(name) => format!("EHLO {name}"),
        Command::Etrn(EtrnNode::Domain(name)) => format!("ETRN {name}"),
        Command::Etrn(EtrnNode::DomainAndBelow(name)) => format!("ETRN @{name}"),
        Command::Etrn(EtrnNode::Queue(name)) => format!("ETRN #{name}"),
        Command::Helo(name) => format!("HELO {name}"),
        Command::Help => "HELP".to_owned(),
        Command::Mail(mail) => {
            let mut line = format!("MAIL FROM:<{}>", mail.reverse_path.as_str());
            push(&mut line, " SIZE=", mail.declared_size);
            push(&mut line, " BODY=", (mail.body == Body::EightBitMime).then_some("8BITMIME"));
            push(&mut line, " SMTPUTF8", mail.smtputf8.then_some(""));
            push(&mut line, " RET=", mail.dsn.ret);
            push(&mut line, " ENVID=", Some(mail.dsn.envid).filter(|envid| !envid.is_empty()));
            line
        }
        Command::Noop => "NOOP".to_owned(),
        Command::Quit => "QUIT".to_owned(),
        Command::Rcpt(rcpt) => {
            let mut line = format!("RCPT TO:<{}>", rcpt.forward_path.as_str());
            push(&mut line, " NOTIFY=", Some(rcpt.dsn.notify).filter(|notify| notify.is_said()));
            push(&mut line, " ORCPT=", Some(rcpt.dsn.orcpt).filter(|orcpt| !orcpt.is_empty()));
            line
        }
        Command::Rset => "RSET".to_owned(),
        Command::StartTls => "STARTTLS".to_owned(),
        Command::Vrfy => "VRFY x".to_owned(),
        Command::Xclient(arguments) => format!("XCLIENT {arguments}"),
    }
}

fn push(line: &mut String, keyword: &str, value: Option<impl core::fmt::Display>) {
    if let Some(value) = value {
        write!(line, "{keyword}{value}").expect("text");
    }
}
