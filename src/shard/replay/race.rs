//! Connecting to several addresses at once: they are tried in their order, each a moment after the one before or as soon as one
//! failed, and whichever answers first is taken (RFC 8305 5). One address that swallows everything so costs a moment, not a try.

use crate::limits::DIAL_STAGGER;
use crate::shard::link::Dialer;
use crate::smtp::Moment;
use core::future::{Future, poll_fn};
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::Poll;
use futures_lite::future::or;
use std::collections::VecDeque;
use std::io;
use storage::clock::Clock;

/// A connection to an address, when it is made.
type Dial<'a, L> = Pin<Box<dyn Future<Output = io::Result<L>> + 'a>>;

/// An address, and which of the hosts it is tried for: several may share it.
type Entry = (SocketAddr, usize);

/// See the module.
pub(super) struct Race<'a, N: Dialer, C> {
    dialer: &'a N,
    clock: &'a C,
    waiting: VecDeque<Entry>,
    under_way: Vec<(Entry, Dial<'a, N::Link>)>,
    /// When the next one begins.
    next_at: Moment,
    /// Those that did not answer, and were not told yet.
    failed: Vec<SocketAddr>,
}

impl<'a, N: Dialer, C: Clock> Race<'a, N, C> {
    pub(super) fn new(dialer: &'a N, clock: &'a C) -> Self {
        let (waiting, under_way, failed) = Default::default();
        Self { dialer, clock, waiting, under_way, next_at: Moment::ZERO, failed }
    }

    /// More to try, behind the others.
    pub(super) fn add(&mut self, addresses: impl IntoIterator<Item = Entry>) {
        self.waiting.extend(addresses);
    }

    /// The next that answers until `deadline`; none: nobody did, or nobody is left.
    pub(super) async fn next(&mut self, deadline: Moment) -> Option<(Entry, N::Link)> {
        loop {
            let now = self.clock.now();
            if now >= deadline {
                return None;
            }
            if (now >= self.next_at || self.under_way.is_empty())
                && let Some(entry) = self.waiting.pop_front()
            {
                let dialer = self.dialer;
                self.under_way.push((entry, Box::pin(dialer.dial(entry.0))));
                self.next_at = now + DIAL_STAGGER;
            }
            if self.under_way.is_empty() {
                return None;
            }
            let until = if self.waiting.is_empty() { deadline } else { deadline.min(self.next_at) };
            let sleep = self.clock.sleep(until.saturating_sub(now));
            let timeout = async {
                sleep.await;
                None
            };
            match or(first(&mut self.under_way), timeout).await {
                Some((entry, Ok(link))) => return Some((entry, link)),
                Some(((address, _), Err(error))) => {
                    tracing::debug!(%address, %error, "no connection");
                    self.failed.push(address);
                    self.next_at = now;
                }
                None => {}
            }
        }
    }

    /// Those that failed since the last time.
    pub(super) fn failed(&mut self) -> Vec<SocketAddr> {
        core::mem::take(&mut self.failed)
    }

    /// It is over: those that have not answered, nor failed.
    pub(super) fn silent(self) -> impl Iterator<Item = SocketAddr> {
        self.under_way.into_iter().map(|((address, _), _)| address)
    }
}

/// The first that is done; it is taken out.
async fn first<L>(under_way: &mut Vec<(Entry, Dial<'_, L>)>) -> Option<(Entry, io::Result<L>)> {
    poll_fn(|context| {
        for index in 0..under_way.len() {
            if let Poll::Ready(result) = under_way[index].1.as_mut().poll(context) {
                let (entry, _) = under_way.swap_remove(index);
                return Poll::Ready(Some((entry, result)));
            }
        }
        Poll::Pending
    })
    .await
}
