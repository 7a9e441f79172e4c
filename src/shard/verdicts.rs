//! Where verdicts come to a shard: a bounded channel. Who takes them is `authentication`.

use crate::bridge::Authenticated;
use crate::limits::VERDICT_QUEUE;
use async_channel::{Receiver, Sender};

/// Where verdicts come to a shard.
#[derive(Debug)]
pub(super) struct Verdicts {
    pub(super) answer: Sender<Authenticated>,
    pub(super) answered: Receiver<Authenticated>,
}

impl Default for Verdicts {
    fn default() -> Self {
        let (answer, answered) = async_channel::bounded(VERDICT_QUEUE);
        Self { answer, answered }
    }
}
