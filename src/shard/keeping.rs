//! Copies of what was delivered, kept for a while (`safety_net`; and of what goes to a primary that is another than before, H41): for whom, until when, and when they are given up.
//!
//! Settled is settled: queue, counts and ledger know nothing of copies. They are records that stay where they lie: their segment is not
//! unlinked before the time of the last of them is over ([`storage::shelf`]). The owner of a domain journals with the fact that a unit was
//! delivered until when its record stays, so what was promised at a delivery holds over restarts and other configurations.
//!
//! Failure answers: while space is short copies go before any mail is refused for it, neither all of it nor that of a domain with more than
//! its share; those first that free space and would have gone first. Wall time decides when they go: by a clock that is vouched for,
//! not before it agreed with monotonic time for a while behind a start, and after a jump not for a day or until a reload (H5); unless space
//! is short.

use super::backlog::{Lane, Settlement};
use super::expiry_clock::agreement;
use super::state::Shard;
use crate::config::Storage;
use crate::limits::{
    COPIES_FREE_SEGMENTS_MIN, COPIES_FREE_SPACE_MULTIPLE, COPIES_SHARE_FROM_PERCENT, STRANGER_AGE,
};
use core::time::Duration;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::journal_entry::Outcome;
use storage::format::kept::KeptRun;

/// When units of a domain that end now were delivered, and until when their records stay, in seconds since 1970; `None`: they do not.
pub(super) fn times<D: Disk, C: Clock>(shard: &Shard<D, C>, lane: &Lane) -> Option<(u32, u32)> {
    let snapshot = shard.snapshot.borrow();
    let net = snapshot.domain(&lane.domain).map_or(Duration::ZERO, |domain| domain.safety_net);
    let now_s = shard.wall_s();
    let is_doubtful = lane.usage.acquaintance.keeps_copies(now_s);
    let net = if is_doubtful { net.max(STRANGER_AGE) } else { net };
    let net_s = u32::try_from(net.as_secs()).unwrap_or(u32::MAX);
    (net_s > 0).then(|| (now_s, now_s.saturating_add(net_s)))
}

/// The delivered units of settlements as the journal has them.
pub(super) fn runs(gathered: &[Settlement], times: Option<(u32, u32)>) -> Vec<KeptRun> {
    let Some((delivered_s, until_s)) = times else { return Vec::new() };
    let mut runs = Vec::new();
    for Settlement { place: (shard, entry), facts, .. } in gathered {
        for fact in facts.iter().filter(|fact| fact.outcome == Outcome::Delivered) {
            let (shard, segment, first) = (*shard, entry.segment, entry.unit_base + u32::from(fact.ordinal));
            let run = KeptRun { shard, segment, first, count: 1, delivered_s, until_s, replayed: false };
            run.add_to(&mut runs);
        }
    }
    runs
}

/// Lets go of what was kept for long enough, and of more while space is short.
pub(super) async fn look<D: Disk, C: Clock>(shard: &Shard<D, C>) {
    if may_go(shard) && shard.shelf.borrow_mut().let_go(shard.wall_s()) {
        shard.chores.notify_all();
    }
    if shard.shelf.borrow().keeps_copies()
        // Where nothing tells how much is free, copies that go would not mend that.
        && let Some(free) = shard.free_if_known().await
    {
        give_up(shard, free);
    }
}

/// Whether the clocks are good enough (H5); what there is to tell is told where mail expires, by the same clocks.
fn may_go<D: Disk, C: Clock>(shard: &Shard<D, C>) -> bool {
    let (trust, shortest) = {
        let snapshot = shard.snapshot.borrow();
        let nets = snapshot.config.domains.iter().map(|domain| domain.safety_net);
        // Of what goes to another machine copies are kept without a net.
        let shortest = nets.filter(|net| !net.is_zero()).fold(STRANGER_AGE, Duration::min);
        (snapshot.config.delivery.expiry_clock, shortest)
    };
    let (now, wall, synchronised) = (shard.clock.now(), shard.clock.wall(), (shard.synchronisation)());
    shard.copies_clock.borrow_mut().observe(now, wall, synchronised, trust, agreement(shortest)).0
}

/// Free octets below which copies are given up, where so many are stored for all domains: while there are copies neither is the disk short of
/// space nor full enough for fair shares, which know only of what is stored and of what is free.
fn free_wanted(all_octets: u64, storage: &Storage) -> u64 {
    let (min_free, segment) = (storage.min_free_space_bytes, storage.segment_size_bytes);
    let room = u128::from(all_octets) * u128::from(100 - COPIES_SHARE_FROM_PERCENT)
        / u128::from(COPIES_SHARE_FROM_PERCENT);
    let room = u64::try_from(room).unwrap_or(u64::MAX);
    let least = min_free.saturating_mul(COPIES_FREE_SPACE_MULTIPLE).max(segment * COPIES_FREE_SEGMENTS_MIN);
    least.max(min_free.saturating_add(room))
}

/// Gives up as many copies as space is short of.
fn give_up<D: Disk, C: Clock>(shard: &Shard<D, C>, free: u64) {
    let (wanted, segment) = {
        let snapshot = shard.snapshot.borrow();
        let storage = &snapshot.config.storage;
        (free_wanted(snapshot.usage.octets(), storage), storage.segment_size_bytes)
    };
    if free >= wanted {
        return;
    }
    // Each shard its part, and one at least: it looks again soon.
    let segments = (wanted - free).div_ceil(segment).div_ceil(shard.shards.into());
    let (mut given_up, mut units) = (0_u32, 0);
    for _ in 0..segments {
        let Some(one) = shard.shelf.borrow_mut().give_up_oldest() else { break };
        given_up += 1;
        units += one.units;
    }
    tracing::warn!(
        free,
        wanted,
        segments = given_up,
        recipients = units,
        "the disk is short of space: copies of delivered mail are given up"
    );
    shard.chores.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::Snapshot;
    use crate::config::Config;
    use crate::shard::verdict;
    use crate::smtp::path::ForwardPath;
    use crate::smtp::server::RecipientVerdict;
    use std::sync::Arc;

    #[test]
    fn p7_while_there_are_copies_nobody_is_refused_for_his_share() {
        const GB: u64 = 1_000_000_000;
        let snapshot = Snapshot::new(Config::embedded(), Arc::default());
        let storage = Storage { min_free_space_bytes: GB, ..snapshot.config.storage.clone() };
        assert_eq!(free_wanted(0, &storage), 2 * GB);
        // Of 100 GB copies have 72, and what waits 20, nearly all of it one domain's.
        assert!(free_wanted(20 * GB, &storage) > 8 * GB);
        assert!(free_wanted(u64::MAX, &storage) > u64::MAX / 2);
        let mut config = Config::embedded();
        config.storage = storage;
        let snapshot = Snapshot::new(config, Arc::default());
        snapshot.usage_of("example.org").raise(GB);
        snapshot.usage_of("example.test").raise(19 * GB);
        let free = free_wanted(snapshot.usage.octets(), &snapshot.config.storage);
        let is_taken = |free| {
            let (path, _) = ForwardPath::parse("<a@example.test>").expect("a path");
            verdict::sender(free, &snapshot).is_ok()
                && matches!(verdict::recipient(path, free, &snapshot), RecipientVerdict::Accept)
        };
        assert!(is_taken(free) && is_taken(free - free / 10), "and some time to give up more of them");
        assert!(!is_taken(8 * GB));
    }
}
