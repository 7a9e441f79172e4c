//! The states of a client session, and the exchange of one envelope.
//!
//! ```text
//!   Greeting --220--> Hello --250--> Ready --send--> Envelope --354--> Data --sent--> DataEnd --> Ready
//!                       |5xx                            |354, nobody left
//!                       v                               v
//!                   PlainHello                       EmptyDot --> Ready
//! ```
//! An [`Exchange`] knows which reply comes next, whether its lines left at once (PIPELINING) or leave one by
//! one: replies are matched to commands by their order alone (RFC 2920 3.1).

use std::collections::VecDeque;

use super::outcome::{ClientFailure, RecipientOutcome, Stage, TransactionOutcome};
use super::{Capabilities, Envelope};
use crate::smtp::dsn::{MailDsn, RcptDsn, push_ascii_orcpt};
use crate::smtp::reply::ReceivedReply;

/// Where a session is.
#[derive(Debug)]
pub(super) enum State {
    /// The greeting is awaited.
    Greeting,
    /// The reply to EHLO is awaited.
    Hello,
    /// The reply to HELO is awaited.
    PlainHello,
    /// A transaction may begin.
    Ready(Standing),
    /// Replies up to that of DATA are awaited.
    Envelope(Exchange),
    /// The host writes mail data.
    Data(Exchange),
    /// The reply to the dot is awaited.
    DataEnd(Exchange),
    /// 354 came for nobody: the reply to a dot alone is awaited, and means nothing.
    EmptyDot(Exchange),
    /// The reply to QUIT is awaited.
    Quitting,
    /// The outcome of the last transaction was reported, the failure is to be.
    Failing(ClientFailure),
    /// The failure was reported.
    Failed(ClientFailure),
    /// Over.
    Closed,
}

/// What the server remembers of the last transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing.
    Clear,
    /// Perhaps an envelope: RSET goes first.
    Begun,
}

/// One envelope on its way.
#[derive(Debug)]
pub(super) struct Exchange {
    unsent: VecDeque<Vec<u8>>,
    awaited: Awaited,
    sender_refusal: Option<ReceivedReply>,
    recipients: Vec<Progress>,
    goal: Goal,
}

/// How far an exchange goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// To the data.
    Data,
    /// To the last RCPT: nothing is delivered.
    Recipients,
}

/// The command whose reply comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Reset,
    Sender,
    Recipient(usize),
    DataStart,
}

#[derive(Clone, Debug)]
enum Progress {
    Unanswered,
    Accepted,
    Refused(ReceivedReply),
}

/// What a reply means for the exchange.
#[derive(Debug)]
pub(super) enum Advance {
    /// More replies are awaited.
    Continue,
    /// 354, but no recipient is left.
    EmptyDot,
    /// A reply that its command cannot have.
    OutOfTurn,
    /// No data goes. The reply of DATA, if DATA was refused.
    Settled(Option<ReceivedReply>),
    /// 354: the data goes.
    StartData,
}

/// What the accepted recipients share.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    NotTried,
    Replied(Stage, ReceivedReply),
    Unknown,
}

impl Exchange {
    pub(super) fn new(envelope: &Envelope<'_>, capabilities: &Capabilities, standing: Standing) -> Self {
        let mut unsent = VecDeque::with_capacity(envelope.recipients.len() + 3);
        if standing == Standing::Begun {
            unsent.push_back(b"RSET\r\n".to_vec());
        }
        let smtputf8 = capabilities.smtputf8
            && (envelope.needs_smtputf8() || envelope.recipients.iter().any(|path| !path.is_ascii()));
        unsent.push_back(mail_line(envelope, capabilities, smtputf8));
        for (ordinal, mailbox) in envelope.recipients.iter().enumerate() {
            let dsn = envelope.extensions.recipients.get(ordinal).filter(|_| capabilities.dsn);
            unsent.push_back(rcpt_line(mailbox, dsn, smtputf8));
        }
        unsent.push_back(b"DATA\r\n".to_vec());
        let awaited = if standing == Standing::Begun { Awaited::Reset } else { Awaited::Sender };
        let recipients = vec![Progress::Unanswered; envelope.recipients.len()];
        Self { unsent, awaited, sender_refusal: None, recipients, goal: Goal::Data }
    }

    /// The same without DATA.
    pub(super) fn probe(envelope: &Envelope<'_>, capabilities: &Capabilities, standing: Standing) -> Self {
        let mut exchange = Self::new(envelope, capabilities, standing);
        exchange.unsent.pop_back();
        exchange.goal = Goal::Recipients;
        exchange
    }

    /// The next line to queue. The caller takes all at once or one for each reply.
    pub(super) fn next_line(&mut self) -> Option<Vec<u8>> {
        self.unsent.pop_front()
    }

    pub(super) fn awaits_data_start(&self) -> bool {
        self.awaited == Awaited::DataStart
    }

