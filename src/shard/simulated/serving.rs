//! A connection of the simulated primary: an SMTP server that does at each point what its manner wants.

use super::link::MemoryLink;
use super::manner::{Act, At, Turn, reply};
use super::primary::{Boxes, Primary, Script, Tls, server_tls, subject};
use crate::shard::link::Link;
use crate::shard::tls::SessionLink;
use crate::smtp::data::{DataSummary, Transfer};
use crate::smtp::path::ForwardPath;
use crate::smtp::reply::TLS_UNAVAILABLE_454;
use crate::smtp::server::{RecipientVerdict, ServerEvent, ServerSession};
use core::net::SocketAddr;
use core::time::Duration;
use storage::clock::Clock;

/// See the module. Its steps give `None` when the connection is over.
pub(super) struct Serving {
    primary: Primary,
    link: SessionLink<MemoryLink>,
    session: ServerSession,
    input: Vec<u8>,
    data: Vec<u8>,
    /// To be written.
    said: Vec<u8>,
    octets_left: u64,
    is_last: bool,
    /// Which connection it is, from 1.
    connection: u32,
    taken: u32,
}

impl Serving {
    pub(super) async fn run(primary: Primary, address: SocketAddr, link: MemoryLink) {
        while primary.hangs.get()(address.ip()) {
            primary.clock.sleep(Duration::from_secs(1)).await;
        }
        let session = primary.session();
        let (octets_left, connection) = (primary.octets(), primary.served.get());
        let link = SessionLink::Plain(link);
        let (input, data, said) = Default::default();
        let (is_last, taken) = Default::default();
        let mut serving =
            Self { primary, link, session, input, data, said, octets_left, is_last, connection, taken };
        if serving.greet().await.is_some() {
            while serving.turn().await.is_some() {}
        }
    }

    async fn greet(&mut self) -> Option<()> {
        match self.act(At::Greeting, "").await? {
            Act::Reply(line) => {
                self.say(format!("{line}\r\n").as_bytes());
                self.flush().await;
                None
            }
            act => {
                self.replied(act);
                Some(())
            }
        }
    }

    async fn turn(&mut self) -> Option<()> {
        let act = self.hear_command().await?;
        let step = self.session.handle_input(&self.input, self.primary.clock.now());
        let input_is_behind = self.input.len() > step.consumed;
        match step.event {
            ServerEvent::Sender => self.sender().await?,
            ServerEvent::Recipient => self.recipient().await?,
            ServerEvent::Data { start, end } | ServerEvent::Chunk { start, end } => {
                self.data.extend_from_slice(&self.input[start..end]);
                self.act(At::Data, "").await?;
            }
            ServerEvent::MessageEnds(summary) => self.message_ends(summary, input_is_behind).await?,
            ServerEvent::Abandoned => self.data.clear(),
            ServerEvent::StartTls => self.secure().await?,
            ServerEvent::Etrn => unreachable!("the lane does not say it"),
            ServerEvent::Client | ServerEvent::Idle => {}
        }
        self.replied(act);
        self.input.drain(..step.consumed);
        if matches!(&*self.primary.script.borrow(), Script::ClosingAfter(most) if self.taken == *most) {
            self.session.handle_shutdown();
        }
        if step.consumed > 0 || step.event != ServerEvent::Idle {
            return Some(());
        }
        if self.is_last {
            // What came before the end was run, and nobody hears of it.
            return None;
        }
        self.replied(Act::Regular);
        self.flush().await;
        self.read().await
    }

