//! One transaction in flight: the reply that it awaits, and what follows each.

use stratamx::smtp::reply::ReceivedReply;

use crate::outbox::Outbox;
use crate::task::{Offer, Stage, Task};

/// The reply that a transaction awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Await {
    /// To RSET in front of it.
    Prelude,
    Mail,
    Rcpt(usize),
    Data,
    Content,
    /// To RSET behind it.
    Reset,
}

#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) task: Task,
    pub(crate) awaits: Await,
    pub(crate) is_group: bool,
    pub(crate) by_chunk: bool,
    pub(crate) refused: Vec<(usize, ReceivedReply)>,
    pub(crate) decided: Option<(Stage, ReceivedReply)>,
}

impl Flight {
    /// Takes the reply that it awaits; false when it is over.
    pub(crate) fn take(&mut self, reply: ReceivedReply, is_alone: bool, out: &mut Outbox) -> bool {
        let recipients = self.task.message.recipients.len();
        match self.awaits {
            Await::Prelude => self.awaits = Await::Mail,
            Await::Mail => {
                if !reply.is_positive() {
                    self.decided = Some((Stage::Mail, reply));
                    // One by one nothing else was said, and there is nothing to reset.
                    return self.is_group && self.go_on(0, is_alone, out);
                }
                return self.go_on(0, is_alone, out);
            }
            Await::Rcpt(place) => {
                if !reply.is_positive() {
                    self.refused.push((place, reply));
                }
                return self.go_on(place + 1, is_alone, out);
            }
            Await::Data => {
                let may_send = self.decided.is_none() && self.refused.len() < recipients;
                if reply.code != 354 {
                    if may_send {
                        self.decided = Some((Stage::Data, reply));
                    }
                    return self.reset(is_alone, out);
                }
                if may_send {
                    self.say_content(out);
                } else {
                    // It waits for content that is for nobody.
                    out.push(b".\r\n");
                }
                self.awaits = Await::Content;
            }
            Await::Content => {
                if self.decided.is_none() && self.refused.len() < recipients {
                    self.decided = Some((Stage::Content, reply));
                    return false;
                }
                return self.reset(is_alone, out);
            }
            Await::Reset => return false,
        }
        true
    }

    /// The next recipient, or what follows the last.
    fn go_on(&mut self, place: usize, is_alone: bool, out: &mut Outbox) -> bool {
        let recipients = self.task.message.recipients.len();
        let mut lines = Vec::new();
        if place < recipients {
            self.awaits = Await::Rcpt(place);
            if !self.is_group {
                self.say_rcpt(place, &mut lines);
            }
        } else if !self.is_group && self.refused.len() == recipients {
            return self.reset(is_alone, out);
        } else {
            self.awaits = if self.by_chunk { Await::Content } else { Await::Data };
            match (self.is_group, self.by_chunk) {
                (true, _) => {}
                (false, true) => self.say_chunk(out),
                (false, false) => lines.extend_from_slice(b"DATA\r\n"),
            }
        }
        out.push(&lines);
        true
    }

    /// What the server still knows of it is not the next one's.
    fn reset(&mut self, is_alone: bool, out: &mut Outbox) -> bool {
        if !is_alone {
            return false;
        }
        out.push(b"RSET\r\n");
        self.awaits = Await::Reset;
        true
    }

    pub(crate) fn say_mail(&self, offer: Offer, lines: &mut Vec<u8>) {
        let message = &self.task.message;
        lines.extend_from_slice(b"MAIL FROM:<");
        lines.extend_from_slice(message.reverse_path.as_bytes());
        lines.extend_from_slice(b">");
        if offer.size {
            lines.extend_from_slice(format!(" SIZE={}", message.octets()).as_bytes());
        }
        if offer.eight_bit && message.has_8bit {
            lines.extend_from_slice(b" BODY=8BITMIME");
        }
        lines.extend_from_slice(b"\r\n");
    }

    pub(crate) fn say_rcpt(&self, place: usize, lines: &mut Vec<u8>) {
        lines.extend_from_slice(b"RCPT TO:<");
        lines.extend_from_slice(self.task.message.recipients[place].as_bytes());
        lines.extend_from_slice(b">\r\n");
    }

    fn say_content(&self, out: &mut Outbox) {
        let message = &self.task.message;
        out.push(&message.head);
        out.push_body(&message.body, true);
        out.push(&message.tail);
        out.push(b".\r\n");
    }

    pub(crate) fn say_chunk(&self, out: &mut Outbox) {
        let message = &self.task.message;
        out.push(format!("BDAT {} LAST\r\n", message.octets()).as_bytes());
        out.push(&message.head);
        out.push_body(&message.body, false);
        out.push(&message.tail);
    }
}
