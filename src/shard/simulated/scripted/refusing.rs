//! Primaries that refuse or put off: half restored, greylisting, one mailbox that is not well.

use super::*;

/// For so long what a half-restored primary says at a point.
const SICK: Duration = Duration::from_secs(2 * 3600);

fn sick(at: At, line: &'static str) -> Manner {
    Rc::new(move |turn| if turn.at == at && turn.since < SICK { Act::Reply(line) } else { Act::Regular })
}

/// The bounce guard: nothing that a half-restored primary refuses is final, and it gets everything when it is whole.
#[test]
fn half_restored_primaries_eat_nothing() {
    let whole = |name, manner| Row {
        within: SICK + 4 * HOUR,
        never: &[],
        seen: &[Health::Frozen],
        aside: |_| true,
        ..Row::new(name, manner)
    };
    for row in [
        whole("550 for all", || sick(At::Recipient, "550 5.1.1 no such user")),
        whole("554 at MAIL", || sick(At::Sender, "554 5.7.1 not from you")),
        whole("550 at DATA", || sick(At::DataStart, "550 5.3.0 no mailbox store")),
    ] {
        row.prove();
    }
}

/// Each pair of sender and recipient is put off for five minutes from when it was first seen.
fn greylisting() -> Manner {
    let seen = RefCell::new(BTreeMap::new());
    Rc::new(move |turn: &Turn<'_>| {
        if turn.at != At::Recipient {
            return Act::Regular;
        }
        let pair = (turn.sender.to_owned(), turn.recipient.to_owned());
        let first = *seen.borrow_mut().entry(pair).or_insert(turn.since);
        if turn.since < first + 5 * MINUTE { Act::Reply("450 4.7.1 come again") } else { Act::Regular }
    })
}

#[test]
fn greylisting_delays_and_is_no_outage() {
    let row = Row {
        within: HOUR,
        never: &[Health::Frozen, Health::Down],
        aside: |_| true,
        ..Row::new("greylisting", greylisting)
    };
    row.prove();
    let one = Row {
        within: 30 * MINUTE,
        never: &[Health::Frozen, Health::Down, Health::Impaired],
        aside: |number| number == 7,
        ..Row::new("one mailbox is put off", || {
            Rc::new(|turn| match (turn.at, turn.recipient) {
                (At::Recipient, "r7") if turn.since < 10 * MINUTE => Act::Reply("450 4.2.1 mailbox busy"),
                _ => Act::Regular,
            })
        })
    };
    one.prove();
}
