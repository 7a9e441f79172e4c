//! How much mail one recipient may be sent in a time: large providers refuse what is more, and some of them say 5xx then. Pure.
//!
//! A message for somebody who had his share waits, and with it what comes behind it for any of its recipients (P3); others go on.
//! The share is a burst and then one message an interval (a leaky bucket, of which only the moment is kept when it will be
//! empty). A provider that puts a recipient off for his rate knows better than we: he gets nothing for a while.
//!
//! [`PACED_RECIPIENTS_MAX`] are remembered at a time; more: those that had their burst least lately go first, and who is not remembered
//! has a whole burst.

use crate::limits::PACED_RECIPIENTS_MAX;
use crate::smtp::Moment;
use core::hash::{Hash, Hasher};
use core::time::Duration;
use std::collections::HashMap;
use std::hash::DefaultHasher;

/// A recipient, by his name in the form in which names are compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::shard) struct Key(pub(in crate::shard) u64);

/// A burst of messages, and one each interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) struct Rate {
    pub(in crate::shard) burst: u32,
    pub(in crate::shard) interval: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::shard) struct Pacing {
    rate: Option<Rate>,
    /// When each one's bucket is empty.
    empty: HashMap<Key, Moment>,
}

impl Key {
    /// That of a name.
    pub(in crate::shard) fn of(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Rate {
    /// Most messages in any time of this length.
    #[cfg(test)]
    pub(in crate::shard) fn most_within(self, time: Duration) -> u32 {
        self.burst + u32::try_from(time.as_millis() / self.interval.as_millis()).expect("not so many")
    }

    /// How full a bucket may be for one more.
    fn tolerance(self) -> Duration {
        self.interval * self.burst.saturating_sub(1)
    }
}

impl Pacing {
    /// The rate from here on; none: nobody is counted.
    pub(in crate::shard) fn set_rate(&mut self, rate: Option<Rate>) {
        self.rate = rate;
        if rate.is_none() {
            self.empty = HashMap::new();
        }
    }

    /// Whether recipients are counted.
    pub(in crate::shard) fn is_counting(&self) -> bool {
        self.rate.is_some()
    }

    /// When a message for all of these may go.
    pub(in crate::shard) fn due(&self, keys: &[Key], now: Moment) -> Moment {
        let Some(rate) = self.rate else { return now };
        let empty = keys.iter().filter_map(|key| self.empty.get(key)).max();
        empty.map_or(now, |empty| empty.saturating_sub(rate.tolerance()).max(now))
    }

    /// One is sent to these.
    pub(in crate::shard) fn offer(&mut self, keys: &[Key], now: Moment) {
        let Some(rate) = self.rate else { return };
        for key in keys {
            let empty = self.empty.get(key).copied().unwrap_or_default().max(now);
            self.remember(*key, empty + rate.interval, now);
        }
    }

    /// One that was offered to these was not sent after all.
    pub(in crate::shard) fn withdraw(&mut self, keys: &[Key]) {
        let Some(rate) = self.rate else { return };
        for key in keys {
            if let Some(empty) = self.empty.get_mut(key) {
                *empty = empty.saturating_sub(rate.interval);
            }
        }
    }

    /// The primary put this one off for his rate: nothing for so long.
    pub(in crate::shard) fn put_off(&mut self, key: Key, pause: Duration, now: Moment) {
        if let Some(rate) = self.rate {
            let empty = self.empty.get(&key).copied().unwrap_or_default();
            self.remember(key, empty.max(now + pause + rate.tolerance()), now);
        }
    }

    fn remember(&mut self, key: Key, empty: Moment, now: Moment) {
        if self.empty.len() >= PACED_RECIPIENTS_MAX && !self.empty.contains_key(&key) {
            self.empty.retain(|_, empty| *empty > now);
            if self.empty.len() >= PACED_RECIPIENTS_MAX {
                let mut ends: Vec<Moment> = self.empty.values().copied().collect();
                let (_, middle, _) = ends.select_nth_unstable(PACED_RECIPIENTS_MAX / 2);
                let middle = *middle;
                self.empty.retain(|_, empty| *empty > middle);
            }
        }
        self.empty.insert(key, empty);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 12, interval: Duration::from_millis(1250) };
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_and_then_one_an_interval() {
        let (mut pacing, key) = (Pacing::default(), [Key::of("a")]);
        pacing.set_rate(Some(RATE));
        let (mut now, mut sent) = (100 * SECOND, Vec::new());
        while now < 160 * SECOND {
            match pacing.due(&key, now) {
                due if due > now => now = due,
                _ => {
                    pacing.offer(&key, now);
                    sent.push(now);
                }
            }
        }
        assert_eq!(sent.iter().filter(|at| **at == 100 * SECOND).count(), 12);
        assert_eq!(sent.len(), 12 + 47);
        assert_eq!(RATE.most_within(60 * SECOND), 60);
        let now = 159 * SECOND;
        assert_eq!(pacing.due(&[Key::of("b")], now), now, "another one is not meant");
        assert!(pacing.due(&[Key::of("b"), key[0]], now) > now, "one of two is");
        pacing.set_rate(None);
        assert_eq!(pacing.due(&key, now), now);
    }

    #[test]
    fn what_was_not_sent_after_all_is_nobodys_share() {
        let (mut pacing, keys, now) = (Pacing::default(), [Key::of("a"), Key::of("b")], 100 * SECOND);
        pacing.set_rate(Some(RATE));
        for _ in 0..100 {
            assert_eq!(pacing.due(&keys, now), now);
            pacing.offer(&keys, now);
            pacing.withdraw(&keys);
        }
        (0..RATE.burst).for_each(|_| pacing.offer(&keys, now));
        assert!(pacing.due(&keys, now) > now);
    }

    #[test]
    fn who_was_put_off_for_his_rate_gets_nothing_for_a_while() {
        let (mut pacing, key, now) = (Pacing::default(), Key::of("a"), 100 * SECOND);
        pacing.put_off(key, 60 * SECOND, now);
        assert_eq!(pacing.due(&[key], now), now, "nobody is counted");
        pacing.set_rate(Some(RATE));
        pacing.put_off(key, 60 * SECOND, now);
        assert_eq!(pacing.due(&[key], now), now + 60 * SECOND);
        pacing.put_off(key, SECOND, now);
        assert_eq!(pacing.due(&[key], now), now + 60 * SECOND, "a shorter pause ends no longer one");
    }

    #[test]
    fn those_remembered_have_a_bound() {
        let mut pacing = Pacing::default();
        pacing.set_rate(Some(RATE));
        for number in 0..3 * PACED_RECIPIENTS_MAX {
            pacing.offer(&[Key(number as u64)], Duration::from_secs(1) + Duration::from_nanos(number as u64));
            assert!(pacing.empty.len() <= PACED_RECIPIENTS_MAX);
        }
        assert!(pacing.empty.contains_key(&Key(3 * PACED_RECIPIENTS_MAX as u64 - 1)));
    }
}
