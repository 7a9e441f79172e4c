//! One log: a chain of segments of one purpose in one shard, appended to by many tasks, committed by one.
//!
//! - [`Log::append_message`], [`Log::append_chunk`], [`Log::append_facts`] copy a record into the filling batch and
//!   give a [`Ticket`](crate::commit::Ticket). They wait only while the batch is full or a segment rolls.
//! - One task of the host drives [`Log::commit`]: it takes the filling batch, writes and syncs it. What became
//!   durable is a [`Commit`]; the host tells the owners of its domains and then calls [`Log::release`]: **from
//!   here the messages are ours**, the frontier passes them, tickets complete.
//! - Another task drives [`Log::housekeep`]: the next segment is made before it is needed, indexes of sealed
//!   segments are written.
//!
//! **Failure** (H8). A failed write or sync is final for its segment: all records of its batch and of the one
//! that was filling get an error, the segment is sealed with what was durable, and the log goes on in a fresh
//! one whose first record voids the failed range. Until that record is durable the shard's floor stays where
//! it was, so nothing above the failed stamps is dispatched before they are known to be void.

mod append;
mod chained;
mod gathering;
mod roll;

pub use append::{Message, Place, Receipt};
pub use chained::{Number, Unnamed};
pub use roll::Chore;
pub(crate) use roll::random_salt;

use crate::clock::Clock;
use crate::commit::{Batch, Fate};
use crate::crypt::Keys;
use crate::disk::{Disk, File};
use crate::error::{AppendError, DiskError, SegmentName};
use crate::format::index_file::{IndexEntry, SegmentIndex};
use crate::format::journal_entry::Void;
use crate::format::segment_header::{Purpose, SegmentHeader};
use crate::frontier::{Frontier, IDLE};
use crate::notify::Notify;
use crate::position::{Offset, Salt, SegmentId, ShardId, StoreId};
use crate::segment::ActiveSegment;
use crate::segment::contents::Contents;
use chained::Chained;
use core::cell::RefCell;
use core::fmt;
use core::time::Duration;
use gathering::Paced;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// What a log is made of.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Mail or journal.
    pub purpose: Purpose,
    /// The shard that writes.
    pub shard: ShardId,
    /// The identity of the store.
    pub store: StoreId,
    /// Octets of a segment.
    pub segment_octets: u64,
    /// Octets that must stay free for others when a segment is made: mail leaves the journals their room.
    pub reserve_octets: u64,
    /// The first segment to make.
    pub first_segment: SegmentId,
    /// The segment of this chain that was made last, by an earlier life.
    pub previous: Option<SegmentId>,
    /// Those of earlier lives that no header names, now or once others are gone: the next one does.
    pub unnamed: Unnamed,
    /// Stamps and floors.
    pub frontier: Arc<Frontier>,
    /// The keys of mail.
    pub keys: Arc<Keys>,
}

/// A message's units in one domain became durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// The domain.
    pub domain: Arc<str>,
    /// The shard directory that holds it.
    pub shard: ShardId,
    /// Where and what.
    pub entry: IndexEntry,
}

/// A batch that is durable and not yet released.
#[must_use = "nobody is told before `release`"]
#[derive(Debug)]
pub struct Commit {
    /// What became durable, in stamp order.
    pub arrivals: Vec<Arrival>,
    /// What it took.
    pub cost: Cost,
    ticket: Rc<Fate>,
}

/// What a batch took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Records in it.
    pub records: u32,
    /// Octets that were written.
    pub octets: u64,
    /// From the write to the end of the sync.
    pub took: Duration,
}

/// What [`Log::commit`] came back with.
#[derive(Debug)]
pub enum Progress {
    /// The log is closed and all is written.
    Closed,
    /// A batch is durable.
    Committed(Commit),
    /// Nothing became durable, but the log goes on: call again.
    Rolled,
    /// No segment could be made; appends are refused with this error. Call again after a pause.
    Stopped(AppendError, DiskError),
    /// A segment was given up: the error and what is lost with it (nothing that was acknowledged).
    Latched(SegmentName, DiskError),
}

/// A sealed segment whose index is to be written.
#[derive(Debug)]
pub struct Sealed {
    /// Its number.
    pub segment: SegmentId,
    /// The salt of its header.
    pub salt: Salt,
    /// Its index.
    pub index: Rc<SegmentIndex>,
}

/// See the module.
pub struct Log<D: Disk, C: Clock> {
    disk: D,
    clock: C,
    options: LogOptions,
    state: RefCell<State<D>>,
    /// The commit task has something to do.
    work: Notify,
    /// An append may try again.
    room: Notify,
    /// The housekeeper has something to do.
    chores: Notify,
}

