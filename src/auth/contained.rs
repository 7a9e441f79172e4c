//! Panics that end nothing but the work that they come from.
//!
//! A panic of this process ends it, since nobody could say what it left half done. What is done here touches nothing that others
//! rely on: it reads octets of strangers and makes a verdict. The hook that ends the process asks [`is_contained`].

use core::cell::Cell;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread, now, ends nothing but its work.
#[must_use]
pub fn is_contained() -> bool {
    CONTAINED.get()
}

/// What `work` gives; `None` if it panicked.
pub fn contain<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = CONTAINED.replace(true);
    // The caller drops what the work had in hand when it gets nothing.
    let result = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    result.ok()
}

/// A future whose panic is `None`.
#[derive(Debug)]
pub struct Contained<F>(Pin<Box<F>>);

impl<F: Future> Contained<F> {
    /// Contains `work`.
    pub fn new(work: F) -> Self {
        Self(Box::pin(work))
    }
}

impl<F: Future> Future for Contained<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match contain(|| self.0.as_mut().poll(context)) {
            Some(poll) => poll.map(Some),
            None => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, yield_now};

    #[test]
    fn a_panic_ends_its_own_work_only() {
        assert!(!is_contained());
        assert_eq!(contain(is_contained), Some(true));
        assert_eq!(contain(|| -> u8 { panic!("of a parser") }), None);
        assert!(!is_contained(), "the next one ends the process again");
    }

    #[test]
    fn a_future_is_contained_at_each_step_and_between_them_others_are_not() {
        let work = Contained::new(async {
            yield_now().await;
            assert!(is_contained());
            yield_now().await;
            panic!("late");
        });
        assert_eq!(block_on(work), None::<()>);
        assert!(!is_contained());
        assert_eq!(block_on(Contained::new(async { 7 })), Some(7));
    }
}
