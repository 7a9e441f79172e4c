//! Hosts that lanes connect to, by address, and what is remembered of them beyond a connection.
//!
//! Many domains share one, and one of them asks whether it is back (H49).
//! A host that failed is not asked again for another domain for [`HOST_FAILURE_AGE`], nor while somebody asks; lanes that would have are
//! noted, and stirred as soon as it serves anyone. Who has a reason of his own to know, as after ETRN, asks all the same.
//! Hosts beyond [`HOSTS_MAX`] are not remembered: they are asked by every domain of theirs.
//!
//! Nobody should send chunks ahead of their replies to one that reads a refused one as commands, or ends the session over it
//! (H45). A good answer is not remembered: behind one address may be several machines, and to ask each connection costs no
//! round trip.

use super::backlog::Lane;
use crate::limits::{DISTRUSTED_AGE, HOST_FAILURE_AGE, HOSTS_MAX, PACED_AGE};
use crate::smtp::Moment;
use core::cell::RefCell;
use core::net::SocketAddr;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    hosts: RefCell<HashMap<SocketAddr, Host>>,
}

#[derive(Debug, Default)]
struct Host {
    /// When it failed last, unless it served since.
    failed: Option<Moment>,
    /// When it served a session last.
    served: Option<Moment>,
    /// It failed, and since then somebody asks again.
    asked: Option<Moment>,
    /// For whom it was asked last.
    by: Option<Arc<str>>,
    /// Since when it is sent no chunks.
    distrusted: Option<Moment>,
    /// Sessions beside the first one of a lane.
    further: usize,
    /// Lanes that wait for it.
    waiting: HashMap<Arc<str>, Rc<Lane>>,
}

impl Hosts {
    /// Whether to connect to it now; else `lane` is noted. Who does tells how it went. Who `insists` does in any case.
    pub(super) fn may_ask(
        &self,
        address: SocketAddr,
        lane: Option<&Rc<Lane>>,
        insists: bool,
        now: Moment,
    ) -> bool {
        let mut hosts = self.hosts.borrow_mut();
        if is_stray(lane) {
            return true;
        }
        let Some(host) = hosts.get_mut(&address) else { return true };
        let Some(failed) = host.failed else { return true };
        // Who asks and never says how it went, as at a change of the configuration, is not waited for.
        let is_asked = host.asked.is_some_and(|asked| now < asked + HOST_FAILURE_AGE);
        // His own pace is his.
        let is_his = |lane: &Rc<Lane>| host.by.as_ref() == Some(&lane.domain);
        if insists || lane.is_none_or(is_his) || (now >= failed + HOST_FAILURE_AGE && !is_asked) {
            (host.asked, host.by) = (Some(now), lane.map(|lane| Arc::clone(&lane.domain)));
            return true;
        }
        host.note(lane);
        false
    }

    /// It does not answer, or serves nobody.
    pub(super) fn failed(&self, address: SocketAddr, lane: Option<&Rc<Lane>>, now: Moment) {
        if is_stray(lane) {
            // A test of the operator's: it says nothing to those who wait for their own.
            return;
        }
        self.remember(address, now, |host| {
            (host.failed, host.asked) = (Some(now), None);
            host.by = lane.map(|lane| Arc::clone(&lane.domain));
            host.note(lane);
        });
    }

    /// It serves a session of `lane`. Others that waited for it look again.
    pub(super) fn served(&self, address: SocketAddr, lane: Option<&Rc<Lane>>, now: Moment) {
        self.remember(address, now, |host| {
            (host.failed, host.asked, host.by, host.served) = (None, None, None, Some(now));
            host.stir(lane);
        });
    }

    /// It greets, and does not show `lane` what that domain wants: others that waited for it look again.
    pub(super) fn greets(&self, address: SocketAddr, lane: Option<&Rc<Lane>>) {
        let mut hosts = self.hosts.borrow_mut();
        let Some(host) = hosts.get_mut(&address) else { return };
        (host.failed, host.asked, host.by) = (None, None, None);
        host.stir(lane);
    }

    /// A session of it goes on.
    pub(super) fn still_serves(&self, address: SocketAddr, now: Moment) {
        if let Some(host) = self.hosts.borrow_mut().get_mut(&address) {
            host.served = Some(now);
        }
    }

    /// A lane opens a session beside its first one, if all lanes together have not `most` of these. Who may says when it is over.
    pub(super) fn open_further(&self, address: SocketAddr, most: usize) -> bool {
        let mut hosts = self.hosts.borrow_mut();
        // One that is not remembered has its first session only.
        let Some(host) = hosts.get_mut(&address) else { return false };
        let may = host.further < most;
        host.further += usize::from(may);
        may
    }

    /// One is over.
    pub(super) fn close_further(&self, address: SocketAddr) {
        if let Some(host) = self.hosts.borrow_mut().get_mut(&address) {
            host.further -= 1;
        }
    }

    /// It is sent no chunks for a while.
    pub(super) fn distrust(&self, address: SocketAddr, now: Moment) {
        self.remember(address, now, |host| host.distrusted = Some(now));
    }

    /// Whether chunks may be tried with it.
    pub(super) fn may_have_chunks(&self, address: SocketAddr, now: Moment) -> bool {
        let since = self.hosts.borrow().get(&address).and_then(|host| host.distrusted);
        since.is_none_or(|since| now >= since + DISTRUSTED_AGE)
    }

    /// When it served a session last, as far as that is remembered.
    pub(super) fn last_served(&self, address: SocketAddr) -> Option<Moment> {
        self.hosts.borrow().get(&address)?.served
    }