struct State<D: Disk> {
    /// None only until the first one can be made: on a full disk a store opens all the same, to drain.
    active: Option<ActiveSegment<D::File>>,
    contents: Contents,
    filling: Batch<<D::File as File>::Block>,
    arrivals: Vec<Arrival>,
    /// The last commit.
    paced: Paced,
    /// The filling batch has waited for more.
    has_gathered: bool,
    prepared: Option<ActiveSegment<D::File>>,
    next_segment: SegmentId,
    /// The last number that a roll took for itself: one that was made ahead under a lower one comes too late.
    rolls_to: SegmentId,
    /// Which of its segments headers name.
    chain: Chained,
    roll_wanted: bool,
    /// The active segment is given up; the last void says from where.
    latched: bool,
    refusal: Option<AppendError>,
    closing: bool,
    sealed: VecDeque<Sealed>,
    domains: HashSet<Arc<str>>,
    /// Failed ranges of this run, so that a message whose chunk lies there is refused.
    voids: Vec<Void>,
    /// Those of them whose record is not durable yet: a failure may follow a failure.
    voids_owed: Vec<Void>,
    head: Vec<u8>,
}

impl<D: Disk, C: Clock> Log<D, C> {
    /// A log that starts in a fresh segment, made and durable. It never appends to an old one. On a full disk it
    /// starts without, refuses appends, and [`Self::commit`] makes the segment once there is room.
    ///
    /// # Errors
    /// The disk's, but for [`DiskError::NoSpace`].
    pub async fn open(disk: D, clock: C, options: LogOptions) -> Result<Self, DiskError> {
        let first = options.frontier.number(options.first_segment)?;
        let mut chain = Chained::behind(options.previous, &options.unnamed);
        let number = chain.number(first);
        let made = roll::create(&disk, &clock, &options, &number).await;
        let (active, refusal) = match made {
            Ok(active) => (Some(active), None),
            Err(DiskError::NoSpace) => (None, Some(AppendError::NoSpace)),
            Err(error) => return Err(error),
        };
        if active.is_some() {
            chain.made(&number);
        } else {
            chain.not_made(number);
        }
        let start = active.as_ref().map_or(Offset(0), |active| active.appended().0);
        let state = State {
            active,
            contents: Contents::default(),
            filling: Batch::new(start),
            arrivals: Vec::new(),
            paced: Paced::default(),
            has_gathered: false,
            prepared: None,
            next_segment: SegmentId(first.0 + 1),
            rolls_to: first,
            chain,
            roll_wanted: false,
            latched: false,
            refusal,
            closing: false,
            sealed: VecDeque::new(),
            domains: HashSet::new(),
            voids: Vec::new(),
            voids_owed: Vec::new(),
            head: Vec::new(),
        };
        Ok(Self {
            disk,
            clock,
            options,
            state: RefCell::new(state),
            work: Notify::default(),
            room: Notify::default(),
            chores: Notify::default(),
        })
    }

    /// The shard that writes this log.
    #[must_use]
    pub const fn shard(&self) -> ShardId {
        self.options.shard
    }

    /// The segment that is being written; `None` until the first one can be made.
    #[must_use]
    pub fn active_segment(&self) -> Option<SegmentId> {
        self.state.borrow().active.as_ref().map(|active| active.header.segment)
    }

    /// The entries of a domain in `segment`, those among them that are not durable yet; `None` unless that is being written.
    #[must_use]
    pub fn active_entries(&self, segment: SegmentId, domain: &str) -> Option<Vec<IndexEntry>> {
        let state = self.state.borrow();
        let is_active = state.active.as_ref().is_some_and(|active| active.header.segment == segment);
        is_active.then(|| state.contents.of_domain(domain))
    }

    /// Takes what gathered, makes it durable, rolls when asked to. See [`Progress`]. Now and then it waits a little for more
    /// ([`gathering`]).
    pub async fn commit(&self) -> Progress {
        loop {
            let wait = self.work.wait();
            let pause = self.state.borrow_mut().gathering();
            if let Some(pause) = pause {
                self.clock.sleep(pause).await;
            }
            if let Some(progress) = self.step().await {
                return progress;
            }
            wait.await;
        }
    }

    /// What is to be done now; `None`: nothing.
    async fn step(&self) -> Option<Progress> {
        let step = self.state.borrow_mut().next_step();
        Some(match step {
            Step::Close => {
                self.room.notify_all();
                Progress::Closed
            }
            Step::LeaveLatched => self.leave_latched().await,
            Step::Roll => self.roll().await,
            Step::Wait => return None,
            Step::Write(batch) => self.write(batch).await,
        })
    }

    async fn write(&self, batch: Leaving<D::File>) -> Progress {
        let Leaving { block, file, end, arrivals, fate, base, records } = batch;
        let began = self.clock.now();
        // An append that waited for room in the batch can fill the next one while this is in flight.
        self.room.notify_all();
        let written = file.write(block, base.0).await;
        if let Err(error) = written {
            return self.latch(base, &fate, error);
        }
        self.state.borrow_mut().active_mut().batch_written(end);
        if let Err(error) = file.sync().await {
            return self.latch(base, &fate, error);
        }
        let took = self.clock.now().saturating_sub(began);
        {
            let mut state = self.state.borrow_mut();
            state.active_mut().batch_durable(end);
            state.paced = Paced { records, took };
            // They were in the first batch of this segment.
            state.voids_owed.clear();
        }
        self.chores.notify_all();
        let cost = Cost { records, octets: end.0 - base.0, took };
        Progress::Committed(Commit { arrivals, cost, ticket: fate })
    }

