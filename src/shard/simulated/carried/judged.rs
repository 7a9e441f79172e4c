//! What the primary refuses while a sender waits: a verdict, or a word that cannot be one.

use super::super::converse;
use super::super::manner::{Act, At};
use super::{play, say, send};
use crate::smtp::reply::UNKNOWN_RECIPIENT_550;
use crate::smtp::server::RecipientVerdict;
use core::cell::Cell;
use std::rc::Rc;

#[test]
fn h22_a_refusal_of_whom_it_took_is_no_verdict() {
    fn forgot_all(_: &str) -> RecipientVerdict<'static> {
        RecipientVerdict::Refuse(UNKNOWN_RECIPIENT_550)
    }
    play(async |story| {
        story.warm().await;
        story.primary.judges.set(forgot_all);
        let mut link = story.session().await;
        assert!(say(&mut link, b"MAIL FROM:<a@example.org>\r\n").await.starts_with("250 "));
        assert!(say(&mut link, b"RCPT TO:<nobody@example.test>\r\n").await.starts_with("550 5.1.1"));
        assert!(say(&mut link, b"RCPT TO:<warm@example.test>\r\n").await.starts_with("250 "), "it is ours");
        assert!(
            say(&mut link, b"RCPT TO:<who@example.test>\r\n").await.starts_with("250 "),
            "and so is what follows"
        );
        assert!(say(&mut link, b"DATA\r\n").await.starts_with("354 "));
        assert!(say(&mut link, b"Subject: 1\r\n\r\n.\r\n").await.starts_with("250 2.0.0 Ok: queued as "));
        assert_eq!(story.proxied(), 0);
    });
}

#[test]
fn h23_a_primary_that_puts_everything_off_carries_nothing() {
    play(async |story| {
        story.warm().await;
        let mut link = story.session().await;
        story.behaves(|at| if at == At::DataEnd { Act::Reply("452 4.3.1 disk full") } else { Act::Regular });
        // One who comes again and again is one.
        for (sender, recipient) in [("a", "b"), ("a", "b"), ("a", "c"), ("d", "b"), ("e", "f"), ("g", "h")] {
            let envelope =
                format!("MAIL FROM:<{sender}@example.org>\r\nRCPT TO:<{recipient}@example.test>\r\nDATA\r\n");
            assert!(converse(&mut link, envelope.as_bytes(), "354 ").await);
            assert_eq!(
                say(&mut link, b"Subject: x\r\n\r\n.\r\n").await,
                "452 4.3.1 disk full",
                "{sender} {recipient}"
            );
        }
        assert!(send(&mut link, &["b@example.test"], "4", 1).await.starts_with("250 2.0.0 Ok: queued as "));
    });
}

#[test]
fn h22_words_that_cannot_be_verdicts_are_not_passed_on() {
    for (at, line, passed) in [
        (At::Recipient, "550 No such user here", 1),
        (At::Recipient, "550 5.1.1 No such user here", 0),
        (At::Recipient, "550 5.1.8 Sender address rejected", 3),
        (At::Sender, "552 5.3.4 Message size exceeds fixed limit", 3),
        (At::Recipient, "554 5.7.1 Relay access denied", 1),
        (At::Recipient, "554 5.0.0 sick", 1),
        (At::Sender, "530 5.7.0 Authentication required", 0),
        (At::Recipient, "554 5.7.1 listed as a spammer", 3),
    ] {
        play(async move |story| {
            story.warm().await;
            let mut link = story.session().await;
            for known in ["b", "c", "d"] {
                assert!(
                    send(&mut link, &[&format!("{known}@example.test")], known, 1).await.contains("taken")
                );
            }
            story.behaves(move |now| if now == at { Act::Reply(line) } else { Act::Regular });
            for (number, known) in ["b", "c", "d"].into_iter().enumerate() {
                assert!(say(&mut link, b"RSET\r\n").await.starts_with("250 "));
                let mail = format!("MAIL FROM:<{number}@example.org>\r\n");
                assert!(say(&mut link, mail.as_bytes()).await.starts_with("250 "));
                let reply = say(&mut link, format!("RCPT TO:<{known}@example.test>\r\n").as_bytes()).await;
                let expected = if number < passed { line } else { "250 2.1.5 Ok" };
                assert_eq!(reply, expected, "{number} of {line}");
            }
        });
    }
}

#[test]
fn a_client_whom_the_primary_refuses_hears_so() {
    play(async |story| {
        story.warm().await;
        let greeted = Rc::new(Cell::new(0));
        let count = Rc::clone(&greeted);
        story.behaves(move |at| {
            count.set(count.get() + u32::from(at == At::Hello));
            // Its own first, then those in the client's name and in ours.
            if at == At::Hello && (2..=3).contains(&count.get()) {
                Act::Reply("554 5.7.1 you are listed")
            } else {
                Act::Regular
            }
        });
        let mut link = story.session().await;
        assert!(say(&mut link, b"MAIL FROM:<a@example.org>\r\n").await.starts_with("250 "));
        assert_eq!(say(&mut link, b"RCPT TO:<b@example.test>\r\n").await, "554 5.7.1 you are listed");
        let mut other = story.session().await;
        assert!(send(&mut other, &["b@example.test"], "1", 1).await.contains("taken"), "another is carried");
    });
}
