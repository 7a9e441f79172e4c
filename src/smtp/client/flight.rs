//! One transaction in flight: which reply comes next, and what each recipient got so far.
//!
//! ```text
//!   [Clear -> Swallow -> Reset] -> [Forward] -> Sender -> Recipient(0..n) -> DataStart --354--> Data --sent--> DataEnd --> over
//!                                        |                 |354, nobody left
//!                                        |                 v
//!                                        v              EmptyDot --> over
//!                                      Chunk --> over
//! ```
//! Replies are matched to commands by their order alone (RFC 2920 3.1), so it makes no difference whether the lines left at
//! once (PIPELINING) or leave one by one. A flight knows nothing of those before and behind it: the session hands it
//! the replies that are its own.
//!
//! What rides behind another transaction says RSET first. How that one ends is not known when it leaves, and a server that keeps
//! an envelope whose end of data it refused, as one that swallowed the chunk of a refused recipient may, would add the
//! recipients of the next to it. A server that refuses this RSET for good has not run what rode (Haraka from 3.3 on drops it and answers
//! 503 to each command): all that follows is refused too, and the message goes again, by itself.

use std::collections::VecDeque;

use super::lines::{mail_line, rcpt_line};
use super::outcome::{RecipientOutcome, Stage, TransactionOutcome};
use super::{Capabilities, Envelope};
use crate::limits::{
    CLIENT_COMMAND_TIMEOUT, CLIENT_DATA_BLOCK_TIMEOUT, CLIENT_DATA_END_TIMEOUT, CLIENT_DATA_START_TIMEOUT,
};
use crate::smtp::Moment;
use crate::smtp::reply::ReceivedReply;

/// What goes in front of MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prelude {
    /// Nothing: the server remembers nothing of the last transaction.
    Nothing,
    /// RSET: it may.
    Reset,
    /// RSET, a chunk that has to be refused, and RSET (H45). Without the first one what is left of an envelope, as of a
    /// probe or of a refused end of data, would get the chunk for its message.
    RefusedChunk,
}

/// How a transaction goes on behind its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// It does not: nothing is delivered.
    Recipients,
    /// DATA.
    Data,
    /// One chunk of so many octets, which is the last (RFC 3030).
    Chunk(u64),
}

/// One envelope on its way.
#[derive(Debug)]
pub(super) struct Flight {
    unsent: VecDeque<Vec<u8>>,
    awaited: Awaited,
    sender_refusal: Option<ReceivedReply>,
    recipients: Vec<Progress>,
    goal: Goal,
    content: Content,
    /// It began with a chunk that had to be refused.
    asks: bool,
    /// It rides behind the data of another.
    rides: bool,
    /// And was not run.
    is_dropped: bool,
    /// RFC 2033 4.2: the end of data has a reply for each recipient that was accepted, in their order.
    answers_each: bool,
    /// XFORWARD goes in front of MAIL.
    forwards: bool,
    forward_refusal: Option<ReceivedReply>,
}

/// The command whose reply comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Clear,
    Swallow,
    Reset,
    Forward,
    Sender,
    Recipient(usize),
    DataStart,
    /// None: mail data goes.
    Data,
    DataEnd,
    EmptyDot,
    Chunk,
}

/// Where the mail data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    /// With the host.
    Kept,
    /// In front of everything that the session says from here on.
    Queued,
    /// On its way, to the last octet.
    Sent,
}

#[derive(Clone, Debug)]
enum Progress {
    Unanswered,
    Accepted,
    /// The end of data was, for this one alone (LMTP).
    Answered(ReceivedReply),
    Refused(ReceivedReply),
}

/// What a reply means for the flight.
#[derive(Debug)]
pub(super) enum Advance {
    /// More replies are awaited.
    Continue,
    /// 354, but no recipient is left.
    EmptyDot,
    /// 354: the data goes.
    StartData,
    /// It is over; the server may remember its envelope, or not.
    Over(Ending, Prelude),
    /// A reply that its command cannot have.
    OutOfTurn(Ending),
    /// The server did not refuse a chunk in step.
    NotSwallowed,
}