    fn remember(&self, address: SocketAddr, now: Moment, note: impl FnOnce(&mut Host)) {
        let mut hosts = self.hosts.borrow_mut();
        if hosts.len() >= HOSTS_MAX && !hosts.contains_key(&address) {
            hosts.retain(|_, host| host.is_worth_keeping(now));
            if hosts.len() >= HOSTS_MAX {
                return;
            }
        }
        note(hosts.entry(address).or_default());
    }
}

impl Host {
    /// Lanes that wait for it look again, but for `but`.
    fn stir(&mut self, but: Option<&Rc<Lane>>) {
        for waiting in core::mem::take(&mut self.waiting).into_values() {
            if but.is_none_or(|but| !Rc::ptr_eq(but, &waiting)) {
                waiting.stirred.notify_all();
            }
        }
    }

    fn note(&mut self, lane: Option<&Rc<Lane>>) {
        if let Some(lane) = lane {
            self.waiting.entry(Arc::clone(&lane.domain)).or_insert_with(|| Rc::clone(lane));
        }
    }

    fn is_worth_keeping(&self, now: Moment) -> bool {
        !self.waiting.is_empty()
            || self.further > 0
            || self.distrusted.is_some_and(|since| now < since + DISTRUSTED_AGE)
            || self.served.is_some_and(|served| now < served + PACED_AGE)
    }
}

/// See [`Lanes::stray`](super::backlog::Lanes::stray).
fn is_stray(lane: Option<&Rc<Lane>>) -> bool {
    lane.is_some_and(|lane| lane.domain.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::Usage;
    use crate::shard::backlog::Lanes;
    use core::time::Duration;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn h49_one_of_many_domains_asks_and_all_hear_that_it_is_back() {
        let lanes = Lanes::new(Arc::<Usage>::default());
        let lanes: Vec<Rc<Lane>> = (0..5).map(|n| lanes.made(&format!("{n}.test"))).collect();
        let (hosts, address) = (Hosts::default(), SocketAddr::from(([192, 0, 2, 1], 25)));
        let mut now = Duration::from_secs(100);
        let may = |now| lanes.iter().filter(|lane| hosts.may_ask(address, Some(lane), false, now)).count();
        assert_eq!(may(now), 5, "nothing is known");
        hosts.failed(address, Some(&lanes[0]), now);
        assert_eq!(may(now), 1, "who asked goes by his own schedule");
        hosts.failed(address, Some(&lanes[0]), now);
        now += HOST_FAILURE_AGE;
        assert_eq!(may(now), 1, "one asks for all");
        hosts.failed(address, Some(&lanes[0]), now);
        assert!(hosts.may_ask(address, Some(&lanes[3]), true, now), "ETRN");
        hosts.failed(address, Some(&lanes[3]), now);
        now += HOST_FAILURE_AGE;
        assert_eq!(may(now), 1);
        assert_eq!(may(now + HOST_FAILURE_AGE), 1, "who asked never came back");
        let waits: Vec<_> = lanes.iter().map(|lane| lane.stirred.wait()).collect();
        hosts.served(address, None, now);
        for (lane, wait) in lanes.iter().zip(waits) {
            assert!(block_on(poll_once(wait)).is_some(), "{}", lane.domain);
        }
        assert_eq!(may(now), 5);
        assert_eq!(hosts.last_served(address), Some(now));
        hosts.still_serves(address, now + HOST_FAILURE_AGE);
        assert_eq!(hosts.last_served(address), Some(now + HOST_FAILURE_AGE));
        hosts.failed(address, Some(&lanes[0]), now);
        let wait = lanes[0].stirred.wait();
        hosts.served(address, Some(&lanes[0]), now);
        assert!(block_on(poll_once(wait)).is_none(), "nobody stirs himself");
        // One domain asks for what the host does not show; the others go there.
        hosts.failed(address, Some(&lanes[0]), now);
        let wait = lanes[1].stirred.wait();
        assert_eq!(may(now), 1);
        hosts.greets(address, Some(&lanes[0]));
        assert!(block_on(poll_once(wait)).is_some() && may(now) == 5);
    }

    #[test]
    fn h45_distrust_ends_with_its_time() {
        let (hosts, host) = (Hosts::default(), |port| SocketAddr::from(([192, 0, 2, 1], port)));
        hosts.distrust(host(25), Duration::ZERO);
        assert!(!hosts.may_have_chunks(host(25), DISTRUSTED_AGE - Duration::from_secs(1)));
        assert!(hosts.may_have_chunks(host(25), DISTRUSTED_AGE));
        assert!(hosts.may_have_chunks(host(26), Duration::ZERO));
        hosts.served(host(25), None, Duration::from_secs(9));
        assert!(!hosts.may_have_chunks(host(25), Duration::from_secs(9)), "though it serves");
    }

    #[test]
    fn further_sessions_of_all_lanes_have_a_bound_a_host() {
        let (hosts, host) = (Hosts::default(), SocketAddr::from(([192, 0, 2, 1], 25)));
        assert!(!hosts.open_further(host, 2), "it serves nobody");
        hosts.served(host, None, Duration::ZERO);
        assert!(hosts.open_further(host, 2) && hosts.open_further(host, 2) && !hosts.open_further(host, 2));
        hosts.close_further(host);
        assert!(hosts.open_further(host, 2));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let hosts = Hosts::default();
        let address = |n: usize| {
            let octets = u32::try_from(n).expect("small").to_be_bytes();
            SocketAddr::from((octets, 25))
        };
        for number in 0..HOSTS_MAX + 9 {
            hosts.failed(address(number), None, Duration::ZERO);
        }
        assert!(hosts.hosts.borrow().len() <= HOSTS_MAX);
        assert!(hosts.may_ask(address(HOSTS_MAX * 2), None, false, Duration::ZERO));
    }
}