    /// What is to be said to a command that the session answers by itself.
    async fn hear_command(&mut self) -> Option<Act> {
        if self.primary.boxes.get().is_some() && self.input.starts_with(b"LHLO") {
            // The same but for its name (RFC 2033 4.1), and nothing else is a greeting.
            self.input[..4].copy_from_slice(b"EHLO");
        } else if self.primary.boxes.get().is_some() && self.input.starts_with(b"EHLO") {
            self.input[0] = b'X';
        }
        let at = match self.input.get(..4) {
            Some(b"EHLO") => At::Hello,
            Some(b"DATA") if self.input[4..].starts_with(b"\r\n") => At::DataStart,
            _ => return Some(Act::Regular),
        };
        let act = self.act(at, "").await?;
        if matches!(act, Act::Reply(_)) {
            // The session refuses it in its own words.
            self.input[0] = b'X';
        }
        Some(act)
    }

    async fn sender(&mut self) -> Option<()> {
        let act = self.act(At::Sender, "").await?;
        let verdict = if let Act::Reply(line) = act { Err(reply(line)) } else { Ok(()) };
        self.session.handle_sender(verdict, self.primary.clock.now());
        self.replied_unless_refused(act);
        Some(())
    }

    async fn recipient(&mut self) -> Option<()> {
        let act = self.act(At::Recipient, "").await?;
        let candidate = self.session.transaction().candidate();
        let ForwardPath::Mailbox(mailbox) = candidate else { unreachable!("a domain is always named") };
        let verdict = match act {
            Act::Reply(line) => RecipientVerdict::Refuse(reply(line)),
            _ => self.primary.judges.get()(mailbox.local_part()),
        };
        self.session.handle_recipient(verdict, self.primary.clock.now());
        self.replied_unless_refused(act);
        Some(())
    }

    async fn message_ends(&mut self, summary: DataSummary, input_is_behind: bool) -> Option<()> {
        if !self.primary.thinks.get().is_zero() {
            // Who thinks has answered what came before.
            self.flush().await;
            self.primary.clock.sleep(self.primary.thinks.get()).await;
        }
        let subject = subject(&self.data);
        if self.primary.breaks_over(&subject) {
            // Those before it have their replies.
            self.flush().await;
            return None;
        }
        let act = self.act(At::DataEnd, &subject).await?;
        let now = self.primary.clock.now();
        if let Act::Reply(line) = act {
            self.data.clear();
            self.session.handle_message(Err(reply(line)), now);
            return Some(());
        }
        self.primary.rode.set(self.primary.rode.get() + u32::from(input_is_behind));
        if let Some(boxes) = self.primary.boxes.get() {
            self.answer_each(boxes, summary.transfer, act).await?;
            return Some(());
        }
        self.take(summary.transfer);
        if matches!(act, Act::TakeAndHang | Act::TakeAndClose) {
            self.flush().await;
            while act == Act::TakeAndHang && matches!(self.link.read(&mut [0; 512]).await, Ok(1..)) {}
            return None;
        }
        self.session.handle_message(Ok(&"taken"), now);
        self.replied_unless_refused(act);
        Some(())
    }

    /// RFC 2033 4.2: a reply for each recipient that was accepted. Whoever closes does so behind the first.
    async fn answer_each(&mut self, boxes: Boxes, transfer: Transfer, act: Act) -> Option<()> {
        let accepted: Vec<String> = self.session.transaction().recipients().map(str::to_owned).collect();
        let since = self.primary.since();
        let answers: Vec<_> =
            accepted.iter().map(|to| boxes(to.split('@').next().unwrap_or_default(), since)).collect();
        self.take(transfer);
        if let Some(taken) = self.primary.taken.borrow_mut().last_mut() {
            let mut answer = answers.iter();
            taken.recipients.retain(|_| answer.next().is_some_and(|line| line.starts_with('2')));
        }
        self.replied(Act::Regular);
        self.session.handle_message(Ok(&"taken"), self.primary.clock.now());
        let reply_to_all = self.session.output().len();
        self.session.output_sent(reply_to_all);
        for (number, line) in answers.iter().enumerate() {
            self.say(format!("{line}\r\n").as_bytes());
            if act == Act::TakeAndClose && number == 0 {
                self.flush().await;
                return None;
            }
        }
        Some(())
    }

