//! Golden conversations: `conversations/*.smtp` are fed to the machines whole, bytewise, and split at every
//! byte, and must give the same replies, events and mail data each time. Files `client-*.smtp` drive the client
//! machine, all others the server machine.
//!
//! A line is a mark and a text; empty lines and lines with `#` are for the reader:
//! ```text
//! C: text    the client's octets and a CRLF (`C- text`: no CRLF; `C*20: text`: 20 times)
//! S: text    the server's, likewise. One side is fed, the other is compared at the end of each of its blocks
//! E: event   all events of the conversation, in order; for the server they are compared if there is one
//! D: text    the mail data of the last message, as it reached the host, with CRLF (`D- text`: without)
//! T: 300     seconds pass, then the timeout handler runs
//! V: sender 452 4.3.1 text | V: recipient 550 5.7.1 text | V: recipient as admin@example.net |
//! V: message 451 4.3.0 text | V: message shutdown |
//! V: starttls 454 4.7.0 text  the host's next verdict of that kind (else: accepted; the handshake is done at once)
//! V: etrn 253 2.0.0 text      likewise (else: 251)
//! X: shutdown | send from= to=a@b,c@d octets=9 8bit utf8 mail=RET=FULL|ENVID=x rcpt=NOTIFY=NEVER|ORCPT=x;y,-
//! X: sent | queued | progress | quit | disconnect | ready | ask | distrusts | chunk 9 from= to= (as send)
//! X: from 192.0.2.7 helo [SMTP] | from | name | settled | unnamed | spent   whose messages come next (ours), XCLIENT
//! ! whole    what is tested depends on time, so the file is fed whole only
//! ! size 100 | ! recipients 2 | ! starttls | ! xclient       the server's profile, and who the client is
//! ```
//! In texts `\r \n \0 \t \\ \xHH` are octets and `\{70:ab}` is `ab` 70 times.
#![allow(clippy::panic, reason = "a transcript that cannot be read is a failed test")]

#[path = "conversations/client.rs"]
mod client;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stratamx::smtp::Moment;
use stratamx::smtp::chunk::DotStuffer;
use stratamx::smtp::command::Body;
use stratamx::smtp::data::{DataSummary, Transfer};
use stratamx::smtp::dsn::RcptDsn;
use stratamx::smtp::path::ForwardPath;
use stratamx::smtp::reply::{self, EnhancedCode, Reply, ReplyCode};
use stratamx::smtp::server::{RecipientVerdict, ServerEvent, ServerProfile, ServerSession};

#[derive(Clone, Copy, Debug)]
enum Feed {
    Whole,
    Bytewise,
    SplitAt(usize),
}

#[derive(Clone, Debug)]
enum Action {
    Client(Vec<u8>),
    Server(Vec<u8>),
    Data(Vec<u8>),
    Verdict(String),
    Time(u64),
    Do(String),
}

struct Conversation {
    name: String,
    actions: Vec<Action>,
    events: Vec<String>,
    is_whole_only: bool,
    may_xclient: bool,
    profile: ServerProfile,
}

#[test]
fn server_conversations_are_the_same_at_every_split() {
    let conversations = load(|name| !name.starts_with("client-"));
    assert!(conversations.len() >= 40, "{} server conversations", conversations.len());
    for conversation in &conversations {
        for feed in conversation.feeds(|action| matches!(action, Action::Client(_))) {
            play_server(conversation, feed);
        }
    }
}

#[test]
fn client_conversations_are_the_same_at_every_split() {
    let conversations = load(|name| name.starts_with("client-"));
    assert!(conversations.len() >= 15, "{} client conversations", conversations.len());
    for conversation in &conversations {
        for feed in conversation.feeds(|action| matches!(action, Action::Server(_))) {
            client::play(conversation, feed);
        }
    }
}

/// A harness that compares nothing would pass everything.
#[test]
fn a_wrong_expectation_fails() {
    let mut conversation = load(|name| name == "message-accepted").remove(0);
    let Some(Action::Server(greeting)) = conversation.actions.first_mut() else { panic!("a greeting") };
    greeting[0] = b'5';
    std::panic::catch_unwind(|| play_server(&conversation, Feed::Whole)).expect_err("a 520 is no greeting");
}

fn load(wanted: impl Fn(&str) -> bool) -> Vec<Conversation> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations");
    let entries = std::fs::read_dir(directory).expect("tests/conversations");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let stem = |path: &Path| path.file_stem().expect("a name").to_string_lossy().into_owned();
    paths
        .iter()
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "smtp") && wanted(&stem(path)))
        .map(|path| Conversation::parse(stem(path), &std::fs::read_to_string(path).expect("a transcript")))
        .collect()
}

