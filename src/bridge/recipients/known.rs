//! What the primary of a domain said about recipients: memory with ages and bounds, no waiting, no files.
//!
//! Times are wall seconds, since they outlive the process; a clock that went back makes a refusal say nothing, and an
//! acceptance count. Whatever has no room is not remembered: that recipient is unknown, as `unknown_during_outage` has it. However
//! much others have remembered, a domain has room for its first [`RECIPIENTS_A_DOMAIN_MIN`].

use super::local_part::without_detail;
use crate::limits::{
    DOMAIN_ACCEPTS_AGE, RECIPIENT_ACCEPTED_AGE, RECIPIENT_REFUSED_AGE, RECIPIENT_REFUSED_APART,
    RECIPIENTS_A_DOMAIN_MIN, RECIPIENTS_ACCEPTED_A_DOMAIN_MAX, RECIPIENTS_REFUSED_A_DOMAIN_MAX,
    RECIPIENTS_REMEMBERED_MAX,
};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

/// Who said it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A callout was answered.
    Callout,
    /// A message was handed over, or refused at RCPT.
    Delivery,
}

/// When something is said: wall time, which a restart outlives, and time that never jumps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instants {
    /// Seconds since 1970.
    pub wall_s: u32,
    /// Of this process.
    pub now: Duration,
}

/// What was said of one recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// By what.
    pub source: Source,
    /// Wall seconds of the first time, without anything to the contrary since.
    pub first_s: u32,
    /// Of the last time.
    pub last_s: u32,
    /// The first time on this process's own clock; none: it was before this process.
    first: Option<Duration>,
}

/// See the module. Local parts are as [`folded`](super::folded).
#[derive(Debug, Default)]
pub(super) struct Known {
    accepted: HashMap<Box<str>, Evidence>,
    refused: HashMap<Box<str>, Evidence>,
    /// When anybody was accepted last.
    accepted_s: Option<u32>,
    /// Recipients remembered of all domains.
    remembered: Arc<AtomicUsize>,
    /// When room was made last.
    cleared_s: u32,
}

impl Evidence {
    /// What a file says.
    #[must_use]
    pub const fn restored(source: Source, first_s: u32, last_s: u32) -> Self {
        Self { source, first_s, last_s, first: None }
    }

    fn is_younger(&self, wall_s: u32, age: Duration) -> bool {
        u64::from(wall_s.saturating_sub(self.last_s)) <= age.as_secs()
    }

    /// H26: once proves nothing, and neither does what was said within a day. Both clocks have to say that.
    fn is_confirmed(&self, at: Instants) -> bool {
        let apart = u64::from(self.last_s.saturating_sub(self.first_s));
        let is_apart = |first| at.now.saturating_sub(first) >= RECIPIENT_REFUSED_APART;
        apart >= RECIPIENT_REFUSED_APART.as_secs() && self.first.is_none_or(is_apart)
    }
}

impl Known {
    pub(super) fn new(remembered: Arc<AtomicUsize>) -> Self {
        Self { remembered, ..Self::default() }
    }

    /// A recipient was accepted; what it had been refused for is over. `user+detail` speaks for `user`. Gives whether that is
    /// worth writing down: it is new, or a day newer.
    pub(super) fn accept(
        &mut self,
        name: &str,
        delimiter: Option<char>,
        source: Source,
        at: Instants,
    ) -> bool {
        self.anybody_accepted(at);
        let user = without_detail(name, delimiter).unwrap_or(name);
        let before = self.refused.len();
        self.refused.remove(name);
        self.refused.remove(user);
        let cleared = before - self.refused.len();
        self.remembered.fetch_sub(cleared, Ordering::Relaxed);
        if let Some(evidence) = self.accepted.get_mut(user) {
            let is_newer = !evidence.is_younger(at.wall_s, ACCEPTED_APART);
            let last_s = if is_newer { at.wall_s } else { evidence.last_s };
            (evidence.source, evidence.last_s) = (source, last_s);
            return cleared > 0 || is_newer;
        }
        if self.has_room(at, |known| known.accepted.len() < RECIPIENTS_ACCEPTED_A_DOMAIN_MAX) {
            let (first_s, last_s) = (at.wall_s, at.wall_s);
            let evidence = Evidence { source, first_s, last_s, first: Some(at.now) };
            self.put(false, user, evidence);
            return true;
        }
        cleared > 0
    }

