//! Who the primary of a domain is, as far as it was met: fingerprints of its hosts, learned while it is up, and strangers in its
//! place (H41). One cell a domain, shared by all shards for the life of the process; the control plane keeps it in a file.
//!
//! ```text
//!   nobody --learned while up--> known --met behind an outage, and another--> stranger
//!     ^                            ^                                              |
//!     | other primaries are        +---- proven; in state up for 24 h; vouched ---+
//!     | configured                 +---- (forgotten) the known one is back, 24 h -+
//! ```
//! - *Learned* is what is met in state up, when everything due was handed over, live, or by callouts: a bounded set, since a farm has many
//!   machines. A machine that is met for the first time within [`ACQUAINTANCE_AGE`] of another one, with no outage between them, is one of
//!   the farm. After longer nobody can tell whether there was an outage without mail: it is looked at as after one.
//! - A *stranger* is whom no known host is like ([`Fingerprint::likeness`]). He is told once, met with canaries, nothing is carried through
//!   to him live and nothing learned from him. Copies of what he takes are kept.
//! - He becomes known when he is *proven* (after the drain he takes recipients that the known one took, and refuses whom nobody can be, as
//!   the known one did), when he was met in state up for [`STRANGER_AGE`], or when the operator vouches for him. Unless he is proven, hosts that
//!   were not met since he came are forgotten then: what was there before would else be nobody's alarm when it comes again.
//! - He is forgotten when a known host is met and he was not for as long. Copies are kept until then, and for [`STRANGER_AGE`] from his
//!   coming in any case: a rescue system may know the recipients.
//!
//! What was learned belongs to the primaries that the configuration names, in its words: with others it is forgotten, also by a start. A
//! redirect forgets nothing: it is about mail, not about who the primary is, and whoever stands in for it is not met here at all.
//!
//! Ages go by wall time, since they outlive the process, and by the process's own clock as far as it goes.

#[cfg(test)]
mod tests;

use super::fingerprint::{Answer, Fingerprint, Likeness};
use super::recipients::Instants;
use crate::limits::{
    ACQUAINTANCE_AGE, CATCH_ALL_AGE, FINGERPRINTS_A_DOMAIN_MAX, NOBODY_ASKED_PAUSE, STRANGER_AGE,
    STRANGERS_A_DOMAIN_MAX,
};
use core::time::Duration;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub struct Acquaintance(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    memory: Memory,
    /// When one that is known was met last, in this life.
    met: Option<Duration>,
    /// When a recipient that cannot exist was asked for last, to learn the answer, and to compare it.
    asked: Option<Duration>,
    compared: Option<Duration>,
    /// Nobody is asked for before this: it ended a session.
    muted_until: Duration,
    /// The last host that was met is a stranger.
    is_strange: bool,
    /// There is something to be written down.
    is_news: bool,
}

/// What a file keeps.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The primaries as the configuration names them.
    pub route: String,
    /// What they answer for a recipient that cannot exist.
    pub answer: Option<Answer>,
    /// Their hosts.
    pub known: Vec<Known>,
    /// Hosts in their place.
    pub strangers: Vec<Stranger>,
    /// Until when copies are kept of what is delivered, in seconds since 1970.
    pub copies_until_s: u32,
}

/// A host that is known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// What it shows.
    pub fingerprint: Fingerprint,
    /// When it was met last, in seconds since 1970; in the file perhaps a day earlier.
    pub last_s: u32,
}

/// One in its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stranger {
    /// What he shows.
    pub fingerprint: Fingerprint,
    /// What he answers for a recipient that cannot exist.
    pub answer: Option<Answer>,
    /// When he was met first, and when last, in seconds since 1970.
    pub since_s: u32,
    /// See `since_s`.
    pub last_s: u32,
    /// Since when he was met without an outage.
    pub up_s: u32,
    /// What is another, for people.
    pub what: String,
    /// The same as `up_s` on this process's own clock; none: it was before this process.
    #[serde(skip)]
    up: Option<Duration>,
    /// A lane has begun to be careful because of him, in this life.
    #[serde(skip)]
    is_met_with_care: bool,
    /// He was asked for a recipient that cannot exist, in this life.
    #[serde(skip)]
    is_asked: bool,
    /// He was tried whether he takes recipients that are known, in this life.
    #[serde(skip)]
    is_tried: bool,
    /// The known one was met again, and that was told, in this life.
    #[serde(skip)]
    is_back_told: bool,
}

