//! One command line -> one [`Command`], borrowed from the line (RFC 5321 4.1.1).
//!
//! Verbs and keywords are taken in any case; trailing white space is ignored (RFC 5321 4.1.1). One space after
//! the colon of `MAIL FROM:` and `RCPT TO:` is taken too, since real senders put it there and it hides
//! nothing; runs of spaces may separate parameters. Any other freedom is a [`CommandError`], which names its
//! reply. Parameters are judged by their keyword, whichever of HELO and EHLO was said: a sender that declares
//! a size after HELO is understood.
//!
//! Nothing here knows the state of the session, so nothing here refuses a good command at a wrong time.

use core::str;

use crate::limits::DOMAIN_OCTETS_MAX;
use crate::smtp::path::{ForwardPath, PathError, ReversePath};
use crate::smtp::reply::{self, Reply};

/// A command that is well-formed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Mail data is to follow.
    Data,
    /// Extended greeting with the client's name.
    Ehlo(&'a str),
    /// Plain greeting with the client's name.
    Helo(&'a str),
    /// A list of commands is wanted.
    Help,
    /// Begins a transaction.
    Mail(Mail<'a>),
    /// Nothing.
    Noop,
    /// The end of the session.
    Quit,
    /// One recipient.
    Rcpt(ForwardPath<'a>),
    /// Drops the transaction.
    Rset,
    /// The session is to go on through TLS (RFC 3207).
    StartTls,
    /// Is this a mailbox?
    Vrfy,
}

/// The arguments of MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mail<'a> {
    /// Where notices go.
    pub reverse_path: ReversePath<'a>,
    /// `SIZE=` (RFC 1870); a number beyond `u64` is `u64::MAX`.
    pub declared_size: Option<u64>,
    /// `BODY=` (RFC 6152).
    pub body: Body,
}

/// What the client says about the octets of the message. The scanner counts for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// `BODY=7BIT`, or nothing said.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBitMime,
}

/// Why a line is no command that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// An argument is missing, malformed, or one too many.
    #[error("bad argument")]
    BadArgument,
    /// RCPT without a good forward-path.
    #[error("bad recipient: {0}")]
    BadRecipient(PathError),
    /// MAIL without a good reverse-path.
    #[error("bad sender: {0}")]
    BadSender(PathError),
    /// A command of RFC 5321 that is not done here.
    #[error("command not implemented")]
    NotImplemented,
    /// No such command.
    #[error("unknown command")]
    UnknownCommand,
    /// A well-formed parameter that was not offered.
    #[error("unknown parameter")]
    UnknownParameter,
}

impl CommandError {
    /// The reply that says so.
    pub fn reply(self) -> Reply {
        match self {
            Self::BadArgument => reply::BAD_ARGUMENT_501,
            Self::BadRecipient(PathError::NonAscii) | Self::BadSender(PathError::NonAscii) => {
                reply::NON_ASCII_ADDRESS_553
            }
            // RFC 5321 4.5.3.1.10: "501 Path too long".
            Self::BadRecipient(PathError::TooLong) => reply::BAD_RECIPIENT_501.with_text("Path too long"),
            Self::BadSender(PathError::TooLong) => reply::BAD_SENDER_501.with_text("Path too long"),
            Self::BadRecipient(PathError::Syntax) => reply::BAD_RECIPIENT_501,
            Self::BadSender(PathError::Syntax) => reply::BAD_SENDER_501,
            Self::NotImplemented => reply::NOT_IMPLEMENTED_502,
            Self::UnknownCommand => reply::UNKNOWN_COMMAND_500,
            Self::UnknownParameter => reply::UNKNOWN_PARAMETER_555,
        }
    }
}

impl<'a> Command<'a> {
    /// Parses a line without its CRLF, free of CR, LF and NUL.
    pub fn parse(line: &'a [u8]) -> Result<Self, CommandError> {
        let line = line.trim_ascii_end();
        let (verb, argument) = match line.iter().position(|octet| *octet == b' ') {
            Some(space) => (&line[..space], &line[space + 1..]),
            None => (line, &line[line.len()..]),
        };
        if verb.eq_ignore_ascii_case(b"STARTTLS") {
            return alone(argument, Self::StartTls);
        }
        let mut upper = [0; 4];
        if verb.len() != upper.len() {
            return Err(CommandError::UnknownCommand);
        }
        upper.copy_from_slice(verb);
        upper.make_ascii_uppercase();
        match &upper {
            b"DATA" => alone(argument, Self::Data),
            b"EHLO" => client_name(argument).map(Self::Ehlo),
            b"EXPN" => Err(CommandError::NotImplemented),
            b"HELO" => client_name(argument).map(Self::Helo),
            b"HELP" => Ok(Self::Help),
            b"MAIL" => mail(argument).map(Self::Mail),
            b"NOOP" => Ok(Self::Noop),
            b"QUIT" => alone(argument, Self::Quit),
            b"RCPT" => rcpt(argument).map(Self::Rcpt),
            b"RSET" => alone(argument, Self::Rset),
            b"VRFY" if argument.is_empty() => Err(CommandError::BadArgument),
            b"VRFY" => Ok(Self::Vrfy),
            _ => Err(CommandError::UnknownCommand),
        }
    }
}

