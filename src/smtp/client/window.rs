//! How many transactions may be in flight on one connection: a pure policy.
//!
//! It begins at one, doubles each round trip up to [`WINDOW_DOUBLING_MAX`], then grows by one, up to [`WINDOW_MAX`]. It is one
//! again when the server puts something off as a whole, and doubles then only half as far as it was. A cautious window stays
//! at one, so that what breaks a session is known (H44).

use crate::limits::{WINDOW_DOUBLING_MAX, WINDOW_MAX};

/// See the module. Invariant: `1 <= size <= WINDOW_MAX`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    size: usize,
    /// Up to where it doubles.
    doubling: usize,
    /// Successes since it grew by one.
    successes: usize,
    is_cautious: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self { size: 1, doubling: WINDOW_DOUBLING_MAX, successes: 0, is_cautious: false }
    }
}

impl Window {
    /// One that stays at one until [`Self::end_caution`].
    pub fn cautious() -> Self {
        Self { is_cautious: true, ..Self::default() }
    }

    /// Transactions that may be in flight.
    pub fn size(&self) -> usize {
        self.size
    }

    /// A transaction ended as it should, whatever became of its recipients.
    pub fn succeed(&mut self) {
        if self.is_cautious || self.size == WINDOW_MAX {
            return;
        }
        self.successes += 1;
        // Each of a window's transactions adds one: so much for a round trip is twice as many.
        if self.size < self.doubling || self.successes >= self.size {
            self.size += 1;
            self.successes = 0;
        }
    }

    /// The server wants less, or something of a window was lost.
    pub fn collapse(&mut self) {
        self.doubling = (self.size / 2).max(1);
        (self.size, self.successes) = (1, 0);
    }

    /// What was to be found out is known.
    pub fn end_caution(&mut self) {
        self.is_cautious = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes at the beginning of each round trip.
    fn sizes(window: &mut Window, round_trips: usize) -> Vec<usize> {
        let mut sizes = Vec::new();
        for _ in 0..round_trips {
            sizes.push(window.size());
            (0..window.size()).for_each(|_| window.succeed());
        }
        sizes
    }

    #[test]
    fn it_doubles_then_grows_by_one_then_stays() {
        let mut window = Window::default();
        assert_eq!(sizes(&mut window, 13), [1, 2, 4, 8, 12, 13, 14, 15, 16, 16, 16, 16, 16]);
    }

    #[test]
    fn it_is_one_after_a_refusal_and_doubles_half_as_far() {
        let mut window = Window::default();
        sizes(&mut window, 4);
        assert_eq!(window.size(), 12);
        window.collapse();
        assert_eq!(sizes(&mut window, 5), [1, 2, 4, 6, 7]);
        window.collapse();
        window.collapse();
        assert_eq!(sizes(&mut window, 4), [1, 2, 3, 4], "twice in a row: by one from the start");
    }

    #[test]
    fn h44_a_cautious_one_stays_at_one() {
        let mut window = Window::cautious();
        assert_eq!(sizes(&mut window, 20), [1; 20]);
        window.end_caution();
        assert_eq!(sizes(&mut window, 3), [1, 2, 4]);
    }
}