/// What the accepted recipients share.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    NotTried,
    Replied(Stage, ReceivedReply),
    Unknown,
}

/// RFC 3030 2: refused without a transaction. Who takes its octets for a command knows none like it.
const REFUSED_CHUNK: &[u8] = b"BDAT 6 LAST\r\nXNOP\r\n";

impl Flight {
    pub(super) fn new(
        envelope: &Envelope<'_>,
        capabilities: &Capabilities,
        prelude: Prelude,
        forward: Option<Vec<u8>>,
        goal: Goal,
    ) -> Self {
        let mut unsent = VecDeque::with_capacity(envelope.recipients.len() + 5);
        let forwards = forward.is_some();
        let awaited = match prelude {
            Prelude::Nothing if forwards => Awaited::Forward,
            Prelude::Nothing => Awaited::Sender,
            Prelude::Reset => Awaited::Reset,
            Prelude::RefusedChunk => Awaited::Clear,
        };
        if awaited == Awaited::Clear {
            unsent.extend([b"RSET\r\n".to_vec(), REFUSED_CHUNK.to_vec()]);
        }
        if prelude != Prelude::Nothing {
            unsent.push_back(b"RSET\r\n".to_vec());
        }
        unsent.extend(forward);
        let smtputf8 = capabilities.smtputf8
            && (envelope.needs_smtputf8() || envelope.recipients.iter().any(|path| !path.is_ascii()));
        unsent.push_back(mail_line(envelope, capabilities, smtputf8));
        for (ordinal, mailbox) in envelope.recipients.iter().enumerate() {
            let dsn = envelope.extensions.recipients.get(ordinal).filter(|_| capabilities.dsn);
            unsent.push_back(rcpt_line(mailbox, dsn, smtputf8));
        }
        let mut content = Content::Kept;
        let asks = prelude == Prelude::RefusedChunk;
        match goal {
            Goal::Recipients => {}
            Goal::Data => unsent.push_back(b"DATA\r\n".to_vec()),
            Goal::Chunk(octets) => {
                unsent.push_back(format!("BDAT {octets} LAST\r\n").into_bytes());
                content = Content::Queued;
            }
        }
        let recipients = vec![Progress::Unanswered; envelope.recipients.len()];
        let (sender_refusal, forward_refusal) = (None, None);
        let answers_each = false;
        Self {
            unsent,
            awaited,
            sender_refusal,
            recipients,
            goal,
            content,
            asks,
            rides: false,
            is_dropped: false,
            answers_each,
            forwards,
            forward_refusal,
        }
    }

    /// It goes to a server that answers the end of data for each recipient.
    pub(super) const fn by_lmtp(mut self) -> Self {
        self.answers_each = true;
        self
    }

    /// It leaves behind a dot, before the reply to that.
    pub(super) const fn riding(mut self) -> Self {
        self.rides = true;
        self
    }

    /// It rode, and the server did not run it.
    pub(super) const fn is_dropped(&self) -> bool {
        self.is_dropped
    }

    /// The next line to queue. The caller takes all at once or one for each reply.
    pub(super) fn next_line(&mut self) -> Option<Vec<u8>> {
        self.unsent.pop_front()
    }

    pub(super) const fn is_chunk(&self) -> bool {
        matches!(self.goal, Goal::Chunk(_))
    }

    /// It began with a chunk that had to be refused, which was, in step.
    pub(super) fn was_swallowed(&self) -> bool {
        self.asks && !matches!(self.awaited, Awaited::Clear | Awaited::Swallow | Awaited::Reset)
    }

    /// XFORWARD was refused by this, told once.
    pub(super) const fn take_forward_refusal(&mut self) -> Option<ReceivedReply> {
        self.forward_refusal.take()
    }

