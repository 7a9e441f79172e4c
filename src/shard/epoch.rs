//! Waiting for what is under way: operations that began before an instant, not those that begin after it.
//!
//! An operation takes a [`Guard`] when it begins and drops it when nothing of it is left. [`Epochs::end`] closes the
//! present epoch; its `done` is dropped when the last guard of that epoch and of all before it is. New operations belong
//! to the next epoch, so that steady work never starves whoever waits.

use async_channel::Sender;
use core::cell::RefCell;
use std::rc::Rc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    current: RefCell<Rc<Epoch>>,
}

#[derive(Debug, Default)]
struct Epoch {
    /// Dropped with the epoch, and with them what waits for it.
    waiting: RefCell<Vec<Sender<()>>>,
    /// The epoch behind it ends no earlier.
    next: RefCell<Option<Rc<Epoch>>>,
}

/// An operation is under way.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "it is held, never looked into")]
pub(super) struct Guard(Rc<Epoch>);

impl Epochs {
    /// An operation begins.
    pub(super) fn guard(&self) -> Guard {
        Guard(Rc::clone(&self.current.borrow()))
    }

    /// Drops `done` when all operations that have begun are over.
    pub(super) fn end(&self, done: Sender<()>) {
        let next = Rc::new(Epoch::default());
        let ended = self.current.replace(Rc::clone(&next));
        ended.waiting.borrow_mut().push(done);
        *ended.next.borrow_mut() = Some(next);
    }

    /// Completes when all operations that have begun are over.
    pub(super) async fn settle(&self) {
        let (done, over) = async_channel::bounded::<()>(1);
        self.end(done);
        // Nothing is ever sent.
        let _ = over.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_the_last_of_those_that_had_begun() {
        let epochs = Epochs::default();
        let first = epochs.guard();
        let (done, over) = async_channel::bounded::<()>(1);
        epochs.end(done);
        let later = epochs.guard();
        let (second_done, second_over) = async_channel::bounded::<()>(1);
        epochs.end(second_done);
        drop(later);
        assert!(!over.is_closed(), "the first operation is under way");
        assert!(!second_over.is_closed(), "it had begun before the second end, too");
        let latest = epochs.guard();
        drop(first);
        assert!(over.is_closed() && second_over.is_closed());
        drop(latest);
    }
}
