//! The client machine's side of a conversation.

use std::fmt::Write as _;
use std::time::Duration;

use stratamx::smtp::Moment;
use stratamx::smtp::client::{
    ClientEvent, ClientSession, Envelope, Extensions, RecipientOutcome, Standing, TransactionOutcome,
    TrueClient,
};
use stratamx::smtp::command::{Command, CommandError};
use stratamx::smtp::dsn::RcptDsn;

use super::{Action, Conversation, Feed, assert_same, pieces};

struct ClientHost {
    session: ClientSession,
    /// Whose messages come next.
    client: Option<TrueClient>,
    now: Moment,
    input: Vec<u8>,
    output: Vec<u8>,
    events: Vec<String>,
}

pub(super) fn play(conversation: &Conversation, feed: Feed) {
    let now = Duration::from_secs(1000);
    let session = ClientSession::new("mx2.example.net", now);
    let mut host =
        ClientHost { session, client: None, now, input: Vec::new(), output: Vec::new(), events: Vec::new() };
    let mut expected = Vec::new();
    let mut offset = 0;
    for action in &conversation.actions {
        match action {
            Action::Server(block) => {
                for piece in pieces(block, offset, feed) {
                    host.feed(piece);
                }
                offset += block.len();
            }
            Action::Client(commands) => {
                host.flush();
                expected.extend_from_slice(commands);
                assert_same(conversation, feed, &host.output, &expected);
            }
            Action::Time(seconds) => {
                host.now += Duration::from_secs(*seconds);
                let event = host.session.handle_timeout(host.now);
                host.take_event(&event);
                host.feed(b"");
            }
            Action::Do(what) => host.act(what),
            Action::Data(_) | Action::Verdict(_) => panic!("{}: server only", conversation.name),
        }
    }
    host.flush();
    assert_same(conversation, feed, &host.output, &expected);
    assert_eq!(host.events, conversation.events, "{} {feed:?}", conversation.name);
}

impl ClientHost {
    fn act(&mut self, what: &str) {
        let (verb, arguments) = what.split_once(' ').unwrap_or((what, ""));
        match verb {
            "send" => self.send(arguments, None),
            "chunk" => {
                let (octets, arguments) = arguments.split_once(' ').expect("octets and an envelope");
                self.send(arguments, Some(octets.parse().expect("octets")));
            }
            "from" => self.client = client(arguments),
            "name" => {
                let client = self.client.as_ref().expect("a client");
                self.session.name_client(client, self.now);
            }
            "settled" => assert_eq!(self.session.standing(self.client.as_ref()), Standing::Settled),
            "unnamed" => assert_eq!(self.session.standing(self.client.as_ref()), Standing::Unnamed),
            "spent" => assert_eq!(self.session.standing(self.client.as_ref()), Standing::Spent),
            "ask" => self.session.ask_for_chunks(),
            "queued" => self.session.handle_data_queued(),
            "distrusts" => assert!(self.session.distrusts_chunks()),
            "sent" => self.session.handle_data_sent(self.now),
            "progress" => self.session.handle_data_progress(self.now),
            "quit" => self.session.quit(self.now),
            "full" => assert!(!self.session.may_send()),
            "lmtp" => self.session = ClientSession::lmtp("mx2.example.net", self.now),
            "used-up" => assert!(self.session.is_used_up() && !self.session.may_send()),
            "ready" => assert!(self.session.is_ready()),
            "disconnect" => {
                let event = self.session.handle_disconnect();
                self.take_event(&event);
                self.feed(b"");
            }
            _ => panic!("{what}"),
        }
    }