    /// 354 was there and no end of data went.
    pub(super) fn is_in_data(&self) -> bool {
        self.awaited == Awaited::Data
    }

    /// Everything of it is in front of what the session says from here on, and how many replies it has is sure: another may ride
    /// behind. Behind the data of several LMTP recipients none may: of a server that gives one reply to all of them, the next
    /// one, to the RSET of the next envelope, would be taken for the second recipient's.
    pub(super) fn is_said(&self) -> bool {
        let is_sure = !self.answers_each || self.accepted() <= 1;
        is_sure && self.has_left()
    }

    fn has_left(&self) -> bool {
        matches!(self.awaited, Awaited::DataEnd | Awaited::EmptyDot) || self.content >= Content::Queued
    }

    /// The mail data and its end are where [`Content::Queued`] has them.
    pub(super) fn queue_content(&mut self) {
        if self.is_in_data() && self.content == Content::Kept {
            self.content = Content::Queued;
        }
    }

    /// Its mail data left to the last octet; false if it did before, or cannot have.
    pub(super) fn send_content(&mut self) -> bool {
        let may = self.content < Content::Sent && (self.is_chunk() || self.is_in_data());
        if may {
            self.content = Content::Sent;
            if self.is_in_data() {
                self.awaited = Awaited::DataEnd;
            }
        }
        may
    }

    /// The lone dot was queued.
    pub(super) fn end_empty(&mut self) {
        self.awaited = Awaited::EmptyDot;
    }

    /// How long the next reply, or the next block of data, may take (RFC 5321 4.5.3.2).
    pub(super) fn timeout(&self) -> Moment {
        match self.awaited {
            Awaited::DataStart => CLIENT_DATA_START_TIMEOUT,
            Awaited::Data => CLIENT_DATA_BLOCK_TIMEOUT,
            Awaited::Chunk if self.content < Content::Sent => CLIENT_DATA_BLOCK_TIMEOUT,
            Awaited::Chunk | Awaited::DataEnd | Awaited::EmptyDot => CLIENT_DATA_END_TIMEOUT,
            Awaited::Clear
            | Awaited::Swallow
            | Awaited::Reset
            | Awaited::Forward
            | Awaited::Sender
            | Awaited::Recipient(_) => CLIENT_COMMAND_TIMEOUT,
        }
    }

    /// Mail data is going, and no reply can be due before it went.
    pub(super) fn is_sending(&self) -> bool {
        self.is_in_data() || (self.awaited == Awaited::Chunk && self.content < Content::Sent)
    }

