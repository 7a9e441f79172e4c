//! Primaries that send away whom they see for the first time, and end sessions with too many errors, as Postfix does.
//!
//! Found by a real Postfix with postgrey: a backlog of new senders was put off three messages at a time, with pauses up to
//! `retry_interval` between them, and where it went on longer Postfix said 421, for which the lane called it down.

use super::*;

/// Two minutes after it was seen first a recipient's mail is taken. Behind so many refusals to RCPT, none of them behind a message
/// that was taken, a connection ends by 421.
fn greylists(says: &'static str, errors_max: u32) -> Manner {
    let seen = RefCell::new(BTreeMap::new());
    let errors = RefCell::new(BTreeMap::new());
    Rc::new(move |turn: &Turn<'_>| {
        let mut errors = errors.borrow_mut();
        let errors = errors.entry((turn.connection, turn.taken)).or_insert(0);
        let is_command = matches!(turn.at, At::Sender | At::Recipient | At::DataStart);
        if is_command && *errors >= errors_max {
            return Act::Reply("421 4.7.0 Error: too many errors");
        }
        if turn.at != At::Recipient {
            return Act::Regular;
        }
        let first = *seen.borrow_mut().entry(turn.recipient.to_owned()).or_insert(turn.since);
        if turn.since >= first + 2 * MINUTE {
            return Act::Regular;
        }
        *errors += 1;
        Act::Reply(says)
    })
}

const STATES: &str = "450 4.2.0 Recipient address rejected: Greylisted for 120 seconds";
const SILENT: &str = "450 4.2.0 Recipient address rejected: Greylisted, see the postmaster's page";

/// States that an operator never sees for it.
const NEVER: &[Health] = &[Health::Down, Health::Frozen, Health::Impaired, Health::Suspect];

#[test]
fn greylisted_mail_comes_again_in_order_when_the_primary_said() {
    for withheld in [&[][..], &["CHUNKING"], &["CHUNKING", "PIPELINING"]] {
        Row {
            withheld,
            within: 3 * MINUTE,
            never: NEVER,
            ..Row::new("greylists, and says how long", || greylists(STATES, 10))
        }
        .prove();
    }
}

#[test]
fn greylisted_mail_comes_again_after_its_gap_where_nothing_is_said() {
    Row {
        within: 6 * MINUTE,
        never: NEVER,
        ..Row::new("greylists, and does not say how long", || greylists(SILENT, 10))
    }
    .prove();
}

/// Under stress Postfix has less patience (`smtpd_hard_error_limit = ${stress?{1}{20}}`).
#[test]
fn a_421_for_too_many_errors_behind_greylisting_is_no_outage() {
    // Whoever forgets by a crash when they are expected comes too early, and is put off once more.
    let row = Row {
        within: 5 * MINUTE,
        never: NEVER,
        crash: false,
        ..Row::new("greylists with little patience", || greylists(STATES, 3))
    };
    row.prove();
    // Of two recipients it looks at one in a session, so such a message comes a third time.
    let aside = |number: u32| number.is_multiple_of(5);
    Row { manner: || greylists(STATES, 1), aside, ..row }.prove();
}

/// The same without a word of greylisting: nothing steps aside, and it is the primary that puts everything off (H23).
#[test]
fn a_421_behind_whatever_it_puts_off_is_impaired_and_not_down() {
    Row {
        within: 20 * MINUTE,
        never: &[Health::Down, Health::Frozen],
        seen: &[Health::Impaired],
        crash: false,
        ..Row::new("puts everything off and closes", || {
            Rc::new(|turn: &Turn<'_>| match turn.at {
                At::Recipient if turn.since < 10 * MINUTE => Act::Reply("450 4.3.0 directory is down"),
                At::DataStart if turn.since < 10 * MINUTE => Act::Reply("421 4.7.0 too many errors"),
                _ => Act::Regular,
            })
        })
    }
    .prove();
}
