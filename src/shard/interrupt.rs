//! Waits that end early: a session's deadline has passed, or the shard is shutting down.
//!
//! A session that waits for its peer puts its waker here. One sweeper a shard looks at all deadlines now and then, so a
//! thousand idle sessions cost one timer, not a thousand.

use crate::smtp::Moment;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Poll, Waker};
use std::rc::{Rc, Weak};

/// Why a wait ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// The deadline passed.
    Deadline,
    /// The shard is shutting down.
    Shutdown,
}

/// The interrupt of one session.
#[derive(Debug, Default)]
pub(super) struct Interrupt {
    deadline: Cell<Option<Moment>>,
    reason: Cell<Option<Reason>>,
    waker: RefCell<Option<Waker>>,
}

/// All interrupts of a shard.
#[derive(Debug, Default)]
pub(super) struct Interrupts {
    all: RefCell<Vec<Weak<Interrupt>>>,
    shutdown: Cell<bool>,
}

impl Interrupt {
    /// Completes with `future`, or with the reason why it must not be waited for any longer. The reason is
    /// told once.
    pub(super) async fn guard<T>(
        &self,
        deadline: Option<Moment>,
        future: impl Future<Output = T>,
    ) -> Result<T, Reason> {
        self.deadline.set(deadline);
        if self.reason.get() == Some(Reason::Deadline) {
            // Of a wait before this one, which ended well in the same instant.
            self.reason.set(None);
        }
        let mut future = pin!(future);
        let result = poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(value));
            }
            if let Some(reason) = self.reason.take() {
                return Poll::Ready(Err(reason));
            }
            let mut waker = self.waker.borrow_mut();
            match waker.as_mut() {
                Some(waker) => waker.clone_from(context.waker()),
                None => *waker = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await;
        self.deadline.set(None);
        result
    }

    fn fire(&self, reason: Reason) {
        self.reason.set(Some(reason));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Interrupts {
    /// A new session's interrupt.
    pub(super) fn register(&self) -> Rc<Interrupt> {
        let interrupt = Rc::new(Interrupt::default());
        if self.shutdown.get() {
            interrupt.fire(Reason::Shutdown);
        }
        self.all.borrow_mut().push(Rc::downgrade(&interrupt));
        interrupt
    }

    /// Fires those whose deadline has passed and forgets those whose session is gone.
    pub(super) fn sweep(&self, now: Moment) {
        self.all.borrow_mut().retain(|interrupt| {
            let Some(interrupt) = interrupt.upgrade() else { return false };
            if interrupt.deadline.get().is_some_and(|deadline| deadline <= now) {
                interrupt.fire(Reason::Deadline);
            }
            true
        });
    }

    /// Fires all, now and for every session that comes.
    pub(super) fn shut_down(&self) {
        self.shutdown.set(true);
        for interrupt in self.all.borrow().iter().filter_map(Weak::upgrade) {
            interrupt.fire(Reason::Shutdown);
        }
    }

    /// Sessions that are alive.
    #[must_use]
    pub(super) fn alive(&self) -> usize {
        self.all.borrow().iter().filter(|interrupt| interrupt.strong_count() > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::future::{pending, ready};
    use core::time::Duration;
    use futures_lite::future::block_on;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_deadline_that_passed_with_the_wait_does_not_end_the_next_one() {
        let interrupts = Interrupts::default();
        let interrupt = interrupts.register();
        // A wait that is ready and whose deadline is swept while nobody polls it.
        interrupt.deadline.set(Some(SECOND));
        interrupts.sweep(SECOND);
        assert_eq!(block_on(interrupt.guard(Some(SECOND * 9), ready(7))), Ok(7));
        let next = interrupt.guard(Some(SECOND * 9), futures_lite::future::yield_now());
        assert_eq!(block_on(next), Ok(()), "its own deadline has not passed");
    }

    #[test]
    fn a_shutdown_ends_every_wait_once() {
        let interrupts = Interrupts::default();
        let interrupt = interrupts.register();
        interrupts.shut_down();
        assert_eq!(block_on(interrupt.guard(None, pending::<()>())), Err(Reason::Shutdown));
        assert_eq!(block_on(interrupt.guard(None, ready(1))), Ok(1), "what is under way may end");
        let late = interrupts.register();
        assert_eq!(block_on(late.guard(None, pending::<()>())), Err(Reason::Shutdown));
    }
}
