//! Messages whose units a notice is made about, from the decision until these are settled durably. Who sends notices, on
//! whatever shard, leaves those alone: else a crash in between would make a second one of what was sent already.
//!
//! One set for the process; its lock is taken twice a notice and once where one is sent.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub struct Owing(Mutex<HashMap<(String, u64), u32>>);

impl Owing {
    /// Units of the message with this stamp in `domain` are owed a notice.
    pub fn begin(&self, domain: &str, stamp: u64) {
        *self.set().entry((domain.to_owned(), stamp)).or_default() += 1;
    }

    /// They are settled, or will not be in this life.
    pub fn end(&self, domain: &str, stamp: u64) {
        let (mut set, key) = (self.set(), (domain.to_owned(), stamp));
        let left = set.get_mut(&key).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            set.remove(&key);
        }
    }

    /// Whether units of the message are.
    #[must_use]
    pub fn has(&self, domain: &str, stamp: u64) -> bool {
        self.set().contains_key(&(domain.to_owned(), stamp))
    }

    /// How many messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set().len()
    }

    /// None.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set().is_empty()
    }

    /// It is whole after each operation, whatever panicked elsewhere.
    fn set(&self) -> MutexGuard<'_, HashMap<(String, u64), u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_owed_until_all_of_it_is_settled() {
        let owing = Owing::default();
        owing.begin("a.test", 1);
        owing.begin("a.test", 1);
        owing.begin("b.test", 1);
        owing.end("a.test", 1);
        assert!(owing.has("a.test", 1) && !owing.has("a.test", 2));
        owing.end("a.test", 1);
        assert!(!owing.has("a.test", 1));
        assert_eq!((owing.len(), owing.is_empty()), (1, false));
    }
}
