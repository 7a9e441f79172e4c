//! One session of the sink: the SMTP server machine of `stratamx` and the rules that decide for it, without a socket.
//!
//! ```text
//!   octets in --> ServerSession --event--> decide (rules) --wait 0--> act --> reply in the output
//!                                                `--slow: held, nothing is heard meanwhile--^
//! ```
//! A transaction that is over is in `finished` before its reply is in the output: the host writes the one, then sends the other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use stratamx::smtp::chunk::{DotStuffer, DotUnstuffer};
use stratamx::smtp::data::Transfer;
use stratamx::smtp::dsn::RcptDsn;
use stratamx::smtp::reply::{NO_MESSAGES_WAITING_251, OK_250, Reply, TLS_UNAVAILABLE_454};
use stratamx::smtp::server::{RecipientVerdict, ServerEvent, ServerProfile, ServerSession, Transaction};
use stratamx_tools::clock::unix_us;
use stratamx_tools::fingerprint::Fingerprinter;
use stratamx_tools::record::Arrival;

use crate::record::{Finished, Kept, Record};
use crate::rule::{Action, Rule, Stage, decide};

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) profile: Arc<ServerProfile>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) record: Record,
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    /// What is in the output is sent, and the connection closed.
    Close,
    /// Nothing more is said; what comes is heard and forgotten.
    Hang,
    /// A reply stood in place of the greeting: the client may take its leave.
    Refused,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    sink: Arc<Sink>,
    pub(crate) machine: ServerSession,
    number: u64,
    now: Duration,
    arriving: Option<Arriving>,
    held: Option<Held>,
    pub(crate) flow: Flow,
    /// The rules let it have a greeting.
    is_admitted: bool,
    /// In place of what the machine would say.
    pub(crate) refusal: Vec<u8>,
    /// Transactions that are over.
    pub(crate) finished: Vec<Finished>,
}

/// A transaction from its MAIL on.
#[derive(Debug)]
struct Arriving {
    arrival: Arrival,
    data: Option<MailData>,
    stuffer: DotStuffer,
}

#[derive(Debug)]
struct MailData {
    fingerprinter: Fingerprinter,
    kept: Option<Kept>,
    unstuffer: DotUnstuffer,
}

/// A decision whose time has not come.
#[derive(Debug)]
struct Held {
    until: Duration,
    point: Point,
    action: Action,
}

/// What a decision is about.
#[derive(Debug)]
enum Point {
    Connect,
    Sender,
    Recipient(String),
    /// The data that it is about, stuffed.
    Body(Vec<u8>),
    End,
}

impl Session {
    /// A connection was accepted.
    pub(crate) fn new(sink: Arc<Sink>, number: u64, now: Duration) -> io::Result<Self> {
        let machine = ServerSession::new(Arc::clone(&sink.profile), now);
        let (refusal, finished) = (Vec::new(), Vec::new());
        let (flow, is_admitted) = (Flow::Continue, false);
        let mut session = Self {
            sink,
            machine,
            number,
            now,
            arriving: None,
            held: None,
            flow,
            is_admitted,
            refusal,
            finished,
        };
        session.decide(Point::Connect, Stage::Connect, &[])?;
        Ok(session)
    }

    /// Hears what is at the head of `input`; how much of it is done with.
    pub(crate) fn hear(&mut self, input: &[u8], now: Duration) -> io::Result<usize> {
        self.now = now;
        let mut heard = 0;
        while self.flow == Flow::Continue && self.held.is_none() {
            let step = self.machine.handle_input(&input[heard..], now);
            self.handle(step.event, &input[heard..])?;
            heard += step.consumed;
            if step.consumed == 0 && step.event == ServerEvent::Idle {
                break;
            }
        }
        if self.machine.is_closing() && self.flow == Flow::Continue {
            self.flow = Flow::Close;
        }
        Ok(heard)
    }

    /// Goes on where a decision was held, or a time is over.
    pub(crate) fn wake(&mut self, now: Duration) -> io::Result<()> {
        self.now = now;
        if let Some(held) = self.held.take_if(|held| held.until <= now) {
            self.act(held.point, held.action)?;
        }
        if self.held.is_none() && self.flow == Flow::Continue {
            self.machine.handle_timeout(now);
            if self.machine.is_closing() {
                self.flow = Flow::Close;
            }
        }
        Ok(())
    }

    /// When to wake it; `None`: never.
    pub(crate) fn wakes_at(&self) -> Option<Duration> {
        match (&self.held, self.flow) {
            (Some(held), _) => Some(held.until),
            (None, Flow::Continue) => Some(self.machine.poll_timeout()).filter(|at| *at < Duration::MAX),
            (None, _) => None,
        }
    }

    /// No decision is held.
    pub(crate) fn is_settled(&self) -> bool {
        self.held.is_none()
    }

