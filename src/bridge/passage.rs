//! Whether mail of a domain may be carried through to its primary while its sender waits: what the lane of the domain knows,
//! told to the sessions of all shards.
//!
//! There is *backlog* as long as a message that was acknowledged is neither handed over nor aside (deferred, held): it is
//! counted before its 250, on the shard that took it, and the lane says up to which count nothing is left. So a session
//! that sees none will overtake nobody (P3, H42).

use core::hash::{Hash, Hasher};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::hash::DefaultHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module. Durations are instants of the monotonic clock.
#[derive(Debug, Default)]
pub struct Passage {
    is_up: AtomicBool,
    /// The primary lets us name clients (XCLIENT).
    is_trusted: AtomicBool,
    /// Messages that were acknowledged in this life.
    arrived: AtomicU64,
    /// So many of them have been handed over, or are aside.
    clear: AtomicU64,
    /// Nothing is carried through before this instant, in milliseconds.
    paused_until_ms: AtomicU64,
    /// The last proof of life, in milliseconds; 0: none.
    proven_ms: AtomicU64,
    run: Mutex<Run>,
    /// Messages that may be with the primary and are not settled (P4): in the lower half those that were carried through to their end and have no
    /// answer, in the upper half those of the lane.
    outstanding: AtomicU64,
    /// Units that a primary took while their sender waited.
    proxied: AtomicU64,
}

impl Passage {
    /// Whether the primary is up, says the lane.
    pub fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Relaxed);
    }

    /// Whether the primary lets us name clients.
    pub fn set_trusted(&self, is_trusted: bool) {
        self.is_trusted.store(is_trusted, Ordering::Relaxed);
    }

    /// A message is durable; its 250 comes after this.
    pub fn arrive(&self) {
        // A session that sees the sender's next MAIL sees this too.
        self.arrived.fetch_add(1, Ordering::Release);
    }

    #[must_use]
    fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Acquire)
    }

    /// Of the first `arrived` that reached the lane nothing waits in order any more.
    pub fn set_clear(&self, arrived: u64) {
        self.clear.store(arrived, Ordering::Release);
    }

    /// Whether the primary is up and nothing waits in order.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.is_up.load(Ordering::Relaxed) && self.arrived() == self.clear.load(Ordering::Acquire)
    }

    /// Whether the primary lets us name clients.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.is_trusted.load(Ordering::Relaxed)
    }

    /// Nothing is carried through until then.
    pub fn pause(&self, until: Duration) {
        self.paused_until_ms.fetch_max(milliseconds(until), Ordering::Relaxed);
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self, now: Duration) -> bool {
        milliseconds(now) < self.paused_until_ms.load(Ordering::Relaxed)
    }

    /// The primary greeted somebody.
    pub fn prove(&self, now: Duration) {
        self.proven_ms.store(milliseconds(now).max(1), Ordering::Relaxed);
    }

    /// Whether it did within `age`.
    #[must_use]
    pub fn is_proven(&self, now: Duration, age: Duration) -> bool {
        let proven = self.proven_ms.load(Ordering::Relaxed);
        proven > 0 && milliseconds(now) < proven + milliseconds(age)
    }

    /// The primary put off, for no reason of theirs; gives how many distinct senders with distinct recipients there were in a row.
    pub fn note_put_off(&self, sender: &str, recipient: &str) -> usize {
        let (sender, recipient) = (hash(sender), hash(recipient));
        note(&mut self.run().put_off, sender, recipient)
    }

    /// The primary refused a recipient whom it took before; gives how many distinct ones of distinct senders there were in a row.
    pub fn note_refused(&self, sender: &str, recipient: &str) -> usize {
        let (sender, recipient) = (hash(sender), hash(recipient));
        note(&mut self.run().refused, sender, recipient)
    }

    /// The primary accepted a recipient: refusals are not in a row any more.
    pub fn note_accepted(&self) {
        self.run().refused.clear();
    }

    /// The primary took a message: nothing is in a row any more.
    pub fn note_taken(&self) {
        *self.run() = Run::default();
    }

    /// One more message may wait for the answer to its end, if fewer than `most` are outstanding (P4); the counterpart is [`Self::end_heard`].
    #[must_use]
    pub(super) fn may_end(&self, most: u32) -> bool {
        self.count(|ends, lane| (ends + lane < u64::from(most)).then_some((ends + 1, lane)))
    }

    /// It has its answer, or never will.
    pub(super) fn end_heard(&self) {
        self.count(|ends, lane| Some((ends.saturating_sub(1), lane)));
    }

    /// The lane has so many in flight or not settled, one more than before, if `most` are not exceeded by that (P4).
    #[must_use]
    pub fn may_hand_over(&self, outstanding: u32, most: u32) -> bool {
        let own = u64::from(outstanding);
        self.count(|ends, _| (ends + own <= u64::from(most)).then_some((ends, own)))
    }

    /// Whether it may have one more than so many.
    #[must_use]
    pub fn has_room(&self, outstanding: u32, most: u32) -> bool {
        let (ends, _) = halves(self.outstanding.load(Ordering::Relaxed));
        ends + u64::from(outstanding) < u64::from(most)
    }

    /// The lane has so many.
    pub fn set_handing_over(&self, outstanding: u32) {
        self.count(|ends, _| Some((ends, outstanding.into())));
    }

    /// So many of the lane's are settled.
    pub fn handed_over(&self, messages: u32) {
        self.count(|ends, lane| Some((ends, lane.saturating_sub(messages.into()))));
    }

    /// Messages that are outstanding.
    #[cfg(test)]
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        let (ends, lane) = halves(self.outstanding.load(Ordering::Relaxed));
        ends + lane
    }

    fn count(&self, change: impl Fn(u64, u64) -> Option<(u64, u64)>) -> bool {
        let changed = |both| {
            let (ends, lane) = halves(both);
            change(ends, lane).map(|(ends, lane)| lane << 32 | ends)
        };
        self.outstanding.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed).is_ok()
    }

    /// Another primary, or another way to it: what is known is of the one before.
    pub fn forget(&self) {
        self.set_up(false);
        self.set_trusted(false);
        self.proven_ms.store(0, Ordering::Relaxed);
        self.note_taken();
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        // Whole after each operation, whatever panicked elsewhere.
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The primary took units while their sender waited.
    pub fn note_proxied(&self, units: u64) {
        self.proxied.fetch_add(units, Ordering::Relaxed);
    }

    /// Units that a primary took so, since the start of the process: they leave no record.
    #[must_use]
    pub fn proxied(&self) -> u64 {
        self.proxied.load(Ordering::Relaxed)
    }
}