    /// Takes the reply of the command that is awaited.
    pub(super) fn take_reply(&mut self, reply: ReceivedReply) -> Advance {
        let is_go_ahead = reply.code / 100 == 3;
        match self.awaited {
            Awaited::DataStart if is_go_ahead && self.has_accepted() => Advance::StartData,
            Awaited::DataStart if is_go_ahead => Advance::EmptyDot,
            Awaited::DataStart if reply.is_positive() => Advance::OutOfTurn,
            Awaited::DataStart => Advance::Settled(Some(reply)),
            _ if is_go_ahead => Advance::OutOfTurn,
            Awaited::Reset if !reply.is_positive() => Advance::OutOfTurn,
            Awaited::Reset => self.await_next(Awaited::Sender),
            Awaited::Sender => {
                self.sender_refusal = Some(reply).filter(|reply| !reply.is_positive());
                self.await_next(Awaited::Recipient(0))
            }
            Awaited::Recipient(index) => {
                let progress =
                    if reply.is_positive() { Progress::Accepted } else { Progress::Refused(reply) };
                self.recipients[index] = progress;
                self.await_next(Awaited::Recipient(index + 1))
            }
        }
    }

    /// Lines that have not left need not leave once nobody can be delivered to any more.
    fn await_next(&mut self, next: Awaited) -> Advance {
        let all_answered = next == Awaited::Recipient(self.recipients.len());
        let nobody_left = self.sender_refusal.is_some() || (all_answered && !self.has_accepted());
        let is_at_goal = all_answered && self.goal == Goal::Recipients;
        if is_at_goal || (nobody_left && !self.unsent.is_empty()) {
            return Advance::Settled(None);
        }
        self.awaited = if all_answered { Awaited::DataStart } else { next };
        Advance::Continue
    }

    fn has_accepted(&self) -> bool {
        let is_accepted = |progress: &Progress| matches!(progress, Progress::Accepted);
        self.sender_refusal.is_none() && self.recipients.iter().any(is_accepted)
    }

    /// Without MAIL there is nothing to reset.
    pub(super) fn standing(&self) -> Standing {
        if self.sender_refusal.is_some() { Standing::Clear } else { Standing::Begun }
    }

    /// A refused sender speaks for all, a refused recipient for itself, the ending for the accepted.
    pub(super) fn into_outcome(self, ending: &Ending) -> TransactionOutcome {
        let sender_refusal = self.sender_refusal;
        let outcome = |progress| match (&sender_refusal, progress, ending) {
            (Some(refusal), _, _) => RecipientOutcome::replied(Stage::Sender, refusal.clone()),
            (None, Progress::Refused(reply), _) => RecipientOutcome::replied(Stage::Recipient, reply),
            (None, Progress::Unanswered, _) => RecipientOutcome::NotTried,
            (None, Progress::Accepted, Ending::NotTried) => RecipientOutcome::NotTried,
            (None, Progress::Accepted, Ending::Unknown) => RecipientOutcome::Unknown,
            (None, Progress::Accepted, Ending::Replied(stage, reply)) => {
                RecipientOutcome::replied(*stage, reply.clone())
            }
        };
        TransactionOutcome { recipients: self.recipients.into_iter().map(outcome).collect() }
    }
}

/// Parameters go only where they were offered: a server may refuse MAIL for one that it does not know. SMTPUTF8 goes
/// only where it is needed too, since what came with it may not go on everywhere (RFC 6531 3.4).
fn mail_line(envelope: &Envelope<'_>, capabilities: &Capabilities, smtputf8: bool) -> Vec<u8> {
    let mut line = format!("MAIL FROM:<{}>", envelope.reverse_path);
    if capabilities.size.is_some() {
        line.push_str(&format!(" SIZE={}", envelope.octets));
    }
    if capabilities.eight_bit_mime && envelope.has_8bit {
        line.push_str(" BODY=8BITMIME");
    }
    if smtputf8 {
        line.push_str(" SMTPUTF8");
    }
    let MailDsn { ret, envid } = envelope.extensions.dsn;
    if let Some(ret) = ret.filter(|_| capabilities.dsn) {
        line.push_str(&format!(" RET={ret}"));
    }
    if capabilities.dsn && !envid.is_empty() {
        line.push_str(&format!(" ENVID={envid}"));
    }
    line.push_str("\r\n");
    line.into_bytes()
}

/// RFC 3461 5.2.1: parameters go on as they came. UTF-8 in ORCPT is encoded where none may be said (RFC 6533 3).
fn rcpt_line(mailbox: &str, dsn: Option<&RcptDsn<'_>>, smtputf8: bool) -> Vec<u8> {
    let mut line = format!("RCPT TO:<{mailbox}>");
    let RcptDsn { notify, orcpt } = dsn.copied().unwrap_or_default();
    if notify.is_said() {
        line.push_str(&format!(" NOTIFY={notify}"));
    }
    if !orcpt.is_empty() {
        line.push_str(" ORCPT=");
        if smtputf8 {
            line.push_str(orcpt);
        } else {
            push_ascii_orcpt(&mut line, orcpt);
        }
    }
    line.push_str("\r\n");
    line.into_bytes()
}
