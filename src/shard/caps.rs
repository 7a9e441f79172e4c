//! How many connections there may be, in all and from one address, over all shards.
//!
//! Touched twice a connection, never by a command. Addresses are spread over a few locks, so that shards
//! which accept at once rarely meet; a lock is held for one map operation.

use core::net::IpAddr;
use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

const STRIPES: usize = 64;

/// The count of connections, shared by all shards.
#[derive(Debug)]
pub struct Caps {
    total: AtomicU32,
    addresses: [Mutex<HashMap<IpAddr, u32>>; STRIPES],
}

/// A connection's place in the count; given back when dropped.
#[derive(Debug)]
pub struct Place {
    caps: Arc<Caps>,
    address: IpAddr,
}

impl Default for Caps {
    fn default() -> Self {
        Self { total: AtomicU32::new(0), addresses: core::array::from_fn(|_| Mutex::default()) }
    }
}

impl Caps {
    /// A place for a connection from `address`, if there may be one more of it and one more in all.
    pub fn enter(self: &Arc<Self>, address: IpAddr, total_max: u32, address_max: u32) -> Option<Place> {
        let mut addresses = self.stripe(address);
        let count = addresses.entry(address).or_insert(0);
        let total = self.total.load(Ordering::Relaxed);
        if *count >= address_max || total >= total_max {
            if *count == 0 {
                addresses.remove(&address);
            }
            return None;
        }
        *count += 1;
        self.total.fetch_add(1, Ordering::Relaxed);
        Some(Place { caps: Arc::clone(self), address })
    }

    fn stripe(&self, address: IpAddr) -> std::sync::MutexGuard<'_, HashMap<IpAddr, u32>> {
        let place = match address {
            IpAddr::V4(address) => address.octets().iter().map(|octet| usize::from(*octet)).sum::<usize>(),
            IpAddr::V6(address) => address.octets().iter().map(|octet| usize::from(*octet)).sum::<usize>(),
        };
        // A count is whole after each operation, whatever panicked elsewhere.
        self.addresses[place % STRIPES].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = self.caps.stripe(self.address);
        if let Entry::Occupied(mut count) = addresses.entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.caps.total.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let caps = Arc::new(Caps::default());
        let (one, two) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = caps.enter(one, 3, 2);
        let _second = caps.enter(one, 3, 2).expect("two of one address");
        assert!(caps.enter(one, 3, 2).is_none(), "a third of one address");
        let _other = caps.enter(two, 3, 2).expect("another address");
        assert!(caps.enter(two, 3, 2).is_none(), "a fourth in all");
        drop(first);
        assert!(caps.enter(two, 3, 2).is_some());
    }
}
