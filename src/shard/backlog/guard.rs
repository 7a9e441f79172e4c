//! The bounce guard of a lane: a half-restored primary must not eat what was queued for it (DESIGN.md 5, H40, H41). Pure:
//! answers in, rulings out; the lane acts.
//!
//! ```text
//!            outage                evidence
//!     Off ----------> Watching <-------------> Frozen
//!      ^                 | drained    thaw       | the operator's thaw
//!      |   swept         v                       v
//!      +------------- Judging <------------------+
//! ```
//! - *Off*: the primary is well, and what it refuses is refused.
//! - *Watching*: it came back and what was queued drains: one message first, then 5, then 25, then all (canaries). A refusal
//!   before the data parks its unit: nothing final follows. A refusal of the data is about that message alone (H40).
//! - *Frozen*: nothing is handed over; recipients are asked for until the primary takes them again.
//! - *Judging*: it has shown that it takes who it should. Parked units are offered once more, and what is refused now is. A
//!   recipient that it used to take stays parked for [`GUARD_PATIENCE`], since the rest of it may still come back, and is held
//!   for the operator then; so is what is refused at DATA, which no probe asks for, and everybody where fewer than
//!   [`KNOWN_GOOD_MIN`] are known to be good. It ends when nothing waits any more.
//!
//! Evidence that freezes, each address once for the life of an outage: [`KNOWN_GOOD_MIN`] known-good recipients refused; with
//! fewer known, as many distinct recipients refused, and more than were taken in this drain; or [`ABNORMAL_MIN`] and over a
//! fifth of the last [`RECENT`] units whose reverse-path is proven, until a probe has vouched for the primary.
//!
//! Invariant: no refusal before the data is final while the guard watches or is frozen.

use crate::limits::{GUARD_NAMES_MAX, GUARD_PATIENCE, PROBED_RECIPIENTS_MAX};
use crate::smtp::Moment;
use std::collections::{BTreeSet, VecDeque};

/// See the module.
#[derive(Debug, Default)]
pub(in crate::shard) struct Guard {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    Frozen(Watch),
    Judging {
        /// Be patient with every refused recipient, not only with those that are known to be good.
        all: bool,
        since: Moment,
    },
    #[default]
    Off,
    Watching(Watch),
}

/// What was seen since the primary came back.
#[derive(Debug, Default)]
struct Watch {
    /// The place in [`CANARIES`].
    stage: usize,
    /// Messages of the stage that were offered, and those of them that were answered.
    offered: usize,
    answered: usize,
    /// A unit is parked.
    parked: bool,
    /// Distinct recipients that were taken.
    taken: BTreeSet<String>,
    /// Distinct recipients that were refused before the data, in this outage; those since the last thaw; the
    /// known-good ones among these.
    refused: BTreeSet<String>,
    fresh: usize,
    fresh_known_good: usize,
    /// Units of proven senders: whether it was refused.
    recent: VecDeque<bool>,
    /// A probe has shown that the primary takes who it should: what it refuses may be spam.
    vouched: bool,
    probes: usize,
}

/// What the primary said of one unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Answer {
    /// 2xx to the data.
    Taken,
    /// 5xx before the data.
    Refused,
}

/// One unit and its answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Evidence<'a> {
    pub(in crate::shard) mailbox: &'a str,
    pub(in crate::shard) answer: Answer,
    /// The primary took this recipient's mail before the outage.
    pub(in crate::shard) is_known_good: bool,
    /// How many recipients it took before the outage, as far as that matters.
    pub(in crate::shard) known_good: usize,
    /// The reverse-path is proven (P5).
    pub(in crate::shard) is_proven: bool,
}

/// What follows from a refusal before the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Ruling {
    /// The unit waits for the operator.
    Hold,
    /// The unit steps aside, undecided.
    Park,
    /// As the domain's `on_reject` has it.
    Settle,
}

/// What to do when everything due was handed over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Drained {
    /// Nothing more.
    Over,
    /// Known-good recipients are to be asked for before parked units are judged.
    Probe,
    /// Parked units are due: offer them again.
    Sweep,
}

/// What a probe showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Probed {
    /// The primary refuses recipients that it should take.
    Refusing,
    /// Nothing.
    Undecided,
    /// It takes who it should.
    Well,
}

impl Guard {
    /// The primary does not serve us, or puts everything off. What comes after is watched.
    pub(in crate::shard) fn outage(&mut self) {
        self.state = match core::mem::take(&mut self.state) {
            State::Off => State::Watching(Watch::default()),
            // Some that it refused still wait for its judgement.
            State::Judging { .. } => State::Watching(Watch { parked: true, ..Watch::default() }),
            other => other,
        };
    }

