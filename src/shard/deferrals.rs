//! Whom `when_up = "defer"` sent to the primary, and whether he comes back because he cannot go there (H24).
//!
//! We reach the primary, the sender perhaps does not. Who comes back with the same recipient and reverse-path, from the same network (an IPv4 /24 or
//! an IPv6 /64: large senders try again from another host), 10 minutes after his first try or at his third, is taken, and so is what he brings within a
//! day. One table for all shards, since a sender's connections are spread over them. It remembers hashes, at most
//! [`DEFERRALS_MAX`]; while it is full whoever is new is taken: better relayed than sent away by somebody who forgets him.

use crate::limits::{DEFERRAL_AGE, DEFERRAL_GAP, DEFERRAL_PATIENCE, DEFERRAL_TRIES, DEFERRALS_MAX};
use crate::smtp::Moment;
use core::hash::BuildHasher;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::sync::{Mutex, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub struct Deferrals {
    hasher: RandomState,
    tries: Mutex<Tries>,
}

#[derive(Debug, Default)]
struct Tries {
    known: HashMap<u64, Tried>,
    /// When it was looked through for some to forget.
    looked: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Tried {
    first: Moment,
    last: Moment,
    count: u32,
}

impl Deferrals {
    /// Whether the sender is to be taken, which counts as a try.
    pub(super) fn takes(&self, client: IpAddr, reverse_path: &str, mailbox: &str, now: Moment) -> bool {
        let key = self.hasher.hash_one((network(client), reverse_path, mailbox));
        // Whole after each operation, whatever panicked elsewhere.
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |tried: &Tried| now.saturating_sub(tried.first) > DEFERRAL_AGE;
        let is_full = tries.known.len() >= DEFERRALS_MAX;
        if is_full && now.saturating_sub(tries.looked) >= DEFERRAL_PATIENCE {
            tries.looked = now;
            tries.known.retain(|_, tried| !is_old(tried));
        }
        let is_full = tries.known.len() >= DEFERRALS_MAX;
        match tries.known.entry(key) {
            Entry::Vacant(_) if is_full => true,
            Entry::Vacant(vacant) => {
                vacant.insert(Tried { first: now, last: now, count: 1 });
                false
            }
            Entry::Occupied(mut occupied) => {
                let tried = occupied.get_mut();
                if is_old(tried) {
                    *tried = Tried { first: now, last: now, count: 1 };
                } else if now.saturating_sub(tried.last) >= DEFERRAL_GAP {
                    (tried.last, tried.count) = (now, tried.count.saturating_add(1));
                }
                tried.count >= DEFERRAL_TRIES || now.saturating_sub(tried.first) >= DEFERRAL_PATIENCE
            }
        }
    }
}

fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const MINUTE: Duration = Duration::from_secs(60);

    fn takes(deferrals: &Deferrals, client: &str, path: &str, now: Moment) -> bool {
        deferrals.takes(client.parse().expect("an address"), path, "r@example.test", now)
    }

    #[test]
    fn h24_the_third_try_is_taken_and_so_is_one_after_ten_minutes() {
        let deferrals = Deferrals::default();
        assert!(!takes(&deferrals, "192.0.2.1", "a", MINUTE));
        assert!(!takes(&deferrals, "192.0.2.1", "a", MINUTE), "in the same breath");
        assert!(!takes(&deferrals, "192.0.2.1", "a", MINUTE), "however often");
        assert!(!takes(&deferrals, "192.0.2.77", "a", 2 * MINUTE), "another host of the same network");
        assert!(takes(&deferrals, "::ffff:192.0.2.9", "a", 3 * MINUTE), "its third try");
        assert!(takes(&deferrals, "192.0.2.1", "a", 60 * MINUTE), "and what it brings later");
        assert!(!takes(&deferrals, "192.0.3.1", "a", MINUTE), "another network");
        assert!(!takes(&deferrals, "192.0.2.1", "b", MINUTE), "another sender");
        assert!(!takes(&deferrals, "192.0.2.1", "b", 10 * MINUTE));
        let deferrals = Deferrals::default();
        assert!(!takes(&deferrals, "2001:db8::1", "b", MINUTE));
        assert!(takes(&deferrals, "2001:db8::2", "b", 11 * MINUTE), "ten minutes after its first");
        assert!(!takes(&deferrals, "2001:db8::2", "b", 26 * 60 * MINUTE), "a day later it begins anew");
    }

    #[test]
    fn p7_who_cannot_be_remembered_is_taken() {
        let deferrals = Deferrals::default();
        for number in 0..DEFERRALS_MAX {
            assert!(!takes(&deferrals, "192.0.2.1", &number.to_string(), MINUTE));
        }
        assert!(takes(&deferrals, "192.0.2.1", "new", MINUTE));
        assert!(!takes(&deferrals, "192.0.2.1", "0", MINUTE), "who is known is still known");
        assert!(!takes(&deferrals, "192.0.2.1", "new", 25 * 60 * MINUTE), "the old ones are forgotten");
    }
}
