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
