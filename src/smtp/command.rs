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
use crate::smtp::dsn::{MailDsn, Notify, RcptDsn, Ret, is_envid, is_orcpt};
use crate::smtp::path::{ForwardPath, PathError, ReversePath};
use crate::smtp::reply::{self, Reply};

/// A command that is well-formed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// A chunk of mail data follows the line (RFC 3030).
    Bdat {
        /// Its octets.
        octets: u64,
        /// No other follows it.
        is_last: bool,
    },
    /// Mail data is to follow.
    Data,
    /// Extended greeting with the client's name.
    Ehlo(&'a str),
    /// Mail for this node is to be sent (RFC 1985).
    Etrn(EtrnNode<'a>),
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
    Rcpt(Rcpt<'a>),
    /// Drops the transaction.
    Rset,
    /// The session is to go on through TLS (RFC 3207).
    StartTls,
    /// Is this a mailbox?
    Vrfy,
    /// Who the client is, by a proxy, with its arguments.
    Xclient(&'a str),
}

/// Whose mail ETRN asks for (RFC 1985 5.1 and 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtrnNode<'a> {
    /// A domain.
    Domain(&'a str),
    /// `@`: a domain and those below it.
    DomainAndBelow(&'a str),
    /// `#`: a queue by its name.
    Queue(&'a str),
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
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `RET=` and `ENVID=` (RFC 3461).
    pub dsn: MailDsn<'a>,
}

/// The arguments of RCPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcpt<'a> {
    /// Who gets the message.
    pub forward_path: ForwardPath<'a>,
    /// `NOTIFY=` and `ORCPT=` (RFC 3461).
    pub dsn: RcptDsn<'a>,
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
    /// BDAT that does not say how many octets follow: what comes next are no commands, and nobody knows where they
    /// begin again.
    #[error("bad chunk")]
    BadChunk,
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
            Self::BadChunk => reply::BAD_CHUNK_554,
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
        if verb.eq_ignore_ascii_case(b"XCLIENT") {
            return str::from_utf8(argument).map(Self::Xclient).map_err(|_| CommandError::BadArgument);
        }
        let mut upper = [0; 4];
        if verb.len() != upper.len() {
            return Err(CommandError::UnknownCommand);
        }
        upper.copy_from_slice(verb);
        upper.make_ascii_uppercase();
        match &upper {
            b"BDAT" => bdat(argument).ok_or(CommandError::BadChunk),
            b"DATA" => alone(argument, Self::Data),
            b"EHLO" => client_name(argument).map(Self::Ehlo),
            b"ETRN" => EtrnNode::parse(argument).map(Self::Etrn).ok_or(CommandError::BadArgument),
            b"EXPN" => Err(CommandError::NotImplemented),
            b"HELO" => client_name(argument).map(Self::Helo),
            b"HELP" => Ok(Self::Help),
            b"MAIL" => mail(argument).map(Self::Mail),
            b"NOOP" => Ok(Self::Noop),
            b"QUIT" => alone(argument, Self::Quit),
            b"RCPT" => rcpt(argument).map(Self::Rcpt),
            b"RSET" => alone(argument, Self::Rset),
            b"VRFY" => vrfy(argument).map(|()| Self::Vrfy),
            _ => Err(CommandError::UnknownCommand),
        }
    }
}

fn alone<'a>(argument: &[u8], command: Command<'a>) -> Result<Command<'a>, CommandError> {
    if argument.is_empty() { Ok(command) } else { Err(CommandError::BadArgument) }
}

/// RFC 3030 2: octets, and `LAST`. More digits than a `u64` has are no number that could be kept in step.
fn bdat<'a>(argument: &[u8]) -> Option<Command<'a>> {
    let mut words = str::from_utf8(argument).ok()?.split(' ').filter(|word| !word.is_empty());
    let digits = words.next().filter(|word| word.bytes().all(|octet| octet.is_ascii_digit()))?;
    let is_last = match words.next() {
        None => false,
        Some(word) => word.eq_ignore_ascii_case("LAST").then_some(true)?,
    };
    let octets = digits.parse().ok()?;
    words.next().is_none().then_some(Command::Bdat { octets, is_last })
}

/// RFC 6531 3.7.4: an address beyond ASCII needs the parameter SMTPUTF8, also here.
fn vrfy(argument: &[u8]) -> Result<(), CommandError> {
    let says_smtputf8 = argument.len() > 9
        && argument
            .split_last_chunk()
            .is_some_and(|(_, end): (_, &[u8; 9])| end.eq_ignore_ascii_case(b" SMTPUTF8"));
    match argument {
        b"" => Err(CommandError::BadArgument),
        _ if argument.is_ascii() => Ok(()),
        _ if says_smtputf8 && str::from_utf8(argument).is_ok() => Ok(()),
        _ => Err(CommandError::BadRecipient(PathError::NonAscii)),
    }
}

impl Rcpt<'_> {
    /// SMTPUTF8 is not needed.
    pub fn is_ascii(&self) -> bool {
        self.forward_path.as_str().is_ascii() && self.dsn.orcpt.is_ascii()
    }
}

