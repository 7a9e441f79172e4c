//! A wake-up for tasks of one executor: everybody who waits is woken, and looks again for himself.
//!
//! `wait` completes at the first `notify_all` after it was *called* (not first polled), so that a waiter
//! which read the state, saw that it must wait and then called `wait` cannot miss the change between.

use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// See the module.
#[derive(Default, Debug)]
pub struct Notify {
    generation: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Notify {
    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.generation.set(self.generation.get() + 1);
        for waker in self.wakers.take() {
            waker.wake();
        }
    }

    /// Completes at the next [`Self::notify_all`].
    pub fn wait(&self) -> Wait<'_> {
        Wait { notify: self, generation: self.generation.get() }
    }
}

/// The future of [`Notify::wait`].
#[must_use = "a wait that is not awaited waits for nothing"]
#[derive(Debug)]
pub struct Wait<'a> {
    notify: &'a Notify,
    generation: u64,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.notify.generation.get() != self.generation {
            return Poll::Ready(());
        }
        let mut wakers = self.notify.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}
