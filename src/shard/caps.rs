//! How many connections there may be, in all and from one address, and how fast connections and messages may come
//! from one address, over all shards.
//!
//! An address is an IPv4 address, or the /64 of an IPv6 one: that much every customer of a provider has to himself.
//! Touched twice a connection and once a message, never by another command. Addresses are spread over a few locks, so
//! that shards which work at once rarely meet; a lock is held for one map operation.
//!
//! **Rates**: so many a minute, all of them at once if none came before (the generic cell rate algorithm of ITU-T I.371:
//! one instant an address and kind says everything). An address is forgotten when it has no connections and its
//! minute is over. At most [`ADDRESSES_MAX`] are remembered: a new one beyond that is taken and not counted by
//! rate, since refusing it would let whoever has many addresses lock everybody else out.

use crate::limits::ADDRESSES_MAX;
use crate::smtp::Moment;
use core::net::{IpAddr, Ipv6Addr};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const STRIPES: usize = 64;
/// A stripe with fewer addresses is not looked through for some to forget.
const STRIPE_ADDRESSES_MIN: usize = 64;
/// What a stripe remembers at most.
const STRIPE_ADDRESSES_MAX: usize = ADDRESSES_MAX / STRIPES;
/// How often a full stripe is looked through.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// What a rate is counted over, and what may come at once.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// What an address may have at most; 0 for a rate means any.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Connections at a time, of all addresses.
    pub total: u32,
    /// Connections at a time, of one address.
    pub each: u32,
    /// Connections a minute, of one address.
    pub connections_a_minute: u32,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many connections at a time.
    Many,
    /// Too many in a short time.
    Fast,
}

/// The count of connections, shared by all shards.
#[derive(Debug)]
pub struct Caps {
    total: AtomicU32,
    stripes: [Mutex<Stripe>; STRIPES],
}

#[derive(Debug, Default)]
struct Stripe {
    addresses: HashMap<IpAddr, Address>,
    /// At so many addresses those that can be forgotten are.
    full_at: usize,
    /// When that was done last.
    looked: Moment,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, Default)]
struct Address {
    connections: u32,
    connection_rate: Rate,
    message_rate: Rate,
}

/// When all that came would have come at an even pace.
#[derive(Clone, Copy, Debug, Default)]
struct Rate(Moment);

/// A connection's place in the count; given back when dropped.
#[derive(Debug)]
pub struct Place {
    caps: Arc<Caps>,
    /// None: it counts in the total only.
    address: Option<IpAddr>,
}

impl Default for Caps {
    fn default() -> Self {
        Self { total: AtomicU32::new(0), stripes: core::array::from_fn(|_| Mutex::default()) }
    }
}

impl Caps {
    /// A place in the total for a connection whose client is not known yet.
    #[must_use]
    pub fn enter(self: &Arc<Self>, total_max: u32) -> Option<Place> {
        let enter = |total: u32| (total < total_max).then_some(total + 1);
        // A count, ordered against nothing.
        let entered = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok();
        entered.then(|| Place { caps: Arc::clone(self), address: None })
    }

    /// Whether `client` may send one more message; counts it if so.
    #[must_use]
    pub fn take_message(&self, client: IpAddr, a_minute: u32, now: Moment) -> bool {
        let address = network_of(client);
        let mut stripe = self.stripe(address);
        // A client that XCLIENT names has no connection here, and counts all the same.
        stripe.remember(address, now).is_none_or(|known| known.message_rate.take(a_minute, now))
    }

    fn stripe(&self, address: IpAddr) -> MutexGuard<'_, Stripe> {
        let place = match address {
            IpAddr::V4(address) => address.octets().iter().map(|octet| usize::from(*octet)).sum::<usize>(),
            IpAddr::V6(address) => address.octets().iter().map(|octet| usize::from(*octet)).sum::<usize>(),
        };
        // A count is whole after each operation, whatever panicked elsewhere.
        self.stripes[place % STRIPES].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The connection is `client`'s, who may have so many.
    ///
    /// # Errors
    /// Too many, at a time or a minute; the place in the total ends with `self` then.
    pub fn assign(mut self, client: IpAddr, most: &Most, now: Moment) -> Result<Self, Refusal> {
        debug_assert!(self.address.is_none());
        let address = network_of(client);
        let caps = Arc::clone(&self.caps);
        let mut stripe = caps.stripe(address);
        let Some(known) = stripe.remember(address, now) else { return Ok(self) };
        if known.connections >= most.each {
            return Err(Refusal::Many);
        }
        if !known.connection_rate.take(most.connections_a_minute, now) {
            return Err(Refusal::Fast);
        }
        known.connections += 1;
        self.address = Some(address);
        Ok(self)
    }
}

impl Stripe {
    /// What is known of `address`; none when there are too many already.
    fn remember(&mut self, address: IpAddr, now: Moment) -> Option<&mut Address> {
        self.full_at = self.full_at.max(STRIPE_ADDRESSES_MIN);
        if self.addresses.len() >= self.full_at && !self.addresses.contains_key(&address) {
            // Looked through when as many have come again, and once a second at the bound: a fixed cost an address.
            if self.full_at < STRIPE_ADDRESSES_MAX || now >= self.looked + LOOK_PAUSE {
                self.addresses.retain(|_, known| !known.can_be_forgotten(now));
                self.full_at = (2 * self.addresses.len()).clamp(STRIPE_ADDRESSES_MIN, STRIPE_ADDRESSES_MAX);
                self.looked = now;
            }
            if self.addresses.len() >= self.full_at {
                return None;
            }
        }
        Some(self.addresses.entry(address).or_default())
    }
}

