//! Several futures as one: what is read for a page is read side by side, so that it costs a wait, and a wake, for many.

use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;

/// One that is waited for, or what came of it.
enum Half<F: Future> {
    Waits(Pin<Box<F>>),
    Has(F::Output),
}

/// What came of all, in their order.
pub(super) async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F::Output: Unpin,
{
    let mut halves: Vec<Half<F>> = futures.map(|future| Half::Waits(Box::pin(future))).collect();
    poll_fn(|context| {
        let mut waits = false;
        for half in &mut halves {
            if let Half::Waits(future) = half {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *half = Half::Has(output),
                    Poll::Pending => waits = true,
                }
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    let outputs = halves.into_iter().filter_map(|half| match half {
        Half::Has(output) => Some(output),
        Half::Waits(_) => None,
    });
    outputs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use futures_lite::future::{block_on, yield_now};

    #[test]
    fn all_go_on_side_by_side_and_come_in_their_order() {
        let most = Cell::new((0, 0));
        let one = |number: usize| {
            let most = &most;
            async move {
                let (now, peak) = most.get();
                most.set((now + 1, peak.max(now + 1)));
                for _ in 0..9 - number {
                    yield_now().await;
                }
                most.set((most.get().0 - 1, most.get().1));
                number
            }
        };
        assert_eq!(block_on(all((0..9).map(one))), (0..9).collect::<Vec<_>>());
        assert_eq!(most.get(), (0, 9), "none waited for another");
    }
}