impl Conversation {
    fn parse(name: String, text: &str) -> Self {
        let profile = ServerProfile {
            hostname: "mx2.example.net".to_owned(),
            max_message_size: 1_000_000,
            max_recipients: 1000,
            starttls: false,
            withheld: Vec::new(),
        };
        let (actions, events) = (Vec::new(), Vec::new());
        let mut this = Self { name, actions, events, is_whole_only: false, may_xclient: false, profile };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            this.take_line(line);
        }
        this
    }

    fn take_line(&mut self, line: &str) {
        let (mark, text) = line.split_once(' ').unwrap_or((line, ""));
        let (mark, count) = match mark.trim_end_matches([':', '-']).split_once('*') {
            Some((mark, count)) => (mark, count.parse().expect("a count")),
            None => (mark.trim_end_matches([':', '-']), 1),
        };
        let line_end: &[u8] = if line[..line.len() - text.len()].contains('-') { b"" } else { b"\r\n" };
        let octets = || [unescape(text).as_slice(), line_end].concat().repeat(count);
        match mark {
            "C" => self.push(Action::Client(octets())),
            "S" => self.push(Action::Server(octets())),
            "D" => self.push(Action::Data(octets())),
            "E" => self.events.extend(std::iter::repeat_n(text.to_owned(), count)),
            "T" => self.push(Action::Time(text.parse().expect("seconds"))),
            "V" => self.push(Action::Verdict(text.to_owned())),
            "X" => self.push(Action::Do(text.to_owned())),
            "!" => match text.split_once(' ').unwrap_or((text, "")) {
                ("whole", "") => self.is_whole_only = true,
                ("starttls", "") => self.profile.starttls = true,
                ("xclient", "") => self.may_xclient = true,
                ("size", value) => self.profile.max_message_size = value.parse().expect("octets"),
                ("recipients", value) => self.profile.max_recipients = value.parse().expect("a count"),
                _ => panic!("{}: {line}", self.name),
            },
            _ => panic!("{}: {line}", self.name),
        }
    }

    /// Lines of one side in a row are one block.
    fn push(&mut self, action: Action) {
        match (self.actions.last_mut(), action) {
            (Some(Action::Client(block)), Action::Client(more))
            | (Some(Action::Server(block)), Action::Server(more))
            | (Some(Action::Data(block)), Action::Data(more)) => block.extend(more),
            (_, action) => self.actions.push(action),
        }
    }

    fn feeds(&self, is_fed: impl Fn(&Action) -> bool) -> Vec<Feed> {
        if self.is_whole_only {
            return vec![Feed::Whole];
        }
        let octets: usize = self.actions.iter().filter(|action| is_fed(action)).map(Action::len).sum();
        let mut feeds = vec![Feed::Whole, Feed::Bytewise];
        feeds.extend((1..octets).map(Feed::SplitAt));
        feeds
    }
}

impl Action {
    fn len(&self) -> usize {
        match self {
            Self::Client(octets) | Self::Server(octets) => octets.len(),
            _ => 0,
        }
    }
}

pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        octets.extend_from_slice(plain.as_bytes());
        let length = match escaped.as_bytes().first() {
            Some(b'x') => {
                octets.push(u8::from_str_radix(&escaped[1..3], 16).expect("two hexadecimal digits"));
                3
            }
            Some(b'{') => {
                let end = escaped.find('}').expect("a closing brace");
                let (count, repeated) = escaped[1..end].split_once(':').expect("a colon");
                octets.extend(repeated.repeat(count.parse().expect("a count")).bytes());
                end + 1
            }
            Some(letter) => {
                let letters = [(b'r', b'\r'), (b'n', b'\n'), (b't', b'\t'), (b'0', 0), (b'\\', b'\\')];
                octets.push(letters.iter().find(|(known, _)| known == letter).expect("a known escape").1);
                1
            }
            None => panic!("a backslash at the end of: {text}"),
        };
        rest = &escaped[length..];
    }
    octets.extend_from_slice(rest.as_bytes());
    octets
}

/// The pieces in which a block is fed; `offset` is where it begins in the whole stream.
fn pieces(block: &[u8], offset: usize, feed: Feed) -> Vec<&[u8]> {
    match feed {
        Feed::Whole => vec![block],
        Feed::Bytewise => block.chunks(1).collect(),
        Feed::SplitAt(at) if offset < at && at < offset + block.len() => {
            let (head, tail) = block.split_at(at - offset);
            vec![head, tail]
        }
        Feed::SplitAt(_) => vec![block],
    }
}

struct ServerHost {
    session: ServerSession,
    now: Moment,
    input: Vec<u8>,
    output: Vec<u8>,
    data: Vec<u8>,
    stuffer: DotStuffer,
    last_message: Vec<u8>,
    events: Vec<String>,
    etrns: VecDeque<String>,
    senders: VecDeque<String>,
    recipients: VecDeque<String>,
    messages: VecDeque<String>,
    start_tls: VecDeque<String>,
    queued: u32,
}