impl<'a> EtrnNode<'a> {
    /// `[@|#]name`, one printable token.
    pub fn parse(argument: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(argument).ok()?.trim_start_matches(' ');
        let (node, name): (fn(&'a str) -> Self, _) = match text.as_bytes().first()? {
            b'@' => (Self::DomainAndBelow, &text[1..]),
            b'#' => (Self::Queue, &text[1..]),
            _ => (Self::Domain, text),
        };
        is_client_name(name).then(|| node(name))
    }

    /// The name as it was said, without its mark.
    pub fn name(&self) -> &'a str {
        match self {
            Self::Domain(name) | Self::DomainAndBelow(name) | Self::Queue(name) => name,
        }
    }
}

/// RFC 5321 4.1.1.1 wants a domain or address literal; real clients send any name they have, and RFC 5321
/// 4.1.4 forbids refusing mail for it. One printable token is enough; the trace field sanitises it.
fn client_name(argument: &[u8]) -> Result<&str, CommandError> {
    let name = str::from_utf8(argument).map_err(|_| CommandError::BadArgument)?.trim_start_matches(' ');
    if is_client_name(name) { Ok(name) } else { Err(CommandError::BadArgument) }
}

/// One printable token, not longer than a domain.
pub(crate) fn is_client_name(name: &str) -> bool {
    let is_token = !name.is_empty() && !name.contains(|c: char| c.is_control() || c.is_whitespace());
    is_token && name.len() <= DOMAIN_OCTETS_MAX
}

fn mail(argument: &[u8]) -> Result<Mail<'_>, CommandError> {
    const NON_ASCII: CommandError = CommandError::BadSender(PathError::NonAscii);
    let path = path_argument(argument, "FROM:", NON_ASCII)?;
    let (reverse_path, rest) = ReversePath::parse(path).map_err(CommandError::BadSender)?;
    let (mut declared_size, mut body, mut smtputf8) = (None, None, None);
    let (mut ret, mut envid) = (None, None);
    for parameter in parameters(rest)? {
        let (keyword, value) = parameter?;
        match capitals(keyword, &mut [0; KEYWORD_OCTETS_MAX]) {
            b"SIZE" => once(&mut declared_size, size_value(value)?)?,
            b"BODY" => once(&mut body, body_value(value)?)?,
            b"SMTPUTF8" if value.is_none() => once(&mut smtputf8, ())?,
            b"SMTPUTF8" => return Err(CommandError::BadArgument),
            b"RET" => once(&mut ret, valid(value.and_then(Ret::parse))?)?,
            b"ENVID" => once(&mut envid, valid(value.filter(|value| is_envid(value)))?)?,
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    if smtputf8.is_none() && !reverse_path.as_str().is_ascii() {
        return Err(NON_ASCII);
    }
    let dsn = MailDsn { ret, envid: envid.unwrap_or_default() };
    let body = body.unwrap_or_default();
    Ok(Mail { reverse_path, declared_size, body, smtputf8: smtputf8.is_some(), dsn })
}

/// Whether SMTPUTF8 was said, which an address beyond ASCII needs, stands in MAIL.
fn rcpt(argument: &[u8]) -> Result<Rcpt<'_>, CommandError> {
    let path = path_argument(argument, "TO:", CommandError::BadRecipient(PathError::NonAscii))?;
    let (forward_path, rest) = ForwardPath::parse(path).map_err(CommandError::BadRecipient)?;
    let (mut notify, mut orcpt) = (None, None);
    for parameter in parameters(rest)? {
        let (keyword, value) = parameter?;
        match capitals(keyword, &mut [0; KEYWORD_OCTETS_MAX]) {
            b"NOTIFY" => once(&mut notify, valid(value.and_then(Notify::parse))?)?,
            b"ORCPT" => once(&mut orcpt, valid(value.filter(|value| is_orcpt(value)))?)?,
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    let dsn = RcptDsn { notify: notify.unwrap_or_default(), orcpt: orcpt.unwrap_or_default() };
    Ok(Rcpt { forward_path, dsn })
}

/// Octets of the longest keyword of a parameter that is known.
const KEYWORD_OCTETS_MAX: usize = 8;

/// A keyword in capitals, in memory of the caller: a command needs none of its own. Empty, which no keyword is, where it is longer than all that
/// are known.
fn capitals<'a>(keyword: &str, room: &'a mut [u8; KEYWORD_OCTETS_MAX]) -> &'a [u8] {
    let Some(room) = room.get_mut(..keyword.len()) else { return b"" };
    room.copy_from_slice(keyword.as_bytes());
    room.make_ascii_uppercase();
    room
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
    // RFC 6531 3.3: an esmtp-value may hold UTF-8; which one does, its own check knows.
    let is_value = |value: &str| {
        !value.is_empty() && !value.contains(|c: char| c.is_control() || c.is_whitespace() || c == '=')
    };
    if is_keyword && value.is_none_or(is_value) {
        Ok((keyword, value))
    } else {
        Err(CommandError::BadArgument)
    }
}

