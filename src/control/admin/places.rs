//! Places of connections to the admin API, so that whoever has no token keeps nobody out who has one.
//!
//! Every connection has one of [`ADMIN_CONNECTIONS_MAX`] places. Until it has brought a good token it is a *stranger*: of these
//! there are [`ADMIN_STRANGERS_MAX`] at most, and one more closes the oldest. So a supervisor that asks `/healthz`, or somebody who
//! opens connections and says nothing, holds a part of the places, and a new connection is always let in unless all are held by who has a
//! token. Whoever is let in keeps his place for as long as it takes so many others to come: time enough for a request.

use crate::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_STRANGERS_MAX};
use async_channel::{Receiver, Sender};
use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    strangers: Mutex<VecDeque<Arc<Stranger>>>,
}

/// A connection that has not brought a good token, or had not when it came.
#[derive(Debug)]
struct Stranger {
    is_proven: AtomicBool,
    is_over: AtomicBool,
    /// Something large is on its way over it.
    is_lasting: AtomicBool,
    /// Closing it ends the connection.
    stay: Sender<()>,
}

/// The place of one connection, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    stranger: Arc<Stranger>,
    stays: Receiver<()>,
    _permit: OwnedSemaphorePermit,
}

/// What a request knows of its connection.
#[derive(Clone, Debug)]
pub(super) struct Visitor(Arc<Stranger>);

impl Default for Places {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX)), strangers: Mutex::default() }
    }
}

impl Places {
    /// A place for the next connection, once there is one.
    pub(super) async fn take(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.free).acquire_owned().await.expect("nobody closes the semaphore")
    }

    /// A connection takes it, as a stranger. If there is one too many the oldest has to go.
    pub(super) fn enter(&self, permit: OwnedSemaphorePermit) -> Place {
        let (stay, stays) = async_channel::bounded(1);
        let [is_proven, is_over, is_lasting] = [const { AtomicBool::new(false) }; 3];
        let stranger = Arc::new(Stranger { is_proven, is_over, is_lasting, stay });
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers
            .retain(|one| !one.is_proven.load(Ordering::Relaxed) && !one.is_over.load(Ordering::Relaxed));
        if strangers.len() >= ADMIN_STRANGERS_MAX
            && let Some(oldest) = strangers.pop_front()
        {
            oldest.stay.close();
            tracing::debug!("a connection to the admin API without a token makes room for another");
        }
        strangers.push_back(Arc::clone(&stranger));
        Place { stranger, stays, _permit: permit }
    }
}

impl Place {
    /// For the requests of the connection.
    pub(super) fn visitor(&self) -> Visitor {
        Visitor(Arc::clone(&self.stranger))
    }

    /// Waits until the place is another's. It never is of who has brought a good token meanwhile.
    pub(super) async fn lost(&self) {
        // Nothing is ever sent.
        let _ = self.stays.recv().await;
        if self.stranger.is_proven.load(Ordering::Relaxed) {
            core::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stranger.is_over.store(true, Ordering::Relaxed);
    }
}

impl Visitor {
    /// It has brought a good token.
    pub(super) fn prove(&self) {
        self.0.is_proven.store(true, Ordering::Relaxed);
    }

    /// Something large goes over it, which ends by itself when nobody takes it.
    pub(super) fn last(&self) {
        self.0.is_lasting.store(true, Ordering::Relaxed);
    }

    /// Whether that was said.
    pub(super) fn is_lasting(&self) -> bool {
        self.0.is_lasting.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    fn enter(places: &Places) -> Place {
        let permit = block_on(poll_once(places.take())).expect("a place is free");
        places.enter(permit)
    }

    fn is_lost(place: &Place) -> bool {
        block_on(poll_once(place.lost())).is_some()
    }

    #[test]
    fn p7_strangers_lose_their_places_to_strangers_and_never_to_a_bound() {
        let places = Places::default();
        let known = enter(&places);
        known.visitor().prove();
        let mut strangers: Vec<Place> = (0..ADMIN_STRANGERS_MAX).map(|_| enter(&places)).collect();
        assert!(!strangers.iter().any(is_lost));
        let next = enter(&places);
        assert!(is_lost(&strangers[0]) && !strangers[1..].iter().any(is_lost) && !is_lost(&known));
        // It was to go when its request was read.
        strangers[0].visitor().prove();
        assert!(!is_lost(&strangers[0]));
        // One that ended by itself made room.
        drop(strangers.remove(1));
        strangers.push(enter(&places));
        assert!(!strangers[1..].iter().any(is_lost) && !is_lost(&next));
    }

    #[test]
    fn p7_all_places_together_have_a_bound() {
        let places = Places::default();
        let mut known: Vec<Place> = (0..ADMIN_CONNECTIONS_MAX)
            .map(|_| enter(&places))
            .inspect(|place| place.visitor().prove())
            .collect();
        assert!(block_on(poll_once(places.take())).is_none() && !known.iter().any(is_lost));
        known.pop();
        assert!(block_on(poll_once(places.take())).is_some());
    }
}
