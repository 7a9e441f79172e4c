//! What an operator does to messages: bounce, hold, release, discard, delete.
//!
//! The queue changes at once, the facts are journalled as any others, and the answer comes when they are durable. From the
//! decision on a checkpoint waits, as it does for mail that expires. A crash in between repeats nothing: the message is
//! held, or queued, as it was. What is being sent is left alone and counted as busy. What is bounced ends as what is past its
//! time does ([`notice`]): with a notice where its sender is proven, held where he is not (P5).

use super::{find, owns};
use crate::bridge::operator::{Action, Cursor, Done, Filter, MessageState, Selection};
use crate::limits::{EXPIRY_FACTS_A_WRITE, OPERATOR_MESSAGES_A_REQUEST, OPERATOR_STEP};
use crate::shard::backlog::{Changed, Lane, Place, Settlement, stored_octets};
use crate::shard::epoch::Guard;
use crate::shard::replay::names::Names;
use crate::shard::replay::notice::{self, Why};
use crate::shard::replay::settle::{settle, write_gathered};
use crate::shard::state::Shard;
use futures_lite::future::yield_now;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::journal_entry::{Fact, Outcome};
use storage::position::Stamp;

/// Does it; `None` if the facts could not be made durable, at the very end of the process, or if the message was not found in
/// time.
pub(super) async fn run<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    action: Action,
    selection: Selection,
) -> Option<Done> {
    let mut done = Done::default();
    match selection {
        Selection::Id(id, domain) => {
            let Some((stamp, lanes)) = find::find(shard, &id, domain.as_ref()).await.ok()? else {
                return Some(done);
            };
            for lane in lanes {
                one_step(shard, &lane, action, None, &[stamp], &mut done).await?;
                go_on(&lane, action, &done);
            }
        }
        Selection::All(filter) => {
            all(shard, action, &filter, &mut done).await?;
            if let Some(lane) = filter.domain.as_ref().and_then(|domain| shard.lanes.of(domain)) {
                go_on(&lane, action, &done);
            }
        }
    }
    Some(done)
}

/// What was released is tried at once: somebody wants it to go.
fn go_on(lane: &Lane, action: Action, done: &Done) {
    if action == Action::Release && done.messages > 0 {
        lane.stirred.notify_all();
    }
}

async fn all<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    action: Action,
    filter: &Filter,
    done: &mut Done,
) -> Option<()> {
    let lane = filter.domain.as_ref().filter(|domain| owns(shard, domain));
    let Some(lane) = lane.and_then(|domain| shard.lanes.of(domain)) else { return Some(()) };
    let mut from = Stamp(filter.after.stamp.saturating_add(1));
    // A notice each: more would outlast the request.
    let steps = if action == Action::Bounce { 1 } else { OPERATOR_MESSAGES_A_REQUEST / OPERATOR_STEP };
    for _ in 0..steps {
        let stamps = lane.queue.borrow().stamps(from, filter.state, OPERATOR_STEP);
        let Some(last) = stamps.last() else { return Some(()) };
        from = last.after();
        one_step(shard, &lane, action, filter.state, &stamps, done).await?;
        yield_now().await;
    }
    done.more = Some(Cursor { stamp: from.0 - 1, domain: Arc::clone(&lane.domain) });
    Some(())
}

/// Changes a few messages of a lane and makes that durable.
///
/// The last word about a unit holds, so words are written in the order in which they were decided: names, which take reads, are looked
/// up before anything changes; the changes are made without a wait between them; and what the lane had decided before
/// is written before them.
async fn one_step<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Rc<Lane>,
    action: Action,
    state: Option<MessageState>,
    stamps: &[Stamp],
    done: &mut Done,
) -> Option<()> {
    let (_deciding, looking) = (shard.telling.guard(), shard.looking.guard());
    let named = queue_ids(shard, lane, stamps).await;
    let (mut writes, mut facts) = (vec![Vec::new()], 0);
    let mut given_up = Vec::new();
    for (stamp, queue_id) in stamps.iter().zip(named) {
        done.found += 1;
        let said = lane.queue.borrow().authentication(*stamp);
        let (place, ordinals, is_last) = match change(shard, lane, action, state, *stamp) {
            Changed::Busy => {
                done.busy += 1;
                continue;
            }
            Changed::Nothing => continue,
            Changed::Done { place, ordinals, is_last } => (place, ordinals, is_last),
        };
        let units = ordinals.len();
        if is_last {
            lane.usage.lower(stored_octets(&place.1));
        }
        let Some(outcome) = outcome_of(action) else {
            given_up.push((place, ordinals, said));
            continue;
        };
        done.messages += 1;
        done.units += units as u64;
        let action_word = action.word();
        tracing::info!(queue_id, domain = %lane.domain, action = action_word, units, "done by an operator");
        if facts + units > EXPIRY_FACTS_A_WRITE {
            facts = 0;
            writes.push(Vec::new());
        }
        facts += units;
        let fact = |ordinal: &u16| Fact { stamp: *stamp, ordinal: *ordinal, outcome, code: 0 };
        let facts = ordinals.iter().map(fact).collect();
        let settlement = Settlement { place, facts, told: None, looking: looking.clone() };
        writes.last_mut().expect("there is one").push(settlement);
    }
    write_gathered(shard, lane).await;
    let mut is_durable = true;
    for gathered in writes.iter().filter(|gathered| !gathered.is_empty()) {
        is_durable &= settle(shard, lane, gathered).await;
    }
    bounce(shard, lane, &looking, given_up, done).await;
    if action == Action::Release {
        // Whatever comes next, its end included, is behind the word that it was released.
        shard.lanes.requeued(lane);
    }
    is_durable.then_some(())
}

/// Ends units that the queue has let go of, as far as their senders may be told.
async fn bounce<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Lane,
    looking: &Guard,
    given_up: Vec<(Place, Vec<u16>, u32)>,
    done: &mut Done,
) {
    for (place, ordinals, said) in given_up {
        let became = notice::give_up(shard, lane, place, looking, &ordinals, said, Why::Returned).await;
        done.messages += u64::from(became.ended > 0);
        done.units += became.ended as u64;
        done.unproven += became.held as u64;
    }
}

/// For the log.
async fn queue_ids<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Lane,
    stamps: &[Stamp],
) -> Vec<Option<String>> {
    let mut names = Names::new(&shard.disk);
    let mut queue_ids = Vec::with_capacity(stamps.len());
    for stamp in stamps {
        let place = lane.queue.borrow().place(*stamp);
        queue_ids.push(match place {
            Some(place) => names.queue_id(place).await.map(|queue_id| queue_id.to_string()),
            None => None,
        });
    }
    queue_ids
}

fn change<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    lane: &Lane,
    action: Action,
    state: Option<MessageState>,
    stamp: Stamp,
) -> Changed {
    let mut queue = lane.queue.borrow_mut();
    match action {
        Action::Hold => queue.hold_message(stamp, shard.wall_s()),
        Action::Release => queue.release(stamp),
        Action::Bounce | Action::Delete | Action::Discard => queue.end(stamp, state),
    }
}

/// The fact that is made of it; none: that is for each unit to be seen.
const fn outcome_of(action: Action) -> Option<Outcome> {
    match action {
        Action::Bounce => None,
        Action::Delete => Some(Outcome::Deleted),
        Action::Discard => Some(Outcome::Discarded),
        Action::Hold => Some(Outcome::Held),
        Action::Release => Some(Outcome::Released),
    }
}
