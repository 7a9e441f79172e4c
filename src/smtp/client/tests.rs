//! What conversations cannot say: host errors, and servers that say anything at all.

use proptest::prelude::*;

use super::*;

fn envelope<'a>(reverse_path: &'a str, recipients: &'a [&'a str]) -> Envelope<'a> {
    Envelope { reverse_path, recipients, octets: 1, has_8bit: false, extensions: Extensions::default() }
}

#[test]
fn paths_that_could_end_their_command_are_not_sendable() {
    assert!(envelope("", &["\"a b\"@example.com"]).is_sendable());
    assert!(!envelope("a@b\r\nDATA", &["a@b"]).is_sendable());
    assert!(!envelope("", &["a@b", "c\0@d"]).is_sendable());
    assert!(!envelope("", &[]).is_sendable());
}

#[test]
#[should_panic(expected = "a transaction begins only in a session that is ready")]
fn sending_before_ready_is_the_hosts_error() {
    ClientSession::new("mx2.example.net", Moment::ZERO).send(&envelope("", &["a@b"]), Moment::ZERO);
}

#[test]
fn the_failure_is_known_before_it_is_reported() {
    let mut session = ClientSession::new("mx2.example.net", Moment::ZERO);
    session.handle_input(b"220 mx.example.com ESMTP\r\n", Moment::ZERO);
    session.handle_input(b"250-mx.example.com\r\n250 PIPELINING\r\n", Moment::ZERO);
    assert_eq!((session.greeting(), session.capabilities().pipelining), ("mx.example.com ESMTP", true));
    session.send(&envelope("", &["a@b"]), Moment::ZERO);
    let not_tried = TransactionOutcome { recipients: vec![RecipientOutcome::NotTried] };
    assert_eq!(session.handle_disconnect(), ClientEvent::TransactionDone(not_tried));
    assert_eq!(session.failure(), Some(&ClientFailure::Disconnected));
    assert!(!session.is_ready());
    assert_eq!(session.handle_disconnect(), ClientEvent::Failed(ClientFailure::Disconnected));
}

/// A session that was greeted by a server that offers `keyword`.
fn greeted(keyword: &str) -> ClientSession {
    let mut session = ClientSession::new("mx2.example.net", Moment::ZERO);
    session.handle_input(b"220 mx.example.com ESMTP\r\n", Moment::ZERO);
    session.handle_input(format!("250-mx.example.com\r\n250 {keyword}\r\n").as_bytes(), Moment::ZERO);
    let hello = session.output().len();
    session.output_sent(hello);
    session
}

#[test]
fn a_probe_ends_behind_its_last_rcpt_and_sends_no_data() {
    for keyword in ["PIPELINING", "HELP"] {
        let mut session = greeted(keyword);
        session.probe(&envelope("", &["a@b", "c@b"]), Moment::ZERO);
        let mut said = Vec::new();
        let mut ended = None;
        for reply in ["250 ok\r\n", "550 5.1.1 no\r\n", "250 ok\r\n"] {
            said.extend_from_slice(session.output());
            session.output_sent(session.output().len());
            ended = Some(session.handle_input(reply.as_bytes(), Moment::ZERO).event);
        }
        assert_eq!(String::from_utf8_lossy(&said), "MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@b>\r\n");
        let Some(ClientEvent::TransactionDone(outcome)) = ended else { panic!("{keyword}: {ended:?}") };
        assert!(matches!(outcome.recipients[0], RecipientOutcome::Rejected { stage: Stage::Recipient, .. }));
        assert_eq!(outcome.recipients[1], RecipientOutcome::NotTried);
        assert!(session.is_ready() && session.output().is_empty());
        // What follows begins anew.
        session.send(&envelope("", &["a@b"]), Moment::ZERO);
        assert!(session.output().starts_with(b"RSET\r\n"));
    }
}

#[test]
fn a_probe_whose_sender_is_refused_ends_for_all() {
    for (keyword, replies) in [("PIPELINING", "550 no\r\n503 no\r\n"), ("HELP", "550 no\r\n")] {
        let mut session = greeted(keyword);
        session.probe(&envelope("", &["a@b"]), Moment::ZERO);
        session.output_sent(session.output().len());
        let mut input = replies.as_bytes();
        let mut event = ClientEvent::Idle;
        while !input.is_empty() {
            let step = session.handle_input(input, Moment::ZERO);
            input = &input[step.consumed..];
            event = step.event;
        }
        let ClientEvent::TransactionDone(outcome) = event else { panic!("{keyword}: {event:?}") };
        assert!(matches!(outcome.recipients[..], [RecipientOutcome::Rejected { stage: Stage::Sender, .. }]));
        assert!(session.is_ready());
    }
}

