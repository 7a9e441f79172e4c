//! A transaction that is carried through for a sender who waits: command by command, each reply told as it is.
//!
//! ```text
//!   Open --carry--> [Reset ->] Sender -> between <-> Recipient -> DataStart --354--> Data --sent--> End --> Open
//! ```
//! Nothing is pipelined: what the sender says next is not known. A reply is [`ClientEvent::Carried`]; the host goes on by it. Given up
//! before DATA the transaction is forgotten by the RSET in front of the next one; given up behind it the link has to be closed, and then
//! the server cannot have the message, since it never saw its end.

use super::lines::{mail_line, rcpt_line};
use super::{
    ClientEvent, ClientFailure, ClientSession, Dialect, Envelope, Extensions, Open, Prelude, ProtocolError,
    State,
};
use crate::limits::{
    CLIENT_COMMAND_TIMEOUT, CLIENT_DATA_BLOCK_TIMEOUT, CLIENT_DATA_END_TIMEOUT, CLIENT_DATA_START_TIMEOUT,
};
use crate::smtp::Moment;
use crate::smtp::dsn::{MailDsn, RcptDsn};
use crate::smtp::reply::ReceivedReply;
use std::collections::VecDeque;

/// MAIL as the sender said it.
#[derive(Clone, Copy, Debug)]
pub struct CarriedSender<'a> {
    /// Without brackets; empty for `<>`.
    pub reverse_path: &'a str,
    /// SIZE, if it was said (RFC 1870).
    pub declared_octets: Option<u64>,
    /// BODY=8BITMIME.
    pub has_8bit: bool,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// RET and ENVID.
    pub dsn: MailDsn<'a>,
}

/// See the module.
#[derive(Debug)]
pub(super) enum Carrying {
    /// A reply was told, the host says what is next.
    Between,
    /// The reply to RSET; then MAIL, if it did not leave with it.
    Reset(Option<Vec<u8>>),
    /// The reply to MAIL or RCPT.
    Envelope,
    /// The reply to DATA.
    DataStart,
    /// Mail data goes.
    Data,
    /// The reply to the dot.
    End,
}

impl ClientSession {
    /// Says MAIL, behind RSET where the server may remember something.
    ///
    /// # Panics
    /// Unless [`Self::is_ready`], or with a control character in the path.
    pub fn carry(&mut self, sender: &CarriedSender<'_>, now: Moment) {
        assert!(self.is_ready() && !self.is_used_up(), "a transaction is carried alone");
        assert!(self.dialect == Dialect::Smtp, "a sender has one reply to the end of data");
        assert!(!sender.reverse_path.contains(char::is_control), "a path is one line");
        let State::Open(open) = self.take_state() else { unreachable!("it is ready") };
        let mut offered = self.capabilities.clone();
        if sender.declared_octets.is_none() {
            offered.size = None;
        }
        let envelope = Envelope {
            reverse_path: sender.reverse_path,
            recipients: &[],
            octets: sender.declared_octets.unwrap_or(0),
            has_8bit: sender.has_8bit,
            extensions: Extensions { dsn: sender.dsn, ..Extensions::default() },
        };
        self.transactions = self.transactions.saturating_add(1);
        let mut mail = Some(mail_line(&envelope, &offered, sender.smtputf8));
        let resets = open.prelude != Prelude::Nothing;
        if resets {
            self.output.tail().extend_from_slice(b"RSET\r\n");
        }
        if !resets || self.capabilities.pipelining {
            self.output.tail().extend(mail.take().unwrap_or_default());
        }
        self.deadline = Some(now + CLIENT_COMMAND_TIMEOUT);
        self.state = State::Carrying(if resets { Carrying::Reset(mail) } else { Carrying::Envelope });
    }

