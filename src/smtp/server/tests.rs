//! What conversations cannot say: late verdicts of the host, host errors, and any input at all.

use proptest::prelude::*;

use super::*;
use crate::limits::COMMAND_LINE_OCTETS_MAX;

fn session() -> ServerSession {
    let profile = ServerProfile {
        hostname: "mx2.example.net".to_owned(),
        max_message_size: 20,
        max_recipients: 3,
        starttls: false,
        withheld: Vec::new(),
    };
    let mut session = ServerSession::new(Arc::new(profile), Moment::ZERO);
    session.allow_xclient();
    session
}

/// What a host does that says yes to everything. Gives the events but `Idle`.
fn feed(session: &mut ServerSession, buffer: &mut Vec<u8>, piece: &[u8]) -> Vec<ServerEvent> {
    buffer.extend_from_slice(piece);
    let mut events = Vec::new();
    loop {
        let step = session.handle_input(buffer, Moment::ZERO);
        match step.event {
            ServerEvent::Sender => session.handle_sender(Ok(()), Moment::ZERO),
            ServerEvent::Recipient => {
                let postmaster = RecipientVerdict::AcceptAs("postmaster@example.net".into());
                session.handle_recipient(postmaster, Moment::ZERO);
            }
            ServerEvent::MessageEnds(_) => session.handle_message(Ok(&"Q"), Moment::ZERO),
            ServerEvent::StartTls => session.handle_start_tls(Ok(()), Moment::ZERO),
            ServerEvent::Data { start, end } => assert_eq!((start, end), (0, step.consumed)),
            ServerEvent::Chunk { start, end } => assert_eq!((start, end), (0, step.consumed)),
            ServerEvent::Etrn => {
                assert!(!session.etrn_node().name().is_empty());
                session.handle_etrn(&reply::NO_MESSAGES_WAITING_251, Moment::ZERO);
            }
            ServerEvent::Idle | ServerEvent::Abandoned | ServerEvent::Client => {}
        }
        buffer.drain(..step.consumed);
        if step.event != ServerEvent::Idle {
            events.push(step.event);
        } else if step.consumed == 0 {
            return events;
        }
    }
}

#[test]
fn a_verdict_that_comes_after_the_session_closed_is_ignored() {
    for pending in ["", "MAIL FROM:<a@b>\r\n"] {
        let mut session = session();
        let input = format!("EHLO c\r\n{pending}");
        feed(&mut session, &mut Vec::new(), input.as_bytes());
        let line: &[u8] = if pending.is_empty() { b"MAIL FROM:<a@b>\r\n" } else { b"RCPT TO:<a@b>\r\n" };
        assert_ne!(session.handle_input(line, Moment::ZERO).event, ServerEvent::Idle);
        session.handle_shutdown();
        let queued = session.output().len();
        session.handle_sender(Ok(()), Moment::ZERO);
        session.handle_recipient(RecipientVerdict::Accept, Moment::ZERO);
        session.handle_message(Ok(&"Q"), Moment::ZERO);
        assert!(session.is_closing() && session.output().len() == queued);
    }
}

#[test]
fn no_time_passes_for_the_client_while_the_host_decides() {
    let mut session = session();
    feed(&mut session, &mut Vec::new(), b"EHLO c\r\n");
    session.handle_input(b"MAIL FROM:<a@b>\r\n", Moment::ZERO);
    let late = SERVER_COMMAND_TIMEOUT * 3;
    session.handle_timeout(late);
    assert!(!session.is_closing() && session.poll_timeout() == Moment::MAX);
    session.handle_sender(Ok(()), late);
    assert_eq!(session.poll_timeout(), late + SERVER_COMMAND_TIMEOUT);
}

#[test]
#[should_panic(expected = "a Sender event awaits its answer")]
fn a_verdict_that_nobody_awaits_is_the_hosts_error() {
    session().handle_sender(Ok(()), Moment::ZERO);
}

#[test]
fn the_greeting_of_the_client_is_kept() {
    let mut session = session();
    assert_eq!((session.greeted_as(), session.is_extended()), ("", false));
    feed(&mut session, &mut Vec::new(), b"EHLO first.example\r\n");
    assert_eq!((session.greeted_as(), session.is_extended()), ("first.example", true));
    feed(&mut session, &mut Vec::new(), b"HELO second\r\n");
    assert_eq!((session.greeted_as(), session.is_extended()), ("second", false));
}

/// Fragments that are likely to lead somewhere, and some that are not.
fn fragment(with_data: bool) -> impl Strategy<Value = Vec<u8>> {
    let mut known = vec![
        "EHLO c\r\n",
        "HELO c\r\n",
        "MAIL FROM:<a@b>\r\n",
        "MAIL FROM:<> SIZE=30\r\n",
        "RCPT TO:<a@b>\r\n",
        "RCPT TO:<postmaster>\r\n",
        "RSET\r\n",
        "NOOP",
        "QUIT\r\n",
        "\r\n",
        "\r",
        "\n",
        "\0",
        ".",
        ".\r\n",
        "x\r\n",
        "<>",
        "\"",
        "@",
        ":",
        " ",
        "SIZE=",
        "[IPv6:::1]",
        "BDAT 3\r\na\r\n",
        "BDAT 12\r\n",
        "BDAT 0\r\n",
        "BDAT 0 LAST\r\n",
        "BDAT 2 LAST\r\n.\r",
        "BDAT 4 LAST\r\n.\r\n.",
        "ETRN example.com\r\n",
        "XCLIENT ADDR=192.0.2.1 HELO=x\r\n",
        "MAIL FROM:<ü@b> SMTPUTF8\r\n",
        "RCPT TO:<ü@b> NOTIFY=DELAY ORCPT=x;y\r\n",
    ];
    if with_data {
        known.push("DATA\r\n");
    }
    prop_oneof![
        8 => prop::sample::select(known).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => (0..3 * COMMAND_LINE_OCTETS_MAX).prop_map(|count| vec![b'x'; count]),
    ]
}

proptest! {
    #[test]
    fn no_input_panics_and_nothing_piles_up(pieces in prop::collection::vec(fragment(true), 0..40)) {
        let (mut session, mut buffer) = (session(), Vec::new());
        for piece in &pieces {
            feed(&mut session, &mut buffer, piece);
            prop_assert!(session.is_closing() || buffer.len() < COMMAND_LINE_OCTETS_MAX);
        }
        let replies = String::from_utf8(session.output().to_vec()).expect("replies are ASCII");
        for line in replies.split_terminator("\r\n") {
            prop_assert!(line.len() >= 4 && line[..3].parse::<u16>().is_ok_and(|code| code >= 200), "{line:?}");
        }
    }

    #[test]
    fn commands_are_the_same_in_any_pieces(pieces in prop::collection::vec(fragment(false), 0..40)) {
        let mut outputs = Vec::new();
        let whole = pieces.concat();
        for chunk in [whole.len().max(1), 1, 7] {
            let (mut session, mut buffer) = (session(), Vec::new());
            let mut events: Vec<_> = whole.chunks(chunk).flat_map(|piece| feed(&mut session, &mut buffer, piece)).collect();
            // How a chunk is cut depends on the pieces; what it amounts to stands in the summary.
            events.retain(|event| !matches!(event, ServerEvent::Chunk { .. }));
            outputs.push((session.output().to_vec(), events, session.is_closing()));
        }
        prop_assert_eq!(&outputs[0], &outputs[1]);
        prop_assert_eq!(&outputs[0], &outputs[2]);
    }
}