    /// Commits until the log is closed, for whoever writes one alone; the first failure closes it.
    ///
    /// # Errors
    /// That failure.
    pub async fn drive(&self) -> Result<(), DiskError> {
        let mut result = Ok(());
        loop {
            let wait = self.work.wait();
            let Some(progress) = self.step().await else {
                wait.await;
                continue;
            };
            match progress {
                Progress::Committed(commit) => self.release(commit),
                Progress::Rolled => {}
                Progress::Closed => return result,
                Progress::Latched(_, error) | Progress::Stopped(_, error) => {
                    result = Err(error);
                    self.close();
                }
            }
        }
    }

    /// The owners know what this commit holds: lets the frontier pass and completes the tickets.
    pub fn release(&self, commit: Commit) {
        if self.options.purpose == Purpose::Mail {
            let floor = self.state.borrow().filling.floor.unwrap_or(IDLE);
            self.options.frontier.publish(self.options.shard, floor);
        }
        commit.ticket.settle(Ok(()));
    }

    /// Refuses further appends; [`Self::commit`] ends once all is durable.
    pub fn close(&self) {
        self.state.borrow_mut().closing = true;
        self.work.notify_all();
        self.room.notify_all();
        self.chores.notify_all();
    }

    /// Whether the log is closing.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.state.borrow().closing
    }

    fn latch(&self, base: Offset, fate: &Fate, error: DiskError) -> Progress {
        let mut state = self.state.borrow_mut();
        let SegmentHeader { segment, size: to, .. } = state.active().header;
        state.contents.void_from(base);
        state.arrivals.clear();
        let void = Void { segment, from: base.0, to };
        state.voids.push(void);
        state.voids_owed.push(void);
        state.latched = true;
        state.refusal = Some(AppendError::Failed);
        state.filling.fate.settle(Err(AppendError::Failed));
        drop(state);
        fate.settle(Err(AppendError::Failed));
        self.room.notify_all();
        Progress::Latched(SegmentName(self.options.shard, segment), error)
    }
}

/// What the commit task does next.
enum Step<F: File> {
    Close,
    LeaveLatched,
    Roll,
    Wait,
    Write(Leaving<F>),
}

/// A batch on its way out of the filling state.
struct Leaving<F: File> {
    block: F::Block,
    file: Rc<F>,
    base: Offset,
    end: Offset,
    arrivals: Vec<Arrival>,
    fate: Rc<Fate>,
    records: u32,
}

impl<D: Disk> State<D> {
    fn next_step(&mut self) -> Step<D::File> {
        if self.latched && !self.closing {
            return Step::LeaveLatched;
        }
        if !self.filling.is_empty() && !self.latched {
            return Step::Write(self.take_batch());
        }
        if self.closing {
            self.refusal = Some(AppendError::Closed);
            return Step::Close;
        }
        if self.roll_wanted || self.active.is_none() { Step::Roll } else { Step::Wait }
    }

    /// How long what would leave now waits for more, once.
    fn gathering(&mut self) -> Option<Duration> {
        let is_awaited = self.closing || self.latched || self.roll_wanted || self.filling.is_empty();
        if is_awaited || core::mem::replace(&mut self.has_gathered, true) {
            return None;
        }
        gathering::gathering(self.paced, self.filling.records)
    }

    /// The filling batch leaves; an empty one takes its place behind it.
    fn take_batch(&mut self) -> Leaving<D::File> {
        assert!(!self.filling.is_empty());
        self.has_gathered = false;
        let base = self.filling.base;
        let octets = self.filling.padded();
        self.active_mut().batch_leaves(base, octets);
        let end = base.plus(octets);
        let mut leaving = core::mem::replace(&mut self.filling, Batch::new(end));
        let block = leaving.seal().expect("a batch that is not empty has memory");
        assert_eq!(block.as_ref().len() as u64, octets, "a commit is whole blocks");
        Leaving {
            block,
            file: Rc::clone(&self.active().file),
            base,
            end,
            arrivals: core::mem::take(&mut self.arrivals),
            fate: leaving.fate,
            records: leaving.records,
        }
    }

    fn active(&self) -> &ActiveSegment<D::File> {
        self.active.as_ref().expect("without a segment appends are refused and nothing is written")
    }

    fn active_mut(&mut self) -> &mut ActiveSegment<D::File> {
        self.active.as_mut().expect("without a segment appends are refused and nothing is written")
    }

    /// The shared name of `domain`.
    fn intern(&mut self, domain: &str) -> Arc<str> {
        if let Some(name) = self.domains.get(domain) {
            return Arc::clone(name);
        }
        let name: Arc<str> = domain.into();
        self.domains.insert(Arc::clone(&name));
        name
    }
}

impl<D: Disk, C: Clock> fmt::Debug for Log<D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("options", &self.options).finish_non_exhaustive()
    }
}