    fn take(&mut self, transfer: Transfer) {
        let is_secured = matches!(self.link, SessionLink::Secured(_));
        self.primary.take(&self.session, &mut self.data, transfer, is_secured);
        self.taken += 1;
    }

    /// Answers STARTTLS.
    async fn secure(&mut self) -> Option<()> {
        let act = self.act(At::StartTls, "").await?;
        let now = self.primary.clock.now();
        if self.primary.tls.get() == Tls::Refused {
            self.session.handle_start_tls(Err(TLS_UNAVAILABLE_454), now);
            return Some(());
        }
        self.session.handle_start_tls(Ok(()), now);
        self.replied(act);
        self.flush().await;
        if self.primary.tls.get() == Tls::Broken {
            let _ = self.link.read(&mut [0; 512]).await;
            let _ = self.link.write(b"this is no handshake\r\n").await;
            return None;
        }
        let shown = self.primary.shows.borrow().clone();
        self.link.secure(shown.unwrap_or_else(server_tls)).await.ok()?;
        self.session.handle_secured(self.primary.clock.now());
        Some(())
    }

    /// What the manner wants here; what ends the connection or takes time is done.
    async fn act(&mut self, at: At, subject: &str) -> Option<Act> {
        let transaction = self.session.transaction();
        let recipient = match at {
            At::Recipient => {
                let ForwardPath::Mailbox(mailbox) = transaction.candidate() else {
                    unreachable!("its domain is named")
                };
                mailbox.local_part().to_owned()
            }
            _ => String::new(),
        };
        let turn = Turn {
            at,
            connection: self.connection,
            taken: self.taken,
            sender: transaction.reverse_path(),
            recipient: &recipient,
            subject,
            since: self.primary.since(),
        };
        match self.primary.act(&turn) {
            Act::Close => {
                self.flush().await;
                None
            }
            Act::Reply(line) if line.starts_with("421") => {
                self.say(format!("{line}\r\n").as_bytes());
                self.flush().await;
                None
            }
            Act::Wait(pause) => {
                self.flush().await;
                self.primary.clock.sleep(pause).await;
                Some(Act::Regular)
            }
            act => Some(act),
        }
    }

    fn replied_unless_refused(&mut self, act: Act) {
        self.replied(if matches!(act, Act::Reply(_)) { Act::Regular } else { act });
    }

    /// What the session replied is said, or what the manner has in its place.
    fn replied(&mut self, act: Act) {
        let reply = self.session.output().to_vec();
        if reply.is_empty() {
            return;
        }
        self.session.output_sent(reply.len());
        match act {
            Act::Reply(line) => self.say(format!("{line}\r\n").as_bytes()),
            Act::Says(octets) => self.say(octets),
            _ => self.say(&reply),
        }
    }

    fn say(&mut self, octets: &[u8]) {
        self.said.extend_from_slice(octets);
    }

    async fn flush(&mut self) {
        let said = core::mem::take(&mut self.said);
        let (drips, until) = self.primary.drips.get();
        let drips = if self.primary.since() < until { drips } else { Duration::ZERO };
        let mut rest = &said[..];
        while !rest.is_empty() {
            let piece = if drips.is_zero() { rest } else { &rest[..1] };
            if !drips.is_zero() {
                self.primary.clock.sleep(drips).await;
            }
            let Ok(count) = self.link.write(piece).await else { return };
            rest = &rest[count..];
        }
    }

    async fn read(&mut self) -> Option<()> {
        let mut memory = [0; 16_384];
        let count = self.link.read(&mut memory).await.ok().filter(|count| *count > 0)?;
        if self.session.is_closing() {
            return None;
        }
        let count = count.min(usize::try_from(self.octets_left).unwrap_or(usize::MAX));
        self.octets_left -= count as u64;
        self.input.extend_from_slice(&memory[..count]);
        self.is_last = self.octets_left == 0;
        if self.primary.names_too_much(&self.session, &mut self.input) {
            return None;
        }
        self.primary.hear(&mut self.input);
        Some(())
    }
}
