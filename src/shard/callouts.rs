//! Questions to primaries whether they know a recipient, that wait for a place: memory, no asking. `replay::callout` asks.
//!
//! A primary that hangs has few of the places, so that others are asked beside it.

use crate::limits::{CALLOUTS_A_DOMAIN_MAX, CALLOUTS_A_SHARD_MAX, CALLOUTS_WAITING_MAX};
use async_channel::Sender;
use core::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use storage::notify::Notify;

/// What a primary said about a recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// It accepts it.
    Accepted,
    /// It does not know it.
    Refused,
    /// Nothing about the recipient: it greylists, refuses the null reverse-path or us, or accepts anybody.
    Nothing,
    /// Nobody answered in time.
    Unreachable,
}

/// One question.
#[derive(Debug)]
pub(super) struct Question {
    /// A protected domain.
    pub(super) domain: Arc<str>,
    /// A mailbox in it, with A-labels.
    pub(super) mailbox: String,
    /// Where the answer goes.
    pub(super) answer: Sender<Said>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Callouts {
    state: RefCell<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Question>,
    asked: HashMap<Arc<str>, usize>,
    places_taken: usize,
}

impl Callouts {
    /// Asks, and waits for the answer; how long is the asker's. With too many that wait already, nothing is said.
    pub(super) async fn ask(&self, domain: Arc<str>, mailbox: String) -> Said {
        let (answer, answered) = async_channel::bounded(1);
        {
            let mut state = self.state.borrow_mut();
            state.waiting.retain(|question| !question.answer.is_closed());
            if state.waiting.len() >= CALLOUTS_WAITING_MAX {
                return Said::Nothing;
            }
            state.waiting.push_back(Question { domain, mailbox, answer });
        }
        self.changed.notify_all();
        answered.recv().await.unwrap_or(Said::Nothing)
    }

    /// The next question that has a place, which it takes; the counterpart is [`Self::done`].
    pub(super) async fn next(&self) -> Question {
        loop {
            let changed = self.changed.wait();
            if let Some(question) = self.state.borrow_mut().next() {
                return question;
            }
            changed.await;
        }
    }

    /// Gives the place back.
    pub(super) fn done(&self, domain: &str) {
        let mut state = self.state.borrow_mut();
        state.places_taken -= 1;
        let left = state.asked.get_mut(domain).map(|asked| {
            *asked -= 1;
            *asked
        });
        if left == Some(0) {
            state.asked.remove(domain);
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl State {
    fn next(&mut self) -> Option<Question> {
        if self.places_taken >= CALLOUTS_A_SHARD_MAX {
            return None;
        }
        let has_place = |question: &Question| {
            self.asked.get(&question.domain).is_none_or(|asked| *asked < CALLOUTS_A_DOMAIN_MAX)
        };
        let at = self.waiting.iter().position(has_place)?;
        let question = self.waiting.remove(at)?;
        self.places_taken += 1;
        *self.asked.entry(Arc::clone(&question.domain)).or_default() += 1;
        Some(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_that_hangs_leaves_places_to_others() {
        let mut state = State::default();
        let mut open = Vec::new();
        for domain in ["hangs.test"; CALLOUTS_A_DOMAIN_MAX + 3].into_iter().chain(["well.test"]) {
            let (answer, answered) = async_channel::bounded(1);
            open.push(answered);
            state.waiting.push_back(Question { domain: domain.into(), mailbox: String::new(), answer });
        }
        let asked: Vec<_> = core::iter::from_fn(|| state.next()).map(|question| question.domain).collect();
        assert_eq!(asked.len(), CALLOUTS_A_DOMAIN_MAX + 1);
        assert_eq!(asked.last().map(AsRef::as_ref), Some("well.test"));
        let callouts = Callouts { state: RefCell::new(state), changed: Notify::default() };
        callouts.done("hangs.test");
        assert!(callouts.state.borrow_mut().next().is_some_and(|next| &*next.domain == "hangs.test"));
    }
}