/// What was carried through, and what is the lane's.
const fn halves(both: u64) -> (u64, u64) {
    (both & 0xFFFF_FFFF, both >> 32)
}

/// What the primary has said in a row: hashes, a few.
#[derive(Debug, Default)]
struct Run {
    put_off: Vec<(u64, u64)>,
    refused: Vec<(u64, u64)>,
}

const RUN_MAX: usize = 8;

fn note(run: &mut Vec<(u64, u64)>, sender: u64, recipient: u64) -> usize {
    let is_new = run.iter().all(|known| known.0 != sender && known.1 != recipient);
    if is_new && run.len() < RUN_MAX {
        run.push((sender, recipient));
    }
    run.len()
}

/// Who finds two that are the same gets a primary left alone for a while.
fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn milliseconds(instant: Duration) -> u64 {
    u64::try_from(instant.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h42_what_was_acknowledged_is_backlog_until_the_lane_has_seen_to_it() {
        let passage = Passage::default();
        assert!(!passage.is_free(), "nobody knows how the primary is");
        passage.set_up(true);
        assert!(passage.is_free());
        passage.arrive();
        assert!(!passage.is_free(), "before its 250");
        passage.arrive();
        passage.set_clear(1);
        assert!(!passage.is_free(), "one is on its way to the lane");
        passage.set_clear(2);
        assert!(passage.is_free());
        passage.set_up(false);
        assert!(!passage.is_free());
    }

    #[test]
    fn pauses_and_proofs_end() {
        let (passage, second) = (Passage::default(), Duration::from_secs(1));
        passage.pause(9 * second);
        passage.pause(4 * second);
        assert!(passage.is_paused(8 * second) && !passage.is_paused(9 * second));
        assert!(!passage.is_proven(second, second));
        passage.prove(Duration::ZERO);
        assert!(passage.is_proven(second / 2, second) && !passage.is_proven(2 * second, second));
    }

    #[test]
    fn runs_are_of_distinct_ones_and_end_with_an_acceptance() {
        let passage = Passage::default();
        for (sender, recipient, run) in
            [("a", "b", 1), ("a", "c", 1), ("d", "b", 1), ("d", "c", 2), ("e", "f", 3)]
        {
            assert_eq!(passage.note_put_off(sender, recipient), run);
        }
        assert_eq!(
            (passage.note_refused("a", "b"), passage.note_refused("a", "c"), passage.note_refused("d", "c")),
            (1, 1, 2)
        );
        passage.note_accepted();
        assert_eq!((passage.note_put_off("g", "h"), passage.note_refused("a", "c")), (4, 1));
        passage.note_taken();
        assert_eq!((passage.note_put_off("a", "b"), passage.note_refused("a", "c")), (1, 1));
    }

    #[test]
    fn p4_so_many_wait_for_the_answer_to_their_end() {
        let passage = Passage::default();
        assert!(passage.may_end(2) && passage.may_end(2) && !passage.may_end(2));
        passage.end_heard();
        assert!(passage.may_end(2) && !passage.may_end(2));
    }

    #[test]
    fn p4_what_is_carried_through_and_what_the_lane_has_are_one_number() {
        let passage = Passage::default();
        assert!(passage.may_hand_over(1, 3) && passage.may_end(3) && passage.may_end(3));
        assert!(!passage.may_end(3) && !passage.may_hand_over(2, 3) && !passage.has_room(1, 3));
        passage.end_heard();
        assert!(passage.has_room(1, 3) && passage.may_hand_over(2, 3) && !passage.may_end(3));
        passage.handed_over(1);
        assert!(passage.may_end(3) && !passage.may_hand_over(2, 3));
        passage.set_handing_over(0);
        passage.handed_over(9);
        assert_eq!(passage.outstanding(), 2, "those that were carried through");
    }
}