    /// Says RCPT.
    ///
    /// # Panics
    /// Unless a reply was just told, or with a control character in the mailbox.
    pub fn carry_recipient(&mut self, mailbox: &str, dsn: &RcptDsn<'_>, smtputf8: bool, now: Moment) {
        assert!(!mailbox.contains(char::is_control), "a path is one line");
        let dsn = self.capabilities.dsn.then_some(dsn);
        let line = rcpt_line(mailbox, dsn, smtputf8);
        self.carry_line(&line, Carrying::Envelope, now + CLIENT_COMMAND_TIMEOUT);
    }

    /// Says DATA; behind a 354 the host writes the data.
    ///
    /// # Panics
    /// Unless a reply was just told.
    pub fn carry_data(&mut self, now: Moment) {
        self.carry_line(b"DATA\r\n", Carrying::DataStart, now + CLIENT_DATA_START_TIMEOUT);
    }

    /// The data and its end are written.
    pub fn carry_data_sent(&mut self, now: Moment) {
        if matches!(self.state, State::Carrying(Carrying::Data)) {
            self.state = State::Carrying(Carrying::End);
            self.deadline = Some(now + CLIENT_DATA_END_TIMEOUT);
        }
    }

    /// A reply was told, and the next command may be said.
    pub fn may_carry_on(&self) -> bool {
        matches!(self.state, State::Carrying(Carrying::Between))
    }

    /// The transaction is given up before DATA; nothing happens in a session that is not there.
    pub fn carry_no_further(&mut self) {
        if matches!(self.state, State::Carrying(Carrying::Between)) {
            self.open_again();
        }
    }

    fn carry_line(&mut self, line: &[u8], next: Carrying, deadline: Moment) {
        assert!(
            matches!(self.state, State::Carrying(Carrying::Between)),
            "a reply comes before the next command"
        );
        self.output.tail().extend_from_slice(line);
        self.deadline = Some(deadline);
        self.state = State::Carrying(next);
    }

    pub(super) fn take_carried_reply(
        &mut self,
        carrying: Carrying,
        reply: ReceivedReply,
        now: Moment,
    ) -> ClientEvent {
        if reply.code == 421 {
            return self.failed(ClientFailure::ServiceClosing(reply));
        }
        let is_asked = !matches!(carrying, Carrying::Between | Carrying::Data);
        // RFC 5321 4.2.5: DATA has 354, nothing else has a 3xx.
        let is_go = reply.code == 354 && matches!(carrying, Carrying::DataStart);
        let is_odd =
            reply.code / 100 == 3 || (reply.is_positive() && matches!(carrying, Carrying::DataStart));
        if !is_asked || (is_odd && !is_go) {
            return self.failed(ProtocolError::OutOfTurn.into());
        }
        self.deadline = None;
        match carrying {
            Carrying::Reset(_) if !reply.is_positive() => {
                return self.failed(ProtocolError::OutOfTurn.into());
            }
            Carrying::Reset(mail) => {
                self.output.tail().extend(mail.unwrap_or_default());
                self.deadline = Some(now + CLIENT_COMMAND_TIMEOUT);
                self.state = State::Carrying(Carrying::Envelope);
                return ClientEvent::Idle;
            }
            Carrying::DataStart if is_go => {
                self.deadline = Some(now + CLIENT_DATA_BLOCK_TIMEOUT);
                self.state = State::Carrying(Carrying::Data);
            }
            Carrying::DataStart | Carrying::End => self.open_again(),
            Carrying::Envelope | Carrying::Between | Carrying::Data => {
                self.state = State::Carrying(Carrying::Between);
            }
        }
        ClientEvent::Carried(reply)
    }