/// That the primary is another, for the operator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub struct Change {
    /// Since when, in seconds since 1970.
    pub since_s: u32,
    /// When it was met last that was another, in seconds since 1970.
    pub last_s: u32,
    /// In what.
    pub what: String,
}

/// Who was met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Meeting {
    /// A known one, for the first time since a stranger took its place.
    Back(Change),
    /// A known one, one of its farm, or whoever it is where none is known.
    Known,
    /// A stranger; the change, if that was not told yet.
    Stranger(Option<Change>),
}

impl Acquaintance {
    /// A host shows this, and perhaps answered for a recipient that cannot exist. `is_calm`: it is in state up, and no outage was seen
    /// since it was met last.
    pub fn meet(
        &self,
        route: &str,
        shown: &Fingerprint,
        answer: Option<Answer>,
        is_calm: bool,
        at: Instants,
    ) -> Meeting {
        let mut state = self.state();
        state.belongs_to(route);
        let meeting = state.meet(shown, answer, is_calm, at);
        state.is_strange = matches!(meeting, Meeting::Stranger(_));
        meeting
    }

    /// A host shows this in state up. Gives whether it is known from here on: a stranger is when he was in state up for long enough.
    pub fn learn(&self, route: &str, shown: &Fingerprint, answer: Option<Answer>, at: Instants) -> bool {
        let mut state = self.state();
        state.belongs_to(route);
        match state.stranger(shown) {
            Some(place) if state.memory.strangers[place].is_aged(at) => state.accept(place, false, at),
            Some(_) => return false,
            None => {
                if answer.is_some() && state.memory.answer != answer {
                    (state.memory.answer, state.is_news) = (answer, true);
                }
                state.note_known(shown, at);
            }
        }
        true
    }

    /// The stranger took recipients whom the known one took, after the drain. Gives whether he is known from here on.
    pub fn prove(&self, shown: &Fingerprint, at: Instants) -> bool {
        let mut state = self.state();
        let Some(place) = state.stranger(shown) else { return false };
        let is_proven = state.refuses_as_before(place);
        if is_proven {
            state.accept(place, true, at);
        }
        is_proven
    }

    /// Whether it is worth to ask the stranger for recipients that are known: once a life, and if he refuses whom nobody can be.
    pub fn may_be_proven(&self, shown: &Fingerprint) -> bool {
        let mut state = self.state();
        let Some(place) = state.stranger(shown) else { return false };
        let is_first = !core::mem::replace(&mut state.memory.strangers[place].is_tried, true);
        is_first && state.refuses_as_before(place)
    }

    /// The operator says that whoever was met is the primary. Gives how many strangers are known from here on.
    pub fn vouch(&self, at: Instants) -> usize {
        let mut state = self.state();
        let count = state.memory.strangers.len();
        while !state.memory.strangers.is_empty() {
            state.accept(0, false, at);
        }
        if count > 0 {
            state.memory.copies_until_s = 0;
        }
        count
    }

    /// A stranger has answered for a recipient that cannot exist.
    pub fn note_answer(&self, shown: &Fingerprint, answer: Answer) {
        let mut state = self.state();
        if let Some(place) = state.stranger(shown) {
            (state.memory.strangers[place].answer, state.is_news) = (Some(answer), true);
        }
    }

    /// Whether a lane has to begin to be careful because of him: true once a life.
    pub fn takes_care(&self, shown: &Fingerprint) -> bool {
        let mut state = self.state();
        let Some(place) = state.stranger(shown) else { return false };
        !core::mem::replace(&mut state.memory.strangers[place].is_met_with_care, true)
    }

    /// Whether a recipient that cannot exist may be asked for now, to learn the answer; it is noted as asked.
    pub fn may_ask(&self, now: Duration) -> bool {
        let mut state = self.state();
        let may = state.is_due(state.asked, CATCH_ALL_AGE, now);
        if may {
            state.asked = Some(now);
        }
        may
    }

    /// The same, to compare the answer before anything is offered: where the known primary refuses such. `is_calm`: no outage was seen.
    pub fn may_compare(&self, is_calm: bool, now: Duration) -> bool {
        let mut state = self.state();
        let is_due = match is_calm {
            true => state.is_due(state.asked.max(state.compared), CATCH_ALL_AGE, now),
            false => state.is_due(state.compared, NOBODY_ASKED_PAUSE, now),
        };
        let may = is_due && state.memory.answer == Some(Answer::Refuses);
        if may {
            state.compared = Some(now);
        }
        may
    }

