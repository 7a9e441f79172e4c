//! One connection of the sink: the SMTP server machine of `stratamx` on a blocking socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use stratamx::smtp::chunk::{DotStuffer, DotUnstuffer};
use stratamx::smtp::data::Transfer;
use stratamx::smtp::dsn::RcptDsn;
use stratamx::smtp::reply::{NO_MESSAGES_WAITING_251, OK_250, Reply, TLS_UNAVAILABLE_454};
use stratamx::smtp::server::{RecipientVerdict, ServerEvent, ServerProfile, ServerSession, Transaction};
use stratamx_tools::clock::{Clock, unix_us};
use stratamx_tools::fingerprint::Fingerprinter;
use stratamx_tools::record::Arrival;

use crate::record::{Kept, Record};
use crate::rule::{Action, Rule, Stage, decide};

/// Octets asked of the socket at a time.
const READ_OCTETS: usize = 64 * 1024;
/// Longest wait for a client that was told to go.
const FAREWELL: Duration = Duration::from_secs(5);

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) profile: Arc<ServerProfile>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) record: Record,
}

/// Serves one connection until it ends.
pub(crate) fn serve(sink: &Sink, stream: TcpStream, number: u64) -> io::Result<()> {
    let clock = Clock::start();
    stream.set_nodelay(true)?;
    match decide(&sink.rules, Stage::Connect, "", &[], thread::sleep) {
        Action::Close => return Ok(()),
        Action::Hang => return hang(stream),
        Action::Answer(reply) => return refuse(stream, &reply),
        Action::Accept | Action::Slow(_) => {}
    }
    let session = ServerSession::new(Arc::clone(&sink.profile), clock.now());
    let mut connection = Connection { sink, stream, clock, session, number, arriving: None };
    let flow = connection.run();
    // Gone in the middle of a transaction: it is on record without a reply.
    connection.finish(None, false)?;
    match flow? {
        Flow::Hang => hang(connection.stream),
        Flow::Close | Flow::Continue => Ok(()),
    }
}

/// What follows an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    Close,
    Hang,
}

struct Connection<'a> {
    sink: &'a Sink,
    stream: TcpStream,
    clock: Clock,
    session: ServerSession,
    number: u64,
    arriving: Option<Arriving>,
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