    fn send(&mut self, arguments: &str, chunk: Option<u64>) {
        let argument = |name: &str| arguments.split(' ').find_map(|word| word.strip_prefix(name));
        let recipients: Vec<&str> = argument("to=").expect("to=").split(',').collect();
        // Parameters as a server would understand them: `mail=RET=FULL|ENVID=x`, `rcpt=NOTIFY=NEVER|ORCPT=x;y,-`.
        let words = |text: &str| text.replace('|', " ");
        let mail = format!("MAIL FROM:<> SMTPUTF8 {}", words(argument("mail=").unwrap_or_default()));
        let Ok(Command::Mail(mail)) = Command::parse(mail.as_bytes()) else { panic!("{arguments}") };
        let said = argument("rcpt=").map(|said| said.split(',').collect::<Vec<_>>()).unwrap_or_default();
        let lines: Vec<String> =
            said.iter().map(|said| format!("RCPT TO:<a@b> {}", words(said.trim_matches('-')))).collect();
        let dsn: Result<Vec<RcptDsn<'_>>, CommandError> = lines
            .iter()
            .map(|line| match Command::parse(line.as_bytes())? {
                Command::Rcpt(rcpt) => Ok(rcpt.dsn),
                _ => panic!("{line}"),
            })
            .collect();
        let dsn = dsn.expect("parameters of RCPT");
        let client = self.client.clone();
        let extensions = Extensions {
            dsn: mail.dsn,
            recipients: &dsn,
            header_needs_smtputf8: argument("utf8").is_some(),
            client: client.as_ref(),
        };
        let envelope = Envelope {
            reverse_path: argument("from=").unwrap_or_default(),
            recipients: &recipients,
            octets: argument("octets=").map_or(0, |octets| octets.parse().expect("octets")),
            has_8bit: argument("8bit").is_some(),
            extensions,
        };
        assert!(self.session.may_send(), "{arguments}");
        match chunk {
            Some(octets) => self.session.send_chunk(&envelope, octets, self.now),
            None => self.session.send(&envelope, self.now),
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.input.extend_from_slice(piece);
        loop {
            let step = self.session.handle_input(&self.input, self.now);
            self.input.drain(..step.consumed);
            self.take_event(&step.event);
            if step.consumed == 0 && step.event == ClientEvent::Idle {
                break;
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        let octets = self.session.output();
        self.output.extend_from_slice(octets);
        let count = octets.len();
        self.session.output_sent(count);
    }

    fn take_event(&mut self, event: &ClientEvent) {
        let text = match event {
            ClientEvent::Idle => return,
            ClientEvent::Ready => "ready".to_owned(),
            ClientEvent::SendData => "send-data".to_owned(),
            ClientEvent::Dropped => "dropped".to_owned(),
            ClientEvent::TransactionDone(outcome) => render(outcome),
            ClientEvent::Failed(failure) => format!("failed {failure}"),
            ClientEvent::StartTls => "start-tls".to_owned(),
            ClientEvent::NamingRefused(reply) => format!("naming-refused({reply})"),
            ClientEvent::ClientRefused(reply) => format!("client-refused({reply})"),
            ClientEvent::TlsRefused(reply) => format!("tls-refused({reply})"),
            ClientEvent::Carried(reply) => format!("carried({reply})"),
            ClientEvent::Closed => "closed".to_owned(),
        };
        self.events.push(text);
    }
}

/// `ADDRESS HELO`, and `SMTP` of one that said HELO; nothing: ourselves.
fn client(text: &str) -> Option<TrueClient> {
    let mut words = text.split(' ');
    let address = words.next().filter(|word| !word.is_empty())?.parse().expect("an address");
    let helo = words.next().unwrap_or_default();
    TrueClient::new(address, helo, words.next() != Some("SMTP"))
}

fn render(outcome: &TransactionOutcome) -> String {
    let mut text = "done".to_owned();
    for recipient in &outcome.recipients {
        let word = match recipient {
            RecipientOutcome::Delivered(reply) => format!("delivered({reply})"),
            RecipientOutcome::Deferred { stage, reply } => format!("deferred@{stage:?}({reply})"),
            RecipientOutcome::Rejected { stage, reply } => format!("rejected@{stage:?}({reply})"),
            RecipientOutcome::NotTried => "not-tried".to_owned(),
            RecipientOutcome::Unknown => "unknown".to_owned(),
        };
        write!(text, " {word}").expect("text");
    }
    text
}
