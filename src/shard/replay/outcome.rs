//! What a primary's answers mean for the units of a message: a pure function.

use super::bounce::Bounce;
use crate::config::OnReject;
use crate::shard::backlog::Ruling;
use crate::smtp::client::{RecipientOutcome, TransactionOutcome};
use crate::smtp::reply::ReceivedReply;
use storage::format::journal_entry::{Fact, Outcome};
use storage::position::Stamp;

/// What follows from one transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Verdict {
    /// Units that are decided, to be journalled.
    pub(super) facts: Vec<Fact>,
    /// Units that end with a notice about them, and what was said.
    pub(super) owed: Vec<(u16, ReceivedReply)>,
    /// Units that the primary took, of which their sender is to be told, and what was said.
    pub(super) relayed: Vec<(u16, ReceivedReply)>,
    /// Ordinals that the primary put off (4xx).
    pub(super) deferred: Vec<u16>,
    /// Ordinals that it refused in a way that the guard does not take for final, or whose sender is about to be known.
    pub(super) parked: Vec<u16>,
    /// Ordinals that it never heard of: the session ended before.
    pub(super) untried: Vec<u16>,
    /// Ordinals that it may have: no answer came (RFC 1047). They are sent again.
    pub(super) unknown: Vec<u16>,
    /// The code of the last answer that put off or refused something, for the log.
    pub(super) code: u16,
}

impl Verdict {
    /// Whether a unit is not decided.
    pub(super) fn is_open(&self) -> bool {
        !self.deferred.is_empty()
            || !self.parked.is_empty()
            || !self.untried.is_empty()
            || !self.unknown.is_empty()
    }

    /// Whether the primary took a unit.
    pub(super) fn got_through(&self) -> bool {
        self.delivered() > 0
    }

    /// Units that it took.
    pub(super) fn delivered(&self) -> usize {
        self.relayed.len() + self.facts.iter().filter(|fact| fact.outcome == Outcome::Delivered).count()
    }
}