/// Replies that a server might give at any time, right or wrong.
fn reply() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "220 hi\r\n",
        "250 ok\r\n",
        "250 ok\r\n",
        "250 ok\r\n",
        "250-a\r\n250 PIPELINING\r\n",
        "354 go\r\n",
        "354 go\r\n",
        "450 4.2.1 later\r\n",
        "550 5.1.1 no\r\n",
        "421 bye\r\n",
        "250-",
        "2",
        "\r\n",
        "garbage\r\n",
    ])
}

proptest! {
    /// A host that sends whenever it can, against any server: each transaction ends once, and nothing counts as
    /// delivered that was not sent to its end.
    #[test]
    fn every_transaction_ends_once_and_none_is_delivered_unsent(
        replies in prop::collection::vec(reply(), 0..60),
        is_lost in any::<bool>(),
    ) {
        let (mut session, mut buffer) = (ClientSession::new("mx2.example.net", Moment::ZERO), Vec::new());
        let (mut begun, mut done, mut is_sent) = (0, 0, false);
        let mut ends = Vec::new();
        for piece in ["220 hi\r\n", "250-x\r\n250 PIPELINING\r\n"].into_iter().chain(replies) {
            buffer.extend_from_slice(piece.as_bytes());
            loop {
                let step = session.handle_input(&buffer, Moment::ZERO);
                buffer.drain(..step.consumed);
                match &step.event {
                    ClientEvent::SendData => {
                        session.handle_data_sent(Moment::ZERO);
                        is_sent = true;
                    }
                    ClientEvent::TransactionDone(outcome) => {
                        let delivered = |outcome: &RecipientOutcome| matches!(outcome, RecipientOutcome::Delivered(_));
                        prop_assert!(is_sent || !outcome.recipients.iter().any(delivered));
                        prop_assert_eq!(outcome.recipients.len(), 2);
                        done += 1;
                    }
                    ClientEvent::Idle if step.consumed == 0 => break,
                    _ => {}
                }
                if session.is_ready() && buffer.is_empty() {
                    session.send(&envelope("s@t", &["a@b", "c@d"]), Moment::ZERO);
                    (begun, is_sent) = (begun + 1, false);
                }
            }
        }
        for _ in 0..3 {
            let late = session.poll_timeout().unwrap_or_default();
            ends.push(if is_lost { session.handle_disconnect() } else { session.handle_timeout(late) });
            ends.push(session.handle_input(b"", Moment::ZERO).event);
        }
        done += ends.iter().filter(|event| matches!(event, ClientEvent::TransactionDone(_))).count();
        prop_assert_eq!(begun, done);
        prop_assert!(!session.is_ready() || !is_lost);
    }
}

/// RFC 3207 4.2, and what is put behind a plain 220 by somebody on the way (P6's other side).
#[test]
fn behind_starttls_the_session_begins_anew_and_trusts_no_plain_octet() {
    let mut session = greeted("STARTTLS");
    session.start_tls(Moment::ZERO);
    assert_eq!(session.output(), b"STARTTLS\r\n");
    session.output_sent(session.output().len());
    assert_eq!(session.handle_input(b"220 go\r\n", Moment::ZERO).event, ClientEvent::StartTls);
    session.handle_secured(Moment::ZERO);
    assert_eq!(session.output(), b"EHLO mx2.example.net\r\n");
    assert!(!session.capabilities().starttls && !session.is_ready());
    let step = session.handle_input(b"250-mx.example.com\r\n250 PIPELINING\r\n", Moment::ZERO);
    assert_eq!((step.event, session.capabilities().pipelining), (ClientEvent::Ready, true));

    let out_of_turn = || ClientEvent::Failed(ProtocolError::OutOfTurn.into());
    let mut session = greeted("STARTTLS");
    session.start_tls(Moment::ZERO);
    let injected = b"220 go\r\n250-mx.example.com\r\n250 PIPELINING\r\n";
    assert_eq!(session.handle_input(injected, Moment::ZERO).event, out_of_turn());

    let mut session = greeted("STARTTLS");
    session.start_tls(Moment::ZERO);
    session.handle_input(b"220 go\r\n", Moment::ZERO);
    assert_eq!(session.handle_input(b"250 late\r\n", Moment::ZERO).event, out_of_turn());

    let mut session = greeted("STARTTLS");
    session.start_tls(Moment::ZERO);
    let refused = session.handle_input(b"454 4.7.0 not now\r\n", Moment::ZERO).event;
    assert!(matches!(refused, ClientEvent::TlsRefused(reply) if reply.code == 454));
    assert!(session.is_ready() && session.capabilities().starttls);
}
