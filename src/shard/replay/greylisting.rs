//! Greylisting: who comes for the first time is sent away, and taken when he comes again. Pure.
//!
//! It is about one client, sender and recipient, so it says nothing of the primary's health and nothing of other messages: a
//! greylisted message steps aside at once, and comes again when the primary said. Nothing in SMTP marks such a reply, so it is known by its
//! words, in any 4xx but 421:
//!
//! | software | says |
//! |---|---|
//! | postgrey | 450 4.2.0 Greylisted, see http...; its --greylist-text may have seconds |
//! | SQLgrey | 450 4.7.1 Greylisted for 5 minutes |
//! | milter-greylist | 451 4.7.1 Greylisting in action, please come back in 00:05:00 |
//! | rspamd | 451 4.7.1 Try again later; at the end of data |
//!
//! What is stated is a number with a unit, or hours, minutes and seconds; more than [`GREYLISTING_STATED_MAX`] is no statement. Without
//! one the message has the gap of any that was put off.

use crate::limits::GREYLISTING_STATED_MAX;
use crate::smtp::client::{RecipientOutcome, TransactionOutcome};
use crate::smtp::reply::{EnhancedCode, ReceivedReply};
use core::time::Duration;

/// A reply that greylists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Greylisted {
    /// When it is to come again, from now, if that is stated.
    pub(super) stated: Option<Duration>,
}

/// Whether recipients of a transaction are greylisted; the longest of what is stated.
pub(super) fn greylisted(outcome: &TransactionOutcome) -> Option<Greylisted> {
    let each = outcome.recipients.iter().filter_map(|recipient| match recipient {
        RecipientOutcome::Deferred { reply, .. } => of_reply(reply),
        _ => None,
    });
    each.max()
}

fn of_reply(reply: &ReceivedReply) -> Option<Greylisted> {
    const TRY_AGAIN: EnhancedCode = EnhancedCode { class: 4, subject: 7, detail: 1 };
    if !reply.is_transient() || reply.code == 421 {
        return None;
    }
    let text = reply.text.to_ascii_lowercase();
    let says = |word| text.contains(word);
    let is_of_rspamd = reply.enhanced == Some(TRY_AGAIN) && text.trim() == "try again later";
    let is_greylisted = is_of_rspamd || says("greylist") || says("graylist") || says("grey-list");
    is_greylisted.then(|| Greylisted { stated: stated(&text) })
}

/// The first time in a text that has a unit.
fn stated(text: &str) -> Option<Duration> {
    let mut words =
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != ':').filter(|word| !word.is_empty());
    let mut number = None;
    let seconds = words.find_map(|word| {
        if word.contains(':') {
            return clock(word);
        }
        let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, unit) = word.split_at(digits);
        match (core::mem::replace(&mut number, count.parse::<u64>().ok()), digits > 0) {
            (Some(before), false) => seconds_a(unit)?.checked_mul(before),
            (_, true) if !unit.is_empty() => seconds_a(unit)?.checked_mul(number?),
            _ => None,
        }
    })?;
    let stated = Duration::from_secs(seconds);
    (stated > Duration::ZERO && stated <= GREYLISTING_STATED_MAX).then_some(stated)
}

fn seconds_a(unit: &str) -> Option<u64> {
    match unit {
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60),
        "h" | "hour" | "hours" => Some(3600),
        _ => None,
    }
}

/// `00:05:00`, as seconds.
fn clock(word: &str) -> Option<u64> {
    let parts: Vec<u64> = word.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = parts[..] else { return None };
    hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::client::Stage;

    #[test]
    fn greylisting_is_known_by_its_words_and_states_a_time_or_none() {
        let seconds = |count| Some(Some(count));
        for (line, expected) in [
            (
                "450 4.2.0 <a@b>: Recipient address rejected: Greylisted, see http://h.example/help/b.html",
                Some(None),
            ),
            ("450 4.2.0 <a7@b>: Recipient address rejected: Greylisted for 287 seconds", seconds(287)),
            ("450 4.7.1 Greylisted for 5 minutes (1)", seconds(300)),
            ("451 4.7.1 Greylisting in action, please come back in 00:05:00", seconds(300)),
            ("451 greylisted: come back in 90s", seconds(90)),
            ("451 4.7.1 Try again later", Some(None)),
            ("451 4.7.1 graylisted; retry in 1 hour", seconds(3600)),
            // Nobody is believed a day, or no time at all.
            ("451 4.7.1 Greylisted for 24 hours", Some(None)),
            ("451 4.7.1 Greylisted for 0 seconds", Some(None)),
            ("451 4.7.1 Greylisted for 99999999999999999999 seconds, 9999999999999999999 hours", Some(None)),
            ("450 4.2.0 Greylisted, see http://h.example:8080/300", Some(None)),
            // Others that put off.
            ("450 4.7.1 Client host rejected: cannot find your hostname", None),
            ("452 4.2.2 mailbox full, try again in 300 seconds", None),
            ("451 4.3.0 Try again later", None),
            ("421 4.7.0 greylisted, closing", None),
            ("550 5.7.1 greylisted for ever", None),
        ] {
            let found = of_reply(&ReceivedReply::of_line(line))
                .map(|greylisted| greylisted.stated.map(|time| time.as_secs()));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn of_several_recipients_the_one_that_is_to_wait_longest_counts() {
        let deferred = |line| RecipientOutcome::Deferred {
            stage: Stage::Recipient,
            reply: ReceivedReply::of_line(line),
        };
        let taken = RecipientOutcome::Delivered(ReceivedReply::of_line("250 2.0.0 Ok"));
        let of = |recipients| greylisted(&TransactionOutcome { recipients });
        assert_eq!(of(vec![taken.clone(), deferred("452 4.2.2 full")]), None);
        let longest = of(vec![
            deferred("450 4.2.0 Greylisted for 7 seconds"),
            deferred("450 4.2.0 Greylisted for 9 seconds"),
            taken,
            deferred("450 4.2.0 Greylisted, see there"),
        ]);
        assert_eq!(longest, Some(Greylisted { stated: Some(Duration::from_secs(9)) }));
    }
}
