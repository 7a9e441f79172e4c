//! What the large providers do when much mail comes at once, by their own codes and limits; they are known by their names.

use super::*;

#[test]
fn a_421_after_some_messages_of_a_connection_is_a_limit_and_no_outage() {
    Row {
        never: &[Health::Frozen, Health::Down, Health::Suspect],
        ..Row::new("421 after five messages", || {
            Rc::new(|turn| match turn.at {
                At::Sender if turn.taken >= 5 => Act::Reply("421 4.7.0 enough for this connection"),
                _ => Act::Regular,
            })
        })
    }
    .prove();
}

/// OpenSMTPD's `smtp limit max-mails`, but for its number. Found by a real one: each hundred messages were followed by a
/// pause like that of a primary that puts everything off, and mail for fewer than three mailboxes stepped aside.
#[test]
fn so_many_messages_a_session_are_a_limit_and_no_reason_to_pause() {
    Row {
        withheld: &["CHUNKING"],
        within: MINUTE,
        never: &[Health::Frozen, Health::Down, Health::Suspect, Health::Impaired],
        ..Row::new("452 4.5.3 after five messages", || {
            Rc::new(|turn| match turn.at {
                At::Sender if turn.taken >= 5 => {
                    Act::Reply("452 4.5.3 Too many recipients: Too many messages sent")
                }
                _ => Act::Regular,
            })
        })
    }
    .prove();
}

#[test]
fn a_421_in_place_of_a_greeting_is_pacing_while_others_were_served_lately() {
    Row {
        within: 8 * MINUTE,
        never: &[Health::Frozen, Health::Down, Health::Suspect],
        crash: false,
        ..Row::new("421 at the greeting behind two connections", || {
            let until = Cell::new(Duration::ZERO);
            Rc::new(move |turn: &Turn<'_>| match turn.at {
                At::Greeting if turn.since < until.get() => Act::Reply("421 4.3.2 too many connections"),
                At::Sender if turn.taken >= 8 => {
                    until.set(turn.since + 40 * (MINUTE / 60) * u32::from(turn.connection.is_multiple_of(2)));
                    Act::Reply("421 4.7.0 enough for this connection")
                }
                _ => Act::Regular,
            })
        })
    }
    .prove();
}

/// Server busy at MAIL for a while, another 4xx at the end of data, and one mailbox over its rate.
fn microsoft() -> Manner {
    Rc::new(|turn: &Turn<'_>| match (turn.at, turn.recipient) {
        (At::Sender, _) if turn.since < 3 * MINUTE => {
            Act::Reply("451 4.7.500 Server busy. Please try again later")
        }
        (At::DataEnd, _) if turn.taken % 7 == 6 && turn.since < 20 * MINUTE => {
            Act::Reply("432 4.3.2 STOREDRV; recipient thread limit exceeded")
        }
        (At::Recipient, "r17") if turn.since < 30 * MINUTE => {
            Act::Reply("554 5.2.122 The recipient has exceeded their limit")
        }
        _ => Act::Regular,
    })
}

#[test]
fn microsoft_365() {
    Row {
        within: HOUR,
        aside: |_| true,
        seen: &[Health::Impaired],
        crash: false,
        host: "AM1PEPF0001.mail.protection.outlook.com",
        ..Row::new("Microsoft 365", microsoft)
    }
    .prove();
}

#[test]
fn a_code_of_microsoft_is_final_where_it_is_not_theirs() {
    Row {
        within: HOUR,
        aside: |_| true,
        held: |number, _| number == 17,
        crash: false,
        ..Row::new("somebody who says 5.2.122", microsoft)
    }
    .prove();
}

fn gmail() -> Manner {
    Rc::new(|turn: &Turn<'_>| match (turn.at, turn.recipient) {
        (At::Sender, _) if turn.taken >= 4 && turn.since < 30 * MINUTE => {
            Act::Reply("421 4.7.28 unusual rate of mail")
        }
        (At::Recipient, "r9") if turn.since < HOUR => Act::Reply("450 4.2.1 receiving mail at a rate"),
        _ => Act::Regular,
    })
}

#[test]
fn gmail_paces_by_connection_and_by_mailbox() {
    Row {
        within: 2 * HOUR,
        aside: |number| number == 9,
        never: &[Health::Frozen, Health::Down, Health::Impaired],
        host: "mx.google.com",
        ..Row::new("Gmail", gmail)
    }
    .prove();
}

/// Three connections a minute, back pressure for twenty minutes behind ten messages, and forty seconds over each message.
fn exchange() -> Manner {
    let (pressed, opened) = (Cell::new(None), RefCell::new(Vec::new()));
    Rc::new(move |turn: &Turn<'_>| match turn.at {
        At::Greeting => {
            let mut opened = opened.borrow_mut();
            opened.retain(|at| turn.since < *at + MINUTE);
            if opened.len() == 3 {
                return Act::Reply(
                    "421 4.3.2 the maximum number of concurrent connections has exceeded a limit",
                );
            }
            opened.push(turn.since);
            Act::Regular
        }
        At::Sender if turn.taken >= 10 || pressed.get().is_some() => {
            let since = pressed.get().unwrap_or(turn.since);
            pressed.set(Some(since));
            if turn.since < since + 20 * MINUTE {
                Act::Reply("452 4.3.1 Insufficient system resources")
            } else {
                Act::Regular
            }
        }
        At::DataEnd => Act::Wait(40 * (MINUTE / 60)),
        _ => Act::Regular,
    })
}

#[test]
fn exchange_under_back_pressure() {
    Row {
        within: 2 * HOUR,
        aside: |_| true,
        seen: &[Health::Impaired],
        // Down it may seem: a 421 in place of a greeting while it has served nobody for a minute is no pacing.
        never: &[Health::Frozen],
        crash: false,
        ..Row::new("Exchange", exchange)
    }
    .prove();
}
