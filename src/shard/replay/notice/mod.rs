//! Notices: what a sender is told of mail that failed, from the debt to its end.
//!
//! ```text
//! decided -> owing -> notice durable -> its units settled durably -> brought -> ended
//!              \-> held: it cannot be made         \-- a crash: the next start goes on here (`found`)
//! ```
//! - A message owes one notice for all recipients that failed in one try, or are past their time in one round. Who is told
//!   is decided in `bounce`; here it is made (`pay`) and brought (`bring`).
//! - A notice is a record like any other, with a queue of its own under the reserved domain (`storage/FORMAT.md`, "Message"), and names the
//!   units that it is about. It is durable before they are settled, and leaves when that is durable too. So after a crash either there is no
//!   notice, and the units are tried again; or there is one, and the start settles them before anything else is done with
//!   them. Never is there a unit that is bounced without its notice, and never are there two notices about a unit.
//! - A unit that was handed over, and whose sender is to be told so, ends as any other: settled behind its notice, delivered. Where that cannot be made it is
//!   settled without; meanwhile it counts as what a crash repeats (P4).
//! - What cannot be made is not given up: a full disk, a record that cannot be read, too many notices
//!   ([`NOTICES_QUEUED_MAX`]): the units are held for the operator.
//! - A notice goes to the smarthost, else to the mail exchangers of whom it is for; to the primaries where that is a protected
//!   domain. Its own failure ends it: nobody is told of it (RFC 5321 6.1).

mod bring;
mod destinations;
mod found;
mod pay;

use crate::bridge::Usage;
use crate::config::NOTICES_DOMAIN;
use crate::limits::{NOTICES_OWING_MAX, NOTICES_QUEUED_MAX};
use crate::shard::backlog::{Lane, Place};
use crate::shard::epoch::Guard;
use crate::shard::state::Shard;
use crate::smtp::reply::ReceivedReply;
pub(super) use bring::run as bring;
use core::net::SocketAddr;
pub use found::Found;
pub(in crate::shard) use found::found;
pub(in crate::shard) use found::{Unsettled, settle as settle_found, take as take_found};
pub(in crate::shard) use pay::{Why, give_up, pay};
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::journal_entry::Outcome;

/// A notice that is owed, until it is durable and so is the end of its units.
#[derive(Debug)]
pub(in crate::shard) struct Debt {
    place: Place,
    units: Vec<Owed>,
    /// What authentication said of the message, packed.
    said: u32,
    /// Somebody names this place.
    looking: Guard,
    /// No checkpoint ends in between.
    _telling: Guard,
    owing: Owing,
}

/// A unit that it is about.
#[derive(Clone, Debug)]
pub(in crate::shard) struct Owed {
    pub(in crate::shard) ordinal: u16,
    /// The reply code that decided it; 0 for none.
    pub(in crate::shard) code: u16,
    pub(in crate::shard) cause: Cause,
}

/// Why it failed.
#[derive(Clone, Debug)]
pub(in crate::shard) enum Cause {
    /// It is past its time.
    Expired,
    /// The primary refused it.
    Refused { host: SocketAddr, reply: ReceivedReply },
    /// The primary took it, and passes no DSN parameters on.
    Relayed { host: SocketAddr, reply: ReceivedReply },
    /// An operator gave it up.
    Returned,
}

/// While it is there, no notice about the message leaves.
#[derive(Debug)]
struct Owing {
    usage: Arc<Usage>,
    domain: Arc<str>,
    stamp: u64,
}

impl Debt {
    /// How its units end.
    fn outcome(&self) -> Outcome {
        match self.units.first().map(|unit| &unit.cause) {
            Some(Cause::Relayed { .. }) => Outcome::Delivered,
            _ => Outcome::Bounced,
        }
    }

    /// The units are decided, and in no list of the queue any more.
    pub(in crate::shard) fn new<D: Disk, C: Clock>(
        shard: &Shard<D, C>,
        lane: &Lane,
        place: Place,
        looking: &Guard,
        units: Vec<Owed>,
    ) -> Self {
        let said = lane.queue.borrow().authentication(place.1.stamp);
        let usage = Arc::clone(&shard.snapshot.borrow().usage);
        let owing = Owing::begin(usage, &lane.domain, place.1.stamp.0);
        Self { place, units, said, looking: looking.clone(), _telling: shard.telling.guard(), owing }
    }
}

impl Owing {
    fn begin(usage: Arc<Usage>, domain: &Arc<str>, stamp: u64) -> Self {
        usage.owing().begin(domain, stamp);
        Self { usage, domain: Arc::clone(domain), stamp }
    }
}

impl Drop for Owing {
    fn drop(&mut self) {
        self.usage.owing().end(&self.domain, self.stamp);
    }
}

/// Whether another notice may be made. If not, what owes it is held.
pub(in crate::shard) fn has_room<D: Disk, C: Clock>(shard: &Shard<D, C>) -> bool {
    let snapshot = shard.snapshot.borrow();
    let queued = snapshot.usage_of(NOTICES_DOMAIN).messages();
    queued < NOTICES_QUEUED_MAX && snapshot.usage.owing().len() < NOTICES_OWING_MAX
}
