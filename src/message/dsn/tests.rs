use super::*;
use mail_parser::{ContentType, MessageParser, MimeHeaders};
use proptest::prelude::*;

const HEADER: &[u8] =
    b"Received: from a by b; Sun, 22 Nov 2026 10:00:00 +0000\r\nFrom: Ann <ann@example.org>\r\n\
    Subject: hello\r\n";

fn refused<'a>(mailbox: &'a str, code: u16, enhanced: &'a str, text: &'a str) -> Told<'a> {
    let answer = Answer { host: "mail.example.com", code, enhanced, text };
    Told { mailbox, original: "", fate: Fate::Refused(answer) }
}

fn notice<'a>(reverse_path: &'a str, recipients: &'a [Told<'a>]) -> Notice<'a> {
    Notice {
        hostname: "mx2.example.net",
        reverse_path,
        id: "0000G00000009",
        message_id: "0000G00000002",
        domain: "example.com",
        made_unix_seconds: 1_795_343_008,
        received_unix_seconds: 1_795_300_000,
        envelope_id: "",
        recipients,
        header: HEADER,
    }
}

fn text(notice: &Notice<'_>) -> String {
    String::from_utf8(notice.written()).expect("a notice is text")
}

/// The parts between the boundaries, as RFC 2046 5.1.1 has them.
fn parts(message: &str) -> Vec<String> {
    let (head, body) = message.split_once("\r\n\r\n").expect("a header section");
    let (_, rest) = head.split_once("boundary=\"").expect("a boundary");
    let boundary = rest.split('"').next().expect("it ends");
    let delimiter = format!("--{boundary}\r\n");
    let (body, behind) = body.split_once(&format!("--{boundary}--\r\n")).expect("the last boundary");
    assert_eq!(behind, "");
    body.split(&delimiter).skip(1).map(str::to_owned).collect()
}

fn assert_lines(message: &[u8]) {
    let mut rest = message;
    while !rest.is_empty() {
        let end = memmem::find(rest, b"\r\n").expect("each line is ended");
        assert!(end <= 998, "{}", String::from_utf8_lossy(&rest[..end]));
        assert!(!rest[..end].iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)));
        rest = &rest[end + 2..];
    }
}

#[test]
fn golden_failure() {
    let long = "policy ".repeat(40);
    let mut told = [
        refused("bob@example.com", 550, "5.1.1", "no such user here"),
        refused("eve+list@example.com", 554, "", &long),
        Told { mailbox: "old@example.com", original: "", fate: Fate::Expired },
    ];
    told[0].original = "rfc822;Bob@Example.COM";
    let notice = Notice { envelope_id: "QQ 314159", ..notice("ann@example.org", &told) };
    assert_eq!(text(&notice), include_str!("failure.eml"));
    let written = notice.written();
    let read = MessageParser::default().parse(&written).expect("a parser of others reads it");
    let kinds: Vec<_> =
        read.parts.iter().filter_map(|part| part.content_type()).map(ContentType::subtype).collect();
    let expected = ["report", "plain", "delivery-status", "rfc822-headers"].map(Some);
    assert_eq!(kinds, expected);
    assert!(!notice.needs_smtputf8());
}

#[test]
fn golden_beyond_ascii() {
    let mut told = [refused("b\u{fc}ro@example.com", 550, "5.1.1", "kein Postfach f\u{fc}r b\u{fc}ro")];
    told[0].original = "utf-8;b\u{fc}ro@example.com";
    let notice = Notice {
        header: "Subject: Gr\u{fc}\u{df}e\r\n".as_bytes(),
        ..notice("j\u{f6}rg@example.org", &told)
    };
    assert!(notice.needs_smtputf8());
    assert_eq!(text(&notice), include_str!("global.eml"));
    // To a reverse-path of ASCII the same is 7 bit.
    let plain = Notice { reverse_path: "joerg@example.org", ..notice };
    let text = text(&plain);
    assert!(text.is_ascii(), "{text}");
    assert!(text.contains("Final-Recipient: utf-8; b\\x{FC}ro@example.com\r\n"), "{text}");
    assert!(text.contains("Diagnostic-Code: smtp; 550 5.1.1 kein Postfach f?r b?ro\r\n"), "{text}");
    assert!(
        text.contains("Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n")
    );
    assert!(text.contains("Subject: Gr=C3=BC=C3=9Fe\r\n"), "{text}");
}

