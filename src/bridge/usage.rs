//! How much each domain has stored, over all shards: what quotas and fair shares are measured by.
//!
//! A message counts once in each of its domains, queued or held, from before its 250 until the last of its units in
//! the domain has a final outcome. One table for the life of the process: a reload keeps it, with domains that are
//! not configured any more (H14). Its lock is taken when a domain is looked up by name, never for a count.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub struct Usage {
    domains: Mutex<HashMap<Arc<str>, Arc<DomainUsage>>>,
    all: Arc<AllUsage>,
}

/// What one domain has stored.
#[derive(Debug, Default)]
pub struct DomainUsage {
    messages: AtomicU64,
    octets: AtomicU64,
    all: Arc<AllUsage>,
}

#[derive(Debug, Default)]
struct AllUsage {
    octets: AtomicU64,
    /// Domains that have something stored.
    domains: AtomicU64,
}

impl Usage {
    /// The count of a domain, by its name in lower case.
    #[must_use]
    pub fn domain(&self, name: &str) -> Arc<DomainUsage> {
        // A count is whole after each operation, whatever panicked elsewhere.
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(domain) = domains.get(name) {
            return Arc::clone(domain);
        }
        let domain = Arc::new(DomainUsage { all: Arc::clone(&self.all), ..DomainUsage::default() });
        domains.insert(name.into(), Arc::clone(&domain));
        domain
    }

    /// Octets of all domains.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.all.octets.load(Ordering::Relaxed)
    }

    /// Domains that have something stored.
    #[must_use]
    pub fn domains(&self) -> u64 {
        self.all.domains.load(Ordering::Relaxed)
    }
}

impl DomainUsage {
    /// A message of so many octets is stored.
    pub fn raise(&self, octets: u64) {
        if self.messages.fetch_add(1, Ordering::Relaxed) == 0 {
            self.all.domains.fetch_add(1, Ordering::Relaxed);
        }
        self.octets.fetch_add(octets, Ordering::Relaxed);
        self.all.octets.fetch_add(octets, Ordering::Relaxed);
    }

    /// Nothing of a message is left.
    pub fn lower(&self, octets: u64) {
        if lower_by(&self.messages, 1) == 1 {
            lower_by(&self.all.domains, 1);
        }
        let counted = lower_by(&self.octets, octets);
        lower_by(&self.all.octets, octets.min(counted));
    }

    /// Messages.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Octets.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }
}

/// Never below zero: a record that was rewritten may have other octets than those that were counted. Returns the
/// count before.
fn lower_by(count: &AtomicU64, by: u64) -> u64 {
    let lower = |value: u64| Some(value.saturating_sub(by));
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower).unwrap_or_else(|value| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_raised_and_lowered_is_gone() {
        let usage = Usage::default();
        let (one, two) = (usage.domain("one.test"), usage.domain("two.test"));
        one.raise(100);
        usage.domain("one.test").raise(50);
        two.raise(7);
        assert_eq!((one.messages(), one.octets()), (2, 150));
        assert_eq!((usage.domains(), usage.octets()), (2, 157));
        one.lower(50);
        assert_eq!((usage.domains(), one.messages()), (2, 1));
        two.lower(9);
        assert_eq!(usage.octets(), 100, "a record that grew by a rewrite takes nothing from others");
        one.lower(100);
        assert_eq!((one.messages(), one.octets(), two.octets()), (0, 0, 0));
        assert_eq!((usage.domains(), usage.octets()), (0, 0));
    }
}
