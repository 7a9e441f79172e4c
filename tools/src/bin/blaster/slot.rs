//! The place of a session: what it has to do, and its connection, which comes and goes.

use std::collections::VecDeque;
use std::time::Duration;

use crate::link::Link;
use crate::task::Task;

/// One session's place; its connection comes and goes.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// From 1, over all workers.
    pub(crate) number: u64,
    pub(crate) is_slow: bool,
    /// Nothing happens before.
    pub(crate) starts_at: Duration,
    pub(crate) link: Option<Link>,
    pub(crate) pending: VecDeque<Task>,
    pub(crate) again: VecDeque<(Duration, Task)>,
    pub(crate) drips_at: Duration,
    /// A slow sender begins no connection before.
    pub(crate) opens_at: Duration,
    /// There will be no work that it could take.
    pub(crate) is_out_of_work: bool,
    pub(crate) is_over: bool,
}

impl Slot {
    /// A session that begins with its first message.
    pub(crate) fn new(number: u64, is_slow: bool, starts_at: Duration) -> Self {
        Self { number, is_slow, starts_at, ..Self::default() }
    }

    /// Messages without a final answer.
    pub(crate) fn tasks(&self) -> usize {
        self.pending.len() + self.again.len() + self.link.as_ref().map_or(0, |link| link.dialog.in_flight())
    }
}