    /// What may be sent now: nothing before the decision about the connection.
    pub(crate) fn may_speak(&self) -> bool {
        self.is_admitted
    }

    /// The connection is gone: in the middle of a transaction, it is on record without a reply.
    pub(crate) fn end(&mut self) {
        self.finish(None, false);
    }

    fn handle(&mut self, event: ServerEvent, input: &[u8]) -> io::Result<()> {
        match event {
            ServerEvent::Idle | ServerEvent::Client => {}
            ServerEvent::Sender => self.handle_sender()?,
            ServerEvent::Recipient => self.handle_recipient()?,
            ServerEvent::Data { start, end } => self.handle_data(&input[start..end])?,
            ServerEvent::Chunk { start, end } => {
                // A chunk has no dots added: with them it is as DATA has it.
                let Some(arriving) = &mut self.arriving else { return Ok(()) };
                let mut stuffed = Vec::with_capacity(end - start);
                arriving.stuffer.stuff(&input[start..end], &mut stuffed);
                self.handle_data(&stuffed)?;
            }
            ServerEvent::Etrn => self.machine.handle_etrn(&NO_MESSAGES_WAITING_251, self.now),
            ServerEvent::MessageEnds(summary) => self.handle_end(summary.transfer)?,
            ServerEvent::StartTls => {
                let is_offered = self.sink.profile.starttls;
                self.machine.handle_start_tls(is_offered.then_some(()).ok_or(TLS_UNAVAILABLE_454), self.now);
            }
            ServerEvent::Abandoned => {
                // Whether a recipient is known is asked without data, from nobody; that is no mail, unless something was refused.
                let is_question = |arriving: &mut Arriving| {
                    let Arriving { arrival, data, .. } = arriving;
                    data.is_none() && arrival.reverse_path.is_empty() && arrival.refused.is_empty()
                };
                drop(self.arriving.take_if(is_question));
                self.finish(None, false);
            }
        }
        Ok(())
    }

    fn handle_sender(&mut self) -> io::Result<()> {
        let arrival = Arrival {
            mail_sequence: self.sink.record.next_mail(),
            mail_unix_us: unix_us(),
            session: self.number,
            reverse_path: self.machine.transaction().reverse_path().to_owned(),
            mail_parameters: mail_parameters(self.machine.transaction()),
            ..Arrival::default()
        };
        self.arriving = Some(Arriving { arrival, data: None, stuffer: DotStuffer::default() });
        self.decide(Point::Sender, Stage::Mail, &[])
    }

    fn handle_recipient(&mut self) -> io::Result<()> {
        let typed = self.machine.transaction().candidate().as_str().to_owned();
        // RFC 5321 4.5.1: postmaster needs no domain, but the machine needs a mailbox to store.
        let recipient =
            if typed.contains('@') { typed } else { format!("{typed}@{}", self.sink.profile.hostname) };
        self.decide(Point::Recipient(recipient.clone()), Stage::Rcpt, &[&recipient])
    }

    fn handle_data(&mut self, stuffed: &[u8]) -> io::Result<()> {
        if self.begin_data()? {
            return self.decide_for_all(Point::Body(stuffed.to_vec()), Stage::Body);
        }
        self.take_data(stuffed)
    }

    /// True for the first data of a message.
    fn begin_data(&mut self) -> io::Result<bool> {
        let Some(arriving) = self.arriving.as_mut().filter(|arriving| arriving.data.is_none()) else {
            return Ok(false);
        };
        let kept = self.sink.record.begin_message(arriving.arrival.mail_sequence)?;
        let fingerprinter = Fingerprinter::default();
        arriving.data = Some(MailData { fingerprinter, kept, unstuffer: DotUnstuffer::default() });
        Ok(true)
    }

    fn take_data(&mut self, stuffed: &[u8]) -> io::Result<()> {
        match &mut self.arriving {
            Some(Arriving { data: Some(data), .. }) => data.take(stuffed),
            _ => Ok(()),
        }
    }

    fn handle_end(&mut self, transfer: Transfer) -> io::Result<()> {
        if let Some(Arriving { arrival, .. }) = &mut self.arriving {
            let said = self.machine.transaction().recipients_dsn();
            arrival.recipient_parameters = said.map(|dsn| rcpt_parameters(&dsn)).collect();
            arrival.chunked = transfer != Transfer::Data;
        }
        if transfer != Transfer::Data {
            // A last line without its end gets one, as where it is stored.
            let mut end = Vec::new();
            let stuffer = self.arriving.as_mut().map(|arriving| core::mem::take(&mut arriving.stuffer));
            stuffer.unwrap_or_default().finish(&mut end);
            // A message of no octets has no body that a rule could be about.
            self.begin_data()?;
            self.take_data(&end)?;
        }
        self.decide_for_all(Point::End, Stage::Data)
    }