    /// Mail goes to other hosts, or to a primary that may be another: what the one before said and took is not theirs.
    pub(in crate::shard) fn rerouted(&mut self) {
        let parked = match &self.state {
            State::Off => false,
            State::Judging { .. } => true,
            State::Frozen(watch) | State::Watching(watch) => watch.parked,
        };
        self.state = State::Watching(Watch { parked, ..Watch::default() });
    }

    /// Nothing is watched, and nothing is left to be judged.
    pub(in crate::shard) const fn is_off(&self) -> bool {
        matches!(self.state, State::Off)
    }

    /// How many messages more may be offered before those that are out are answered.
    pub(in crate::shard) fn room(&self) -> usize {
        match &self.state {
            State::Frozen(_) => 0,
            State::Judging { .. } | State::Off => usize::MAX,
            State::Watching(watch) => {
                CANARIES.get(watch.stage).map_or(usize::MAX, |canaries| canaries - watch.offered)
            }
        }
    }

    /// A message is offered.
    pub(in crate::shard) fn offer(&mut self) {
        if let State::Watching(watch) = &mut self.state {
            watch.offered += 1;
        }
    }

    /// An offered message was answered, whatever the answer.
    pub(in crate::shard) fn answered(&mut self) {
        let State::Watching(watch) = &mut self.state else { return };
        watch.answered += 1;
        if CANARIES.get(watch.stage).is_some_and(|canaries| watch.answered >= *canaries) {
            (watch.stage, watch.offered, watch.answered) = (watch.stage + 1, 0, 0);
        }
    }

    /// An offered message is back, without an answer: its connection broke, while others go on.
    pub(in crate::shard) fn withdraw(&mut self) {
        if let State::Watching(watch) = &mut self.state {
            watch.offered = watch.offered.saturating_sub(1).max(watch.answered);
        }
    }

    /// No session is left: what was offered and not answered is offered again.
    pub(in crate::shard) fn session_ended(&mut self) {
        if let State::Watching(watch) = &mut self.state {
            watch.offered = watch.answered;
        }
    }

    /// Weighs the answer for one unit. A ruling is for refusals.
    pub(in crate::shard) fn weigh(&mut self, evidence: &Evidence<'_>, now: Moment) -> Ruling {
        let watch = match &mut self.state {
            State::Frozen(watch) | State::Watching(watch) => watch,
            State::Judging { all, since } if *all || evidence.is_known_good => {
                return if now < *since + GUARD_PATIENCE { Ruling::Park } else { Ruling::Hold };
            }
            State::Judging { .. } | State::Off => return Ruling::Settle,
        };
        watch.note(evidence);
        if watch.is_abnormal(evidence.known_good) && !self.is_frozen() {
            let State::Watching(watch) = core::mem::take(&mut self.state) else { return Ruling::Park };
            self.state = State::Frozen(watch);
        }
        Ruling::Park
    }

    /// Nothing is handed over.
    pub(in crate::shard) const fn is_frozen(&self) -> bool {
        matches!(self.state, State::Frozen(_))
    }

    /// It came back, and what it says is not final.
    pub(in crate::shard) const fn is_watching(&self) -> bool {
        matches!(self.state, State::Watching(_))
    }

    /// Everything due was handed over; `waits`: something is queued that is not due yet.
    pub(in crate::shard) fn drained(&mut self, known_good: usize, waits: bool, now: Moment) -> Drained {
        match &self.state {
            State::Watching(watch) if !watch.parked => {
                self.state = State::Off;
                Drained::Over
            }
            State::Watching(_) if known_good < KNOWN_GOOD_MIN => {
                self.state = State::Judging { all: true, since: now };
                Drained::Sweep
            }
            State::Watching(_) => Drained::Probe,
            State::Judging { .. } if !waits => {
                self.state = State::Off;
                Drained::Over
            }
            State::Frozen(_) | State::Judging { .. } | State::Off => Drained::Over,
        }
    }

    /// Whom to ask for: `known_good` has some that the primary took before the outage, others each time. Where too few are known,
    /// those that it took in this drain; none: those that it refused, which it takes once it is whole. A frozen lane's probes are counted.
    pub(in crate::shard) fn candidates(&mut self, known_good: Vec<String>) -> Vec<String> {
        let (State::Frozen(watch) | State::Watching(watch)) = &mut self.state else { return known_good };
        watch.probes += 1;
        if known_good.len() >= KNOWN_GOOD_MIN {
            return known_good;
        }
        let from = if watch.taken.len() >= KNOWN_GOOD_MIN { &watch.taken } else { &watch.refused };
        let skipped = watch.probes * PROBED_RECIPIENTS_MAX % from.len().max(1);
        from.iter().cycle().skip(skipped).take(PROBED_RECIPIENTS_MAX.min(from.len())).cloned().collect()
    }

