//! Facts that gather until they are journalled.
//!
//! `outstanding` counts messages whose facts are not durable yet. That is what a crash repeats, and it is bounded
//! by [`OUTSTANDING_MAX`](crate::limits::OUTSTANDING_MAX) (P4).

use super::Place;
use crate::limits::SETTLEMENTS_A_WRITE;
use crate::shard::epoch::Guard;
use crate::shard::traces::Told;
use core::cell::{Cell, RefCell};
use storage::format::journal_entry::Fact;
use storage::notify::{Notify, Wait};

/// The facts about one message.
#[derive(Debug)]
pub(in crate::shard) struct Settlement {
    /// Where it was when they were found.
    pub(in crate::shard) place: Place,
    /// What is true.
    pub(in crate::shard) facts: Vec<Fact>,
    /// What is told of them to people who ask; else their record is read for that.
    pub(in crate::shard) told: Option<Box<Told>>,
    /// Until the keeper knows, somebody names this place.
    #[expect(dead_code, reason = "it is held, never looked into")]
    pub(in crate::shard) looking: Guard,
}

/// The settlements of one lane.
#[derive(Debug, Default)]
pub(in crate::shard) struct Settlements {
    gathering: RefCell<Vec<Settlement>>,
    outstanding: Cell<u32>,
    enough: Notify,
    is_hurried: Cell<bool>,
}

impl Settlements {
    /// Messages whose facts are not durable.
    pub(in crate::shard) fn outstanding(&self) -> u32 {
        self.outstanding.get()
    }

    /// Adds the facts about one message. Returns `true` when they are the first that gather: then the caller
    /// starts the task that writes them.
    pub(in crate::shard) fn add(&self, settlement: Settlement) -> bool {
        self.outstanding.set(self.outstanding.get() + 1);
        let mut gathering = self.gathering.borrow_mut();
        gathering.push(settlement);
        if gathering.len() >= SETTLEMENTS_A_WRITE {
            self.enough.notify_all();
        }
        gathering.len() == 1
    }

    /// A message that was taken is settled by others, behind something else; the counterpart is [`Self::written`].
    pub(in crate::shard) fn owe(&self) {
        self.outstanding.set(self.outstanding.get() + 1);
    }

    /// Completes when there is company enough.
    pub(in crate::shard) fn enough(&self) -> Wait<'_> {
        let enough = self.enough.wait();
        if self.is_hurried.get() {
            self.enough.notify_all();
        }
        enough
    }

    /// Nothing more will come before these are durable: they wait for no company.
    pub(in crate::shard) fn hurry(&self) {
        if !self.gathering.borrow().is_empty() {
            self.is_hurried.set(true);
            self.enough.notify_all();
        }
    }

    /// What has gathered.
    pub(in crate::shard) fn take(&self) -> Vec<Settlement> {
        self.is_hurried.set(false);
        self.gathering.take()
    }

    /// The facts about so many messages are durable.
    pub(in crate::shard) fn written(&self, messages: usize) {
        let messages = u32::try_from(messages).expect("bounded by what may be outstanding");
        self.outstanding.set(self.outstanding.get() - messages);
    }
}
