//! What an operator orders about a domain: maintenance, a redirect, and to give mail up.

use super::manner::{Act, At};
use super::node::{self, Plan};
use super::primary::{Primary, Xclient, primary_of};
use super::{DISK_OCTETS, SimShard, SimSpawn, converse, greeted};
use crate::bridge::operator::{
    Action, DomainStatus, Done, Filter, MessageState, Request, Selection, Shards, State, channels,
};
use crate::bridge::{Maintenance, Redirect, Standing};
use crate::config::{OnExpiry, OnReject, Primary as Host, WhenUp};
use crate::shard::link::Spawn;
use crate::shard::mesh::Said;
use crate::shard::operator;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::format::journal_entry::Authentication;
use storage::position::Stamp;
use storage::sim::{Executor, SimClock, SimDisk};

const DOMAIN: &str = "example.test";
const ELSEWHERE: &str = "192.0.2.77:2525";
const SECOND: Duration = Duration::from_secs(1);
/// SPF passed.
const PROVEN: u32 = 1 << 8 | 3;

struct Node {
    shard: Rc<SimShard>,
    shards: Shards,
    primary: Primary,
    clock: SimClock,
    spawn: SimSpawn,
}

impl Node {
    async fn bring(&self, sender: &str) {
        let mut ours = greeted(Rc::clone(&self.shard), &self.spawn).await;
        let envelope = format!("MAIL FROM:{sender}\r\nRCPT TO:<b@{DOMAIN}>\r\nDATA\r\n");
        converse(&mut ours, envelope.as_bytes(), "354 ").await;
        converse(&mut ours, b"Subject: x\r\n\r\nbody\r\n.\r\n", "250 2.0.0 Ok").await;
    }

    async fn order(&self, is_rerouted: bool, change: impl FnOnce(&mut Standing)) {
        let orders = &self.shard.lanes.usage_of(DOMAIN);
        let mut standing = Standing::clone(&orders.orders.get());
        change(&mut standing);
        orders.orders.set(standing);
        let told = self.shards.ask(|answer| Request::Ordered(DOMAIN.into(), is_rerouted, answer)).await;
        told.expect("it answers");
    }

    async fn hold(&self, from_s: u64, lasts_s: u64) {
        let from_s = u64::from(self.shard.wall_s()) + from_s;
        let (until_s, by, reason) = (from_s + lasts_s, "me".to_owned(), String::new());
        let window = Maintenance { from_s, until_s, by, reason };
        self.order(false, |standing| standing.maintenance = Some(window)).await;
    }

    async fn redirect(&self) {
        let to = vec![Host::parse(ELSEWHERE).expect("a host")];
        let redirect = Redirect { to, since_s: 0, by: String::new() };
        self.order(true, |standing| standing.redirect = Some(redirect)).await;
    }

    async fn try_it(&self) -> Result<String, String> {
        let to = vec![Host::parse(ELSEWHERE).expect("a host")];
        let ask = |answer| Request::Try(DOMAIN.into(), to.clone(), format!("postmaster@{DOMAIN}"), answer);
        self.shards.ask(ask).await.expect("it answers").remove(0).expect("it owns the domain")
    }

    async fn status(&self) -> DomainStatus {
        let names: Vec<Arc<str>> = vec![DOMAIN.into()];
        let answer = self.shards.ask(|answer| Request::Domains(names.clone(), answer)).await;
        answer.expect("it answers").remove(0).remove(0)
    }

    async fn bounce(&self) -> Done {
        let filter = Filter { domain: Some(DOMAIN.into()), state: None, ..Filter::default() };
        let ask = |answer| Request::Act(Action::Bounce, Selection::All(filter.clone()), answer);
        self.shards.ask(ask).await.expect("it answers").remove(0)
    }

    fn taken(&self) -> usize {
        self.primary.taken.borrow().len()
    }

    async fn delivered(&self, units: u64) {
        while self.status().await.delivered < units {
            self.clock.sleep(SECOND / 10).await;
        }
    }
}

fn play<F: Future<Output = ()> + 'static>(plan: Plan, up: bool, story: impl FnOnce(Node) -> F + 'static) {
    let clock = SimClock::default();
    let mut executor = Executor::new(1, clock.clone());
    let spawn = SimSpawn(executor.spawner());
    let primary = primary_of(&clock, &spawn, up);
    let told = async move {
        let disk = SimDisk::new(1, DISK_OCTETS);
        let shard = node::start(disk, clock.clone(), &spawn, &primary, plan).await.remove(0);
        let (shards, mut asked) = channels(1);
        let requests = asked.pop().expect("one a shard");
        spawn.spawn(operator::run(Rc::clone(&shard), requests, primary.clone(), spawn.clone()));
        story(Node { shard, shards, primary, clock, spawn }).await;
    };
    executor.run(20_000_000, told).expect("the story ends");
}

