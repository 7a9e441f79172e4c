//! Primaries that end connections, at each point of a session, in plain text and through TLS.

use super::*;

/// The first three connections end at this point; later ones behind three messages.
fn closes(at: At) -> Manner {
    Rc::new(move |turn| {
        let is_behind_some = matches!(at, At::Greeting | At::Hello | At::StartTls) || turn.taken == 3;
        if turn.at == at && turn.connection <= 3 && is_behind_some { Act::Close } else { Act::Regular }
    })
}

#[test]
fn a_connection_may_end_at_each_point() {
    for row in [
        Row::new("at the greeting", || closes(At::Greeting)),
        Row::new("at EHLO", || closes(At::Hello)),
        Row::new("at MAIL", || closes(At::Sender)),
        Row::new("at RCPT", || closes(At::Recipient)),
        Row::new("at DATA", || closes(At::DataStart)),
        Row::new("in the data", || closes(At::Data)),
        Row::new("at the end of data", || closes(At::DataEnd)),
    ] {
        for tls in [Tls::Not, Tls::Offered] {
            for withheld in [&[][..], &["CHUNKING"], &["CHUNKING", "PIPELINING"]] {
                // In a window some may have left whole.
                let repeats = 3 * 2 * OUTSTANDING_MAX;
                Row {
                    tls,
                    withheld,
                    repeats,
                    within: 10 * MINUTE,
                    aside: |number| (4..=12).contains(&number),
                    ..row
                }
                .prove();
            }
        }
    }
}

#[test]
fn who_has_the_message_and_does_not_say_so_gets_it_again() {
    let row = Row {
        within: 10 * MINUTE,
        repeats: 2 * 2 * OUTSTANDING_MAX,
        aside: |number| number == 5,
        ..Row::new("has it and closes", || {
            Rc::new(|turn| match (turn.at, turn.subject) {
                (At::DataEnd, "5") if turn.connection <= 2 => Act::TakeAndClose,
                _ => Act::Regular,
            })
        })
    };
    row.prove();
    // Ten minutes for the reply to each end of data (RFC 5321 4.5.3.2.6), and it steps aside behind three.
    Row {
        within: HOUR,
        repeats: 4 * 2 * OUTSTANDING_MAX,
        never: &[Health::Frozen, Health::Impaired],
        ..Row::new("has it and says nothing", || {
            Rc::new(|turn| match (turn.at, turn.subject) {
                (At::DataEnd, "5") if turn.since < 35 * MINUTE => Act::TakeAndHang,
                _ => Act::Regular,
            })
        })
    }
    .with_aside(|number| number == 5)
    .prove();
}

impl Row {
    fn with_aside(self, aside: fn(u32) -> bool) -> Self {
        Self { aside, ..self }
    }
}

fn closes_at_start_tls() -> Manner {
    Rc::new(|turn| match turn.at {
        At::StartTls if turn.since < 20 * MINUTE => Act::Close,
        _ => Act::Regular,
    })
}

/// STARTTLS that leads nowhere: without TLS where that may be, and never where it is required.
#[test]
fn tls_that_is_lost_on_the_way() {
    let row = Row { tls: Tls::Offered, ..Row::new("closes at STARTTLS", closes_at_start_tls) };
    for policy in [PrimaryTls::Opportunistic, PrimaryTls::Require] {
        let is_required = policy == PrimaryTls::Require;
        let within = if is_required { 26 * MINUTE } else { 5 * MINUTE };
        let row = Row { policy, within, ..row };
        for seed in 1..=3 {
            let story = Story::told(&row, seed, 1, false);
            story.assert_as_expected(&row);
            let is_secured = story.primary.taken.borrow().iter().all(|taken| taken.is_secured);
            assert_eq!(is_secured, is_required, "{policy:?}");
        }
    }
}

/// It ends each session in which r7 is asked for, for a while; then the rest is to be there.
fn ends_sessions_over_one(act: Act) -> Manner {
    let has_last = Cell::new(false);
    Rc::new(move |turn| {
        if turn.at != At::Recipient {
            return Act::Regular;
        }
        has_last.set(has_last.get() || turn.recipient == "r30");
        match turn.recipient {
            "r7" if turn.since < 20 * MINUTE => act,
            "r7" => {
                assert!(has_last.get(), "the rest waited for it");
                Act::Regular
            }
            _ => Act::Regular,
        }
    })
}

/// As Postfix does by access(5) for one sender, or by closing: the rest does not wait for it, and it comes when it is taken.
#[test]
fn h44_a_message_over_which_sessions_end_before_its_data_steps_aside() {
    let aside = |number| number == 7;
    let says = || ends_sessions_over_one(Act::Reply("421 4.3.2 not this one"));
    Row { within: 2 * HOUR, aside, ..Row::new("421 over one", says) }.prove();
    Row { within: 2 * HOUR, aside, ..Row::new("closes over one", || ends_sessions_over_one(Act::Close)) }
        .prove();
}

/// One in front of it is put off each time, which says nothing of it; and what comes behind it is many.
#[test]
fn h44_it_steps_aside_also_behind_a_mailbox_that_is_full() {
    let aside = |number| matches!(number, 6 | 7);
    let manner = || {
        let ends = ends_sessions_over_one(Act::Reply("421 4.3.2 not this one"));
        let manner: Manner = Rc::new(move |turn| match (turn.at, turn.recipient) {
            (At::Recipient, "r6") if turn.since < 20 * MINUTE => Act::Reply("452 4.2.2 over quota"),
            _ => ends(turn),
        });
        manner
    };
    Row { within: 2 * HOUR, aside, ..Row::new("421 over one behind a full mailbox", manner) }.prove();
}

/// That is down, and no message's fault: nothing steps aside, however long it lasts.
#[test]
fn p3_a_primary_that_ends_each_session_at_mail_gets_all_in_order_when_it_is_back() {
    for act in [Act::Reply("421 4.3.2 shutting down"), Act::Close] {
        let manner: fn() -> Manner = match act {
            Act::Close => || ends_at_mail(Act::Close),
            _ => || ends_at_mail(Act::Reply("421 4.3.2 shutting down")),
        };
        Row { within: HOUR + 12 * MINUTE, ..Row::new("ends at MAIL", manner) }.prove();
    }
}

fn ends_at_mail(act: Act) -> Manner {
    Rc::new(move |turn| match turn.at {
        At::Sender if turn.since < HOUR => act,
        _ => Act::Regular,
    })
}