/// The verdict for the units `ordinals` of the message `stamp`, in the order in which they were sent, as are the rulings
/// on those that were refused, what becomes of them if they are bounced, and whether the sender of one that was taken is told.
pub(super) fn judge(
    stamp: Stamp,
    ordinals: &[u16],
    outcome: &TransactionOutcome,
    rulings: &[Ruling],
    on_reject: OnReject,
    (bounces, relays): (&[Bounce], &[bool]),
) -> Verdict {
    assert_eq!(ordinals.len(), outcome.recipients.len(), "one outcome a recipient");
    assert_eq!((ordinals.len(), ordinals.len()), (rulings.len(), bounces.len()), "one ruling a recipient");
    assert_eq!(ordinals.len(), relays.len(), "one wish a recipient");
    let mut verdict = Verdict::default();
    let each = ordinals.iter().zip(&outcome.recipients).zip(rulings.iter().zip(bounces).zip(relays));
    for ((ordinal, result), ((ruling, bounce), is_told)) in each {
        let fact = |outcome, code| Fact { stamp, ordinal: *ordinal, outcome, code };
        match result {
            RecipientOutcome::Delivered(reply) if *is_told => verdict.relayed.push((*ordinal, reply.clone())),
            RecipientOutcome::Delivered(reply) => verdict.facts.push(fact(Outcome::Delivered, reply.code)),
            RecipientOutcome::Deferred { reply, .. } => {
                verdict.deferred.push(*ordinal);
                verdict.code = reply.code;
            }
            RecipientOutcome::Rejected { reply, .. } => {
                verdict.code = reply.code;
                let outcome = match (ruling, on_reject, bounce) {
                    (Ruling::Park, ..) | (Ruling::Settle, OnReject::Bounce, Bounce::Wait) => {
                        verdict.parked.push(*ordinal);
                        continue;
                    }
                    (Ruling::Settle, OnReject::Bounce, Bounce::Notice) => {
                        verdict.owed.push((*ordinal, reply.clone()));
                        continue;
                    }
                    (Ruling::Settle, OnReject::Bounce, Bounce::Silent) => Outcome::Bounced,
                    (Ruling::Hold, ..)
                    | (Ruling::Settle, OnReject::Hold, _)
                    | (Ruling::Settle, OnReject::Bounce, Bounce::Hold) => Outcome::Held,
                    (Ruling::Settle, OnReject::Discard, _) => Outcome::Discarded,
                };
                verdict.facts.push(fact(outcome, reply.code));
            }
            RecipientOutcome::NotTried => verdict.untried.push(*ordinal),
            RecipientOutcome::Unknown => verdict.unknown.push(*ordinal),
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::client::Stage;
    use crate::smtp::reply::ReceivedReply;

    fn reply(code: u16) -> ReceivedReply {
        ReceivedReply { code, enhanced: None, text: String::new() }
    }

    #[test]
    fn h43_each_recipient_has_its_own_end() {
        let outcome = TransactionOutcome {
            recipients: vec![
                RecipientOutcome::Delivered(reply(250)),
                RecipientOutcome::Deferred { stage: Stage::Recipient, reply: reply(450) },
                RecipientOutcome::Rejected { stage: Stage::Recipient, reply: reply(550) },
                RecipientOutcome::NotTried,
                RecipientOutcome::Unknown,
            ],
        };
        let (settle, hold) = ([Ruling::Settle; 5], [Bounce::Notice; 5]);
        let told = (&hold[..], &[false; 5][..]);
        let verdict = judge(Stamp(9), &[0, 1, 2, 3, 4], &outcome, &settle, OnReject::Hold, told);
        let decided: Vec<_> = verdict.facts.iter().map(|fact| (fact.ordinal, fact.outcome)).collect();
        assert_eq!(decided, [(0, Outcome::Delivered), (2, Outcome::Held)]);
        assert_eq!((verdict.deferred, verdict.untried, verdict.unknown), (vec![1], vec![3], vec![4]));
        let told = (&hold[..], &[true; 5][..]);
        let verdict = judge(Stamp(9), &[0, 1, 2, 3, 4], &outcome, &settle, OnReject::Hold, told);
        assert_eq!((verdict.relayed.len(), verdict.facts.len(), verdict.delivered()), (1, 1, 1));
        let refused = TransactionOutcome { recipients: vec![outcome.recipients[2].clone()] };
        for (ruling, on_reject, bounce, decided, is_open) in [
            (Ruling::Settle, OnReject::Discard, Bounce::Notice, Some(Outcome::Discarded), false),
            (Ruling::Hold, OnReject::Discard, Bounce::Notice, Some(Outcome::Held), false),
            (Ruling::Park, OnReject::Discard, Bounce::Notice, None, true),
            (Ruling::Settle, OnReject::Bounce, Bounce::Hold, Some(Outcome::Held), false),
            (Ruling::Settle, OnReject::Bounce, Bounce::Silent, Some(Outcome::Bounced), false),
            (Ruling::Settle, OnReject::Bounce, Bounce::Wait, None, true),
            (Ruling::Settle, OnReject::Bounce, Bounce::Notice, None, false),
            // What the guard does not take for final is not told to anybody.
            (Ruling::Park, OnReject::Bounce, Bounce::Notice, None, true),
            (Ruling::Park, OnReject::Bounce, Bounce::Silent, None, true),
            (Ruling::Hold, OnReject::Bounce, Bounce::Notice, Some(Outcome::Held), false),
        ] {
            let verdict = judge(Stamp(9), &[2], &refused, &[ruling], on_reject, (&[bounce], &[true]));
            assert_eq!(verdict.facts.first().map(|fact| fact.outcome), decided, "{ruling:?} {bounce:?}");
            assert_eq!(verdict.is_open(), is_open, "{ruling:?} {bounce:?}");
            assert_eq!(verdict.owed.len(), usize::from(decided.is_none() && !is_open));
        }
    }
}