#[test]
fn in_maintenance_mail_is_taken_and_nobody_is_asked_and_then_it_goes_by_itself() {
    for when_up in [WhenUp::Proxy, WhenUp::Relay, WhenUp::Defer] {
        let mut plan = Plan::one_shard();
        plan.config.domains[0].when_up = when_up;
        play(plan, true, async |node| {
            // A window that begins later stops nothing before it.
            node.hold(100, 1_000).await;
            assert_eq!(node.status().await.state, State::Unknown);
            node.clock.sleep(101 * SECOND).await;
            node.bring("<a@example.org>").await;
            node.clock.sleep(800 * SECOND).await;
            let status = node.status().await;
            assert_eq!((status.state, status.backlog, status.delivered), (State::Held, 1, 0));
            assert!(status.next_try_s.is_some_and(|next_s| next_s < 200), "{status:?}");
            assert_eq!(node.primary.dialed.get(), 0, "nobody is asked");
            node.clock.sleep(199 * SECOND + 2 * SECOND).await;
            assert_eq!((node.taken(), node.status().await.state), (1, State::Up), "by itself");
        });
    }
}

/// Mail that comes first behind a maintenance in which nobody was met goes to a stranger: his refusals are no verdicts (H22), and nothing is final (H40).
#[test]
fn behind_a_maintenance_the_primary_is_met_as_after_an_outage() {
    let mut plan = Plan::one_shard();
    plan.config.domains[0].when_up = WhenUp::Proxy;
    plan.config.domains[0].on_reject = OnReject::Discard;
    play(plan, true, async |node| {
        node.primary.xclient.set(Xclient::Always);
        node.bring("<a@example.org>").await;
        node.delivered(1).await;
        node.clock.sleep(SECOND).await;
        let passes = |node: &Node| {
            let usage = node.shard.lanes.usage_of(DOMAIN);
            usage.passage.is_free() && usage.lets_pass(node.shard.wall_s().into(), node.clock.now())
        };
        assert!(passes(&node), "all is well");
        node.hold(10, 600).await;
        node.clock.sleep(620 * SECOND).await;
        assert!(!passes(&node), "nobody has met it since");
        // It is half restored.
        node.primary.manner.replace(Some(Rc::new(|turn| match turn.at {
            At::Recipient => Act::Reply("550 5.1.1 who is that"),
            _ => Act::Regular,
        })));
        node.bring("<a@example.org>").await;
        node.clock.sleep(30 * SECOND).await;
        let status = node.status().await;
        assert_eq!((status.discarded, status.backlog, status.proxied), (0, 1, 0), "{status:?}");
        node.primary.manner.replace(None);
        node.delivered(2).await;
        node.clock.sleep(SECOND).await;
        assert!(passes(&node));
    });
}

#[test]
fn a_window_that_begins_while_mail_goes_stops_it_between_two_messages() {
    play(Plan::one_connection(), false, async |node| {
        for _ in 0..30 {
            node.bring("<a@example.org>").await;
        }
        node.primary.thinks.set(SECOND);
        node.primary.up.set(true);
        node.delivered(1).await;
        node.hold(2, 600).await;
        node.clock.sleep(60 * SECOND).await;
        let taken = node.taken();
        assert!((1..30).contains(&taken), "{taken}");
        node.clock.sleep(300 * SECOND).await;
        assert_eq!((node.taken(), node.status().await.backlog), (taken, 30 - taken as u64));
        // And ends as soon as the operator says so; nothing came twice.
        node.order(false, |standing| standing.maintenance = None).await;
        node.delivered(30).await;
        assert_eq!(node.taken(), 30);
    });
}

#[test]
fn mail_goes_where_it_is_redirected_and_nothing_is_learned_there() {
    play(Plan::one_shard(), false, async |node| {
        for _ in 0..3 {
            node.bring("<a@example.org>").await;
        }
        node.clock.sleep(5 * SECOND).await;
        assert_eq!(node.status().await.state, State::Down);
        node.primary.up.set(true);
        node.primary.refuses.set(Some([127, 0, 0, 1].into()));
        node.redirect().await;
        node.delivered(3).await;
        let status = node.status().await;
        assert_eq!((status.redirected, status.backlog), (3, 0));
        assert_eq!(node.primary.addresses.borrow().last().map(String::as_str), Some(ELSEWHERE));
        let known = Arc::clone(node.shard.snapshot.borrow().recipients_of(DOMAIN).expect("configured"));
        let day = Duration::from_secs(86_400);
        assert!(
            !known.is_accepted("b", None, node.shard.instants(), day),
            "a stranger says nothing about recipients"
        );
        assert!(!node.shard.lanes.usage_of(DOMAIN).passage.is_free(), "nobody is carried through");
        node.primary.refuses.set(None);
        node.order(true, |standing| standing.redirect = None).await;
        node.bring("<a@example.org>").await;
        node.delivered(4).await;
        assert_eq!(node.status().await.redirected, 3);
        assert_ne!(node.primary.addresses.borrow().last().map(String::as_str), Some(ELSEWHERE));
    });
}

