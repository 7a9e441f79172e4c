//! What a delivery teaches about recipients. A 250 to the data says that they exist; a refusal at RCPT that says by its enhanced
//! code that the address is not one says that they do not, once (H26). A bare 550 may be about the sender, whom a delivery
//! names and a callout does not: else whoever the primary blocks could have anybody refused for everybody. Nothing is
//! learned in an outage, also while it drains.

use crate::bridge::{DomainRecipients, Instants, Source, folded};
use crate::smtp::client::{RecipientOutcome, Stage, TransactionOutcome};
use crate::smtp::reply::{EnhancedCode, ReceivedReply};

/// Learns from one transaction; `mailboxes` in the order of its outcomes.
pub(in crate::shard) fn learn<'a>(
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
            RecipientOutcome::Rejected { stage: Stage::Recipient, reply } if names_the_address(reply) => {
                known.refuse(&name, Source::Delivery, at);
            }
            _ => {}
        }
    }
}

/// Whether a refusal of a RCPT behind the null reverse-path is about the address: as [`names_the_address`], or a code of
/// RFC 5321 4.2.3 for it without more. 5.7.x is about us, 5.2.2 about a mailbox that exists.
pub(super) fn says_unknown(reply: &ReceivedReply) -> bool {
    match reply.enhanced {
        // X.0.0 says no more than the code does (RFC 3463 3.1), X.1.0 no more than that it is about an address.
        Some(EnhancedCode { class: 5, subject: 0 | 1, detail: 0 }) | None => {
            matches!(reply.code, 550 | 551 | 553)
        }
        Some(_) => names_the_address(reply),
    }
}

/// Whether a refusal at RCPT is about the address, whoever the sender is: codes of RFC 3463 and 7505 that say so, or a mailbox
/// that is closed (5.2.1).
pub(in crate::shard) fn names_the_address(reply: &ReceivedReply) -> bool {
    let says_so = matches!(
        reply.enhanced,
        Some(
            EnhancedCode { class: 5, subject: 1, detail: 1 | 6 | 10 }
                | EnhancedCode { class: 5, subject: 2, detail: 1 }
        )
    );
    says_so && reply.is_permanent()
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
        for (code, enhanced, to_nobody, to_somebody) in [
            (550, None, true, false),
            (550, Some((5, 1, 0)), true, false),
            (550, Some((5, 1, 1)), true, true),
            (554, Some((5, 1, 1)), true, true),
            (550, Some((5, 1, 10)), true, true),
            (550, Some((5, 2, 1)), true, true),
            (550, Some((5, 0, 0)), true, false),
            (554, Some((5, 0, 0)), false, false),
            (554, None, false, false),
            (550, Some((5, 7, 1)), false, false),
            (552, Some((5, 2, 2)), false, false),
            (553, Some((5, 6, 7)), false, false),
            (550, Some((5, 1, 8)), false, false),
            (450, Some((4, 1, 1)), false, false),
            (450, None, false, false),
        ] {
            let reply = reply(code, enhanced);
            assert_eq!(says_unknown(&reply), to_nobody, "{code} {enhanced:?} behind MAIL FROM:<>");
            assert_eq!(names_the_address(&reply), to_somebody, "{code} {enhanced:?} behind a sender");
        }
    }

    #[test]
    fn h26_nothing_is_learned_in_an_outage() {
        let known = DomainRecipients::default();
        let at = Instants { wall_s: 1_000_000, now: Duration::from_secs(9) };
        let refused =
            |enhanced| RecipientOutcome::Rejected { stage: Stage::Recipient, reply: reply(550, enhanced) };
        let delivered = RecipientOutcome::Delivered(reply(250, None));
        let recipients = vec![delivered, refused(Some((5, 1, 1))), refused(None)];
        let outcome = TransactionOutcome { recipients };
        let mailboxes = ["Good+x@example.test", "bad@example.test", "from-whom@example.test"];
        for outage in [true, false] {
            known.set_outage(outage);
            learn(&known, Some('+'), mailboxes.into_iter(), &outcome, at);
            assert_eq!(known.is_accepted("good", Some('+'), at, RECIPIENT_ACCEPTED_AGE), !outage);
            assert_eq!(known.is_refused("bad", at, RECIPIENT_REFUSED_AGE), !outage);
            assert!(!known.is_refused("from-whom", at, RECIPIENT_REFUSED_AGE), "it may be the sender");
        }
    }
}
