//! What a primary's answers mean for the units of a message: a pure function.

use crate::config::OnReject;
use crate::shard::backlog::Ruling;
use crate::smtp::client::{RecipientOutcome, TransactionOutcome};
use storage::format::journal_entry::{Fact, Outcome};
use storage::position::Stamp;

/// What follows from one transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Verdict {
    /// Units that are decided, to be journalled.
    pub(super) facts: Vec<Fact>,
    /// Ordinals that the primary put off (4xx).
    pub(super) deferred: Vec<u16>,
    /// Ordinals that it refused in a way that the guard does not take for final.
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
}

/// The verdict for the units `ordinals` of the message `stamp`, in the order in which they were sent, as are the rulings
/// on those that were refused.
pub(super) fn judge(
    stamp: Stamp,
    ordinals: &[u16],
    outcome: &TransactionOutcome,
    rulings: &[Ruling],
    on_reject: OnReject,
) -> Verdict {
    assert_eq!(ordinals.len(), outcome.recipients.len(), "one outcome a recipient");
    assert_eq!(ordinals.len(), rulings.len(), "one ruling a recipient");
    let mut verdict = Verdict::default();
    for ((ordinal, result), ruling) in ordinals.iter().zip(&outcome.recipients).zip(rulings) {
        let fact = |outcome, code| Fact { stamp, ordinal: *ordinal, outcome, code };
        match result {
            RecipientOutcome::Delivered(reply) => verdict.facts.push(fact(Outcome::Delivered, reply.code)),
            RecipientOutcome::Deferred { reply, .. } => {
                verdict.deferred.push(*ordinal);
                verdict.code = reply.code;
            }
            RecipientOutcome::Rejected { reply, .. } => {
                verdict.code = reply.code;
                let outcome = match (ruling, on_reject) {
                    (Ruling::Park, _) => {
                        verdict.parked.push(*ordinal);
                        continue;
                    }
                    (Ruling::Hold, _) | (Ruling::Settle, OnReject::Hold) => Outcome::Held,
                    (Ruling::Settle, OnReject::Discard) => Outcome::Discarded,
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
        let verdict = judge(Stamp(9), &[0, 1, 2, 3, 4], &outcome, &[Ruling::Settle; 5], OnReject::Hold);
        let decided: Vec<_> = verdict.facts.iter().map(|fact| (fact.ordinal, fact.outcome)).collect();
        assert_eq!(decided, [(0, Outcome::Delivered), (2, Outcome::Held)]);
        assert_eq!((verdict.deferred, verdict.untried, verdict.unknown), (vec![1], vec![3], vec![4]));
        let refused = TransactionOutcome { recipients: vec![outcome.recipients[2].clone()] };
        for (ruling, decided) in [
            (Ruling::Settle, Some(Outcome::Discarded)),
            (Ruling::Hold, Some(Outcome::Held)),
            (Ruling::Park, None),
        ] {
            let verdict = judge(Stamp(9), &[2], &refused, &[ruling], OnReject::Discard);
            assert_eq!(verdict.facts.first().map(|fact| fact.outcome), decided, "{ruling:?}");
            assert_eq!(
                (verdict.is_open(), verdict.parked.len()),
                match decided {
                    Some(_) => (false, 0),
                    None => (true, 1),
                }
            );
        }
    }
}