    /// The next transaction begins with RSET: this one may have left an envelope.
    fn open_again(&mut self) {
        self.deadline = None;
        self.state = State::Open(Open { flights: VecDeque::new(), prelude: Prelude::Reset, naming: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const NOW: Moment = Duration::from_secs(1);

    fn session(offer: &str) -> ClientSession {
        let mut session = ClientSession::new("mx2.test", NOW);
        hear(&mut session, "220 primary.test\r\n");
        assert_eq!(said(&mut session), "EHLO mx2.test\r\n");
        assert_eq!(hear(&mut session, offer), ClientEvent::Ready);
        session
    }

    fn said(session: &mut ClientSession) -> String {
        let said = String::from_utf8(session.output().to_vec()).expect("text");
        session.output_sent(said.len());
        said
    }

    fn hear(session: &mut ClientSession, line: &str) -> ClientEvent {
        session.handle_input(line.as_bytes(), NOW).event
    }

    fn sender(path: &str) -> CarriedSender<'_> {
        let (declared_octets, has_8bit, smtputf8) = Default::default();
        CarriedSender { reverse_path: path, declared_octets, has_8bit, smtputf8, dsn: MailDsn::default() }
    }

    fn code(event: ClientEvent) -> u16 {
        let ClientEvent::Carried(reply) = event else { panic!("{event:?}") };
        reply.code
    }

    #[test]
    fn each_reply_is_told_as_it_is_and_the_next_transaction_begins_anew() {
        let mut session = session("250-primary.test\r\n250-SIZE 1000\r\n250 PIPELINING\r\n");
        session.carry(&CarriedSender { declared_octets: Some(77), ..sender("a@b.test") }, NOW);
        assert_eq!(said(&mut session), "MAIL FROM:<a@b.test> SIZE=77\r\n");
        assert_eq!(code(hear(&mut session, "250 ok\r\n")), 250);
        for (mailbox, answer) in [("x@c.test", 550), ("y@c.test", 450), ("z@c.test", 250)] {
            session.carry_recipient(mailbox, &RcptDsn::default(), false, NOW);
            assert_eq!(said(&mut session), format!("RCPT TO:<{mailbox}>\r\n"));
            assert_eq!(code(hear(&mut session, &format!("{answer} 5.1.1 so\r\n"))), answer);
        }
        session.carry_data(NOW);
        assert_eq!(said(&mut session), "DATA\r\n");
        assert_eq!(code(hear(&mut session, "354 go\r\n")), 354);
        session.carry_data_sent(NOW);
        assert_eq!(session.poll_timeout(), Some(NOW + CLIENT_DATA_END_TIMEOUT));
        assert_eq!(code(hear(&mut session, "250 taken\r\n")), 250);
        assert!(session.is_ready());
        session.carry(&sender(""), NOW);
        assert_eq!(said(&mut session), "RSET\r\nMAIL FROM:<>\r\n", "no SIZE that nobody said");
        assert_eq!(hear(&mut session, "250 reset\r\n"), ClientEvent::Idle);
        assert_eq!(code(hear(&mut session, "452 later\r\n")), 452);
        session.carry_no_further();
        assert!(session.is_ready());
    }

    #[test]
    fn without_pipelining_rset_is_answered_first() {
        let mut session = session("250 primary.test\r\n");
        session.carry(&sender("a@b.test"), NOW);
        said(&mut session);
        hear(&mut session, "250 ok\r\n");
        session.carry_no_further();
        session.carry(&sender("a@b.test"), NOW);
        assert_eq!(said(&mut session), "RSET\r\n");
        assert_eq!(hear(&mut session, "250 ok\r\n"), ClientEvent::Idle);
        assert_eq!(said(&mut session), "MAIL FROM:<a@b.test>\r\n");
    }

    /// An acceptance that nobody has waited for must never be taken for that of the message.
    #[test]
    fn what_comes_out_of_turn_ends_the_session() {
        for (at, line) in [
            (0, "354 go\r\n"),
            (1, "250 early\r\n"),
            (2, "250 before data\r\n"),
            (2, "350 go\r\n"),
            (3, "250 early\r\n"),
            (0, "421 bye\r\n"),
        ] {
            let mut session = session("250 primary.test\r\n");
            session.carry(&sender("a@b.test"), NOW);
            if at > 0 {
                hear(&mut session, "250 ok\r\n");
            }
            if at > 1 {
                session.carry_data(NOW);
            }
            if at > 2 {
                hear(&mut session, "354 go\r\n");
            }
            assert!(matches!(hear(&mut session, line), ClientEvent::Failed(_)), "{at} {line}");
        }
    }
}
