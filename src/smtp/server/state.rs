//! The states of a server session and what a command does in each.
//!
//! ```text
//!   Commands(Unidentified) --HELO, EHLO--> Commands(Identified) --MAIL--> SenderPending
//!   SenderPending --yes--> Commands(Envelope) --RCPT--> RecipientPending --> Commands(Envelope)
//!   Commands(Envelope) --DATA--> Data --true end--> MessagePending --> Commands(Identified)
//! ```
//! BDAT is in `chunk.rs`, ETRN and XCLIENT are in `request.rs`, STARTTLS has its own picture in `start_tls.rs`.
//! RSET, HELO and EHLO lead from an envelope back to `Identified`; QUIT, 421 and early talk lead to `Closing`
//! from everywhere. The pending states want no input: what is pipelined behind them stays in the host's buffer.

use super::{ServerEvent, ServerProfile, ServerSession, Step};
use crate::limits::{SESSION_ERRORS_MAX, SESSION_IDLE_COMMANDS_MAX};
use crate::smtp::chunk::ChunkScanner;
use crate::smtp::command::{Command, CommandError, Mail, Rcpt};
use crate::smtp::data::{DATA_END, DataFault, DataScan, DataScanner, DataSummary};
use crate::smtp::extension::{self, Offer};
use crate::smtp::line::{Line, LineFramer};
use crate::smtp::output::append;
use crate::smtp::reply::{self, Reply};
use crate::smtp::server::transaction::Proposal;

/// Where a session is.
#[derive(Debug)]
pub(super) enum State {
    /// Command lines are read.
    Commands { phase: Phase, framer: LineFramer },
    /// MAIL awaits the host.
    SenderPending,
    /// RCPT awaits the host.
    RecipientPending,
    /// Mail data is read.
    Data(DataScanner),
    /// A chunk is read.
    Chunk(Chunk),
    /// A chunk is read that is refused at its end.
    Swallow { remaining: u64, refusal: Reply, phase: Phase },
    /// ETRN awaits the host.
    EtrnPending { node: String, phase: Phase },
    /// A message awaits the host.
    MessagePending(Afterwards),
    /// STARTTLS awaits the host.
    StartTlsPending,
    /// The host has the TLS handshake.
    Handshake,
    /// Output is to be sent, nothing more is read.
    Closing,
}

/// What commands are in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before HELO or EHLO.
    Unidentified,
    /// No transaction.
    Identified,
    /// MAIL was accepted.
    Envelope,
    /// A chunk was accepted: nothing but BDAT goes on.
    Chunking(ChunkScanner),
}

/// A chunk on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    /// Octets of it.
    pub(super) octets: u64,
    /// Octets of it that are not there yet.
    pub(super) remaining: u64,
    pub(super) is_last: bool,
    /// Over all chunks of the message.
    pub(super) scanner: ChunkScanner,
}

impl Phase {
    /// Between MAIL and the end of the message.
    pub(super) fn is_transaction(self) -> bool {
        matches!(self, Self::Envelope | Self::Chunking(_))
    }
}

/// What follows the verdict about a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Afterwards {
    Continue,
    /// The service is shutting down.
    Close,
}

impl State {
    pub(super) fn commands(phase: Phase) -> Self {
        Self::Commands { phase, framer: LineFramer::default() }
    }
}

impl ServerSession {
    /// One command line.
    pub(super) fn step_commands(&mut self, input: &[u8]) -> Step {
        let State::Commands { phase, framer } = &mut self.state else {
            return Step { consumed: 0, event: ServerEvent::Idle };
        };
        let phase = *phase;
        let (consumed, event) = match framer.next(input) {
            Line::Incomplete { consumed } => (consumed, ServerEvent::Idle),
            Line::Malformed { consumed } | Line::Overlong { consumed } => {
                (consumed, self.refuse_command(phase, &reply::SYNTAX_500))
            }
            Line::Complete { text, consumed } => {
                let is_early = consumed < input.len();
                (consumed, self.run_line(phase, text, is_early))
            }
        };
        Step { consumed, event }
    }

