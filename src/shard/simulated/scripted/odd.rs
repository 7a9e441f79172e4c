//! Primaries that answer out of the specification, or slowly.

use super::*;

fn says(at: At, octets: &'static [u8], connections: u32) -> Manner {
    Rc::new(
        move |turn| {
            if turn.at == at && turn.connection <= connections { Act::Says(octets) } else { Act::Regular }
        },
    )
}

#[test]
fn replies_without_text_are_replies() {
    for row in [
        Row::new("MAIL", || says(At::Sender, b"250\r\n", u32::MAX)),
        Row::new("RCPT", || says(At::Recipient, b"250\r\n", u32::MAX)),
        Row::new("DATA", || says(At::DataStart, b"354\r\n", u32::MAX)),
        Row::new("end of data", || says(At::DataEnd, b"250\r\n", u32::MAX)),
        Row::new("end of data, two lines", || says(At::DataEnd, b"250-taken\r\n250\r\n", u32::MAX)),
    ] {
        for withheld in [&[][..], &["CHUNKING"]] {
            Row { withheld, ..row }.prove();
        }
    }
}

/// Two connections are out of step and are given up; nothing that was said there counts for a message.
#[test]
fn out_of_step_ends_the_connection_and_loses_nothing() {
    for row in [
        Row::new("two greetings", || says(At::Greeting, b"220 one\r\n220 two\r\n", 2)),
        Row::new("250 to DATA", || says(At::DataStart, b"250 ok\r\n", 2)),
        Row::new("354 twice", || says(At::DataStart, b"354 go\r\n354 on\r\n", 2)),
        Row::new("354 and 250", || says(At::DataStart, b"354 go\r\n250 ok\r\n", 2)),
        Row::new("250 twice to RCPT", || says(At::Recipient, b"250 ok\r\n250 ok\r\n", 2)),
        Row::new("no digits", || says(At::Sender, b"OK\r\n", 2)),
        Row::new("no separator", || says(At::Sender, b"250ok\r\n", 2)),
        Row::new("two codes in one reply", || says(At::Recipient, b"250-ok\r\n550 ok\r\n", 2)),
    ] {
        for withheld in [&[][..], &["CHUNKING"], &["CHUNKING", "PIPELINING"]] {
            Row { withheld, within: 10 * MINUTE, repeats: 2 * 2 * OUTSTANDING_MAX, ..row }.prove();
        }
    }
}

/// A line that does not end is no reply (RFC 5321 2.3.8): its time runs out, and what it answered comes again.
#[test]
fn a_reply_with_a_lone_lf_is_none() {
    Row {
        within: HOUR,
        repeats: 2 * 2 * OUTSTANDING_MAX,
        ..Row::new("a lone LF", || says(At::DataEnd, b"250 taken\n", 2))
    }
    .prove();
}

#[test]
fn a_primary_that_drips_gets_everything() {
    Row {
        drips: (Duration::from_millis(200), HOUR),
        withheld: EXTENSIONS,
        within: 30 * MINUTE,
        ..Row::new("drips", || Rc::new(|_| Act::Regular))
    }
    .prove();
}

/// A session has to begin within `OPEN_TIMEOUT`: an octet a second is down, and what is queued waits.
#[test]
fn a_primary_that_says_an_octet_a_second_is_down_while_it_does() {
    Row {
        drips: (MINUTE / 60, HOUR),
        within: HOUR + 6 * MINUTE,
        ..Row::new("an octet a second", || Rc::new(|_| Act::Regular))
    }
    .prove();
}

/// With them its reply to EHLO would take longer than a session may take to begin.
const EXTENSIONS: &[&str] = &[
    "CHUNKING",
    "PIPELINING",
    "SIZE",
    "8BITMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
    "DSN",
    "ETRN",
    "LIMITS",
    "HELP",
];

/// It takes two messages of a connection, and puts off what comes behind them: each try gets on, so each pause is the first of its run.
#[test]
fn a_primary_that_takes_a_little_at_a_time_is_not_left_alone_for_longer_each_time() {
    let manner = || -> Manner {
        Rc::new(|turn: &Turn<'_>| match turn.at {
            At::Sender if turn.taken >= 2 => Act::Reply("452 4.3.1 Insufficient system resources"),
            _ => Act::Regular,
        })
    };
    let row = Row {
        // Fifteen tries a quarter of a minute apart, and once what a mailbox waits that is put off alone. With pauses that double it would
        // be an hour.
        within: 10 * MINUTE,
        aside: |_| true,
        // Else what rides with MAIL is refused, too, and the session has too many errors before it is plain that all is put off.
        withheld: &["CHUNKING", "PIPELINING"],
        ..Row::new("two at a time", manner)
    };
    for seed in 1..=3 {
        Story::told(&row, seed, 1, false).assert_as_expected(&row);
    }
}