    /// Somebody was accepted of whom nothing is remembered, such as postmaster.
    pub(super) fn anybody_accepted(&mut self, at: Instants) {
        self.accepted_s = Some(at.wall_s);
    }

    /// What it accepted does not show any more that it accepts somebody.
    pub(super) const fn nobody_accepted(&mut self) {
        self.accepted_s = None;
    }

    /// Whether anybody was accepted lately.
    pub(super) fn accepts_anybody(&self, wall_s: u32) -> bool {
        let is_lately = |accepted_s| u64::from(wall_s.abs_diff(accepted_s)) <= DOMAIN_ACCEPTS_AGE.as_secs();
        self.accepted_s.is_some_and(is_lately)
    }

    /// A recipient was refused as unknown. Says nothing while the primary accepts nobody: it may be us whom it refuses.
    pub(super) fn refuse(&mut self, name: &str, source: Source, at: Instants) -> bool {
        if !self.accepts_anybody(at.wall_s) {
            return false;
        }
        let said = Evidence { source, first_s: at.wall_s, last_s: at.wall_s, first: Some(at.now) };
        if let Some(evidence) = self.refused.get_mut(name) {
            *evidence = match evidence.is_younger(at.wall_s, RECIPIENT_REFUSED_AGE) {
                true => Evidence { source, last_s: at.wall_s.max(evidence.last_s), ..*evidence },
                false => said,
            };
        } else if self.has_room(at, |known| known.refused.len() < RECIPIENTS_REFUSED_A_DOMAIN_MAX) {
            self.put(true, name, said);
        }
        true
    }

    /// Whether it was accepted within `age`.
    pub(super) fn is_accepted(
        &self,
        name: &str,
        delimiter: Option<char>,
        wall_s: u32,
        age: Duration,
    ) -> bool {
        let accepted =
            |name| self.accepted.get(name).is_some_and(|evidence| evidence.is_younger(wall_s, age));
        accepted(name) || without_detail(name, delimiter).is_some_and(accepted)
    }

    /// Some that were accepted within `age` and can be written without quoting, from the `skipped`-th on.
    pub(super) fn accepted(&self, wall_s: u32, age: Duration, skipped: usize, most: usize) -> Vec<String> {
        let is_plain = |name: &str| {
            let is_atom = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.+".contains(&octet);
            name.bytes().all(is_atom)
                && !name.starts_with('.')
                && !name.ends_with('.')
                && !name.contains("..")
        };
        let lately = self.accepted.iter().filter(|(_, evidence)| evidence.is_younger(wall_s, age));
        let names = lately.map(|(name, _)| name).filter(|name| is_plain(name));
        let skipped = skipped % self.accepted.len().max(1);
        // From the first ones again, where the end is near.
        let mut some: Vec<String> =
            names.clone().skip(skipped).take(most).map(|name| name.to_string()).collect();
        let rest = most - some.len();
        some.extend(names.take(rest.min(skipped)).map(|name| name.to_string()));
        some
    }

    /// Whether a callout was told within `age` that it is unknown, and nothing else since.
    pub(super) fn was_refused_when_asked(&self, name: &str, wall_s: u32, age: Duration) -> bool {
        self.is_refused(name, wall_s, age)
            && self.refused.get(name).is_some_and(|evidence| evidence.source == Source::Callout)
    }

    /// Whether it was refused within `age`, and not accepted since.
    pub(super) fn is_refused(&self, name: &str, wall_s: u32, age: Duration) -> bool {
        let refused = self.refused.get(name);
        refused.is_some_and(|evidence| evidence.last_s <= wall_s && evidence.is_younger(wall_s, age))
    }

    /// Whether it was refused as often as H26 asks for, and lately enough.
    pub(super) fn is_learned_refused(&self, name: &str, at: Instants) -> bool {
        self.is_refused(name, at.wall_s, RECIPIENT_REFUSED_AGE)
            && self.refused.get(name).is_some_and(|evidence| evidence.is_confirmed(at))
    }