    /// Takes the reply of the command that is awaited.
    pub(super) fn take_reply(&mut self, reply: ReceivedReply) -> Advance {
        let is_go_ahead = reply.code / 100 == 3;
        match self.awaited {
            Awaited::DataStart if is_go_ahead && self.has_accepted() => {
                self.awaited = Awaited::Data;
                Advance::StartData
            }
            Awaited::DataStart if is_go_ahead => Advance::EmptyDot,
            Awaited::DataStart if reply.is_positive() => Advance::OutOfTurn(Ending::NotTried),
            Awaited::DataStart => Advance::Over(Ending::Replied(Stage::DataStart, reply), self.rest()),
            Awaited::Data if self.answers_each => {
                let is_refusal = !is_go_ahead && !reply.is_positive();
                let first = self.first_accepted().filter(|_| is_refusal);
                if let Some(index) = first {
                    self.recipients[index] = Progress::Answered(reply);
                }
                Advance::OutOfTurn(Ending::NotTried)
            }
            Awaited::Data => Advance::OutOfTurn(early(reply)),
            Awaited::DataEnd if is_go_ahead => Advance::OutOfTurn(Ending::Unknown),
            Awaited::DataEnd if self.answers_each => self.take_answer(reply),
            Awaited::DataEnd => over(reply),
            Awaited::EmptyDot => Advance::Over(Ending::NotTried, Prelude::Reset),
            Awaited::Clear if !reply.is_positive() => Advance::OutOfTurn(Ending::NotTried),
            Awaited::Clear => self.await_next(Awaited::Swallow),
            Awaited::Swallow if is_go_ahead || reply.is_positive() => Advance::NotSwallowed,
            Awaited::Swallow => self.await_next(Awaited::Reset),
            Awaited::Chunk => self.take_chunk_reply(reply),
            _ if is_go_ahead => Advance::OutOfTurn(self.lost()),
            Awaited::Reset if !reply.is_positive() && self.asks => Advance::NotSwallowed,
            Awaited::Reset if reply.is_permanent() && self.rides => {
                self.is_dropped = true;
                self.await_next(if self.forwards { Awaited::Forward } else { Awaited::Sender })
            }
            Awaited::Reset if !reply.is_positive() => Advance::OutOfTurn(self.lost()),
            _ if self.is_dropped && reply.is_positive() => Advance::OutOfTurn(Ending::NotTried),
            Awaited::Reset => self.await_next(if self.forwards { Awaited::Forward } else { Awaited::Sender }),
            Awaited::Forward => {
                self.forward_refusal = Some(reply).filter(|reply| !reply.is_positive());
                self.await_next(Awaited::Sender)
            }
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

    /// The reply to the end of data of the next recipient in turn.
    fn take_answer(&mut self, reply: ReceivedReply) -> Advance {
        let index = self.first_accepted().expect("data goes only for who was accepted");
        self.recipients[index] = Progress::Answered(reply);
        if self.first_accepted().is_some() {
            return Advance::Continue;
        }
        // RFC 2033 4.2: all buffers are empty. Where somebody got no 2xx that is not relied on.
        let is_refused =
            |progress: &Progress| matches!(progress, Progress::Answered(reply) if !reply.is_positive());
        let rest = if self.recipients.iter().any(is_refused) { Prelude::Reset } else { Prelude::Nothing };
        Advance::Over(Ending::NotTried, rest)
    }

    /// The server took the message, for somebody at least.
    pub(super) fn took(&self, ending: &Ending) -> bool {
        let is_taken =
            |progress: &Progress| matches!(progress, Progress::Answered(reply) if reply.is_positive());
        matches!(ending, Ending::Replied(Stage::DataEnd, reply) if reply.is_positive())
            || self.recipients.iter().any(is_taken)
    }

    /// RFC 3030 2: the reply comes when the octets were read, whatever it is. That the sequence was wrong, of which nothing is,
    /// or that there is no such command, says that we are out of step: it is not about the message.
    fn take_chunk_reply(&self, reply: ReceivedReply) -> Advance {
        if self.content < Content::Sent {
            let is_about_us = matches!(reply.code, 500 | 502 | 503);
            return Advance::OutOfTurn(if is_about_us { Ending::NotTried } else { early(reply) });
        }
        match (reply.code, self.has_accepted()) {
            (300..=399, _) => Advance::OutOfTurn(Ending::Unknown),
            (200..=299, false) | (500 | 502 | 503, true) => Advance::OutOfTurn(Ending::NotTried),
            (_, true) => over(reply),
            (_, false) => Advance::Over(Ending::NotTried, self.rest()),
        }
    }

    /// Lines that have not left need not leave once nobody can be delivered to any more.
    fn await_next(&mut self, next: Awaited) -> Advance {
        let all_answered = next == Awaited::Recipient(self.recipients.len());
        let nobody_left = self.sender_refusal.is_some() || (all_answered && !self.has_accepted());
        let is_at_goal = all_answered && self.goal == Goal::Recipients;
        if is_at_goal || (nobody_left && !self.unsent.is_empty()) {
            return Advance::Over(Ending::NotTried, self.rest());
        }
        self.awaited = match (all_answered, self.goal) {
            (false, _) => next,
            (true, Goal::Chunk(_)) => Awaited::Chunk,
            (true, _) => Awaited::DataStart,
        };
        Advance::Continue
    }

    /// Without MAIL there is nothing to reset.
    fn rest(&self) -> Prelude {
        if self.sender_refusal.is_some() && !self.is_dropped { Prelude::Nothing } else { Prelude::Reset }
    }

    fn has_accepted(&self) -> bool {
        self.sender_refusal.is_none() && self.first_accepted().is_some()
    }

    fn first_accepted(&self) -> Option<usize> {
        self.recipients.iter().position(|progress| matches!(progress, Progress::Accepted))
    }

    /// So many were accepted, answered to the end of data or not.
    fn accepted(&self) -> usize {
        let is_accepted =
            |progress: &&Progress| matches!(progress, Progress::Accepted | Progress::Answered(_));
        self.recipients.iter().filter(is_accepted).count()
    }

    /// The reply to MAIL is awaited, and nothing of the message left.
    pub(super) fn awaits_sender(&self) -> bool {
        self.awaited == Awaited::Sender && self.content == Content::Kept
    }

    /// How it ends when no reply comes any more. RFC 1047: whoever has all octets may have taken them.
    pub(super) fn lost(&self) -> Ending {
        if self.content == Content::Sent { Ending::Unknown } else { Ending::NotTried }
    }

    /// How it ends with a 421 in its turn. Said to the end of data of one LMTP recipient it is that one's answer; those behind it
    /// have none, and may have been delivered to.
    pub(super) fn closed(&mut self, reply: &ReceivedReply) -> Ending {
        match self.awaited {
            Awaited::DataEnd if self.answers_each => {
                self.take_answer(reply.clone());
                Ending::Unknown
            }
            Awaited::DataEnd | Awaited::Chunk => Ending::Replied(Stage::DataEnd, reply.clone()),
            _ => self.lost(),
        }
    }

    /// A refused sender speaks for all, a refused recipient for itself, the ending for the accepted. One that was not answered
    /// is as unknown as all when its chunk went.
    pub(super) fn into_outcome(self, ending: &Ending) -> TransactionOutcome {
        if self.is_dropped {
            return TransactionOutcome {
                recipients: vec![RecipientOutcome::NotTried; self.recipients.len()],
            };
        }
        let sender_refusal = self.sender_refusal;
        let outcome = |progress| match (&sender_refusal, progress, ending) {
            (Some(refusal), _, _) => RecipientOutcome::replied(Stage::Sender, refusal.clone()),
            (None, Progress::Refused(reply), _) => RecipientOutcome::replied(Stage::Recipient, reply),
            (None, Progress::Answered(reply), _) => RecipientOutcome::replied(Stage::DataEnd, reply),
            (None, Progress::Accepted | Progress::Unanswered, Ending::Unknown) => RecipientOutcome::Unknown,
            (None, Progress::Unanswered, _) => RecipientOutcome::NotTried,
            (None, Progress::Accepted, Ending::NotTried) => RecipientOutcome::NotTried,
            (None, Progress::Accepted, Ending::Replied(stage, reply)) => {
                RecipientOutcome::replied(*stage, reply.clone())
            }
        };
        TransactionOutcome { recipients: self.recipients.into_iter().map(outcome).collect() }
    }
}

/// Before the end of data only a refusal can be meant; what is left of the data cannot be sent in step.
fn early(reply: ReceivedReply) -> Ending {
    if reply.is_transient() || reply.is_permanent() {
        Ending::Replied(Stage::DataEnd, reply)
    } else {
        Ending::NotTried
    }
}

fn over(reply: ReceivedReply) -> Advance {
    let rest = if reply.is_positive() { Prelude::Nothing } else { Prelude::Reset };
    Advance::Over(Ending::Replied(Stage::DataEnd, reply), rest)
}
