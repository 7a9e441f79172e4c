//! What is remembered of primaries' hosts beyond a connection: those that nobody should send chunks ahead of their replies,
//! since they read a refused one as commands, or end the session over it (H45). A good answer is not remembered: behind one
//! address may be several machines, and to ask each connection costs no round trip.

use crate::limits::{DISTRUSTED_AGE, DISTRUSTED_HOSTS_MAX};
use crate::smtp::Moment;
use core::cell::RefCell;
use core::net::SocketAddr;
use std::collections::HashMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    distrusted: RefCell<HashMap<SocketAddr, Moment>>,
}

impl Hosts {
    /// This host is sent no chunks for a while.
    pub(super) fn distrust(&self, host: SocketAddr, now: Moment) {
        let mut distrusted = self.distrusted.borrow_mut();
        if distrusted.len() >= DISTRUSTED_HOSTS_MAX && !distrusted.contains_key(&host) {
            let oldest = distrusted.iter().min_by_key(|(_, since)| **since).map(|(host, _)| *host);
            oldest.map(|oldest| distrusted.remove(&oldest));
        }
        distrusted.insert(host, now);
    }

    /// Whether chunks may be tried with this host.
    pub(super) fn may_have_chunks(&self, host: SocketAddr, now: Moment) -> bool {
        let distrusted = self.distrusted.borrow();
        distrusted.get(&host).is_none_or(|since| now.saturating_sub(*since) >= DISTRUSTED_AGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn distrust_ends_with_its_time_or_with_the_room_for_it() {
        let (hosts, host) = (Hosts::default(), |port| SocketAddr::from(([192, 0, 2, 1], port)));
        hosts.distrust(host(25), Moment::ZERO);
        assert!(!hosts.may_have_chunks(host(25), DISTRUSTED_AGE - Duration::from_secs(1)));
        assert!(
            hosts.may_have_chunks(host(25), DISTRUSTED_AGE) && hosts.may_have_chunks(host(26), Moment::ZERO)
        );
        for port in (1000..).take(DISTRUSTED_HOSTS_MAX) {
            hosts.distrust(host(port), Duration::from_secs(1));
        }
        assert_eq!(hosts.distrusted.borrow().len(), DISTRUSTED_HOSTS_MAX);
        assert!(hosts.may_have_chunks(host(25), Duration::from_secs(2)), "the oldest went");
    }
}
