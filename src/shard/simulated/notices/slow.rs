//! Hosts that are slow on purpose hold up no notice but their own.

use super::*;
use crate::config::Primaries;
use crate::limits::{NOTICE_PATIENCE, NOTICE_SESSIONS_A_DESTINATION_MAX, NOTICE_SESSIONS_MAX};
use core::net::IpAddr;
use std::collections::HashMap;

const SECOND: Duration = Duration::from_secs(1);

/// Notices for these domains go to a host of each.
fn plan_for(domains: &[&str]) -> Plan {
    let mut plan = plan(1);
    plan.config.domains[0].smarthost = None;
    for (name, octet) in domains.iter().zip(60..) {
        let mut domain = plan.config.domains[0].clone();
        domain.name = (*name).to_owned();
        let host = Host::parse(&IpAddr::from([192, 0, 2, octet]).to_string()).expect("an address");
        domain.primaries = Primaries::Hosts(vec![host]);
        plan.config.domains.push(domain);
    }
    plan
}

/// Refuses spam. Whoever is called slow waits for an hour at RCPT, whoever is called late for nine minutes at the end of data; counts those.
fn tarpit(slow: Rc<Cell<u32>>) -> Manner {
    let names = RefCell::new(HashMap::new());
    Rc::new(move |turn| match turn.at {
        At::Recipient => {
            names.borrow_mut().insert(turn.connection, turn.recipient.to_owned());
            let is_slow = turn.recipient.starts_with("slow");
            slow.set(slow.get() + u32::from(is_slow));
            if is_slow { Act::Wait(HOUR) } else { Act::Regular }
        }
        At::DataEnd if turn.subject == "spam" => Act::Reply("554 5.7.1 we do not want this"),
        At::DataEnd => {
            let is_late = names.borrow().get(&turn.connection).is_some_and(|name| name.starts_with("late"));
            slow.set(slow.get() + u32::from(is_late));
            if is_late { Act::Wait(9 * Duration::from_secs(60)) } else { Act::Regular }
        }
        _ => Act::Regular,
    })
}

fn count(node: &Node, name: &str) -> usize {
    let taken = node.primary.taken.borrow();
    taken.iter().filter(|taken| taken.recipients.iter().any(|to| to.starts_with(name))).count()
}

/// Twenty notices for one tarpit, and then one for somebody else.
#[test]
fn p7_one_destination_that_is_slow_has_few_sessions_and_little_time() {
    let slow = Rc::<Cell<u32>>::default();
    let told = Rc::clone(&slow);
    let (disk, taken) = (SimDisk::new(1, DISK_OCTETS), Rc::default());
    let plan = plan_for(&["tarpit.test", "quick.test"]);
    live(&disk, 1, u64::MAX, plan, &taken, tarpit(slow), async move |node, _| {
        for number in 0..20 {
            node.bring(&format!("<slow{number}@tarpit.test>"), &["a"], "spam").await;
        }
        node.authenticate(PROVEN).await;
        node.wait_until(|_| told.get() == NOTICE_SESSIONS_A_DESTINATION_MAX).await;
        node.bring("<ann@quick.test>", &["a"], "spam").await;
        node.authenticate(PROVEN).await;
        let began = node.clock.now();
        node.wait_until(|node| count(node, "ann@") == 1).await;
        assert!(node.clock.now() - began < 5 * SECOND, "{:?}", node.clock.now() - began);
        assert_eq!(told.get(), NOTICE_SESSIONS_A_DESTINATION_MAX);
        // And the tarpit is left alone soon.
        let is_open = |node: &Node| node.primary.live.get() > 0;
        assert!(is_open(&node));
        node.wait_until(|node| node.shards[0].lanes.made(NOTICES_DOMAIN).queue.borrow().len() == 20).await;
        assert!(node.clock.now() - began < NOTICE_PATIENCE + 15 * SECOND);
        assert_eq!(told.get(), NOTICE_SESSIONS_A_DESTINATION_MAX, "those that waited stepped aside untried");
    });
}

/// Whoever thinks over the data for long has his time, and gives his place to others meanwhile.
#[test]
fn p7_late_answers_to_the_data_hold_up_nobody_beyond_their_patience() {
    let late = Rc::<Cell<u32>>::default();
    let told = Rc::clone(&late);
    let (disk, taken) = (SimDisk::new(1, DISK_OCTETS), Rc::default());
    let names = ["a.test", "b.test", "c.test", "d.test", "e.test", "quick.test"];
    live(&disk, 1, u64::MAX, plan_for(&names), &taken, tarpit(late), async move |node, _| {
        for number in 0..2 {
            for name in &names[..5] {
                node.bring(&format!("<late{number}@{name}>"), &["a"], "spam").await;
            }
        }
        node.authenticate(PROVEN).await;
        node.wait_until(|_| told.get() == NOTICE_SESSIONS_MAX).await;
        let began = node.clock.now();
        node.bring("<ann@quick.test>", &["a"], "spam").await;
        node.authenticate(PROVEN).await;
        node.wait_until(|node| count(node, "ann@") == 1).await;
        let took = node.clock.now() - began;
        assert!(took < NOTICE_PATIENCE + 5 * SECOND, "{took:?}");
        node.wait_until(Node::has_brought_all).await;
        assert_eq!(count(&node, "late"), 10, "each of them once: nobody was given up");
    });
}