    /// How often it was asked, so that others are asked for each time.
    pub(in crate::shard) fn probes(&self) -> usize {
        match &self.state {
            State::Frozen(watch) | State::Watching(watch) => watch.probes,
            State::Judging { .. } | State::Off => 0,
        }
    }

    /// The probe was answered. All of them taken: the primary is vouched for, and a frozen lane thaws into its first canary. One
    /// of them refused: a lane that was about to judge freezes. Else, as when they are put off, nothing changes.
    pub(in crate::shard) fn probed(
        &mut self,
        taken: usize,
        refused: usize,
        asked: usize,
        now: Moment,
    ) -> Probed {
        let is_well = asked > 0 && taken == asked;
        self.state = match core::mem::take(&mut self.state) {
            State::Frozen(watch) if is_well => State::Watching(watch.thawed()),
            State::Watching(_) if is_well => State::Judging { all: false, since: now },
            State::Watching(watch) if refused > 0 => State::Frozen(watch),
            other => other,
        };
        match (is_well, refused) {
            (true, _) => Probed::Well,
            (false, 0) => Probed::Undecided,
            (false, _) => Probed::Refusing,
        }
    }

    /// The operator lets a frozen lane go on: what is refused now is refused. Gives whether it was frozen.
    pub(in crate::shard) fn thaw(&mut self, now: Moment) -> bool {
        let was_frozen = self.is_frozen();
        if was_frozen {
            self.state = State::Judging { all: false, since: now };
        }
        was_frozen
    }
}

impl Watch {
    fn note(&mut self, evidence: &Evidence<'_>) {
        let is_refused = evidence.answer == Answer::Refused;
        if evidence.is_proven {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(is_refused);
        }
        let names = if is_refused { &mut self.refused } else { &mut self.taken };
        // With more names than that the evidence is long in.
        let is_new = names.len() < GUARD_NAMES_MAX && names.insert(evidence.mailbox.to_owned());
        if is_refused {
            self.parked = true;
            self.fresh += usize::from(is_new);
            self.fresh_known_good += usize::from(is_new && evidence.is_known_good);
        }
    }

    fn is_abnormal(&self, known_good: usize) -> bool {
        let refused = self.recent.iter().filter(|refused| **refused).count();
        let is_share_abnormal =
            !self.vouched && refused >= ABNORMAL_MIN && refused * ABNORMAL_SHARE > self.recent.len();
        let is_refusing = if known_good < KNOWN_GOOD_MIN {
            self.fresh >= KNOWN_GOOD_MIN && self.refused.len() > self.taken.len()
        } else {
            self.fresh_known_good >= KNOWN_GOOD_MIN
        };
        is_share_abnormal || is_refusing
    }

    /// Begins again; who was refused before is no news.
    fn thawed(self) -> Self {
        let Self { taken, refused, parked, probes, .. } = self;
        Self { taken, refused, parked, probes, vouched: true, ..Self::default() }
    }
}