fn play_server(conversation: &Conversation, feed: Feed) {
    let now = Duration::from_secs(1000);
    let mut host = ServerHost {
        session: ServerSession::new(Arc::new(conversation.profile.clone()), now),
        now,
        input: Vec::new(),
        output: Vec::new(),
        data: Vec::new(),
        stuffer: DotStuffer::default(),
        last_message: Vec::new(),
        events: Vec::new(),
        etrns: VecDeque::new(),
        senders: VecDeque::new(),
        recipients: VecDeque::new(),
        messages: VecDeque::new(),
        start_tls: VecDeque::new(),
        queued: 0,
    };
    if conversation.may_xclient {
        host.session.allow_xclient();
    }
    let mut expected = Vec::new();
    let mut offset = 0;
    for action in &conversation.actions {
        match action {
            Action::Client(block) => {
                for piece in pieces(block, offset, feed) {
                    host.feed(piece);
                }
                offset += block.len();
            }
            Action::Server(reply) => {
                host.flush();
                expected.extend_from_slice(reply);
                assert_same(conversation, feed, &host.output, &expected);
            }
            Action::Data(data) => assert_same(conversation, feed, &host.last_message, data),
            Action::Verdict(verdict) => host.plan(verdict),
            Action::Time(seconds) => {
                host.now += Duration::from_secs(*seconds);
                host.session.handle_timeout(host.now);
            }
            Action::Do(what) => {
                assert_eq!(what, "shutdown", "{}", conversation.name);
                host.session.handle_shutdown();
            }
        }
        host.note_closing();
    }
    host.flush();
    assert_same(conversation, feed, &host.output, &expected);
    if !conversation.events.is_empty() {
        assert_eq!(host.events, conversation.events, "{} {feed:?}", conversation.name);
    }
}

fn assert_same(conversation: &Conversation, feed: Feed, found: &[u8], expected: &[u8]) {
    let (found, expected) = (String::from_utf8_lossy(found), String::from_utf8_lossy(expected));
    assert_eq!(found, expected, "conversation {} fed {feed:?}", conversation.name);
}

impl ServerHost {
    fn plan(&mut self, verdict: &str) {
        let (kind, answer) = verdict.split_once(' ').expect("a kind and an answer");
        match kind {
            "sender" => self.senders.push_back(answer.to_owned()),
            "recipient" => self.recipients.push_back(answer.to_owned()),
            "message" => self.messages.push_back(answer.to_owned()),
            "starttls" => self.start_tls.push_back(answer.to_owned()),
            "etrn" => self.etrns.push_back(answer.to_owned()),
            _ => panic!("{verdict}"),
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.input.extend_from_slice(piece);
        loop {
            let step = self.session.handle_input(&self.input, self.now);
            assert!(step.consumed <= self.input.len());
            self.take_event(step.event);
            self.input.drain(..step.consumed);
            self.note_closing();
            if step.consumed == 0 && step.event == ServerEvent::Idle {
                break;
            }
        }
        self.flush();
    }

    /// Some at first, to see that the rest stays.
    fn flush(&mut self) {
        while !self.session.output().is_empty() {
            let count = self.session.output().len().div_ceil(2);
            self.output.extend_from_slice(&self.session.output()[..count]);
            self.session.output_sent(count);
        }
    }

    fn note_closing(&mut self) {
        if self.session.is_closing() && self.events.last().is_none_or(|event| event != "closing") {
            self.events.push("closing".to_owned());
        }
    }

    /// A verdict may take its time: until then nothing is read, whatever is there.
    fn assert_waits(&mut self) {
        assert!(!self.session.wants_input());
        assert_eq!(self.session.poll_timeout(), Moment::MAX);
        let idle = self.session.handle_input(b"QUIT\r\n.\r\n", self.now);
        assert_eq!((idle.consumed, idle.event), (0, ServerEvent::Idle));
    }

    fn take_event(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Idle => {}
            ServerEvent::Sender => {
                self.assert_waits();
                let verdict = self.senders.pop_front().map_or(Ok(()), |answer| Err(reply_of(&answer)));
                self.session.handle_sender(verdict, self.now);
            }
            ServerEvent::Recipient => {
                self.assert_waits();
                let answer = self.recipients.pop_front();
                let verdict = match answer.as_deref().map(|text| (text, text.strip_prefix("as "))) {
                    None if self.session.transaction().candidate() == ForwardPath::Postmaster => {
                        RecipientVerdict::AcceptAs("postmaster@example.net".into())
                    }
                    None => RecipientVerdict::Accept,
                    Some((_, Some(mailbox))) => RecipientVerdict::AcceptAs(mailbox.into()),
                    Some((refusal, None)) => RecipientVerdict::Refuse(reply_of(refusal)),
                };
                self.session.handle_recipient(verdict, self.now);
            }
            ServerEvent::Data { start, end } => self.data.extend_from_slice(&self.input[start..end]),
            ServerEvent::Chunk { start, end } => {
                self.stuffer.stuff(&self.input[start..end], &mut self.data);
            }
            ServerEvent::Client => {
                let told = self.session.client();
                let address = told.address.map_or("-".to_owned(), |address| address.to_string());
                let name = told.name.as_deref().unwrap_or("-");
                self.events.push(format!("client {address} {name} {}", told.port.unwrap_or_default()));
            }
            ServerEvent::Etrn => {
                self.assert_waits();
                self.events.push(format!("etrn {:?}", self.session.etrn_node()));
                let answer = self.etrns.pop_front();
                let answer = answer.map_or(reply::NO_MESSAGES_WAITING_251, |answer| reply_of(&answer));
                self.session.handle_etrn(&answer, self.now);
            }
            ServerEvent::MessageEnds(summary) => self.end_message(summary),
            ServerEvent::StartTls => self.start_tls(),
            ServerEvent::Abandoned => {
                self.data.clear();
                self.stuffer = DotStuffer::default();
                self.events.push("abandoned".to_owned());
            }
        }
    }