    /// The next piece of mail data, or its end.
    pub(super) fn step_data(&mut self, input: &[u8]) -> Step {
        let State::Data(scanner) = &mut self.state else {
            return Step { consumed: 0, event: ServerEvent::Idle };
        };
        match scanner.scan(input) {
            DataScan::Span(0) => Step { consumed: 0, event: ServerEvent::Idle },
            DataScan::Span(end) => Step { consumed: end, event: ServerEvent::Data { start: 0, end } },
            DataScan::Swallow(consumed) => Step { consumed, event: ServerEvent::Idle },
            DataScan::End => {
                let verdict = scanner.verdict();
                Step { consumed: DATA_END, event: self.end_data(verdict) }
            }
        }
    }

    pub(super) fn end_data(&mut self, verdict: Result<DataSummary, DataFault>) -> ServerEvent {
        let refusal = match verdict {
            Ok(summary) => {
                self.state = State::MessagePending(Afterwards::Continue);
                return ServerEvent::MessageEnds(summary);
            }
            Err(DataFault::BareLineEnd) => reply::BAD_LINE_ENDS_554,
            Err(DataFault::DotNul) => reply::DOT_NUL_554,
            Err(DataFault::TooBig) => reply::MESSAGE_TOO_BIG_552,
        };
        self.queue(&refusal);
        self.abandon(Phase::Envelope)
    }

