//! Simulated time: it stands while a task can run, and jumps to the next deadline when none can.

use crate::clock::Clock;
use crate::position::UnixMillis;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct SimClock {
    inner: Rc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    now: Cell<Duration>,
    /// Wall time at monotonic zero; moved to simulate a clock that steps.
    wall_offset: Cell<u64>,
    timers: RefCell<BTreeMap<(Duration, u64), Waker>>,
    next: Cell<u64>,
}

impl SimClock {
    /// Sets the wall clock.
    pub fn set_wall(&self, wall: UnixMillis) {
        let elapsed = u64::try_from(self.inner.now.get().as_millis()).unwrap_or(u64::MAX);
        self.inner.wall_offset.set(wall.0.wrapping_sub(elapsed));
    }

    /// Moves to the earliest deadline and wakes its sleeper; `false` if nobody sleeps.
    pub fn advance(&self) -> bool {
        let earliest = self.inner.timers.borrow_mut().pop_first();
        let Some(((deadline, _), waker)) = earliest else { return false };
        self.inner.now.set(self.inner.now.get().max(deadline));
        waker.wake();
        true
    }
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        self.inner.now.get()
    }

    fn wall(&self) -> UnixMillis {
        let elapsed = u64::try_from(self.inner.now.get().as_millis()).unwrap_or(u64::MAX);
        UnixMillis(self.inner.wall_offset.get().wrapping_add(elapsed))
    }

    async fn sleep(&self, duration: Duration) {
        Sleep { clock: self.clone(), deadline: self.now() + duration, key: None }.await;
    }
}

struct Sleep {
    clock: SimClock,
    deadline: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.deadline {
            return Poll::Ready(());
        }
        let inner = Rc::clone(&self.clock.inner);
        let deadline = self.deadline;
        let key = *self.key.get_or_insert_with(|| {
            inner.next.set(inner.next.get() + 1);
            (deadline, inner.next.get())
        });
        inner.timers.borrow_mut().insert(key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.clock.inner.timers.borrow_mut().remove(&key);
        }
    }
}
