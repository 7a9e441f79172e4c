//! What people are told of a try: of whom nothing is final at once, of the others with the facts that settle them.

use super::super::chronicle;
use super::super::delivery::Job;
use super::super::outcome::Verdict;
use super::Task;
use crate::shard::link::{Dialer, Spawn};
use crate::shard::traces::{Became, Said, Told};
use crate::smtp::client::{RecipientOutcome, TransactionOutcome};
use crate::smtp::reply::ReceivedReply;
use core::net::SocketAddr;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::trace::What;

impl<D: Disk, C: Clock, N: Dialer, S: Spawn> Task<D, C, N, S> {
    /// Tells what is not final, and notes what was said last; what is to be told with the facts.
    pub(super) fn traced(
        &self,
        job: &Job<D>,
        outcome: &TransactionOutcome,
        verdict: &Verdict,
        host: SocketAddr,
    ) -> Option<Box<Told>> {
        if verdict.code != 0 {
            self.shard.codes.borrow_mut().note(&job.place.1, verdict.code);
        }
        if !chronicle::is_on(&self.shard) {
            return None;
        }
        let each = job.ordinals.iter().zip(&job.mailboxes).zip(&outcome.recipients);
        let units =
            each.filter_map(|((ordinal, mailbox), outcome)| said(*ordinal, mailbox, outcome)).collect();
        let stamp = job.place.1.stamp;
        let told = Told {
            at: self.shard.clock.wall(),
            queue_id: job.queue_id,
            stamp,
            reverse_path: job.reverse_path.clone(),
            host: Some(host),
            is_redirected: self.round.standing.borrow().redirect.is_some(),
            is_aside: job.is_replayed || self.lane.queue.borrow().has_stepped_aside(stamp),
            accepted: Some(job.accepted.clone()),
            units,
        };
        let open = became(verdict);
        if !open.is_empty() {
            chronicle::tell(&self.shard, &self.lane.domain, &told, &open);
        }
        Some(Box::new(told))
    }
}

/// What became of those about whom no fact is made now.
fn became(verdict: &Verdict) -> Vec<Became> {
    let of = |ordinals: &[u16], what| ordinals.iter().map(|ordinal| (*ordinal, what, 0)).collect::<Vec<_>>();
    let owed = |all: &[(u16, ReceivedReply)]| all.iter().map(|(ordinal, _)| *ordinal).collect::<Vec<_>>();
    let mut all = of(&verdict.deferred, What::Deferred);
    all.extend(of(&verdict.parked, What::Refused));
    all.extend(of(&owed(&verdict.owed), What::Refused));
    all.extend(of(&owed(&verdict.relayed), What::Taken));
    all.extend(of(&verdict.unknown, What::Unanswered));
    all.sort_unstable_by_key(|(ordinal, ..)| *ordinal);
    all
}

fn said(ordinal: u16, mailbox: &str, outcome: &RecipientOutcome) -> Option<Said> {
    let reply = match outcome {
        RecipientOutcome::Delivered(reply)
        | RecipientOutcome::Deferred { reply, .. }
        | RecipientOutcome::Rejected { reply, .. } => Some(reply),
        RecipientOutcome::Unknown => None,
        RecipientOutcome::NotTried => return None,
    };
    let (code, text) = reply.map_or_else(Default::default, |reply| (reply.code, words(reply)));
    Some(Said { ordinal, mailbox: mailbox.to_owned(), code, text })
}

fn words(reply: &ReceivedReply) -> String {
    match &reply.enhanced {
        Some(enhanced) => format!("{enhanced} {}", reply.text),
        None => reply.text.clone(),
    }
}