    fn run_line(&mut self, phase: Phase, line: &[u8], is_early: bool) -> ServerEvent {
        match Command::parse(line) {
            Ok(command) => self.run(phase, command, is_early),
            Err(CommandError::BadChunk) => {
                let event = self.abandon(phase);
                self.close_with(&CommandError::BadChunk.reply());
                event
            }
            Err(error) => {
                let is_rcpt = line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"RCPT"));
                if is_rcpt && phase == Phase::Envelope {
                    self.transaction.note_refusal();
                }
                self.refuse_command(phase, &error.reply())
            }
        }
    }

    /// `is_early`: octets behind the command line are there already.
    fn run(&mut self, phase: Phase, command: Command<'_>, is_early: bool) -> ServerEvent {
        match command {
            Command::Bdat { octets, is_last } => self.run_bdat(phase, octets, is_last),
            Command::Data => self.run_data(phase, is_early),
            Command::Mail(mail) => self.run_mail(phase, &mail),
            Command::Rcpt(rcpt) => self.run_rcpt(phase, &rcpt),
            Command::StartTls => self.run_start_tls(phase, is_early),
            Command::Quit => {
                let event = self.abandon(phase);
                self.close_with(&reply::CLOSING_221);
                event
            }
            Command::Ehlo(_)
            | Command::Etrn(_)
            | Command::Helo(_)
            | Command::Help
            | Command::Noop
            | Command::Rset
            | Command::Vrfy
            | Command::Xclient(_) => self.run_idle(phase, command),
        }
    }

    /// Commands that carry no mail; too many of them in a row close the session.
    fn run_idle(&mut self, phase: Phase, command: Command<'_>) -> ServerEvent {
        self.idle_commands += 1;
        if self.idle_commands > SESSION_IDLE_COMMANDS_MAX {
            let event = self.abandon(phase);
            self.close_with(&reply::TOO_MANY_IDLE_COMMANDS_421);
            return event;
        }
        match command {
            Command::Ehlo(name) => self.identify(phase, name, true),
            Command::Etrn(node) => self.run_etrn(phase, node),
            Command::Xclient(arguments) => self.run_xclient(phase, arguments),
            Command::Helo(name) => self.identify(phase, name, false),
            Command::Help => self.answer(&reply::HELP_214),
            Command::Vrfy => self.answer(&reply::CANNOT_VERIFY_252),
            Command::Rset => {
                self.queue(&reply::OK_250);
                self.abandon(phase)
            }
            _ => self.answer(&reply::OK_250),
        }
    }

    /// RFC 5321 4.1.4: HELO and EHLO clear the transaction as RSET does.
    fn identify(&mut self, phase: Phase, name: &str, is_extended: bool) -> ServerEvent {
        self.peer.name.clear();
        self.peer.name.push_str(name);
        self.peer.is_extended = is_extended;
        let ServerProfile { hostname, max_message_size, max_recipients, withheld, starttls } = &*self.profile;
        if is_extended {
            let offer = Offer {
                hostname,
                message_octets_max: *max_message_size,
                recipients_max: *max_recipients,
                xclient: self.may_xclient,
                starttls: *starttls && !self.peer.is_secured,
                withheld,
            };
            extension::write_offer(self.output.tail(), &offer);
        } else {
            append(self.output.tail(), format_args!("250 {hostname}\r\n"));
        }
        self.count_reply(&reply::OK_250);
        let event = self.abandon(phase);
        self.state = State::commands(Phase::Identified);
        event
    }

    fn run_mail(&mut self, phase: Phase, mail: &Mail<'_>) -> ServerEvent {
        if phase != Phase::Identified {
            return self.refuse_command(phase, &reply::BAD_SEQUENCE_503);
        }
        if mail.declared_size.is_some_and(|octets| octets > self.profile.max_message_size) {
            return self.refuse_command(phase, &reply::MESSAGE_TOO_BIG_552);
        }
        self.transaction.begin(mail);
        self.state = State::SenderPending;
        ServerEvent::Sender
    }

    fn run_rcpt(&mut self, phase: Phase, rcpt: &Rcpt<'_>) -> ServerEvent {
        if phase != Phase::Envelope {
            return self.refuse_command(phase, &reply::BAD_SEQUENCE_503);
        }
        if !self.transaction.smtputf8() && !rcpt.is_ascii() {
            // RFC 6531 3.5.
            self.transaction.note_refusal();
            return self.refuse_command(phase, &reply::NON_ASCII_ADDRESS_553);
        }
        match self.transaction.propose(rcpt, self.profile.max_recipients) {
            Proposal::Duplicate => self.answer(&reply::RECIPIENT_OK_250),
            Proposal::Full => {
                self.transaction.note_refusal();
                self.answer(&reply::TOO_MANY_RECIPIENTS_452)
            }
            Proposal::Pending => {
                self.state = State::RecipientPending;
                ServerEvent::Recipient
            }
        }
    }

    fn run_data(&mut self, phase: Phase, is_early: bool) -> ServerEvent {
        if is_early {
            // RFC 2920 3.1: DATA ends a group, its client has to wait for the reply. One that did not wait sent mail
            // data, or commands, and which of both they are is a matter of timing; where DATA is refused, for want of
            // MAIL or of recipients, a body would be run as commands. The session cannot stay in step and closes.
            let event = self.abandon(phase);
            self.close_with(&reply::EARLY_TALKER_554);
            return event;
        }
        if phase != Phase::Envelope {
            return self.refuse_command(phase, &reply::BAD_SEQUENCE_503);
        }
        if self.transaction.recipient_count() == 0 {
            // RFC 5321 3.3: 503 without RCPT, 554 when none was accepted.
            let refused = self.transaction.has_refused();
            let refusal = if refused { reply::NO_VALID_RECIPIENTS_554 } else { reply::BAD_SEQUENCE_503 };
            return self.refuse_command(phase, &refusal);
        }
        self.state = State::Data(DataScanner::new(self.profile.max_message_size));
        self.answer(&reply::START_MAIL_INPUT_354)
    }

    /// The transaction, if there is one, is dropped.
    pub(super) fn abandon(&mut self, phase: Phase) -> ServerEvent {
        if !phase.is_transaction() {
            return ServerEvent::Idle;
        }
        self.transaction.clear();
        self.state = State::commands(Phase::Identified);
        ServerEvent::Abandoned
    }

    pub(super) fn answer(&mut self, reply: &Reply) -> ServerEvent {
        self.queue(reply);
        ServerEvent::Idle
    }

    /// The client's fault: answered, and one time too often closes the session.
    pub(super) fn refuse_command(&mut self, phase: Phase, refusal: &Reply) -> ServerEvent {
        self.errors += 1;
        if self.errors <= SESSION_ERRORS_MAX {
            return self.answer(refusal);
        }
        let event = self.abandon(phase);
        self.close_with(&reply::TOO_MANY_ERRORS_421);
        event
    }
}