/// Messages of each stage before the next one begins.
const CANARIES: [usize; 3] = [1, 5, 25];
/// Fewer known-good recipients than that prove nothing, taken or refused.
pub(in crate::shard) const KNOWN_GOOD_MIN: usize = 2;
/// Units of proven senders that are looked at.
const RECENT: usize = 50;
/// Of them are refused at least so many, and over one in so many.
const ABNORMAL_MIN: usize = 3;
const ABNORMAL_SHARE: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 9;
    const NOW: Moment = Moment::from_secs(1000);

    fn answer(mailbox: &str, answer: Answer) -> Evidence<'_> {
        let is_known_good = mailbox.starts_with("known");
        Evidence { mailbox, answer, is_known_good, known_good: MANY, is_proven: false }
    }

    fn refused(mailbox: &str) -> Evidence<'_> {
        answer(mailbox, Answer::Refused)
    }

    fn taken(mailbox: &str) -> Evidence<'_> {
        answer(mailbox, Answer::Taken)
    }

    fn unknown(evidence: Evidence<'_>) -> Evidence<'_> {
        Evidence { known_good: KNOWN_GOOD_MIN - 1, ..evidence }
    }

    fn proven(evidence: Evidence<'_>) -> Evidence<'_> {
        Evidence { is_proven: true, ..evidence }
    }

    fn weigh(guard: &mut Guard, evidence: &Evidence<'_>) -> Ruling {
        guard.weigh(evidence, NOW)
    }

    fn probed(guard: &mut Guard, taken: usize, refused: usize, asked: usize) -> Probed {
        guard.probed(taken, refused, asked, NOW)
    }

    fn watching() -> Guard {
        let mut guard = Guard::default();
        guard.outage();
        guard
    }

    #[test]
    fn without_an_outage_a_refusal_is_final() {
        let mut guard = Guard::default();
        for mailbox in ["known-1@a.test", "known-2@a.test", "known-3@a.test"] {
            assert_eq!(weigh(&mut guard, &proven(refused(mailbox))), Ruling::Settle);
        }
        assert!(!guard.is_frozen());
        assert_eq!((guard.room(), guard.drained(MANY, false, NOW)), (usize::MAX, Drained::Over));
    }

    #[test]
    fn two_known_good_recipients_refused_freeze_and_one_twice_does_not() {
        let mut guard = watching();
        for mailbox in ["known-1@a.test", "spam-1@a.test", "spam-2@a.test", "spam-3@a.test", "known-1@a.test"]
        {
            assert_eq!(weigh(&mut guard, &refused(mailbox)), Ruling::Park);
            assert!(guard.is_watching(), "{mailbox}");
        }
        assert_eq!(weigh(&mut guard, &refused("known-2@a.test")), Ruling::Park);
        assert!(guard.is_frozen());
        assert_eq!(guard.room(), 0);
    }

    #[test]
    fn with_nobody_known_two_refused_freeze_unless_as_many_were_taken() {
        let mut guard = watching();
        weigh(&mut guard, &unknown(refused("a@a.test")));
        assert!(guard.is_watching());
        weigh(&mut guard, &unknown(refused("b@a.test")));
        assert!(guard.is_frozen());
        let mut guard = watching();
        for mailbox in ["a@a.test", "b@a.test"] {
            weigh(&mut guard, &unknown(taken(mailbox)));
        }
        for mailbox in ["c@a.test", "d@a.test"] {
            assert_eq!(weigh(&mut guard, &unknown(refused(mailbox))), Ruling::Park);
        }
        assert!(guard.is_watching());
        assert_eq!(guard.drained(0, true, NOW), Drained::Sweep);
        let refusal = unknown(refused("c@a.test"));
        assert_eq!(weigh(&mut guard, &refusal), Ruling::Park, "nobody can vouch for the primary");
        assert_eq!(guard.weigh(&refusal, NOW + GUARD_PATIENCE), Ruling::Hold);
    }

    #[test]
    fn an_abnormal_share_of_proven_senders_freezes() {
        for (before, freezes) in [(9, true), (11, true), (12, false), (49, false)] {
            let mut guard = watching();
            for _ in 0..before {
                weigh(&mut guard, &proven(taken("known-1@a.test")));
            }
            for mailbox in ["x@a.test", "y@a.test", "z@a.test"] {
                assert!(guard.is_watching());
                weigh(&mut guard, &proven(refused(mailbox)));
            }
            assert_eq!(guard.is_frozen(), freezes, "3 refused of {}", before + 3);
        }
        // Others do not count, and what is long ago does not either.
        let mut guard = watching();
        for number in 0..RECENT {
            weigh(&mut guard, &refused(&format!("{number}@a.test")));
            weigh(&mut guard, &proven(taken("known-1@a.test")));
        }
        assert!(guard.is_watching());
        for mailbox in (0..=RECENT / ABNORMAL_SHARE).map(|number| format!("{number}@a.test")) {
            assert!(guard.is_watching(), "{mailbox}");
            weigh(&mut guard, &proven(refused(&mailbox)));
        }
        assert!(guard.is_frozen());
    }

    #[test]
    fn canaries_go_first() {
        let mut guard = watching();
        let mut stages = Vec::new();
        while guard.room() < usize::MAX {
            let room = guard.room();
            stages.push(room);
            for left in (0..room).rev() {
                guard.offer();
                assert_eq!(guard.room(), left);
            }
            // The link breaks when all but one are answered: that one is offered again.
            for _ in 1..room {
                guard.answered();
            }
            guard.session_ended();
            assert_eq!(guard.room(), 1);
            guard.offer();
            guard.answered();
        }
        assert_eq!(stages, CANARIES);
    }

    #[test]
    fn parked_units_are_judged_once_known_good_recipients_were_taken() {
        let mut guard = watching();
        assert_eq!(weigh(&mut guard, &refused("spam@a.test")), Ruling::Park);
        assert_eq!(guard.drained(MANY, false, NOW), Drained::Probe);
        assert_eq!(probed(&mut guard, 3, 0, 3), Probed::Well);
        assert_eq!(weigh(&mut guard, &refused("spam@a.test")), Ruling::Settle);
        assert_eq!(
            weigh(&mut guard, &refused("known-7@a.test")),
            Ruling::Park,
            "it may be restored only in part"
        );
        assert_eq!(guard.drained(MANY, true, NOW), Drained::Over);
        assert_eq!(guard.weigh(&refused("known-7@a.test"), NOW + GUARD_PATIENCE), Ruling::Hold);
        assert_eq!(guard.drained(MANY, false, NOW), Drained::Over);
        assert_eq!(weigh(&mut guard, &refused("known-7@a.test")), Ruling::Settle);
    }

    #[test]
    fn a_primary_that_refuses_its_own_is_not_let_judge() {
        for (taken, refused_now, asked, freezes) in [(2, 1, 3, true), (0, 3, 3, true), (2, 0, 3, false)] {
            let mut guard = watching();
            weigh(&mut guard, &refused("spam@a.test"));
            assert_eq!(guard.drained(MANY, false, NOW), Drained::Probe);
            assert_ne!(probed(&mut guard, taken, refused_now, asked), Probed::Well);
            assert_eq!(guard.is_frozen(), freezes, "{taken} of {asked}");
            assert_eq!(weigh(&mut guard, &refused("spam@a.test")), Ruling::Park, "nothing is final");
        }
    }

    #[test]
    fn h40_a_vouched_primary_may_refuse_spam_and_old_names_are_no_news() {
        let mut guard = watching();
        for mailbox in ["known-1@a.test", "known-2@a.test"] {
            weigh(&mut guard, &refused(mailbox));
        }
        assert_eq!(probed(&mut guard, 2, 1, 3), Probed::Refusing, "one address of three");
        assert_eq!(probed(&mut guard, 2, 0, 3), Probed::Undecided);
        assert!(guard.is_frozen());
        assert_eq!(probed(&mut guard, 3, 0, 3), Probed::Well);
        assert!(guard.is_watching());
        assert_eq!(guard.room(), CANARIES[0], "from the first canary");
        // Both mailboxes are gone for good, and there is spam: neither stops the rest again.
        for mailbox in ["known-1@a.test", "known-2@a.test", "s-1@a.test", "s-2@a.test", "s-3@a.test"] {
            weigh(&mut guard, &proven(refused(mailbox)));
            assert!(guard.is_watching(), "{mailbox}");
        }
        weigh(&mut guard, &refused("known-3@a.test"));
        weigh(&mut guard, &refused("known-4@a.test"));
        assert!(guard.is_frozen(), "others are news");
        assert!(guard.thaw(NOW));
        assert!(!guard.thaw(NOW));
        assert_eq!(weigh(&mut guard, &refused("s-1@a.test")), Ruling::Settle);
        assert_eq!(weigh(&mut guard, &refused("known-1@a.test")), Ruling::Park);
        guard.outage();
        assert_eq!(guard.drained(MANY, true, NOW), Drained::Probe, "what was parked is not forgotten");
        assert_eq!(weigh(&mut guard, &refused("s-1@a.test")), Ruling::Park, "a new outage is watched anew");
    }

    #[test]
    fn a_probe_asks_for_others_each_time() {
        let mut guard = watching();
        let known: Vec<String> = ["known-1@a.test", "known-2@a.test"].map(str::to_owned).into();
        assert_eq!(guard.candidates(known.clone()), known);
        weigh(&mut guard, &unknown(refused("r@a.test")));
        assert_eq!(guard.candidates(Vec::new()), ["r@a.test"], "what it refused it takes once it is whole");
        for number in 0..5 {
            weigh(&mut guard, &unknown(taken(&format!("{number}@a.test"))));
        }
        let asked: BTreeSet<_> = (0..5).flat_map(|_| guard.candidates(Vec::new())).collect();
        let all = (0..5).map(|number| format!("{number}@a.test"));
        assert_eq!(asked, all.collect());
    }

    #[test]
    fn names_are_bounded() {
        let mut guard = watching();
        for number in 0..10 * GUARD_NAMES_MAX {
            weigh(&mut guard, &taken(&format!("t-{number}@a.test")));
            weigh(&mut guard, &refused(&format!("r-{number}@a.test")));
        }
        let State::Watching(watch) = guard.state else { panic!("spam alone froze it") };
        assert_eq!((watch.taken.len(), watch.refused.len()), (GUARD_NAMES_MAX, GUARD_NAMES_MAX));
    }
}
