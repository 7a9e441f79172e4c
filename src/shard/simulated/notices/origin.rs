//! Authentication-Results: what the primary is told of a message's origin is ours, and nobody else's in our name (RFC 8601 5).

use super::*;

const FORGED_FIELD: &str =
    "Authentication-Results: mx2.example.net;\r\n\tspf=pass smtp.mailfrom=boss@example.test\r\n";
const OTHERS: &str = "Authentication-Results: other.test; spf=pass\r\n";

/// Messages that came by DATA and by BDAT, small and in chunk records, leave by DATA and by BDAT, or with a window of one.
#[test]
fn the_primary_is_told_what_was_found_and_no_forgery() {
    let filler = "0123456789abcdef\r\n".repeat(20_000);
    for (offers_chunks, by_chunk, is_large) in [
        (false, false, false),
        (false, true, true),
        (true, false, true),
        (true, true, false),
        (true, false, false),
    ] {
        let body = if is_large { filler.clone() } else { "..dot\r\n".to_owned() };
        let came = format!(
            "Subject: x\r\n{FORGED_FIELD}From: a@example.org\r\n{OTHERS}{FORGED_FIELD}\r\n{FORGED_FIELD}.\r\n{body}"
        );
        let left = format!("Subject: x\r\nFrom: a@example.org\r\n{OTHERS}\r\n{FORGED_FIELD}.\r\n{body}");
        let mut plan = plan(1);
        plan.config.hostname = "mx2.example.net".to_owned();
        let told = Rc::new(RefCell::new(Vec::new()));
        let (taken, sent) = (Rc::clone(&told), came.clone());
        let _ = play(plan, async move |node| {
            node.primary.up.set(false);
            if !offers_chunks {
                node.primary.withheld.borrow_mut().push("CHUNKING".to_owned());
            }
            let mut ours = greeted(Rc::clone(&node.shards[0]), &node.spawn).await;
            // The second one rides behind a chunk that the primary was asked to swallow.
            for _ in 0..4 {
                let envelope = format!("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@{DOMAIN}>\r\n");
                converse(&mut ours, envelope.as_bytes(), "250 2.1.5").await;
                if by_chunk {
                    let chunk = format!("BDAT {} LAST\r\n{sent}", sent.len());
                    converse(&mut ours, chunk.as_bytes(), "250 2.0.0 Ok").await;
                } else {
                    converse(&mut ours, b"DATA\r\n", "354 ").await;
                    let stuffed = format!("\r\n{sent}").replace("\r\n.", "\r\n..");
                    converse(&mut ours, format!("{}.\r\n", &stuffed[2..]).as_bytes(), "250 2.0.0 Ok").await;
                }
            }
            node.authenticate(PROVEN | 1 << 10).await;
            node.primary.up.set(true);
            node.wait_until(|node| node.ended() == bounced_and_delivered(0, 4)).await;
            let all = node.primary.taken.borrow();
            taken.borrow_mut().extend(all.iter().map(|taken| (taken.body.clone(), taken.by_chunk)));
        });
        let told = told.take();
        assert_eq!(told.len(), 4);
        assert_eq!(told.iter().any(|(_, by_chunk)| *by_chunk), offers_chunks && !is_large);
        let expected = "Authentication-Results: mx2.example.net;\r\n\tspf=pass smtp.mailfrom=a@example.org;\r\n\tdkim=none\r\nReceived: ";
        for (body, _) in told {
            assert!(body.starts_with(expected), "{}", &body[..200]);
            assert!(
                body.ends_with(&left),
                "{offers_chunks} {by_chunk} {is_large}: {}",
                &body[..900.min(body.len())]
            );
            assert_eq!(body.matches("Received: ").count(), 1);
        }
    }
}

#[test]
fn what_is_not_known_is_not_said() {
    let _ = play(plan(1), async |node| {
        node.bring("<a@example.org>", &["b"], "x").await;
        node.wait_until(|node| node.ended() == bounced_and_delivered(0, 1)).await;
        let taken = node.primary.taken.borrow();
        assert!(taken[0].body.starts_with("Received: "), "{}", taken[0].body);
    });
}
