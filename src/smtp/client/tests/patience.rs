//! Servers that do not take all that a session may say: envelopes behind a dot, and a series of errors; and those that take their time to say
//! anything.

use super::*;

/// Feeds what a server says, and has everything that the session says sent; the outcomes.
fn hear(session: &mut ClientSession, replies: &str) -> Vec<TransactionOutcome> {
    let (mut input, mut outcomes) = (replies.as_bytes(), Vec::new());
    loop {
        session.output_sent(session.output().len());
        let step = session.handle_input(input, Moment::ZERO);
        input = &input[step.consumed..];
        match step.event {
            ClientEvent::TransactionDone(outcome) => outcomes.push(outcome),
            ClientEvent::Idle if step.consumed == 0 || input.is_empty() => return outcomes,
            _ => {}
        }
    }
}

/// Two messages to a server that offers PIPELINING, the second behind the dot of the first.
fn riding() -> ClientSession {
    let mut session = greeted("PIPELINING");
    session.send(&envelope("a@b", &["a@b"]), Moment::ZERO);
    assert_eq!(hear(&mut session, "250 ok\r\n250 ok\r\n354 go\r\n"), []);
    session.handle_data_queued();
    assert!(session.may_send());
    session.send(&envelope("c@d", &["c@d", "e@d"]), Moment::ZERO);
    session.output_sent(session.output().len());
    session.handle_data_sent(Moment::ZERO);
    session
}

/// Haraka from 3.3 on drops what comes behind a dot before its reply, and answers 503 to each command. Taken for a refusal of the
/// message that would bounce it; taken for a session out of step it would cost a connection a message.
#[test]
fn what_rode_and_was_dropped_begins_again_by_itself() {
    let mut session = riding();
    let outcomes = hear(&mut session, &("250 taken\r\n".to_owned() + &"503 5.5.1 not now\r\n".repeat(5)));
    let [first] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(matches!(first.recipients[..], [RecipientOutcome::Delivered(_)]));
    assert!(session.is_ready());
    session.send(&envelope("c@d", &["c@d"]), Moment::ZERO);
    assert!(session.output().starts_with(b"RSET\r\nMAIL"), "nobody knows what it kept");
    assert_eq!(hear(&mut session, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"), []);
    session.handle_data_queued();
    assert!(!session.may_send(), "nothing rides any more");
    session.handle_data_sent(Moment::ZERO);
    assert_eq!(hear(&mut session, "250 taken\r\n").len(), 1);
}

/// One that runs a part of it all the same cannot be followed: whose envelope it has nobody knows.
#[test]
fn a_server_that_drops_a_part_of_what_rode_is_left() {
    let mut session = riding();
    let outcomes = hear(&mut session, "250 taken\r\n503 not now\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(outcomes[1].recipients, [RecipientOutcome::NotTried, RecipientOutcome::NotTried]);
    assert!(session.failure().is_some() && session.output().is_empty());
}

/// Postfix says 421 to who has been refused too often, whatever for; greylisting refuses all.
#[test]
fn a_session_with_too_many_refusals_takes_no_further_message_until_one_was_taken() {
    let mut session = greeted("PIPELINING");
    let refused = |session: &mut ClientSession| {
        session.send(&envelope("a@b", &["a@b"]), Moment::ZERO);
        let resets = if session.output().starts_with(b"RSET") { "250 ok\r\n" } else { "" };
        hear(session, &format!("{resets}250 ok\r\n450 4.2.0 Greylisted\r\n554 5.5.1 no valid recipients\r\n"))
    };
    for _ in 0..3 {
        assert_eq!(refused(&mut session).len(), 1);
    }
    assert!(!session.is_used_up());
    session.send(&envelope("a@b", &["a@b"]), Moment::ZERO);
    hear(&mut session, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    session.handle_data_queued();
    session.handle_data_sent(Moment::ZERO);
    hear(&mut session, "250 taken\r\n");
    for number in 1..=4 {
        assert!(!session.is_used_up(), "{number}");
        refused(&mut session);
    }
    assert!(session.is_used_up() && session.is_ready() && !session.may_send());
}

/// RFC 5321 4.5.3.2: the time is that of the whole reply, however its octets come, and in however many lines.
#[test]
fn an_octet_each_half_minute_makes_no_reply_last_longer() {
    let (mut session, half_minute) = (greeted("HELP"), Moment::from_secs(30));
    session.send(&envelope("a@b", &["a@b"]), Moment::ZERO);
    session.output_sent(session.output().len());
    let until = session.poll_timeout().expect("a reply is awaited");
    assert_eq!(until, CLIENT_COMMAND_TIMEOUT);
    let (reply, mut from) = (b"250-a\r\n250-b\r\n250-c\r\n250 ok\r\n", 0);
    for (end, minutes) in (1..reply.len()).zip(1..) {
        let now = half_minute * minutes;
        if now >= until {
            let not_tried = TransactionOutcome { recipients: vec![RecipientOutcome::NotTried] };
            assert_eq!(session.handle_timeout(now), ClientEvent::TransactionDone(not_tried));
            return;
        }
        let step = session.handle_input(&reply[from..end], now);
        from += step.consumed;
        assert_eq!((step.event, session.poll_timeout()), (ClientEvent::Idle, Some(until)));
    }
    panic!("it never ends");
}
