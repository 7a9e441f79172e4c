//! What a delivery teaches about recipients. A 250 to the data says that they exist; a refusal at RCPT that names
//! the address says that they do not, once (H26). Nothing is learned in an outage, also while it drains.

use crate::bridge::{DomainRecipients, Instants, Source, folded};
use crate::smtp::client::{RecipientOutcome, Stage, TransactionOutcome};
use crate::smtp::reply::{EnhancedCode, ReceivedReply};

/// Learns from one transaction; `mailboxes` in the order of its outcomes.
pub(super) fn learn<'a>(
    known: &DomainRecipients,
    delimiter: Option<char>,
    mailboxes: impl Iterator<Item = &'a str>,
    outcome: &TransactionOutcome,
    at: Instants,
) {
    if known.is_outage() {
        return;
    }
    for (mailbox, outcome) in mailboxes.zip(&outcome.recipients) {
        let name = folded(mailbox.rsplit_once('@').map_or("", |(local_part, _)| local_part));
        match outcome {
            RecipientOutcome::Delivered(_) => known.accept(&name, delimiter, Source::Delivery, at),
            RecipientOutcome::Rejected { stage: Stage::Recipient, reply } if says_unknown(reply) => {
                known.refuse(&name, Source::Delivery, at);
            }
            _ => {}
        }
    }
}

/// Whether a refusal at RCPT is about the address: 5.1.x of RFC 3463 that say so, a mailbox that is closed (5.2.1), or a
/// code of RFC 5321 4.2.3 for it without more. 5.7.x is about us, 5.2.2 about a mailbox that exists.
pub(super) fn says_unknown(reply: &ReceivedReply) -> bool {
    match reply.enhanced {
        Some(EnhancedCode { class: 5, subject: 1, detail: 0 | 1 | 6 | 10 })
        | Some(EnhancedCode { class: 5, subject: 2, detail: 1 }) => reply.is_permanent(),
        // X.0.0 says no more than the code does (RFC 3463 3.1).
        Some(EnhancedCode { class: 5, subject: 0, detail: 0 }) | None => {
            matches!(reply.code, 550 | 551 | 553)
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{RECIPIENT_ACCEPTED_AGE, RECIPIENT_REFUSED_AGE};
    use core::time::Duration;

    fn reply(code: u16, enhanced: Option<(u8, u16, u16)>) -> ReceivedReply {
        let enhanced = enhanced.map(|(class, subject, detail)| EnhancedCode::new(class, subject, detail));
        ReceivedReply { code, enhanced, text: String::new() }
    }

    #[test]
    fn only_a_refusal_of_the_address_is_one() {
        for (code, enhanced, expected) in [
            (550, None, true),
            (550, Some((5, 1, 1)), true),
            (554, Some((5, 1, 1)), true),
            (550, Some((5, 1, 10)), true),
            (550, Some((5, 2, 1)), true),
            (550, Some((5, 0, 0)), true),
            (554, Some((5, 0, 0)), false),
            (554, None, false),
            (550, Some((5, 7, 1)), false),
            (552, Some((5, 2, 2)), false),
            (553, Some((5, 6, 7)), false),
            (550, Some((5, 1, 8)), false),
            (450, Some((4, 1, 1)), false),
            (450, None, false),
        ] {
            assert_eq!(says_unknown(&reply(code, enhanced)), expected, "{code} {enhanced:?}");
        }
    }

    #[test]
    fn h26_nothing_is_learned_in_an_outage() {
        let known = DomainRecipients::default();
        let at = Instants { wall_s: 1_000_000, now: Duration::from_secs(9) };
        let refused = RecipientOutcome::Rejected { stage: Stage::Recipient, reply: reply(550, None) };
        let outcome =
            TransactionOutcome { recipients: vec![RecipientOutcome::Delivered(reply(250, None)), refused] };
        let mailboxes = ["Good+x@example.test", "bad@example.test"];
        for outage in [true, false] {
            known.set_outage(outage);
            learn(&known, Some('+'), mailboxes.into_iter(), &outcome, at);
            assert_eq!(known.is_accepted("good", Some('+'), at, RECIPIENT_ACCEPTED_AGE), !outage);
            assert_eq!(known.is_refused("bad", at, RECIPIENT_REFUSED_AGE), !outage);
        }
    }
}