impl Connection<'_> {
    fn run(&mut self) -> io::Result<Flow> {
        let mut input = Vec::new();
        loop {
            let step = self.session.handle_input(&input, self.clock.now());
            let flow = self.handle(step.event, &input)?;
            input.drain(..step.consumed);
            if flow != Flow::Continue {
                self.flush()?;
                return Ok(flow);
            }
            if step.consumed > 0 || step.event != ServerEvent::Idle {
                continue;
            }
            self.flush()?;
            if self.session.is_closing() || !self.receive(&mut input)? {
                return Ok(Flow::Close);
            }
        }
    }

    /// Reads what is there; false at the end of the stream or of the session's time.
    fn receive(&mut self, input: &mut Vec<u8>) -> io::Result<bool> {
        let patience = self.session.poll_timeout().saturating_sub(self.clock.now());
        self.stream
            .set_read_timeout(Some(patience.clamp(Duration::from_millis(1), Duration::from_secs(3600))))?;
        let start = input.len();
        input.resize(start + READ_OCTETS, 0);
        let received = self.stream.read(&mut input[start..]);
        input.truncate(start + *received.as_ref().unwrap_or(&0));
        match received {
            Ok(octets) => Ok(octets > 0),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                self.session.handle_timeout(self.clock.now());
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let octets = self.session.output().len();
        self.stream.write_all(self.session.output())?;
        self.session.output_sent(octets);
        Ok(())
    }

    fn handle(&mut self, event: ServerEvent, input: &[u8]) -> io::Result<Flow> {
        match event {
            ServerEvent::Idle | ServerEvent::Client => Ok(Flow::Continue),
            ServerEvent::Sender => self.handle_sender(),
            ServerEvent::Recipient => self.handle_recipient(),
            ServerEvent::Data { start, end } => self.handle_data(&input[start..end]),
            ServerEvent::Chunk { start, end } => self.handle_chunk(&input[start..end]),
            ServerEvent::Etrn => {
                self.session.handle_etrn(&NO_MESSAGES_WAITING_251, self.clock.now());
                Ok(Flow::Continue)
            }
            ServerEvent::MessageEnds(summary) => self.handle_end(summary.transfer),
            ServerEvent::StartTls => {
                self.session.handle_start_tls(Err(TLS_UNAVAILABLE_454), self.clock.now());
                Ok(Flow::Continue)
            }
            ServerEvent::Abandoned => {
                // Whether a recipient is known is asked without data, from nobody; that is no mail, unless something was refused.
                let is_question = |arriving: &mut Arriving| {
                    let Arriving { arrival, data, .. } = arriving;
                    data.is_none() && arrival.reverse_path.is_empty() && arrival.refused.is_empty()
                };
                drop(self.arriving.take_if(is_question));
                self.finish(None, false).map(|()| Flow::Continue)
            }
        }
    }

    fn handle_sender(&mut self) -> io::Result<Flow> {
        let arrival = Arrival {
            mail_sequence: self.sink.record.next_mail(),
            mail_unix_us: unix_us(),
            session: self.number,
            reverse_path: self.session.transaction().reverse_path().to_owned(),
            mail_parameters: mail_parameters(self.session.transaction()),
            ..Arrival::default()
        };
        self.arriving = Some(Arriving { arrival, data: None, stuffer: DotStuffer::default() });
        let action = self.decide(Stage::Mail, &[]);
        match action {
            Action::Answer(reply) => {
                self.finish(Some(reply.to_string()), false)?;
                self.session.handle_sender(Err(reply), self.clock.now());
            }
            Action::Close => return Ok(Flow::Close),
            Action::Hang => return Ok(Flow::Hang),
            Action::Accept | Action::Slow(_) => self.session.handle_sender(Ok(()), self.clock.now()),
        }
        Ok(Flow::Continue)
    }

    fn handle_recipient(&mut self) -> io::Result<Flow> {
        let typed = self.session.transaction().candidate().as_str().to_owned();
        // RFC 5321 4.5.1: postmaster needs no domain, but the machine needs a mailbox to store.
        let recipient =
            if typed.contains('@') { typed } else { format!("{typed}@{}", self.sink.profile.hostname) };
        let action = self.decide(Stage::Rcpt, &[&recipient]);
        let Some(arriving) = &mut self.arriving else { return Ok(Flow::Close) };
        let verdict = match action {
            Action::Answer(reply) => {
                arriving.arrival.reply = Some(reply.to_string());
                arriving.arrival.refused.push(recipient.clone());
                RecipientVerdict::Refuse(reply)
            }
            Action::Close => return Ok(Flow::Close),
            Action::Hang => return Ok(Flow::Hang),
            Action::Accept | Action::Slow(_) => {
                arriving.arrival.recipients.push(recipient.clone());
                RecipientVerdict::AcceptAs(recipient.into())
            }
        };
        self.session.handle_recipient(verdict, self.clock.now());
        Ok(Flow::Continue)
    }

    fn handle_data(&mut self, stuffed: &[u8]) -> io::Result<Flow> {
        let Some(arriving) = &mut self.arriving else { return Ok(Flow::Close) };
        if arriving.data.is_none() {
            let kept = self.sink.record.begin_message(arriving.arrival.mail_sequence)?;
            let fingerprinter = Fingerprinter::default();
            arriving.data = Some(MailData { fingerprinter, kept, unstuffer: DotUnstuffer::default() });
            match self.decide_for_all(Stage::Body) {
                Action::Close => return Ok(Flow::Close),
                Action::Hang => return Ok(Flow::Hang),
                Action::Accept | Action::Answer(_) | Action::Slow(_) => {}
            }
        }
        if let Some(Arriving { data: Some(data), .. }) = &mut self.arriving {
            data.take(stuffed)?;
        }
        Ok(Flow::Continue)
    }

    /// A chunk has no dots added: with them it is as DATA has it.
    fn handle_chunk(&mut self, octets: &[u8]) -> io::Result<Flow> {
        let Some(arriving) = &mut self.arriving else { return Ok(Flow::Close) };
        let mut stuffed = Vec::with_capacity(octets.len());
        arriving.stuffer.stuff(octets, &mut stuffed);
        self.handle_data(&stuffed)
    }

    /// The record line is written before the reply is in the output.
    fn handle_end(&mut self, transfer: Transfer) -> io::Result<Flow> {
        if let Some(Arriving { arrival, .. }) = &mut self.arriving {
            let said = self.session.transaction().recipients_dsn();
            arrival.recipient_parameters = said.map(|dsn| rcpt_parameters(&dsn)).collect();
            arrival.chunked = transfer != Transfer::Data;
        }
        if transfer != Transfer::Data {
            // A last line without its end gets one, as where it is stored.
            let mut end = Vec::new();
            let stuffer = self.arriving.as_mut().map(|arriving| core::mem::take(&mut arriving.stuffer));
            stuffer.unwrap_or_default().finish(&mut end);
            match self.handle_data(&end)? {
                Flow::Continue => {}
                ended => return Ok(ended),
            }
        }
        let action = self.decide_for_all(Stage::Data);
        match action {
            Action::Answer(reply) => {
                self.finish(Some(reply.to_string()), false)?;
                self.session.handle_message(Err(reply), self.clock.now());
            }
            Action::Close => return Ok(Flow::Close),
            Action::Hang => return Ok(Flow::Hang),
            Action::Accept | Action::Slow(_) => {
                let id = self.arriving.as_ref().map_or(0, |arriving| arriving.arrival.mail_sequence);
                let id = format!("S{id}");
                let reply = OK_250.with_text(format!("Ok: queued as {id}"));
                self.finish(Some(reply.to_string()), true)?;
                self.session.handle_message(Ok(&id), self.clock.now());
            }
        }
        Ok(Flow::Continue)
    }

    /// Writes the transaction, if there is one. A reply given to a recipient stands until a later one.
    fn finish(&mut self, reply: Option<String>, accepted: bool) -> io::Result<()> {
        let Some(Arriving { mut arrival, data, .. }) = self.arriving.take() else { return Ok(()) };
        let (fingerprinter, kept) = data.map(|data| (data.fingerprinter, data.kept)).unwrap_or_default();
        let fingerprint = fingerprinter.finish();
        arrival.end_unix_us = unix_us();
        arrival.octets = fingerprint.octets;
        arrival.id = fingerprint.id;
        arrival.above = fingerprint.above;
        arrival.crc32 = fingerprint.crc32;
        arrival.accepted = accepted;
        arrival.reply = reply.or(arrival.reply);
        self.sink.record.write(arrival, kept)
    }

    fn decide(&mut self, stage: Stage, to: &[&str]) -> Action {
        let from = self.session.transaction().reverse_path().to_owned();
        decide(&self.sink.rules, stage, &from, to, thread::sleep)
    }

    fn decide_for_all(&mut self, stage: Stage) -> Action {
        let recipients = self.arriving.as_ref().map(|arriving| arriving.arrival.recipients.clone());
        let recipients = recipients.unwrap_or_default();
        self.decide(stage, &recipients.iter().map(String::as_str).collect::<Vec<_>>())
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

/// Reads and ignores until the client goes.
fn hang(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

/// Answers the connection itself and lets the client take its leave.
fn refuse(mut stream: TcpStream, reply: &Reply) -> io::Result<()> {
    let mut output = Vec::new();
    reply.write_to(&mut output);
    stream.write_all(&output)?;
    stream.set_read_timeout(Some(FAREWELL))?;
    let mut farewell = [0; 512];
    if stream.read(&mut farewell)? > 0 {
        stream.write_all(b"221 2.0.0 Bye\r\n")?;
    }
    Ok(())
}
