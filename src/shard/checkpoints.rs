//! What a shard remembers of checkpoints: memory, no waiting. Who does what is in `checkpoint`.

use super::mesh::Begin;
use core::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use storage::notify::Notify;
use storage::position::{SegmentId, ShardId, Stamp};

/// What a shard remembers of checkpoints.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// The first journal that the next one removes.
    pub(super) oldest: Cell<SegmentId>,
    /// What journals say must stay: a shard or a segment could not be read.
    pub(super) suspended: bool,
    /// Shards that have told us all that their older journals say, by cycle. A mark may come before we have heard of
    /// its cycle.
    pub(super) marks: RefCell<BTreeMap<Stamp, u16>>,
    /// The cycle that we have done our part in, and the last journal that goes when it is complete.
    pub(super) up_to: Cell<Option<(Stamp, SegmentId)>>,
    /// A shard has too many journals: shard 0 is to begin.
    pub(super) wanted: Cell<bool>,
    /// What the shard is to do, in the order in which it was told.
    pub(super) steps: RefCell<VecDeque<Step>>,
    /// Segments that a rewrite is leaving and that have no tally yet: outcomes of their copies mean nothing to a start,
    /// so nothing is restated meanwhile.
    pub(super) leaving: RefCell<Vec<(ShardId, SegmentId)>>,
    /// One of these changed.
    pub(super) news: Notify,
}

/// What a shard is to do.
#[derive(Debug)]
pub(super) enum Step {
    /// Its part of a cycle.
    Begin(Begin),
    /// Remove what the cycle with this sequence restated.
    Forget(Stamp),
}

impl Checkpoints {
    /// For a shard whose first journal is `oldest`.
    pub(super) fn new(oldest: SegmentId, suspended: bool) -> Self {
        Self {
            oldest: Cell::new(oldest),
            suspended,
            marks: RefCell::default(),
            up_to: Cell::new(None),
            wanted: Cell::new(false),
            steps: RefCell::default(),
            leaving: RefCell::default(),
            news: Notify::default(),
        }
    }

    /// A shard has told all that its older journals say about our segments.
    pub(super) fn take_mark(&self, sequence: Stamp) {
        *self.marks.borrow_mut().entry(sequence).or_insert(0) += 1;
        self.news.notify_all();
    }

    /// The shard is to do this.
    pub(super) fn take_step(&self, step: Step) {
        self.steps.borrow_mut().push_back(step);
        self.news.notify_all();
    }

    /// A shard wants a checkpoint.
    pub(super) fn want(&self) {
        self.wanted.set(true);
        self.news.notify_all();
    }

    /// A rewrite begins to leave these; until they have their tallies no outcome is restated.
    pub(super) fn begin_to_leave(&self, shard: ShardId, segments: &[SegmentId]) {
        self.leaving.borrow_mut().extend(segments.iter().map(|segment| (shard, *segment)));
    }

    /// The segment has its tally.
    pub(super) fn has_left(&self, shard: ShardId, segment: SegmentId) {
        self.leaving.borrow_mut().retain(|place| *place != (shard, segment));
        self.news.notify_all();
    }
}
