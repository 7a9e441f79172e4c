//! Primaries that answer for each recipient (LMTP), and those that tell how much a transaction and a session may have.

use super::*;
use crate::shard::simulated::primary::Boxes;

/// Of three mailboxes one is full for good and one for a while; whoever else is in the same message gets it once.
const FULL: Boxes = |name, since| match name {
    "r5" if since < 12 * MINUTE => "452 4.2.2 over quota",
    "r10" => "552 5.2.2 over quota",
    _ => "250 2.0.0 saved",
};

fn regular() -> Manner {
    Rc::new(|_| Act::Regular)
}

#[test]
fn h43_each_lmtp_recipient_has_its_own_end_and_nobody_gets_it_twice() {
    for withheld in [&[][..], &["PIPELINING"]] {
        Row {
            boxes: Some(FULL),
            withheld,
            within: HOUR,
            aside: |number| matches!(number, 5 | 10),
            held: |number, name| number == 10 && name == "r10",
            ..Row::new("LMTP", regular)
        }
        .prove();
    }
}

/// Of two recipients one was told of: the other may have it too, and may get it again.
#[test]
fn an_lmtp_primary_that_closes_between_two_replies_repeats_only_the_second() {
    Row {
        boxes: Some(|_, _| "250 2.0.0 saved"),
        repeats: 3,
        within: 10 * MINUTE,
        aside: |number| number == 5,
        ..Row::new("LMTP, closes between replies", || {
            Rc::new(|turn| match (turn.at, turn.subject) {
                (At::DataEnd, "5") if turn.connection <= 2 => Act::TakeAndClose,
                _ => Act::Regular,
            })
        })
    }
    .prove();
}

/// It says that a session has four transactions and a transaction one recipient, and is content with nothing else.
fn limited() -> Manner {
    let said = Rc::new(RefCell::new((0, 0, 0)));
    Rc::new(move |turn| {
        let (connection, transactions, recipients) = &mut *said.borrow_mut();
        match turn.at {
            At::Hello => Act::Says(
                b"250-primary.test\r\n250-PIPELINING\r\n250 LIMITS MAILMAX=4 RCPTMAX=1 RCPTDOMAINMAX=1\r\n",
            ),
            At::Sender => {
                if core::mem::replace(connection, turn.connection) != turn.connection {
                    *transactions = 0;
                }
                (*transactions, *recipients) = (*transactions + 1, 0);
                assert!(*transactions <= 4, "it was told of four");
                Act::Regular
            }
            At::Recipient => {
                *recipients += 1;
                assert!(*recipients <= 1, "it was told of one");
                Act::Regular
            }
            _ => Act::Regular,
        }
    })
}

#[test]
fn what_a_primary_limits_is_kept_to_in_order_and_without_a_pause() {
    let row = Row { within: MINUTE, ..Row::new("LIMITS", limited) };
    for seed in 1..=5 {
        let story = Story::told(&row, seed, 1, false);
        story.assert_as_expected(&row);
        // Six of the thirty have two recipients.
        assert!(story.primary.served.get() >= 36 / 4, "a session for each four");
    }
}

/// It takes one recipient a transaction, and puts some off that come first in their messages: their neighbours do not wait for them.
fn limited_and_full(full: &'static [&'static str]) -> Manner {
    let said = Cell::new(0);
    let neighbours = Cell::new(0_usize);
    Rc::new(move |turn| {
        let is_full = full.contains(&turn.recipient);
        match turn.at {
            At::Hello => {
                Act::Says(b"250-primary.test\r\n250-PIPELINING\r\n250 LIMITS RCPTMAX=1 RCPTDOMAINMAX=1\r\n")
            }
            At::Sender => {
                said.set(0);
                Act::Regular
            }
            At::Recipient => {
                said.set(said.get() + 1);
                assert_eq!(said.get(), 1, "it was told of one");
                if is_full && turn.since < 30 * MINUTE {
                    return Act::Reply("452 4.2.2 over quota");
                }
                neighbours.set(neighbours.get() + usize::from(turn.recipient == "second"));
                assert!(
                    !is_full || neighbours.get() >= full.len(),
                    "{} before its neighbours",
                    turn.recipient
                );
                Act::Regular
            }
            _ => Act::Regular,
        }
    })
}

#[test]
fn who_is_put_off_does_not_keep_the_rest_of_a_message_from_its_turn() {
    let row = |name, manner: fn() -> Manner| Row {
        within: HOUR,
        never: &[Health::Frozen, Health::Impaired, Health::Down],
        ..Row::new(name, manner)
    };
    let four = row("LIMITS, and four full mailboxes", || limited_and_full(&["r5", "r10", "r15", "r20"]));
    for connections in [1, 5] {
        for seed in 1..=3 {
            Story::told(&four, seed, connections, false).assert_as_expected(&four);
        }
    }
    // Behind a crash that leaves nothing but full mailboxes three would be an impaired primary, rightly.
    row("LIMITS, and full mailboxes", || limited_and_full(&["r5", "r10"])).prove();
}

/// It knows nobody for a while, and takes two recipients a transaction: who is one too many is refused as any.
#[test]
fn a_frozen_lane_asks_for_no_more_than_the_primary_takes_and_thaws() {
    let row = Row {
        within: HOUR,
        never: &[],
        seen: &[Health::Frozen],
        aside: |number| number <= 10,
        ..Row::new("LIMITS, half restored", || {
            let said = Cell::new(0);
            Rc::new(move |turn| match turn.at {
                At::Hello => Act::Says(b"250-primary.test\r\n250-PIPELINING\r\n250 LIMITS RCPTMAX=2\r\n"),
                At::Sender => {
                    said.set(0);
                    Act::Regular
                }
                At::Recipient => {
                    said.set(said.get() + 1);
                    match () {
                        () if turn.since < 10 * MINUTE => Act::Reply("550 5.1.1 no such user"),
                        () if said.get() > 2 => Act::Reply("550 5.5.3 too many recipients"),
                        () => Act::Regular,
                    }
                }
                _ => Act::Regular,
            })
        })
    };
    for seed in 1..=3 {
        Story::told(&row, seed, 1, false).assert_as_expected(&row);
    }
}
