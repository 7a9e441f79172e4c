//! What a mail server said last of messages that wait for it: their codes, in memory, of the latest that were put off or refused. A start knows
//! none, until they are tried again.

use crate::limits::LAST_CODES_MAX;
use std::collections::{BTreeMap, VecDeque};
use storage::format::index_file::IndexEntry;
use storage::position::Stamp;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// By message and domain, which its first recipient there tells; with the number of the look.
    known: BTreeMap<(Stamp, u16), (u16, u64)>,
    /// In the order in which they were noted.
    order: VecDeque<((Stamp, u16), u64)>,
    looks: u64,
}

impl Codes {
    /// Of a message, in the domain of the entry.
    pub(super) fn note(&mut self, entry: &IndexEntry, code: u16) {
        self.looks += 1;
        let key = (entry.stamp, entry.first);
        self.known.insert(key, (code, self.looks));
        self.order.push_back((key, self.looks));
        while self.known.len() > LAST_CODES_MAX || self.order.len() > 2 * LAST_CODES_MAX {
            let Some((key, look)) = self.order.pop_front() else { return };
            if self.known.get(&key).is_some_and(|(_, last)| *last == look) {
                self.known.remove(&key);
            }
        }
    }

    /// It has ended.
    pub(super) fn forget(&mut self, entry: &IndexEntry) {
        self.known.remove(&(entry.stamp, entry.first));
    }

    /// The last one of a message.
    pub(super) fn of(&self, entry: &IndexEntry) -> Option<u16> {
        self.known.get(&(entry.stamp, entry.first)).map(|(code, _)| *code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::position::{Offset, SegmentId};

    fn entry(stamp: u64) -> IndexEntry {
        IndexEntry::new(Stamp(stamp), SegmentId(1), Offset(4096), 64)
    }

    #[test]
    fn p7_the_latest_are_known() {
        let mut codes = Codes::default();
        codes.note(&entry(1), 450);
        codes.note(&entry(1), 451);
        codes.note(&entry(2), 550);
        codes.forget(&entry(2));
        assert_eq!((codes.of(&entry(1)), codes.of(&entry(2))), (Some(451), None));
        for round in 0..5 {
            for stamp in 0..LAST_CODES_MAX as u64 {
                codes.note(&entry(1000 + stamp), 400 + round);
            }
        }
        assert!(codes.known.len() <= LAST_CODES_MAX && codes.order.len() <= 2 * LAST_CODES_MAX);
        assert_eq!((codes.of(&entry(1)), codes.of(&entry(1000))), (None, Some(404)));
    }
}
