//! What the connections of a lane share while they hand mail over: tickets, how many there are, and whether all of them end.
//!
//! A round begins with one connection, to whichever primary serves us; others are opened beside it to the same address. It is
//! over when the last of them is. A connection that ends alone, by a limit of the primary or for want of work, leaves the
//! round to the others.

use super::Ended;
use super::order::{ConnectionId, Order};
use crate::bridge::Standing;
use crate::shard::replay::delivery::Job;
use crate::shard::replay::profile::Profile;
use crate::smtp::Moment;
use core::cell::{Cell, RefCell};
use std::sync::Arc;
use storage::disk::Disk;
use storage::notify::Notify;

/// See the module.
pub(super) struct Round<D: Disk> {
    pub(super) order: RefCell<Order<Job<D>>>,
    /// Who the primary is.
    pub(super) profile: Cell<Profile>,
    /// What the operator has ordered, as it was before the round's first connection.
    pub(super) standing: RefCell<Arc<Standing>>,
    /// A ticket, or a connection, is gone; or more was read.
    pub(super) changed: Notify,
    /// When a message that waits for a rate may go.
    pub(super) paced: Cell<Option<Moment>>,
    /// Connections that are being opened, or not closed.
    open: Cell<usize>,
    /// Those of them that serve and stay.
    serving: Cell<usize>,
    /// There was more than one: who broke his session may have been made to by another (H44).
    had_company: Cell<bool>,
    last_id: Cell<u64>,
    /// Why all end.
    ending: Cell<Option<Ended>>,
    /// How the last that left did.
    left: Cell<Option<Ended>>,
}

impl<D: Disk> Default for Round<D> {
    fn default() -> Self {
        Self {
            order: RefCell::default(),
            profile: Cell::new(Profile::Other),
            standing: RefCell::default(),
            changed: Notify::default(),
            paced: Cell::default(),
            open: Cell::default(),
            serving: Cell::default(),
            had_company: Cell::default(),
            last_id: Cell::default(),
            ending: Cell::default(),
            left: Cell::default(),
        }
    }
}

impl<D: Disk> Round<D> {
    /// The first connection serves.
    pub(super) fn begin(&self, profile: Profile) {
        assert_eq!((self.open.get(), self.serving.get()), (0, 0), "one round at a time");
        self.profile.set(profile);
        self.had_company.set(false);
        self.ending.set(None);
        self.left.set(None);
        self.open.set(1);
    }

    /// One more is being opened; [`Self::closed`] follows.
    pub(super) fn opening(&self) {
        self.open.set(self.open.get() + 1);
    }

    /// A connection serves; [`Self::leave`] follows.
    pub(super) fn join(&self) -> ConnectionId {
        self.serving.set(self.serving.get() + 1);
        if self.serving.get() > 1 {
            self.had_company.set(true);
        }
        self.last_id.set(self.last_id.get() + 1);
        ConnectionId(self.last_id.get())
    }

    /// It stays no longer, and takes nothing more.
    pub(super) fn leave(&self) {
        self.serving.set(self.serving.get() - 1);
        self.changed.notify_all();
    }

    /// It is closed, and was not the one that says how the round ended unless nobody else is there.
    pub(super) fn closed(&self, ended: Option<Ended>) {
        if ended.is_some() {
            self.left.set(ended);
        }
        self.open.set(self.open.get() - 1);
        self.changed.notify_all();
    }

    /// All connections end as soon as what is in flight has its outcome.
    pub(super) fn end_all(&self, ended: Ended) {
        if self.ending.get().is_none() {
            self.ending.set(Some(ended));
            self.changed.notify_all();
        }
    }

    /// Why all of them end.
    pub(super) fn ending(&self) -> Option<Ended> {
        self.ending.get()
    }

    /// Completes when all are closed; how the round ended.
    pub(super) async fn over(&self) -> Ended {
        loop {
            let changed = self.changed.wait();
            if self.open.get() == 0 {
                break;
            }
            changed.await;
        }
        self.ending.get().or(self.left.get()).unwrap_or(Ended::Failed)
    }

    /// Completes when no connection serves, or all end: one that is still being opened comes too late.
    pub(super) async fn deserted(&self) {
        loop {
            let changed = self.changed.wait();
            if self.serving.get() == 0 || self.ending.get().is_some() {
                return;
            }
            changed.await;
        }
    }

    /// Connections that are there or will be.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// Connections that serve and stay.
    pub(super) fn serving(&self) -> usize {
        self.serving.get()
    }

    /// Whether another connection was there at any time.
    pub(super) fn had_company(&self) -> bool {
        self.had_company.get()
    }
}
