//! Places for sessions with primaries, so that their number has a bound whatever is down (H49).
//!
//! Who asks whether an outage is over has places of his own: 10,000 primaries that answer nothing hold all of those, and
//! mail of a primary that is well waits for none of them.

use crate::limits::{FIRST_SESSIONS_A_SHARD, PROBES_A_SHARD_MAX, SESSIONS_A_SHARD_MAX};
use async_channel::{Receiver, Sender};

/// See the module.
#[derive(Debug)]
pub(super) struct Places {
    probes: Pool,
    sessions: Pool,
}

/// A place; it is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    back: Sender<()>,
}

/// As many tokens as there are free places.
#[derive(Debug)]
struct Pool {
    back: Sender<()>,
    free: Receiver<()>,
}

impl Default for Places {
    fn default() -> Self {
        Self { probes: Pool::new(PROBES_A_SHARD_MAX), sessions: Pool::new(SESSIONS_A_SHARD_MAX) }
    }
}

impl Places {
    /// Waits for a place: for who asks whether an outage is over, or for who knows of none.
    pub(super) async fn take(&self, is_probe: bool) -> Place {
        let pool = if is_probe { &self.probes } else { &self.sessions };
        // The pool holds a sender itself, so there is always somebody to wait for.
        let _ = pool.free.recv().await;
        Place { back: pool.back.clone() }
    }

    /// A place for a further session of who has one, as long as there are plenty.
    pub(super) fn take_further(&self) -> Option<Place> {
        if self.sessions.free.len() <= FIRST_SESSIONS_A_SHARD {
            return None;
        }
        self.sessions.free.try_recv().ok().map(|()| Place { back: self.sessions.back.clone() })
    }

    /// Whether somebody waits for his first session, or soon will: further ones are to be given back.
    pub(super) fn are_short(&self) -> bool {
        self.sessions.free.is_empty()
    }

    /// A probe found its primary up: its place is for others, if there is another one for it.
    pub(super) fn found_up(&self, place: Place) -> Place {
        match self.sessions.free.try_recv() {
            Ok(()) => Place { back: self.sessions.back.clone() },
            Err(_) => place,
        }
    }
}

impl Pool {
    fn new(places: usize) -> Self {
        let (back, free) = async_channel::bounded(places);
        for _ in 0..places {
            // There is room for each.
            let _ = back.try_send(());
        }
        Self { back, free }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // There is room for every token that was taken.
        let _ = self.back.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn h49_probes_have_a_bound_and_take_no_place_from_others() {
        block_on(async {
            let places = Places::default();
            let mut probes = Vec::new();
            for _ in 0..PROBES_A_SHARD_MAX {
                probes.push(poll_once(places.take(true)).await.expect("there is one"));
            }
            assert!(poll_once(places.take(true)).await.is_none());
            let session = poll_once(places.take(false)).await.expect("for who is well there is one");
            // One is up, and another may be asked.
            let up = places.found_up(probes.pop().expect("many"));
            let next = poll_once(places.take(true)).await.expect("the place of the one that is up");
            assert!(poll_once(places.take(true)).await.is_none());
            drop((session, up, next));
            for _ in 0..SESSIONS_A_SHARD_MAX {
                probes.push(poll_once(places.take(false)).await.expect("all were given back"));
            }
            assert!(poll_once(places.take(false)).await.is_none());
        });
    }

    #[test]
    fn further_sessions_leave_half_of_the_places_to_first_ones() {
        block_on(async {
            let places = Places::default();
            let further: Vec<Place> = core::iter::from_fn(|| places.take_further()).collect();
            assert_eq!(further.len(), SESSIONS_A_SHARD_MAX - FIRST_SESSIONS_A_SHARD);
            let mut first = Vec::new();
            for _ in 0..FIRST_SESSIONS_A_SHARD {
                assert!(!places.are_short());
                first.push(poll_once(places.take(false)).await.expect("for who has none there is one"));
            }
            assert!(places.are_short());
            drop(further);
            assert!(!places.are_short() && places.take_further().is_none(), "half are taken");
        });
    }

    #[test]
    fn who_stops_waiting_takes_nothing_along() {
        block_on(async {
            let places = Places::default();
            let mut taken = Vec::new();
            for _ in 0..PROBES_A_SHARD_MAX {
                taken.push(places.take(true).await);
            }
            {
                let mut impatient = core::pin::pin!(places.take(true));
                assert!(poll_once(impatient.as_mut()).await.is_none());
                taken.pop();
            }
            assert!(poll_once(places.take(true)).await.is_some());
        });
    }
}