fn valid<T>(value: Option<T>) -> Result<T, CommandError> {
    value.ok_or(CommandError::BadArgument)
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
            "MAIL FROM:<a@b> SMTPUTF8=yes",
            "MAIL FROM:<a@b> SMTPUTF8 SMTPUTF8",
            "MAIL FROM:<a@b> RET=SOME",
            "MAIL FROM:<a@b> RET",
            "MAIL FROM:<a@b> ENVID=",
            "MAIL FROM:<a@b> ENVID=+0A",
            "RCPT TO:<a@b> NOTIFY=NEVER,DELAY",
            "RCPT TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER",
            "RCPT TO:<a@b> ORCPT=a@b",
            "ETRN",
            "ETRN a b",
            "ETRN @",
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
            "MAIL FROM:<a@b> BODY=BINARYMIME",
            "MAIL FROM:<a@b> AUTH=<>",
            "MAIL FROM:<a@b> NOTIFY=NEVER",
            "RCPT TO:<a@b> RET=FULL",
            "RCPT TO:<a@b> SMTPUTF8",
        ] {
            assert_eq!(error(line), CommandError::UnknownParameter, "{line}");
        }
    }

    #[test]
    fn octets_beyond_ascii_are_refused_as_addresses_and_unknown_as_verbs() {
        assert_eq!(error("MAIL FROM:<ü@b>"), CommandError::BadSender(PathError::NonAscii));
        assert_eq!(Command::parse(b"RCPT TO:<\xfc@b>"), Err(CommandError::BadRecipient(PathError::NonAscii)));
        for line in ["", " ", "MAI", "MAILX", "ÜÜ", "AUTH LOGIN", "STARTTLSX", "GET / HTTP/1.1"] {
            assert_eq!(error(line), CommandError::UnknownCommand, "{line}");
        }
        assert_eq!(error("EXPN list"), CommandError::NotImplemented);
        assert_eq!(error("VRFY ü"), CommandError::BadRecipient(PathError::NonAscii));
        assert_eq!(Command::parse("VRFY ü smtputf8".as_bytes()), Ok(Command::Vrfy));
    }

    #[test]
    fn smtputf8_and_dsn_parameters_are_kept_as_they_were_said() {
        let line = "MAIL FROM:<ü@b> ENVID=a+2Bb smtputf8 RET=hdrs";
        let Ok(Command::Mail(mail)) = Command::parse(line.as_bytes()) else { panic!("{line}") };
        assert_eq!((mail.reverse_path.as_str(), mail.smtputf8), ("ü@b", true));
        assert_eq!(mail.dsn, MailDsn { ret: Some(Ret::Headers), envid: "a+2Bb" });
        let line = "RCPT TO:<ü@b> orcpt=utf-8;ü@c NOTIFY=delay,SUCCESS";
        let Ok(Command::Rcpt(rcpt)) = Command::parse(line.as_bytes()) else { panic!("{line}") };
        assert_eq!((rcpt.forward_path.as_str(), rcpt.dsn.orcpt), ("ü@b", "utf-8;ü@c"));
        assert_eq!(rcpt.dsn.notify.to_string(), "SUCCESS,DELAY");
    }

    #[test]
    fn a_chunk_says_its_octets_or_nobody_knows_where_it_ends() {
        let chunk = |octets, is_last| Ok(Command::Bdat { octets, is_last });
        assert_eq!(Command::parse(b"BDAT 0"), chunk(0, false));
        assert_eq!(Command::parse(b"bdat  86 last "), chunk(86, true));
        assert_eq!(Command::parse(b"BDAT 18446744073709551615"), chunk(u64::MAX, false));
        for line in [
            "BDAT",
            "BDAT ",
            "BDAT x",
            "BDAT -1",
            "BDAT +1",
            "BDAT 1 LA",
            "BDAT 1 LAST x",
            "BDAT LAST",
            "BDAT 18446744073709551616",
            "BDAT 1\tLAST",
        ] {
            assert_eq!(error(line), CommandError::BadChunk, "{line}");
        }
    }

    #[test]
    fn etrn_names_a_domain_what_is_below_it_or_a_queue() {
        for (line, node) in [
            ("ETRN example.com", EtrnNode::Domain("example.com")),
            ("etrn @Example.COM", EtrnNode::DomainAndBelow("Example.COM")),
            ("ETRN #uucp", EtrnNode::Queue("uucp")),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Ok(Command::Etrn(node)), "{line}");
        }
    }
}
