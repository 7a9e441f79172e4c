//! Good news: who asked by NOTIFY=SUCCESS to be told is told by us where the primary will not (RFC 3461 5.2.2), once, and if he is proven (P5).

use super::*;

/// A primary that tells nobody anything: it knows no DSN.
fn knows_no_dsn(node: &Node) {
    node.primary.withheld.borrow_mut().push("DSN".to_owned());
}

#[test]
fn p5_who_asked_and_is_proven_is_told_that_his_mail_was_handed_over() {
    for (offers_dsn, parameters, bits, expected) in [
        (false, " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Good+40x.test", PROVEN, 1),
        (true, " NOTIFY=SUCCESS", PROVEN, 0),
        (false, "", PROVEN, 0),
        (false, " NOTIFY=NEVER", PROVEN, 0),
        (false, " NOTIFY=SUCCESS", FORGED, 0),
    ] {
        let recipient = format!("good{parameters}");
        let notices = play(plan(1), async move |node| {
            if !offers_dsn {
                knows_no_dsn(&node);
            }
            node.primary.up.set(false);
            node.bring("<a@example.org> ENVID=id", &[&recipient, "other"], "x").await;
            node.authenticate(bits).await;
            node.primary.up.set(true);
            node.wait_until(|node| node.ended() == bounced_and_delivered(0, 2) && node.has_brought_all())
                .await;
            node.clock.sleep(HOUR).await;
            assert_eq!((node.held(), node.ended()), (0, bounced_and_delivered(0, 2)), "{recipient}");
        });
        assert_eq!(notices.len(), expected, "{parameters} {bits} {offers_dsn}: {notices:#?}");
        for notice in notices {
            for words in [
                "Subject: Delivery Status Notification (Relayed)\r\n",
                "Original-Envelope-Id: id\r\n",
                "Original-Recipient: rfc822; Good@x.test\r\nFinal-Recipient: rfc822; good@example.test\r\nAction: relayed\r\n",
                "was handed over to [127.0.0.1]\r\n",
            ] {
                assert!(notice.contains(words), "{words}: {notice}");
            }
            assert!(!notice.contains("other@") && !notice.contains("the body"), "{notice}");
        }
    }
}

/// What the primary has is never sent again for the sake of a notice, and the notice is one, whatever step power fails at.
#[test]
fn a_crash_at_any_step_leaves_one_piece_of_good_news() {
    let (mut repeats, mut crashes) = (0, 0);
    for (seed, steps) in (0..160).map(|number| (number / 80, 1 + number % 80 * 2)) {
        let (disk, taken) = (SimDisk::new(seed, DISK_OCTETS), Rc::default());
        // From the first octet of each life: a lane greets it as soon as the node starts.
        let manner: Manner = Rc::new(|turn| match turn.at {
            At::Hello => Act::Says(
                b"250-primary.test\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 CHUNKING\r\n",
            ),
            _ => refuses(turn),
        });
        let early = Rc::new(Cell::new(false));
        let told = Rc::clone(&early);
        let story = async move |node: Node, now: Rc<Cell<bool>>| {
            node.primary.up.set(false);
            node.bring("<a@example.org>", &["one NOTIFY=SUCCESS"], "x").await;
            node.authenticate(PROVEN).await;
            node.primary.up.set(true);
            now.set(true);
            node.wait_until(|node| node.ended() == bounced_and_delivered(0, 1) && node.has_brought_all())
                .await;
            told.set(true);
        };
        let cut = live(&disk, seed, steps, plan(1), &taken, Rc::clone(&manner), story);
        crashes += u32::from(!early.get());
        let settled = |node: &Node| node.ended() == bounced_and_delivered(0, 1) && node.has_brought_all();
        let after = live(&cut, seed + 1_000, u64::MAX, plan(1), &taken, manner, async move |node, _| {
            node.wait_until(settled).await;
            assert_eq!(node.held(), 0);
        });
        whole(&after);
        let taken = taken.take();
        let (notices, mail): (Vec<&Taken>, Vec<&Taken>) = taken.iter().partition(|taken| is_notice(taken));
        let line = |notice: &&Taken| {
            notice.body.lines().find(|line| line.starts_with("Message-ID:")).map(str::to_owned)
        };
        let ids: BTreeSet<_> = notices.iter().filter_map(line).collect();
        assert_eq!(ids.len(), 1, "seed {seed}, {steps} steps: {ids:?}");
        assert!((1..=2).contains(&mail.len()) && notices.len() <= 2, "twice at most (P4)");
        repeats += mail.len() - 1;
    }
    println!("{crashes} crashes, {repeats} repeats");
    assert!(crashes > 30, "a test in which little is cut off proves little: {crashes}");
}

/// Else whoever says NOTIFY=SUCCESS would be judged by nobody while he waits. He is told nothing: no record is made that could tell.
#[test]
fn who_asks_to_be_told_is_carried_through_like_others() {
    let mut plan = plan(1);
    plan.config.domains[0].when_up = crate::config::WhenUp::Proxy;
    let _ = play(plan, async |node| {
        knows_no_dsn(&node);
        node.primary.xclient.set(super::super::primary::Xclient::Always);
        node.bring("<a@example.org>", &["first"], "x").await;
        node.wait_until(|node| node.ended() == bounced_and_delivered(0, 1)).await;
        let passage = |node: &Node| node.lane().usage.passage.proxied();
        let mut ours = greeted(Rc::clone(&node.shards[0]), &node.spawn).await;
        for (parameters, proxied) in [("", 1), (" NOTIFY=SUCCESS", 2), (" NOTIFY=NEVER", 3)] {
            node.wait_until(|node| node.lane().usage.passage.is_free()).await;
            let envelope =
                format!("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@{DOMAIN}>{parameters}\r\nDATA\r\n");
            converse(&mut ours, envelope.as_bytes(), "354 ").await;
            converse(&mut ours, b"Subject: y\r\n\r\nbody\r\n.\r\n", "250 ").await;
            assert_eq!(passage(&node), proxied, "{parameters}");
        }
    });
}
