//! Records that a lane reads, and those that cannot be read: damaged ones are settled as that, and a disk that fails once costs nobody his place.

use super::super::damage::{self, Remains};
use super::Task;
use crate::config::Domain;
use crate::limits::{RECORD_READ_PAUSE, RECORD_READ_TRIES, RECORD_READ_UNWELL};
use crate::shard::backlog::{Place, stored_octets};
use crate::shard::epoch::Guard;
use crate::shard::link::{Dialer, Spawn};
use crate::shard::replay::delivery::{Job, Unusable};
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::ReadError;
use storage::format::journal_entry::{Fact, Outcome};
use storage::position::Stamp;
use storage::reader::{OctetsOf, StoredFrame};

impl<D: Disk, C: Clock, N: Dialer, S: Spawn> Task<D, C, N, S> {
    /// Reads a message that has a ticket; one that cannot be read is settled, and its ticket is gone.
    pub(super) async fn read(&self, stamp: Stamp, domain: &Domain) -> Option<Job<D>> {
        let looking = self.shard.looking.guard();
        let (place, _) = self.lane.queue.borrow().out(stamp);
        let ordinals = self.lane.queue.borrow().units_in_turn(&place.1);
        let job = match self.read_patiently(place).await {
            Ok(frame) => Job::new(place, ordinals, looking, frame),
            Err(error) => Err(Unusable { error, looking }),
        };
        match job {
            Ok(mut job) => {
                self.dress(&mut job).await;
                Some(job)
            }
            Err(Unusable { error, looking }) => {
                self.unreadable(place, (&looking, error, false), domain).await;
                self.round.order.borrow_mut().leave(stamp);
                self.round.changed.notify_all();
                None
            }
        }
    }

    /// A disk that fails once does not cost a message its place: it is read again. Where a segment has used up its tries its other records
    /// are not waited for, for a while: good mail would wait behind a bad stretch of disk.
    async fn read_patiently(&self, place: Place) -> Result<StoredFrame<OctetsOf<D>>, ReadError> {
        let (directory, segment) = (place.0, place.1.segment);
        let is_unwell = self.lane.unwell.get().is_some_and(|(shard, bad, until)| {
            (shard, bad) == (directory, segment) && self.shard.clock.now() < until
        });
        let tries = if is_unwell { 1 } else { RECORD_READ_TRIES };
        for _ in 1..tries {
            match self.reader.read_entry(place.0, &place.1).await {
                Err(error) if error.may_heal() && !self.shard.is_shutting_down() => {
                    let (domain, stamp) = (&self.lane.domain, place.1.stamp.0);
                    tracing::warn!(%error, %domain, stamp, "a record cannot be read; it is read again");
                    self.shard.clock.sleep(RECORD_READ_PAUSE).await;
                }
                read => return read,
            }
        }
        let read = self.reader.read_entry(place.0, &place.1).await;
        if read.as_ref().is_err_and(ReadError::may_heal) {
            let until = self.shard.clock.now() + RECORD_READ_UNWELL;
            self.lane.unwell.set(Some((directory, segment, until)));
        }
        read
    }

    /// A record that cannot be read costs itself, never the lane.
    /// One that may heal steps aside behind several tries. `has_begun`: a part of it had left.
    pub(super) async fn unreadable(
        &self,
        place: Place,
        (looking, error, has_begun): (&Guard, ReadError, bool),
        domain: &Domain,
    ) {
        let (directory, entry) = place;
        let (domain_name, segment, offset) = (&domain.name, entry.segment.0, entry.offset().0);
        let now = self.shard.clock.now();
        if error.may_heal() && has_begun {
            // It is first again, as one over which a session broke: three times.
            let is_aside = self.lane.queue.borrow_mut().bring_back(place, now, domain.retry_interval);
            tracing::error!(domain = domain_name, %error, %directory, segment, offset, is_aside, "a part of a record cannot be read; it is read again");
            return;
        }
        if !matches!(error, ReadError::Damaged(_)) {
            tracing::error!(domain = domain_name, %error, %directory, segment, offset, "a record cannot be read; it steps aside");
            self.lane.queue.borrow_mut().step_aside(place, now, domain.retry_interval);
            return;
        }
        // Also of those that were not on their way.
        let ordinals = self.lane.queue.borrow().open_units(&entry);
        let Remains { queue_id, unverified_recipients } =
            damage::remains(&self.shard.disk, place, &ordinals).await;
        let units = ordinals.len();
        tracing::error!(
            domain = domain_name, queue_id, %error, %directory, segment, offset, units, ?unverified_recipients,
            "a damaged record: its mail is lost"
        );
        self.shard.counters.damaged.add(units as u64);
        let fact = |ordinal: &u16| Fact {
            stamp: entry.stamp,
            ordinal: *ordinal,
            outcome: Outcome::Damaged,
            code: 0,
        };
        if self.lane.queue.borrow_mut().finish(&entry) {
            self.lane.usage.lower(stored_octets(&entry));
        }
        self.record(place, looking, ordinals.iter().map(fact).collect(), None);
    }
}
