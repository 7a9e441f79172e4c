//! What leaves next, as far as order tells.

use super::Queue;
use crate::shard::backlog::Named;
use storage::position::Stamp;

impl Queue {
    /// Messages that are with the caller, and the first that wait for their first try: `most` of them at most, each with the ordinal of
    /// its first recipient.
    pub(in crate::shard) fn upcoming(&self, most: usize) -> Vec<Named> {
        let untried = self.untried.each_from(Stamp::NONE).flat_map(|source| source.take(most));
        let mut all: Vec<Named> = self
            .out
            .iter()
            .chain(untried)
            .map(|waiting| (waiting.entry.stamp, waiting.entry.first))
            .collect();
        all.sort_unstable();
        all.truncate(most);
        all
    }
}