    /// Everything: whether it was refused, the local part, what was said.
    pub(super) fn all(&self) -> Vec<(bool, Box<str>, Evidence)> {
        let mut all = Vec::with_capacity(self.accepted.len() + self.refused.len());
        all.extend(self.accepted.iter().map(|(name, evidence)| (false, name.clone(), *evidence)));
        all.extend(self.refused.iter().map(|(name, evidence)| (true, name.clone(), *evidence)));
        all
    }

    /// What a file says, within the same bounds.
    pub(super) fn restore(&mut self, refused: bool, name: &str, evidence: Evidence) {
        let map = if refused { &self.refused } else { &self.accepted };
        let most = if refused { RECIPIENTS_REFUSED_A_DOMAIN_MAX } else { RECIPIENTS_ACCEPTED_A_DOMAIN_MAX };
        if map.len() < most && self.has_share() {
            if !refused {
                self.accepted_s = self.accepted_s.max(Some(evidence.last_s));
            }
            self.put(refused, name, evidence);
        }
    }

    fn put(&mut self, refused: bool, name: &str, evidence: Evidence) {
        let map = if refused { &mut self.refused } else { &mut self.accepted };
        if map.insert(name.into(), evidence).is_none() {
            self.remembered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether all domains leave room for one more of this one.
    fn has_share(&self) -> bool {
        self.remembered.load(Ordering::Relaxed) < RECIPIENTS_REMEMBERED_MAX
            || self.accepted.len() + self.refused.len() < RECIPIENTS_A_DOMAIN_MIN
    }

    /// Whether there is room, after what is past its age was forgotten, which is looked at once a minute.
    fn has_room(&mut self, at: Instants, has_room: impl Fn(&Self) -> bool) -> bool {
        let is_there = |known: &Self| has_room(known) && known.has_share();
        if !is_there(self) && at.wall_s.abs_diff(self.cleared_s) >= 60 {
            self.cleared_s = at.wall_s;
            let before = self.accepted.len() + self.refused.len();
            self.accepted.retain(|_, evidence| evidence.is_younger(at.wall_s, RECIPIENT_ACCEPTED_AGE));
            self.refused.retain(|_, evidence| evidence.is_younger(at.wall_s, RECIPIENT_REFUSED_AGE));
            let gone = before - self.accepted.len() - self.refused.len();
            self.remembered.fetch_sub(gone, Ordering::Relaxed);
        }
        is_there(self)
    }
}

/// How much later an acceptance has to be to be noted again: ages are half a year.
const ACCEPTED_APART: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u32 = 86_400;

    #[test]
    fn what_others_remember_leaves_everybody_some_room() {
        let remembered = Arc::new(AtomicUsize::new(RECIPIENTS_REMEMBERED_MAX));
        let mut known = Known::new(remembered);
        for number in 0..2 * RECIPIENTS_A_DOMAIN_MIN {
            known.accept(&format!("{number}"), PLUS, Source::Delivery, at(100));
        }
        assert_eq!(known.accepted.len(), RECIPIENTS_A_DOMAIN_MIN);
    }

    #[test]
    fn what_is_written_down_again_is_new() {
        let mut known = Known::default();
        assert!(known.accept("user", PLUS, Source::Delivery, at(100)));
        assert!(!known.accept("user+x", PLUS, Source::Delivery, at(200)), "known, and just now");
        assert!(known.accept("user", PLUS, Source::Delivery, at(101 + DAY_S)), "a day newer");
        known.refuse("user", Source::Callout, at(101 + DAY_S));
        assert!(known.accept("user", PLUS, Source::Delivery, at(102 + DAY_S)), "not refused any more");
    }
    const PLUS: Option<char> = Some('+');

    fn at(wall_s: u32) -> Instants {
        Instants { wall_s, now: Duration::from_secs(wall_s.into()) }
    }

    #[test]
    fn h26_a_refusal_counts_when_it_was_said_twice_a_day_apart() {
        let mut known = Known::default();
        known.accept("good", PLUS, Source::Delivery, at(1_000_000));
        for (said_s, is_learned) in
            [(0, false), (60, false), (DAY_S - 1, false), (DAY_S, true), (2 * DAY_S, true)]
        {
            let now = at(1_000_000 + said_s);
            known.anybody_accepted(now);
            assert!(known.refuse("bad", Source::Delivery, now));
            assert_eq!(known.is_learned_refused("bad", now), is_learned, "{said_s}");
        }
        let later = at(1_000_000 + 2 * DAY_S + 8 * DAY_S);
        assert!(!known.is_learned_refused("bad", later), "nobody has said it for a week");
        known.accept("bad", PLUS, Source::Delivery, at(1_000_000 + 2 * DAY_S + 1));
        assert!(!known.is_learned_refused("bad", at(1_000_000 + 2 * DAY_S + 2)), "one 250 is stronger");
    }

    #[test]
    fn a_clock_that_jumps_confirms_nothing() {
        let mut known = Known::default();
        let jumped = Instants { wall_s: 1_000_000 + 2 * DAY_S, now: Duration::from_secs(1_000_060) };
        known.anybody_accepted(at(1_000_000));
        known.refuse("bad", Source::Delivery, at(1_000_000));
        known.anybody_accepted(jumped);
        known.refuse("bad", Source::Delivery, jumped);
        assert!(!known.is_learned_refused("bad", jumped));
        // Nor does one that went back: what is said in the future is not known yet.
        assert!(!known.is_refused("bad", 999_000, RECIPIENT_REFUSED_AGE));
        known.accept("good", PLUS, Source::Delivery, jumped);
        assert!(known.is_accepted("good", PLUS, 999_000, RECIPIENT_ACCEPTED_AGE));
    }

    #[test]
    fn a_primary_that_accepts_nobody_says_nothing() {
        let mut known = Known::default();
        assert!(!known.refuse("bad", Source::Callout, at(5)), "it has accepted nobody yet");
        known.anybody_accepted(at(5));
        assert!(!known.refuse("bad", Source::Callout, at(7 + 2 * DAY_S)), "nor for two days");
        assert!(!known.is_refused("bad", 5, RECIPIENT_REFUSED_AGE));
    }

    #[test]
    fn a_detail_speaks_for_its_user_and_never_against() {
        let mut known = Known::default();
        known.accept("user+list", PLUS, Source::Callout, at(10));
        assert!(known.is_accepted("user", PLUS, 10, DOMAIN_ACCEPTS_AGE));
        assert!(known.is_accepted("user+other", PLUS, 10, DOMAIN_ACCEPTS_AGE));
        assert!(!known.is_accepted("user+list", None, 10, DOMAIN_ACCEPTS_AGE));
        known.refuse("user+other", Source::Callout, at(10));
        assert!(!known.is_refused("user", 10, RECIPIENT_REFUSED_AGE));
        known.refuse("user", Source::Callout, at(10));
        known.accept("user+list", PLUS, Source::Callout, at(10));
        assert!(!known.is_refused("user", 10, RECIPIENT_REFUSED_AGE), "it is accepted");
        assert!(known.is_refused("user+other", 10, RECIPIENT_REFUSED_AGE));
    }

    #[test]
    fn who_tries_names_fills_no_memory_and_pushes_nobody_out() {
        let mut known = Known::default();
        known.accept("good", PLUS, Source::Delivery, at(100));
        for number in 0..2 * RECIPIENTS_REFUSED_A_DOMAIN_MAX {
            known.refuse(&format!("{number}"), Source::Callout, at(100));
        }
        assert_eq!(known.refused.len(), RECIPIENTS_REFUSED_A_DOMAIN_MAX);
        assert!(known.is_accepted("good", PLUS, 100, DOMAIN_ACCEPTS_AGE));
        let later = at(100 + 8 * DAY_S);
        known.anybody_accepted(later);
        known.refuse("late", Source::Callout, later);
        assert!(known.refused.len() == 1 && known.remembered.load(Ordering::Relaxed) == 2);
    }
}