#[test]
fn golden_relayed() {
    let answer = Answer { host: "[192.0.2.7]", code: 250, enhanced: "2.0.0", text: "Ok" };
    let told = [Told { mailbox: "bob@example.com", original: "", fate: Fate::Relayed(answer) }];
    assert_eq!(text(&notice("ann@example.org", &told)), include_str!("relayed.eml"));
}

#[test]
fn nothing_that_strangers_say_breaks_a_notice() {
    let evil = "x\r\nAction: delivered\n\nBcc: you@example.net\r\n--=_0000G00000009_0--\r\n\u{2028}end";
    let mut told =
        [refused(evil, 550, "5.1.1\r\nEvil: 1", evil), refused("b@example.com", 550, "5.\u{0}", evil)];
    told[0].original = evil;
    let header = format!("Subject: {evil}\r\n\r\nbody\r\n");
    let notice = Notice { envelope_id: evil, header: header.as_bytes(), ..notice("ann@example.org", &told) };
    let written = notice.written();
    assert_lines(&written);
    let message = text(&notice);
    let parts = parts(&message);
    assert_eq!(parts.len(), 3, "{message}");
    for field in ["Bcc:", "Evil:", "Action: delivered"] {
        assert!(
            !message.split("\r\n").take_while(|line| !line.is_empty()).any(|line| line.starts_with(field))
        );
        assert!(!parts[1].split("\r\n").any(|line| line.starts_with(field)), "{}", parts[1]);
    }
    assert_eq!(parts[1].matches("\r\nStatus: 5.0.0\r\n").count(), 2);
}

#[test]
fn a_header_section_is_given_back_in_whole_lines() {
    let line = format!("X: {}\r\n", "y".repeat(95));
    let header = line.repeat(NOTICE_HEADER_OCTETS_MAX / line.len() + 5);
    let told = [refused("b@example.com", 550, "", "")];
    let long = Notice { header: header.as_bytes(), ..notice("ann@example.org", &told) };
    let message = text(&long);
    assert_eq!(message.matches(&line).count(), NOTICE_HEADER_OCTETS_MAX / line.len());
    let broken = Notice { header: &[b'z'; 5_000], ..notice("ann@example.org", &told) };
    assert_lines(&broken.written());
    assert_eq!(text(&broken).matches('z').count(), 5_000, "one long line is quoted");
}

#[test]
fn a_thousand_recipients_have_their_share_of_the_room() {
    let words = "so many words ".repeat(100);
    let told: Vec<Told<'_>> =
        (0..1_000).map(|_| refused("somebody@example.com", 550, "5.1.1", &words)).collect();
    let message = notice("ann@example.org", &told).written();
    assert!(message.len() < crate::limits::NOTICE_OCTETS_MAX, "{}", message.len());
}

proptest! {
    #[test]
    fn any_words_make_a_message_of_three_parts(
        mailbox in "\\PC{0,80}", reply in any::<String>(), original in any::<String>(), header in any::<Vec<u8>>(),
        reverse_path in "[a-z\u{e4}]{1,9}@example\\.org", envelope_id in any::<String>(),
    ) {
        let mut told = [refused(&mailbox, 550, &original, &reply)];
        told[0].original = &original;
        let notice = Notice { header: &header, envelope_id: &envelope_id, ..notice(&reverse_path, &told) };
        let written = notice.written();
        assert_lines(&written);
        prop_assert!(notice.needs_smtputf8() || written.is_ascii());
        prop_assert_eq!(parts(&text(&notice)).len(), 3);
    }
}