    fn start_tls(&mut self) {
        self.assert_waits();
        let verdict = self.start_tls.pop_front().map_or(Ok(()), |answer| Err(reply_of(&answer)));
        self.session.handle_start_tls(verdict, self.now);
        self.flush();
        if self.session.wants_handshake() {
            assert!(!self.session.wants_input() && self.session.poll_timeout() < Moment::MAX);
            self.session.handle_secured(self.now);
        }
    }

    fn end_message(&mut self, summary: DataSummary) {
        self.assert_waits();
        std::mem::take(&mut self.stuffer).finish(&mut self.data);
        self.last_message = std::mem::take(&mut self.data);
        assert_eq!(summary.stored_octets, self.last_message.len() as u64);
        self.events.push(describe(&self.session, summary));
        match self.messages.pop_front().as_deref() {
            Some("shutdown") => {
                self.session.handle_shutdown();
                assert!(self.session.output().is_empty() && !self.session.is_closing());
                self.accept_message();
            }
            Some(refusal) => self.session.handle_message(Err(reply_of(refusal)), self.now),
            None => self.accept_message(),
        }
    }

    fn accept_message(&mut self) {
        self.queued += 1;
        self.session.handle_message(Ok(&format_args!("Q{}", self.queued)), self.now);
    }
}

fn describe(session: &ServerSession, summary: DataSummary) -> String {
    let transaction = session.transaction();
    let to: Vec<&str> = transaction.recipients().collect();
    let mut text = format!("message from=<{}> to=<{}>", transaction.reverse_path(), to.join(","));
    let DataSummary { stored_octets, unstuffed_octets, stuffed_lines, has_8bit, has_nul, transfer } = summary;
    write!(text, " stored={stored_octets} unstuffed={unstuffed_octets} stuffed={stuffed_lines}")
        .expect("text");
    for (mark, is_set) in [
        (" 8bit", has_8bit),
        (" nul", has_nul),
        (" declared-8bit", transaction.body() == Body::EightBitMime),
        (" helo", !session.is_extended()),
        (" tls", session.is_secured()),
        (" bdat", transfer != Transfer::Data),
        (" line-end-added", transfer == Transfer::Bdat { line_end_added: true }),
        (" smtputf8", transaction.smtputf8()),
    ] {
        text.push_str(if is_set { mark } else { "" });
    }
    if let Some(size) = transaction.declared_size() {
        write!(text, " size={size}").expect("text");
    }
    let dsn = transaction.dsn();
    if let Some(ret) = dsn.ret {
        write!(text, " ret={ret}").expect("text");
    }
    if !dsn.envid.is_empty() {
        write!(text, " envid={}", dsn.envid).expect("text");
    }
    if transaction.recipients_dsn().any(|dsn| dsn != RcptDsn::default()) {
        let said: Vec<String> =
            transaction.recipients_dsn().map(|dsn| format!("{}/{}", dsn.notify, dsn.orcpt)).collect();
        write!(text, " dsn={}", said.join(",")).expect("text");
    }
    text
}

/// `452 4.3.1 text`.
fn reply_of(text: &str) -> Reply {
    let mut words = text.splitn(3, ' ');
    let code = ReplyCode::new(words.next().expect("a code").parse().expect("a number"));
    let numbers: Vec<u16> =
        words.next().expect("an enhanced code").split('.').map(|n| n.parse().expect("n")).collect();
    let class = u8::try_from(numbers[0]).expect("a class");
    let enhanced = EnhancedCode::new(class, numbers[1], numbers[2]);
    Reply::new(code, Some(enhanced), words.next().unwrap_or_default().to_owned())
}
