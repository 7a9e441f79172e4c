//! What a primary's refusal means while a sender waits: a verdict that he is told, or a word that cannot be true of a primary that is whole
//! (H22, H23).

use super::super::replay::names_the_address;
use super::super::state::Shard;
use crate::bridge::{DomainUsage, Passage, Snapshot, folded};
use crate::config::Domain;
use crate::limits::{PROXY_PUT_OFF_RUN, PROXY_REFUSED_RUN, RECIPIENT_ACCEPTED_AGE};
use crate::smtp::client::Stage;
use crate::smtp::reply::{EnhancedCode, ReceivedReply, Reply, ReplyCode};
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// A refusal of somebody's mail for a recipient.
pub(super) struct Refusal<'a, D: Disk, C: Clock> {
    shard: &'a Shard<D, C>,
    snapshot: &'a Snapshot,
    domain: &'a Domain,
    usage: Arc<DomainUsage>,
    sender: &'a str,
    mailbox: &'a str,
}

impl<'a, D: Disk, C: Clock> Refusal<'a, D, C> {
    pub(super) fn new(
        shard: &'a Shard<D, C>,
        snapshot: &'a Snapshot,
        domain: &'a Domain,
        sender: &'a str,
        mailbox: &'a str,
    ) -> Self {
        Self { shard, snapshot, domain, usage: snapshot.usage_of(&domain.name), sender, mailbox }
    }

    /// The verdict that it is; `None`: it is none, and the transaction is ours.
    pub(super) fn meaning(&self, reply: &ReceivedReply, stage: Stage) -> Option<Reply> {
        let verdict = told(reply)?;
        if reply.is_transient() {
            self.note_put_off(reply);
            return Some(verdict);
        }
        if matches!(reply.code, 500 | 502 | 503 | 530 | 535) {
            // Whoever wants us to log in, or knows no such command, judges nobody's mail.
            self.pause(reply, "the primary does not take mail as it did: it is taken for it");
            return None;
        }
        if concerns_sender(reply) || !self.is_known_good() {
            return Some(verdict);
        }
        // H22: it took him lately. A word about his address is not true then; of others those for two in a row are not, from
        // distinct senders: a bare 550 may be about one.
        let is_untrue = stage == Stage::Recipient && names_the_address(reply);
        let run = self.passage().note_refused(self.sender, self.mailbox);
        if !is_untrue && run < PROXY_REFUSED_RUN {
            return Some(verdict);
        }
        self.pause(reply, "the primary refuses whom it took before: mail is taken for it");
        None
    }

    /// H23: whoever puts everything off is impaired, and nobody's mail is carried to him. Greylisting and other words about a sender are no
    /// sickness, nor is a mailbox that is full.
    pub(super) fn note_put_off(&self, reply: &ReceivedReply) {
        let is_mailbox = matches!(reply.enhanced, Some(EnhancedCode { subject: 2, .. }));
        if !reply.is_transient() || is_mailbox || concerns_sender(reply) {
            return;
        }
        if self.passage().note_put_off(self.sender, self.mailbox) >= PROXY_PUT_OFF_RUN {
            self.pause(reply, "the primary puts everything off: mail is taken for it");
        }
    }

    fn pause(&self, reply: &ReceivedReply, event: &str) {
        tracing::warn!(domain = %self.domain.name, %reply, "{event}");
        self.passage().note_taken();
        self.passage().pause(self.shard.clock.now() + self.domain.retry_interval);
    }

    fn is_known_good(&self) -> bool {
        let local_part = self.mailbox.rsplit_once('@').map_or("", |(local_part, _)| local_part);
        let delimiter = self.domain.recipients.subaddress_delimiter;
        self.snapshot.recipients_of(&self.domain.name).is_some_and(|known| {
            known.is_accepted(&folded(local_part), delimiter, self.shard.instants(), RECIPIENT_ACCEPTED_AGE)
        })
    }

    fn passage(&self) -> &Passage {
        &self.usage.passage
    }
}

/// Whether a refusal is about the sender or his message, by its codes (RFC 3463): his address, his HELO or commands, the size, policy; or it
/// is greylisting by its text.
fn concerns_sender(reply: &ReceivedReply) -> bool {
    let text = reply.text.to_ascii_lowercase();
    let by_code = match reply.enhanced {
        Some(EnhancedCode { subject: 1, detail: 7 | 8, .. } | EnhancedCode { subject: 3, detail: 4, .. }) => {
            true
        }
        Some(EnhancedCode { subject: 5 | 6, .. }) => true,
        // "Relay access denied" is what a server says that has forgotten a domain.
        Some(EnhancedCode { subject: 7, .. }) => !text.contains("relay"),
        _ => reply.code == 552,
    };
    by_code || text.contains("greylist") || text.contains("graylist")
}

/// The primary's reply as we say it: 421 and what is no final reply are not for senders.
pub(super) fn told(reply: &ReceivedReply) -> Option<Reply> {
    let is_final = matches!(reply.code, 200..=299 | 400..=599) && reply.code != 421;
    is_final.then(|| Reply::new(ReplyCode::new(reply.code), reply.enhanced, reply.text.clone()))
}
