//! Meeting a primary: what it shows is held against who is known ([`Acquaintance`](crate::bridge::Acquaintance)), and the log is told.
//!
//! Lanes, callouts and what is carried through live all meet it here. A recipient that cannot exist is asked for by lanes and
//! callouts, in the same words, once a day while the primary is up; by lanes also behind an outage, where the known one refuses such: one
//! that takes whatever comes is to be found out before it has anything. What stands in for primaries by a redirect is not met.

use super::delivery::Delivery;
use super::learn::says_unknown;
use crate::bridge::{Answer, DomainRecipients, DomainUsage, Fingerprint, Meeting};
use crate::config::{Domain, Primaries};
use crate::shard::link::Link;
use crate::shard::state::Shard;
use crate::smtp::client::{RecipientOutcome, Stage};
use storage::clock::Clock;
use storage::disk::Disk;

/// Who was met in a session.
pub(super) struct Met {
    /// What it shows.
    pub(super) shown: Fingerprint,
    /// It is not whom we know.
    pub(super) is_stranger: bool,
}

/// Meets a host that serves us. `is_calm`: it is in state up, and no outage was seen since the last time.
pub(super) fn meet<L: Link, D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &Domain,
    usage: &DomainUsage,
    delivery: &Delivery<L, C, D>,
    answer: Option<Answer>,
    is_calm: bool,
) -> Met {
    let shown = delivery.fingerprint().clone();
    let (name, host) = (&domain.name, delivery.host());
    let meeting = usage.acquaintance.meet(&route_of(domain), &shown, answer, is_calm, shard.instants());
    match &meeting {
        Meeting::Known | Meeting::Stranger(None) => {}
        Meeting::Stranger(Some(change)) => tracing::warn!(
            domain = name, %host, what = change.what,
            "the primary is another than before: it is met with care, and copies of what it takes are kept for a day"
        ),
        Meeting::Back(change) => tracing::warn!(
            domain = name, %host, since_s = change.since_s, until_s = change.last_s,
            "the known primary is back; `stratamx queue replay` gives it what the other one took"
        ),
    }
    Met { shown, is_stranger: matches!(meeting, Meeting::Stranger(_)) }
}

/// What was met in state up is known from here on; false: he is a stranger still.
pub(super) fn learn<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &Domain,
    usage: &DomainUsage,
    shown: &Fingerprint,
    answer: Option<Answer>,
) -> bool {
    usage.acquaintance.learn(&route_of(domain), shown, answer, shard.instants())
}

/// A recipient that cannot exist.
pub(super) fn nobody<D: Disk, C: Clock>(shard: &Shard<D, C>, domain: &Domain) -> String {
    format!("no-such-user-{}@{}", shard.next_queue_id(), domain.name)
}

/// What a probe's outcome says of its recipient: `NotTried` is what it has for one that was accepted.
pub(super) fn answered(outcome: &RecipientOutcome) -> Option<Answer> {
    match outcome {
        RecipientOutcome::NotTried => Some(Answer::Accepts),
        RecipientOutcome::Rejected { stage: Stage::Recipient, reply } if says_unknown(reply) => {
            Some(Answer::Refuses)
        }
        _ => None,
    }
}

/// What a primary in state up answered for a recipient that cannot exist.
pub(super) fn note_answer<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &Domain,
    known: &DomainRecipients,
    answer: Answer,
) {
    let accepts_all = answer == Answer::Accepts;
    if known.set_accepts_all(accepts_all, shard.clock.now()) && accepts_all {
        tracing::warn!(domain = %domain.name, "the primary accepts any recipient: it is not asked, all are taken");
    }
}

/// The primaries in the configuration's words: what is known of hosts belongs to them.
fn route_of(domain: &Domain) -> String {
    match &domain.primaries {
        Primaries::Hosts(hosts) => hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Primaries::Exchangers => "mx".to_owned(),
    }
}
