//! In whose name a session speaks: each message's client is told to the primary before the message (XCLIENT), or with it
//! (XFORWARD), as far as the primary offers that.
//!
//! A session that speaks for one client carries no message of another, and asks for nobody on our behalf: a primary
//! that is told only once ends its session there, and the lane makes the next one at once.

use super::{Delivery, Done, Fault, Job, Progress, Underway};
use crate::shard::link::Link;
use crate::smtp::client::{Standing, TransactionOutcome};
use crate::smtp::reply::ReceivedReply;
use storage::clock::Clock;
use storage::disk::Disk;

impl<L: Link, C: Clock, D: Disk> Delivery<L, C, D> {
    /// Whether this session can carry the message.
    pub(in crate::shard::replay) fn takes(&self, job: &Job<D>) -> bool {
        !self.is_used_up() && self.session.standing(job.client.as_ref()) != Standing::Spent
    }

    /// Whether what is asked in this session is asked by us.
    pub(in crate::shard::replay) fn speaks_for_us(&self) -> bool {
        !self.is_used_up() && self.session.standing(None) == Standing::Settled
    }

    /// The primary knows whose message comes next; else it is told, as far as it can be.
    pub(super) fn is_settled(&mut self, at: usize) -> bool {
        let Underway { job, progress, .. } = &mut self.jobs[at];
        let client = job.client.as_ref();
        match (self.session.standing(client), client) {
            (Standing::Settled, _) => return true,
            (Standing::Unnamed, Some(client)) => self.session.name_client(client, self.clock.now()),
            (Standing::Unnamed | Standing::Spent, _) => return false,
        }
        *progress = Progress::Naming;
        // What breaks the session now may be the name.
        for before in self.jobs.range_mut(..at) {
            if let Progress::Begun { alone, .. } = &mut before.progress {
                *alone = false;
            }
        }
        self.queue_commands();
        false
    }

    /// The first message waits for its client's name.
    pub(super) fn is_naming(&self) -> bool {
        self.jobs.front().is_some_and(|first| matches!(first.progress, Progress::Naming))
    }

    /// XCLIENT or XFORWARD was refused, and mail goes without. Told once a connection.
    pub(super) fn note_refusal(&self, reply: &ReceivedReply) {
        let host = self.host;
        tracing::warn!(%host, %reply, "the primary offers XCLIENT or XFORWARD and refuses it: mail goes in our own name");
    }

    /// The primary refuses the client of the first message: that is the message's answer.
    pub(super) fn refused(&mut self, reply: ReceivedReply) -> Done<D> {
        let Underway { job, pushed, .. } =
            self.jobs.pop_front().expect("the first message's client was named");
        let outcome = TransactionOutcome::sender_refused(job.ordinals.len(), &reply);
        Done { job, result: Ok(outcome), fault: Fault::None, pushed }
    }
}