fn alone<'a>(argument: &[u8], command: Command<'a>) -> Result<Command<'a>, CommandError> {
    if argument.is_empty() { Ok(command) } else { Err(CommandError::BadArgument) }
}

/// RFC 5321 4.1.1.1 wants a domain or address literal; real clients send any name they have, and RFC 5321
/// 4.1.4 forbids refusing mail for it. One printable token is enough; the trace field sanitises it.
fn client_name(argument: &[u8]) -> Result<&str, CommandError> {
    let name = str::from_utf8(argument).map_err(|_| CommandError::BadArgument)?.trim_start_matches(' ');
    let is_token = !name.is_empty() && !name.contains(|c: char| c.is_control() || c.is_whitespace());
    if is_token && name.len() <= DOMAIN_OCTETS_MAX { Ok(name) } else { Err(CommandError::BadArgument) }
}

fn mail(argument: &[u8]) -> Result<Mail<'_>, CommandError> {
    let path = path_argument(argument, "FROM:", CommandError::BadSender(PathError::NonAscii))?;
    let (reverse_path, rest) = ReversePath::parse(path).map_err(CommandError::BadSender)?;
    let (mut declared_size, mut body) = (None, None);
    for parameter in parameters(rest)? {
        let (keyword, value) = parameter?;
        if keyword.eq_ignore_ascii_case("SIZE") {
            once(&mut declared_size, size_value(value)?)?;
        } else if keyword.eq_ignore_ascii_case("BODY") {
            once(&mut body, body_value(value)?)?;
        } else {
            return Err(CommandError::UnknownParameter);
        }
    }
    Ok(Mail { reverse_path, declared_size, body: body.unwrap_or_default() })
}

fn rcpt(argument: &[u8]) -> Result<ForwardPath<'_>, CommandError> {
    let path = path_argument(argument, "TO:", CommandError::BadRecipient(PathError::NonAscii))?;
    let (forward_path, rest) = ForwardPath::parse(path).map_err(CommandError::BadRecipient)?;
    match parameters(rest)?.next() {
        None => Ok(forward_path),
        Some(parameter) => parameter.and(Err(CommandError::UnknownParameter)),
    }
}

/// What stands behind `FROM:` or `TO:` and at most one space.
fn path_argument<'a>(
    argument: &'a [u8],
    label: &str,
    not_text: CommandError,
) -> Result<&'a str, CommandError> {
    let text = str::from_utf8(argument).map_err(|_| not_text)?;
    match text.split_at_checked(label.len()) {
        Some((head, path)) if head.eq_ignore_ascii_case(label) => Ok(path.strip_prefix(' ').unwrap_or(path)),
        _ => Err(CommandError::BadArgument),
    }
}

type Parameter<'a> = Result<(&'a str, Option<&'a str>), CommandError>;

/// `*(SP keyword ["=" value])` (RFC 5321 4.1.2).
fn parameters(rest: &str) -> Result<impl Iterator<Item = Parameter<'_>>, CommandError> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(CommandError::BadArgument);
    }
    Ok(rest.split(' ').filter(|word| !word.is_empty()).map(parameter))
}

fn parameter(word: &str) -> Parameter<'_> {
    let (keyword, value) = match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    };
    let is_keyword = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
        && keyword.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    let is_value =
        |value: &str| !value.is_empty() && value.bytes().all(|o| o.is_ascii_graphic() && o != b'=');
    if is_keyword && value.is_none_or(is_value) {
        Ok((keyword, value))
    } else {
        Err(CommandError::BadArgument)
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), CommandError> {
    if slot.replace(value).is_none() { Ok(()) } else { Err(CommandError::BadArgument) }
}

/// RFC 1870 3: 1 to 20 digits. More than a `u64` holds is more than any maximum.
fn size_value(value: Option<&str>) -> Result<u64, CommandError> {
    let digits = value.ok_or(CommandError::BadArgument)?;
    if digits.len() > 20 || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(CommandError::BadArgument);
    }
    Ok(digits.parse().unwrap_or(u64::MAX))
}