#[test]
fn a_test_message_says_what_mail_would_meet_and_is_nobodys_mail() {
    play(Plan::one_shard(), false, async |node| {
        let error = node.try_it().await.expect_err("nobody is there");
        assert!(error.contains("no connection"), "{error}");
        node.primary.up.set(true);
        let said = node.try_it().await.expect("it is taken");
        assert!(said.starts_with("192.0.2.77:2525 took it: 250 "), "{said}");
        let taken =
            node.primary.taken.borrow().last().map(|taken| (taken.subject.clone(), taken.recipients.clone()));
        let subject = format!("Test before mail of {DOMAIN} is redirected here");
        assert_eq!(taken, Some((subject, vec![format!("postmaster@{DOMAIN}")])));
        for (at, reply, words) in [
            (At::Sender, "550 5.7.1 not you", "MAIL: 550 5.7.1 not you"),
            (At::Recipient, "550 5.1.1 nobody", "RCPT: 550 5.1.1 nobody"),
            (At::DataStart, "451 later", "DATA: 451 later"),
            (At::DataEnd, "554 5.6.0 not this", "the end of data: 554 5.6.0 not this"),
        ] {
            node.primary.manner.replace(Some(Rc::new(move |turn| match turn.at == at {
                true => Act::Reply(reply),
                false => Act::Regular,
            })));
            let error = node.try_it().await.expect_err(reply);
            assert!(error.ends_with(&format!("refused it at {words}")), "{error}");
        }
        node.primary.manner.replace(Some(Rc::new(|turn| match turn.at {
            At::DataEnd => Act::TakeAndHang,
            _ => Act::Regular,
        })));
        let error = node.try_it().await.expect_err("it hangs");
        assert!(error.ends_with("no answer in time") || error.ends_with("did not answer in time"), "{error}");
        let status = node.status().await;
        assert_eq!((status.accepted, status.delivered, status.backlog), (0, 0, 0));
    });
}

#[test]
fn p5_given_up_by_an_operator_is_told_to_the_proven_and_held_for_the_others() {
    let mut plan = Plan::one_shard();
    let domain = &mut plan.config.domains[0];
    (domain.on_reject, domain.on_expiry) = (OnReject::Hold, OnExpiry::Hold);
    domain.smarthost = Host::parse("192.0.2.9").ok();
    play(plan, false, async |node| {
        for sender in ["<proven@example.org>", "<forged@example.org>", "<>"] {
            node.bring(sender).await;
        }
        node.clock.sleep(SECOND).await;
        node.shard.empty_inbox();
        let lane = node.shard.lanes.of(DOMAIN).expect("it has mail");
        let stamps = lane.queue.borrow().stamps(Stamp::NONE, Some(MessageState::Queued), 9);
        assert_eq!(stamps.len(), 3);
        let authentication = Authentication { stamp: stamps[0], bits: PROVEN };
        node.shard.lanes.annotate(&[Said { domains: vec![DOMAIN.into()], authentication }]);
        let done = node.bounce().await;
        assert_eq!((done.found, done.messages, done.units, done.unproven), (3, 2, 2, 1));
        let status = node.status().await;
        assert_eq!((status.bounced, status.held, status.backlog, status.messages), (2, 1, 0, 1));
        // Once more changes nothing, and what is held is there to be released.
        let done = node.bounce().await;
        assert_eq!((done.found, done.messages, done.unproven), (1, 0, 1));
        node.primary.up.set(true);
        while node.taken() == 0 {
            node.clock.sleep(SECOND).await;
        }
        node.clock.sleep(60 * SECOND).await;
        let taken = node.primary.taken.borrow();
        let [notice] = &taken[..] else { panic!("one notice, and nothing else: {}", taken.len()) };
        assert_eq!(notice.recipients, ["proven@example.org"]);
        assert!(notice.body.contains("given up by those who run this mail server"), "{}", notice.body);
    });
}