impl Address {
    fn can_be_forgotten(&self, now: Moment) -> bool {
        self.connections == 0 && self.connection_rate.0 <= now && self.message_rate.0 <= now
    }
}

impl Rate {
    /// Whether one more may come; it is counted then.
    fn take(&mut self, a_minute: u32, now: Moment) -> bool {
        if a_minute == 0 {
            return true;
        }
        let next = self.0.max(now) + RATE_WINDOW / a_minute;
        let fits = next <= now + RATE_WINDOW;
        if fits {
            self.0 = next;
        }
        fits
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(address) = self.address
            && let Entry::Occupied(mut known) = self.caps.stripe(address).addresses.entry(address)
        {
            known.get_mut().connections -= 1;
            // Forgotten at once where no rate speaks against it, which the next look would find anyway.
            if known.get().can_be_forgotten(Moment::ZERO) {
                known.remove();
            }
        }
        self.caps.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What counts as one address.
fn network_of(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Duration::from_secs(100);

    fn enter(
        caps: &Arc<Caps>,
        client: &str,
        total: u32,
        each: u32,
        a_minute: u32,
    ) -> Result<Place, Option<Refusal>> {
        let most = Most { total, each, connections_a_minute: a_minute };
        let place = caps.enter(most.total).ok_or(None)?;
        place.assign(client.parse().unwrap(), &most, NOW).map_err(Some)
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let caps = Arc::new(Caps::default());
        let (one, two) = ("127.0.0.1", "127.0.0.2");
        let first = enter(&caps, one, 3, 2, 0);
        let _second = enter(&caps, one, 3, 2, 0).expect("two of one address");
        assert_eq!(enter(&caps, one, 3, 2, 0).unwrap_err(), Some(Refusal::Many), "a third of one address");
        let _other = enter(&caps, two, 3, 2, 0).expect("another address");
        assert_eq!(enter(&caps, two, 3, 2, 0).unwrap_err(), None, "a fourth in all");
        drop(first);
        assert!(enter(&caps, two, 3, 2, 0).is_ok());
    }

    #[test]
    fn an_ipv6_network_of_a_customer_is_one_address() {
        let caps = Arc::new(Caps::default());
        let _first = enter(&caps, "2001:db8:0:1::1", 9, 1, 0).unwrap();
        assert!(enter(&caps, "2001:db8:0:1:ffff::2", 9, 1, 0).is_err());
        let _next = enter(&caps, "2001:db8:0:2::1", 9, 1, 0).unwrap();
        let _plain = enter(&caps, "::ffff:192.0.2.1", 9, 1, 0).unwrap();
        assert!(enter(&caps, "192.0.2.1", 9, 1, 0).is_err(), "mapped and plain are the same");
        let _other = enter(&caps, "::ffff:192.0.2.2", 9, 1, 0).unwrap();
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_at_its_pace() {
        let mut rate = Rate::default();
        assert_eq!((0..100).filter(|_| rate.take(30, NOW)).count(), 30);
        assert!(!rate.take(30, NOW + Duration::from_millis(1_999)));
        assert!(rate.take(30, NOW + Duration::from_secs(2)));
        assert!(!rate.take(30, NOW + Duration::from_secs(2)));
        let rested = NOW + Duration::from_secs(3_600);
        assert_eq!((0..100).filter(|_| rate.take(30, rested)).count(), 30, "rest is saved for a minute only");
        assert!((0..100).all(|_| rate.take(0, NOW)), "0 is any");
    }

    #[test]
    fn rates_outlive_connections_and_messages_have_their_own() {
        let caps = Arc::new(Caps::default());
        for _ in 0..5 {
            drop(enter(&caps, "192.0.2.1", 9, 9, 5).unwrap());
        }
        assert_eq!(enter(&caps, "192.0.2.1", 9, 9, 5).unwrap_err(), Some(Refusal::Fast));
        let _place = enter(&caps, "192.0.2.2", 9, 9, 5).expect("another address");
        let client = "192.0.2.2".parse().unwrap();
        assert_eq!((0..9).filter(|_| caps.take_message(client, 4, NOW)).count(), 4);
        assert_eq!(caps.total.load(Ordering::Relaxed), 1, "who is refused has no place");
        let told = "192.0.2.3".parse().unwrap();
        assert_eq!((0..9).filter(|_| caps.take_message(told, 4, NOW)).count(), 4, "named by XCLIENT");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let caps = Arc::new(Caps::default());
        let most = Most { total: 9, each: 9, connections_a_minute: 1 };
        let knock = |number: u32, now| {
            let client = IpAddr::from(number.to_be_bytes());
            caps.enter(9).unwrap().assign(client, &most, now).map(drop)
        };
        let count = u32::try_from(ADDRESSES_MAX).unwrap() * 2;
        for number in 0..count {
            assert_eq!(knock(number, NOW), Ok(()), "no new address is turned away");
        }
        let remembered =
            || caps.stripes.iter().map(|stripe| stripe.lock().unwrap().addresses.len()).sum::<usize>();
        assert!(remembered() <= ADDRESSES_MAX, "{}", remembered());
        let later = NOW + RATE_WINDOW;
        for number in count..count + count / 8 {
            assert_eq!(knock(number, later), Ok(()));
        }
        assert!(remembered() <= ADDRESSES_MAX / 2, "those whose minute is over went: {}", remembered());
    }
}