    /// The same of a stranger: once.
    pub fn may_be_asked(&self, shown: &Fingerprint, now: Duration) -> bool {
        let mut state = self.state();
        let Some(place) = state.stranger(shown) else { return false };
        let is_unknown = state.memory.strangers[place].answer.is_none();
        let is_first = !core::mem::replace(&mut state.memory.strangers[place].is_asked, true);
        is_unknown && is_first && now >= state.muted_until
    }

    /// The session ended over that question: it is not put again for a while.
    pub fn mute(&self, now: Duration) {
        self.state().muted_until = now + CATCH_ALL_AGE;
    }

    /// Whether one that is known was met lately.
    #[must_use]
    pub fn is_fresh(&self, now: Duration) -> bool {
        self.state().is_fresh(now)
    }

    /// Whether the last host that was met is a stranger.
    #[must_use]
    pub fn is_strange(&self) -> bool {
        self.state().is_strange
    }

    /// Whether copies are kept of what is delivered now.
    #[must_use]
    pub fn keeps_copies(&self, wall_s: u32) -> bool {
        let state = self.state();
        !state.memory.strangers.is_empty() || wall_s < state.memory.copies_until_s
    }

    /// The stranger who was met last, if there is any.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        let state = self.state();
        state.memory.strangers.iter().max_by_key(|stranger| stranger.last_s).map(Stranger::change)
    }

    /// Other primaries are configured.
    pub fn forget(&self) {
        let mut state = self.state();
        let is_news = state.is_news || state.memory != Memory::default();
        *state = State { is_news, ..State::default() };
    }

    /// What is to be written down.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.state().memory.clone()
    }

    /// Whether anything of it is new since the last time.
    #[must_use]
    pub fn take_news(&self) -> bool {
        core::mem::take(&mut self.state().is_news)
    }

    /// It could not be kept: it is news again.
    pub fn not_kept(&self) {
        self.state().is_news = true;
    }

    /// What a file says, within the same bounds.
    pub fn restore(&self, mut memory: Memory) {
        memory.known.truncate(FINGERPRINTS_A_DOMAIN_MAX);
        memory.strangers.truncate(STRANGERS_A_DOMAIN_MAX);
        let is_strange = !memory.strangers.is_empty();
        *self.state() = State { memory, is_strange, ..State::default() };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after each operation, whatever panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn belongs_to(&mut self, route: &str) {
        if self.memory.route != route {
            let is_news = self.is_news || self.memory != Memory::default();
            let memory = Memory { route: route.to_owned(), ..Memory::default() };
            *self = Self { memory, is_news, ..Self::default() };
        }
    }

    fn meet(&mut self, shown: &Fingerprint, answer: Option<Answer>, is_calm: bool, at: Instants) -> Meeting {
        if self.memory.known.is_empty() {
            return Meeting::Known;
        }
        let is_turned = self.memory.answer == Some(Answer::Refuses) && answer == Some(Answer::Accepts);
        let likeness = |known: &Known| known.fingerprint.likeness(shown, is_turned);
        let nearest = self.memory.known.iter().map(likeness).min().unwrap_or(Likeness::Changed);
        let is_like = nearest != Likeness::Changed;
        match self.stranger(shown) {
            // One who was a stranger by his answer alone has taken it back.
            Some(place) if is_like && answer == Some(Answer::Refuses) => {
                drop(self.memory.strangers.remove(place));
            }
            Some(place) => {
                let stranger = &mut self.memory.strangers[place];
                stranger.last_s = at.wall_s;
                stranger.answer = answer.or(stranger.answer);
                if !is_calm {
                    (stranger.up_s, stranger.up) = (at.wall_s, Some(at.now));
                }
                return Meeting::Stranger(None);
            }
            None => {}
        }
        if is_like {
            return self.met_known(shown, at);
        }
        if is_calm && self.is_fresh(at.now) {
            // Another machine of its farm: there was no outage in which it could have come.
            return Meeting::Known;
        }
        let change = self.note_stranger(shown, answer, is_turned, at);
        Meeting::Stranger(Some(change))
    }

    fn met_known(&mut self, shown: &Fingerprint, at: Instants) -> Meeting {
        self.met = Some(at.now);
        if let Some(known) = self.memory.known.iter_mut().find(|known| known.fingerprint == *shown) {
            known.last_s = at.wall_s;
        }
        let before = self.memory.strangers.len();
        self.memory.strangers.retain(|stranger| !is_past(stranger.last_s, at.wall_s));
        self.is_news |= self.memory.strangers.len() != before;
        let untold = self.memory.strangers.iter_mut().filter(|stranger| !stranger.is_back_told);
        match untold.max_by_key(|stranger| stranger.last_s) {
            Some(stranger) => {
                stranger.is_back_told = true;
                Meeting::Back(stranger.change())
            }
            None => Meeting::Known,
        }
    }

    fn note_stranger(
        &mut self,
        shown: &Fingerprint,
        answer: Option<Answer>,
        is_turned: bool,
        at: Instants,
    ) -> Change {
        let lately = self.memory.known.iter().max_by_key(|known| known.last_s);
        let what = lately.map(|known| known.fingerprint.told(shown, is_turned)).unwrap_or_default();
        let stranger = Stranger {
            fingerprint: shown.clone(),
            answer,
            since_s: at.wall_s,
            last_s: at.wall_s,
            up_s: at.wall_s,
            what,
            up: Some(at.now),
            is_met_with_care: false,
            is_asked: false,
            is_tried: false,
            is_back_told: false,
        };
        let change = stranger.change();
        let strangers = &mut self.memory.strangers;
        if strangers.len() >= STRANGERS_A_DOMAIN_MAX
            && let Some(place) = oldest(strangers.iter().map(|stranger| stranger.last_s))
        {
            strangers.remove(place);
        }
        strangers.push(stranger);
        let until_s = at.wall_s.saturating_add(seconds(STRANGER_AGE));
        self.memory.copies_until_s = self.memory.copies_until_s.max(until_s);
        self.is_news = true;
        change
    }

    fn note_known(&mut self, shown: &Fingerprint, at: Instants) {
        (self.met, self.is_strange) = (Some(at.now), false);
        let known = &mut self.memory.known;
        if let Some(same) = known.iter_mut().find(|known| known.fingerprint == *shown) {
            self.is_news |= is_past(same.last_s, at.wall_s);
            same.last_s = at.wall_s;
            return;
        }
        if known.len() >= FINGERPRINTS_A_DOMAIN_MAX
            && let Some(place) = oldest(known.iter().map(|known| known.last_s))
        {
            known.remove(place);
        }
        known.push(Known { fingerprint: shown.clone(), last_s: at.wall_s });
        self.is_news = true;
    }

    /// The place of the stranger who shows this.
    fn stranger(&self, shown: &Fingerprint) -> Option<usize> {
        let is_he = |stranger: &Stranger| stranger.fingerprint.likeness(shown, false) == Likeness::Same;
        self.memory.strangers.iter().position(is_he)
    }

    fn is_due(&self, asked: Option<Duration>, pause: Duration, now: Duration) -> bool {
        now >= self.muted_until && asked.is_none_or(|asked| now >= asked + pause)
    }

    fn refuses_as_before(&self, place: usize) -> bool {
        let refuses = Some(Answer::Refuses);
        self.memory.answer == refuses && self.memory.strangers[place].answer == refuses
    }

    /// He is known from here on.
    fn accept(&mut self, place: usize, is_proven: bool, at: Instants) {
        let stranger = self.memory.strangers.remove(place);
        if !is_proven {
            self.memory.known.retain(|known| known.last_s >= stranger.since_s);
            self.memory.answer = stranger.answer.or(self.memory.answer);
        }
        self.note_known(&stranger.fingerprint, at);
    }

    fn is_fresh(&self, now: Duration) -> bool {
        self.met.is_some_and(|met| now < met + ACQUAINTANCE_AGE)
    }
}

impl Stranger {
    fn change(&self) -> Change {
        Change { since_s: self.since_s, last_s: self.last_s, what: self.what.clone() }
    }

    /// Both clocks have to say so, as far as both go.
    fn is_aged(&self, at: Instants) -> bool {
        is_past(self.up_s, at.wall_s) && self.up.is_none_or(|up| at.now >= up + STRANGER_AGE)
    }
}

/// Whether that is [`STRANGER_AGE`] ago.
fn is_past(instant_s: u32, wall_s: u32) -> bool {
    wall_s.saturating_sub(instant_s) >= seconds(STRANGER_AGE)
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn oldest(instants: impl Iterator<Item = u32>) -> Option<usize> {
    instants.enumerate().min_by_key(|(_, instant_s)| *instant_s).map(|(place, _)| place)
}