/// RFC 6152 2; any other body, BINARYMIME among them, was not offered.
fn body_value(value: Option<&str>) -> Result<Body, CommandError> {
    match value.ok_or(CommandError::BadArgument)? {
        value if value.eq_ignore_ascii_case("7BIT") => Ok(Body::SevenBit),
        value if value.eq_ignore_ascii_case("8BITMIME") => Ok(Body::EightBitMime),
        _ => Err(CommandError::UnknownParameter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> CommandError {
        Command::parse(line.as_bytes()).expect_err(line)
    }

    fn mail_of(line: &str) -> (String, Option<u64>, Body) {
        match Command::parse(line.as_bytes()) {
            Ok(Command::Mail(mail)) => (mail.reverse_path.as_str().to_owned(), mail.declared_size, mail.body),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn verbs_are_taken_in_any_case_with_trailing_space() {
        assert_eq!(Command::parse(b"dAtA  \t"), Ok(Command::Data));
        assert_eq!(Command::parse(b"quit"), Ok(Command::Quit));
        assert_eq!(Command::parse(b"NOOP whatever"), Ok(Command::Noop));
        assert_eq!(Command::parse(b"HELP MAIL"), Ok(Command::Help));
        assert_eq!(Command::parse(b"StartTLS "), Ok(Command::StartTls));
        assert_eq!(Command::parse(b"VRFY someone"), Ok(Command::Vrfy));
    }

    #[test]
    fn the_client_name_is_one_printable_token() {
        assert_eq!(Command::parse(b"EHLO [192.0.2.1]"), Ok(Command::Ehlo("[192.0.2.1]")));
        assert_eq!(Command::parse(b"HELO  my_pc"), Ok(Command::Helo("my_pc")));
        for line in ["EHLO", "EHLO ", "HELO", "EHLO a b", "EHLO a\tb", "EHLO a\x1bb", "EHLO a\u{85}b"] {
            assert_eq!(error(line), CommandError::BadArgument, "{line}");
        }
        assert_eq!(error(&format!("EHLO {}", "n".repeat(256))), CommandError::BadArgument);
        assert_eq!(Command::parse(b"EHLO \xff"), Err(CommandError::BadArgument));
    }

    #[test]
    fn mail_takes_one_space_and_its_parameters() {
        assert_eq!(mail_of("MAIL FROM:<a@b>"), ("a@b".into(), None, Body::SevenBit));
        assert_eq!(
            mail_of("mail from: <>  size=7 body=8bitmime"),
            (String::new(), Some(7), Body::EightBitMime)
        );
        assert_eq!(mail_of("MAIL FROM:<> SIZE=99999999999999999999").1, Some(u64::MAX));
        assert_eq!(error("MAIL FROM:  <a@b>"), CommandError::BadSender(PathError::Syntax));
        assert_eq!(error("MAIL FROM:a@b"), CommandError::BadSender(PathError::Syntax));
    }

    #[test]
    fn bad_arguments_and_unknown_parameters_are_told_apart() {
        for line in [
            "MAIL",
            "MAIL <a@b>",
            "MAIL FROM",
            "MAIL TO:<a@b>",
            "MAIL FROM :<a@b>",
            "MAIL FROM:<a@b>SIZE=1",
            "MAIL FROM:<a@b> SIZE",
            "MAIL FROM:<a@b> SIZE=",
            "MAIL FROM:<a@b> SIZE=1x",
            "MAIL FROM:<a@b> =1",
            "MAIL FROM:<a@b> SIZE=1 SIZE=1",
            "MAIL FROM:<a@b> BODY",
            "MAIL FROM:<a@b> -X",
            "MAIL FROM:<a@b> X=a=b",
            "MAIL FROM:<a@b> SIZE=-1",
            "MAIL FROM:<a@b> SIZE=000000000000000000001",
            "RCPT TO:<a@b> \x07",
            "RCPT",
            "RCPT FROM:<a@b>",
            "RCPT TO:<a@b>x",
            "DATA x",
            "RSET x",
            "QUIT x",
            "STARTTLS x",
            "VRFY",
        ] {
            assert_eq!(error(line), CommandError::BadArgument, "{line}");
        }
        for line in [
            "MAIL FROM:<a@b> SMTPUTF8",
            "MAIL FROM:<a@b> RET=FULL",
            "MAIL FROM:<a@b> BODY=BINARYMIME",
            "MAIL FROM:<a@b> AUTH=<>",
            "RCPT TO:<a@b> NOTIFY=NEVER",
        ] {
            assert_eq!(error(line), CommandError::UnknownParameter, "{line}");
        }
    }

    #[test]
    fn octets_beyond_ascii_are_refused_as_addresses_and_unknown_as_verbs() {
        assert_eq!(error("MAIL FROM:<ü@b>"), CommandError::BadSender(PathError::NonAscii));
        assert_eq!(Command::parse(b"RCPT TO:<\xfc@b>"), Err(CommandError::BadRecipient(PathError::NonAscii)));
        for line in ["", " ", "MAI", "MAILX", "ÜÜ", "AUTH LOGIN", "STARTTLSX", "BDAT 1", "GET / HTTP/1.1"] {
            assert_eq!(error(line), CommandError::UnknownCommand, "{line}");
        }
        assert_eq!(error("EXPN list"), CommandError::NotImplemented);
    }
}
