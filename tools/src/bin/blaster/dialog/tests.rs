use super::*;
use crate::body::Texts;
use crate::message::Message;
use crate::task::Stage;
use std::time::Duration;

const EHLO: &str = "250-sink.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-SIZE 100\r\n250 8BITMIME\r\n";

fn style(pipelining: Toggle, content: Content) -> Style {
    Style { pipelining, content, starttls: StartTls::Off }
}

fn task(recipients: usize) -> Task {
    let message = Message {
        id: "run-1".to_owned(),
        reverse_path: "run-1@blaster.test".to_owned(),
        recipients: (0..recipients).map(|number| format!("user{number}@example.test")).collect(),
        head: b"X-Blaster-Id: run-1\r\n\r\n".to_vec(),
        body: Texts::new(1, 300).body(0, 300),
        tail: b"-- run-1\r\n".to_vec(),
        has_8bit: false,
    };
    Task {
        message,
        intended: Duration::ZERO,
        deadline: Duration::ZERO,
        mail_unix_us: 0,
        mail_at: Duration::ZERO,
    }
}

/// What the dialog has to say, in lines; bodies are shortened to their last line.
fn said(dialog: &mut Dialog) -> Vec<String> {
    let mut octets = Vec::new();
    while !dialog.out.is_empty() {
        let take = |slices: &[std::io::IoSlice<'_>]| {
            slices.iter().for_each(|slice| octets.extend_from_slice(slice));
            Ok::<usize, ()>(slices.iter().map(|slice| slice.len()).sum())
        };
        dialog.out.write(usize::MAX, take).unwrap();
    }
    let commands = ["EHLO", "HELO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "QUIT", "STARTTLS", "-- run-1"];
    let text = String::from_utf8(octets).unwrap();
    let is_said = |line: &&str| *line == "." || commands.iter().any(|command| line.starts_with(command));
    text.lines().filter(is_said).map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

/// Hears one reply.
fn hear(dialog: &mut Dialog, reply: &str) -> Event {
    let reply = if reply.ends_with('\n') { reply.to_owned() } else { format!("{reply}\r\n") };
    let (consumed, event) = dialog.handle_input(reply.as_bytes());
    assert_eq!(consumed, reply.len());
    event
}

/// Open, with nothing in flight and nothing to say.
fn open(style: Style, ehlo: &str) -> Dialog {
    let mut dialog = Dialog::new(style);
    hear(&mut dialog, "220 sink.test");
    assert!(matches!(hear(&mut dialog, ehlo), Event::Ready));
    assert_eq!(said(&mut dialog), ["EHLO blaster.test"]);
    dialog
}

fn done(event: Event) -> Done {
    match event {
        Event::Done(done) => *done,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_leaves_where_pipelining_is_offered() {
    let mut dialog = open(style(Toggle::Auto, Content::Data), EHLO);
    dialog.send(task(2));
    assert_eq!(
        said(&mut dialog),
        [
            "MAIL FROM:<run-1@blaster.test>",
            "RCPT TO:<user0@example.test>",
            "RCPT TO:<user1@example.test>",
            "DATA"
        ]
    );
    assert!(!dialog.may_send(9), "behind DATA nothing else leaves");
    for reply in ["250 mail", "250 rcpt", "250 rcpt"] {
        assert!(matches!(hear(&mut dialog, reply), Event::Idle));
    }
    assert!(said(&mut dialog).is_empty(), "no content before 354");
    hear(&mut dialog, "354 go on");
    assert_eq!(said(&mut dialog), ["-- run-1", "."]);
    let done = done(hear(&mut dialog, "250 2.0.0 Ok: queued as S1"));
    assert!(done.decided.is_some_and(|(stage, reply)| stage == Stage::Content && reply.is_positive()));
    assert!(dialog.may_send(1));
}

#[test]
fn one_by_one_each_command_waits() {
    for (style, ehlo) in
        [(style(Toggle::Off, Content::Data), EHLO), (style(Toggle::Auto, Content::Data), "250 old")]
    {
        let mut dialog = open(style, ehlo);
        dialog.send(task(1));
        for (line, reply) in [
            ("MAIL FROM:<run-1@blaster.test>", "250 a"),
            ("RCPT TO:<user0@example.test>", "250 b"),
            ("DATA", "354 c"),
        ] {
            assert_eq!(said(&mut dialog), [line]);
            hear(&mut dialog, reply);
        }
        assert_eq!(said(&mut dialog), ["-- run-1", "."]);
    }
}

#[test]
fn chunks_leave_behind_each_other_and_each_is_reset() {
    let mut dialog = open(style(Toggle::Auto, Content::Auto), EHLO);
    for number in 0..3 {
        assert!(dialog.may_send(3), "{number}");
        dialog.send(task(1));
    }
    assert!(!dialog.may_send(3));
    let one = ["MAIL FROM:<run-1@blaster.test>", "RCPT TO:<user0@example.test>"];
    let lines = said(&mut dialog);
    assert_eq!(lines[..2], one);
    assert!(lines[2].starts_with("BDAT ") && lines[3] == "-- run-1" && lines[4] == "RSET", "{lines:?}");
    // The second is refused, and the third is not told so.
    for reply in ["250 m", "250 r"] {
        hear(&mut dialog, reply);
    }
    assert!(done(hear(&mut dialog, "250 ok")).decided.is_some());
    for reply in ["250 reset", "250 m", "550 r"] {
        assert!(matches!(hear(&mut dialog, reply), Event::Idle));
    }
    let second = done(hear(&mut dialog, "554 no valid recipients"));
    assert!(second.decided.is_none() && second.refused.len() == 1);
    for reply in ["250 reset", "250 m", "250 r"] {
        assert!(matches!(hear(&mut dialog, reply), Event::Idle));
    }
    assert!(done(hear(&mut dialog, "250 ok")).decided.is_some_and(|(_, reply)| reply.is_positive()));
}

#[test]
fn content_that_is_for_nobody_is_a_dot() {
    let mut dialog = open(style(Toggle::On, Content::Data), "250 old");
    dialog.send(task(2));
    said(&mut dialog);
    for reply in ["250 m", "550 r", "450 r"] {
        hear(&mut dialog, reply);
    }
    hear(&mut dialog, "354 go on");
    assert_eq!(said(&mut dialog), ["."]);
    hear(&mut dialog, "554 no valid recipients");
    assert_eq!(said(&mut dialog), ["RSET"]);
    let done = done(hear(&mut dialog, "250 reset"));
    assert!(done.decided.is_none() && done.refused.len() == 2);
}

#[test]
fn a_refused_sender_is_refused_for_all() {
    let mut dialog = open(style(Toggle::Auto, Content::Data), EHLO);
    dialog.send(task(1));
    said(&mut dialog);
    for reply in ["452 full", "503 no MAIL"] {
        hear(&mut dialog, reply);
    }
    hear(&mut dialog, "503 no RCPT");
    assert_eq!(said(&mut dialog), ["RSET"]);
    let done = done(hear(&mut dialog, "250 reset"));
    assert!(done.decided.is_some_and(|(stage, reply)| stage == Stage::Mail && reply.code == 452));
}

#[test]
fn helo_where_ehlo_is_not_known() {
    let mut dialog = Dialog::new(style(Toggle::Auto, Content::Auto));
    hear(&mut dialog, "220 old");
    hear(&mut dialog, "502 what");
    assert_eq!(said(&mut dialog), ["EHLO blaster.test", "HELO blaster.test"]);
    assert!(matches!(hear(&mut dialog, "250 old"), Event::Ready));
}

#[test]
fn tls_is_begun_where_it_is_wanted_and_ehlo_said_again() {
    let offer = "250-a\r\n250-STARTTLS\r\n250 PIPELINING\r\n";
    let secure = |starttls, ehlo: &str| {
        let mut dialog = Dialog::new(Style { starttls, ..style(Toggle::Auto, Content::Data) });
        hear(&mut dialog, "220 a");
        let event = hear(&mut dialog, ehlo);
        (dialog, event)
    };
    let (mut dialog, event) = secure(StartTls::Require, offer);
    assert!(matches!(event, Event::Idle));
    assert_eq!(said(&mut dialog), ["EHLO blaster.test", "STARTTLS"]);
    assert!(matches!(hear(&mut dialog, "220 go"), Event::Secure));
    dialog.secured();
    assert_eq!(said(&mut dialog), ["EHLO blaster.test"]);
    assert!(matches!(hear(&mut dialog, "250 a"), Event::Ready));
    assert!(matches!(secure(StartTls::Require, "250 a").1, Event::Hopeless(_)));
    assert!(matches!(secure(StartTls::Opportunistic, "250 a").1, Event::Ready));
    assert!(matches!(secure(StartTls::Off, offer).1, Event::Ready));
}

#[test]
fn replies_that_nobody_asked_for_end_the_session_and_tasks_come_back() {
    let mut dialog = open(style(Toggle::Auto, Content::Data), EHLO);
    assert!(matches!(hear(&mut dialog, "250 what"), Event::Failed(_)));
    let mut dialog = open(style(Toggle::Auto, Content::Data), EHLO);
    dialog.send(task(1));
    assert!(matches!(hear(&mut dialog, "421 going"), Event::Failed(_)));
    assert_eq!(dialog.abandon().len(), 1);
    assert!(!dialog.may_send(1) && dialog.out.is_empty());
}

#[test]
fn only_a_final_no_to_required_tls_is_hopeless() {
    let style = Style { starttls: StartTls::Require, ..style(Toggle::Auto, Content::Data) };
    for (reply, is_hopeless) in [("454 4.7.0 Not now", false), ("502 5.5.1 Never", true)] {
        let mut dialog = Dialog::new(style);
        hear(&mut dialog, "220 sink.test");
        hear(&mut dialog, "250-sink.test\r\n250 STARTTLS");
        match hear(&mut dialog, reply) {
            Event::Hopeless(why) => assert!(is_hopeless && why.contains("502"), "{why}"),
            Event::Failed(why) => assert!(!is_hopeless && why.contains("454"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let mut dialog = Dialog::new(style);
    hear(&mut dialog, "220 sink.test");
    assert!(matches!(hear(&mut dialog, EHLO), Event::Hopeless(why) if why.contains("not offered")));
}