    /// Finds what the rules say, and does it now or when they have waited.
    fn decide(&mut self, point: Point, stage: Stage, to: &[&str]) -> io::Result<()> {
        if self.sink.rules.is_empty() {
            return self.act(point, Action::Accept);
        }
        let from = self.machine.transaction().reverse_path().to_owned();
        let mut wait = Duration::ZERO;
        let action = decide(&self.sink.rules, stage, &from, to, |duration| wait += duration);
        if wait.is_zero() {
            return self.act(point, action);
        }
        self.held = Some(Held { until: self.now + wait, point, action });
        Ok(())
    }

    fn decide_for_all(&mut self, point: Point, stage: Stage) -> io::Result<()> {
        let recipients = match &self.arriving {
            Some(arriving) if !self.sink.rules.is_empty() => arriving.arrival.recipients.clone(),
            _ => Vec::new(),
        };
        self.decide(point, stage, &recipients.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn act(&mut self, point: Point, action: Action) -> io::Result<()> {
        match action {
            Action::Close => self.flow = Flow::Close,
            Action::Hang => self.flow = Flow::Hang,
            Action::Answer(reply) => self.refuse(point, reply),
            Action::Accept | Action::Slow(_) => self.accept(point)?,
        }
        Ok(())
    }

    fn accept(&mut self, point: Point) -> io::Result<()> {
        match point {
            Point::Connect => self.is_admitted = true,
            Point::Sender => self.machine.handle_sender(Ok(()), self.now),
            Point::Recipient(recipient) => {
                if let Some(arriving) = &mut self.arriving {
                    arriving.arrival.recipients.push(recipient.clone());
                }
                self.machine.handle_recipient(RecipientVerdict::AcceptAs(recipient.into()), self.now);
            }
            Point::Body(stuffed) => self.take_data(&stuffed)?,
            Point::End => {
                let id = self.arriving.as_ref().map_or(0, |arriving| arriving.arrival.mail_sequence);
                let id = format!("S{id}");
                let reply = OK_250.with_text(format!("Ok: queued as {id}"));
                self.finish(Some(reply.to_string()), true);
                self.machine.handle_message(Ok(&id), self.now);
            }
        }
        Ok(())
    }

    fn refuse(&mut self, point: Point, reply: Reply) {
        match point {
            Point::Connect => {
                reply.write_to(&mut self.refusal);
                self.flow = Flow::Refused;
            }
            Point::Sender => {
                self.finish(Some(reply.to_string()), false);
                self.machine.handle_sender(Err(reply), self.now);
            }
            Point::Recipient(recipient) => {
                if let Some(arriving) = &mut self.arriving {
                    arriving.arrival.reply = Some(reply.to_string());
                    arriving.arrival.refused.push(recipient);
                }
                self.machine.handle_recipient(RecipientVerdict::Refuse(reply), self.now);
            }
            // A rule about the body has no reply (`RuleError::BodyReply`).
            Point::Body(_) => {}
            Point::End => {
                self.finish(Some(reply.to_string()), false);
                self.machine.handle_message(Err(reply), self.now);
            }
        }
    }

    /// The transaction is over, if there is one. A reply given to a recipient stands until a later one.
    fn finish(&mut self, reply: Option<String>, accepted: bool) {
        let Some(Arriving { mut arrival, data, .. }) = self.arriving.take() else { return };
        let (fingerprinter, kept) = data.map(|data| (data.fingerprinter, data.kept)).unwrap_or_default();
        let fingerprint = fingerprinter.finish();
        arrival.end_unix_us = unix_us();
        arrival.octets = fingerprint.octets;
        arrival.id = fingerprint.id;
        arrival.above = fingerprint.above;
        arrival.crc32 = fingerprint.crc32;
        arrival.accepted = accepted;
        arrival.reply = reply.or(arrival.reply);
        self.finished.push(Finished { arrival, kept });
    }
}

impl MailData {
    /// Takes off the dot that each stuffed line begins with (RFC 5321 4.5.2).
    fn take(&mut self, stuffed: &[u8]) -> io::Result<()> {
        let mut octets = Vec::with_capacity(stuffed.len());
        self.unstuffer.unstuff(stuffed, &mut octets);
        self.fingerprinter.update(&octets);
        self.kept.as_mut().map_or(Ok(()), |kept| kept.write(&octets))
    }
}

fn mail_parameters(transaction: &Transaction) -> String {
    let dsn = transaction.dsn();
    let words = [
        transaction.smtputf8().then(|| "SMTPUTF8".to_owned()),
        dsn.ret.map(|ret| format!("RET={ret}")),
        Some(format!("ENVID={}", dsn.envid)).filter(|_| !dsn.envid.is_empty()),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn rcpt_parameters(dsn: &RcptDsn<'_>) -> String {
    let words = [
        Some(format!("NOTIFY={}", dsn.notify)).filter(|_| dsn.notify.is_said()),
        Some(format!("ORCPT={}", dsn.orcpt)).filter(|_| !dsn.orcpt.is_empty()),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
