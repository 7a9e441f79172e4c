//! What became of messages, a page at a time: each shard reads the files of the directories that it looks after.
//!
//! Oldest first, for [`SCAN_TURN`] or [`SCAN_ROWS_A_TURN`] rows, with a turn for others behind each piece of a file. A file that cannot be read is
//! counted and passed over; one that went meanwhile, too.

use crate::bridge::operator::{Acceptance, TracePage, TracePlace, TraceWanted, Traced, TracedRecipient};
use crate::limits::{SCAN_ROWS_A_TURN, SCAN_TURN};
use crate::message::tls::TlsFacts;
use crate::shard::state::Shard;
use futures_lite::future::{or, yield_now};
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::trace::{Accepted, TraceRow};
use storage::position::{QueueId, ShardId};
use storage::trace::{Found, ScanError, TraceFile, TraceScan, files};

const DAY_S: u64 = 86_400;

/// See the module.
pub(super) async fn run<D: Disk, C: Clock>(shard: &Shard<D, C>, wanted: &TraceWanted) -> TracePage {
    let mut page = TracePage { shard: shard.id.0, ..TracePage::default() };
    let id = wanted.id.as_deref().map(|id| QueueId::parse(id).filter(|id| *id != QueueId(0)));
    // What is no queue id names no message; 0 stands for those whose records could not be read.
    if id == Some(None) {
        return page;
    }
    let sieve = Sieve { wanted, id: id.flatten() };
    let after = match &wanted.after {
        None => TracePlace::default(),
        Some(cursor) => match cursor.0.get(&shard.id.0) {
            Some(place) => *place,
            // It had told all.
            None => return page,
        },
    };
    // What was told a moment ago is found. A disk that hangs is not waited for.
    or(shard.traces.flush(), shard.clock.sleep(SCAN_TURN)).await;
    let all = all_files(shard, wanted).await;
    // Behind the listing, however long that took: each turn goes on.
    let deadline = shard.clock.now() + SCAN_TURN;
    page.progress.of = all.len() as u64;
    for (done, file) in all.iter().enumerate() {
        let place =
            |offset| TracePlace { day: file.day, directory: file.shard.0, number: file.number, offset };
        if place(u64::MAX) < after {
            continue;
        }
        page.progress.done = done as u64;
        let from = if place(0) <= after { after.offset } else { 0 };
        if shard.clock.now() >= deadline {
            page.more = Some(place(from));
            return page;
        }
        if let Some(offset) = read(shard, &sieve, file, from, deadline, &mut page).await {
            page.more = Some(place(offset));
            return page;
        }
    }
    page.progress.done = page.progress.of;
    page
}

/// Reads a file; where it goes on, if its end was not reached.
async fn read<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    sieve: &Sieve<'_>,
    file: &TraceFile,
    from: u64,
    deadline: core::time::Duration,
    page: &mut TracePage,
) -> Option<u64> {
    let mut scan = match TraceScan::open(&shard.disk, &shard.keys, Some(shard.store), file, from).await {
        Ok(scan) => scan,
        Err(ScanError::Disk(storage::error::DiskError::NotFound)) => return None,
        Err(error) => {
            tracing::warn!(%error, file = file.path(), "a trace cannot be read");
            page.progress.unreadable += 1;
            return None;
        }
    };
    while !scan.is_over() {
        let rows = &mut page.rows;
        let read = scan.next(|found| {
            if sieve.takes(&found) {
                rows.push(shown(found));
            }
            rows.len() < SCAN_ROWS_A_TURN
        });
        if let Err(error) = read.await {
            tracing::warn!(%error, file = file.path(), "a trace cannot be read to its end");
            page.progress.unreadable += 1;
            return None;
        }
        if !scan.is_over() && (page.rows.len() >= SCAN_ROWS_A_TURN || shard.clock.now() >= deadline) {
            return Some(scan.offset());
        }
        yield_now().await;
    }
    None
}

/// Those of the directories that it looks after, and of days that are wanted, in order.
async fn all_files<D: Disk, C: Clock>(shard: &Shard<D, C>, wanted: &TraceWanted) -> Vec<TraceFile> {
    let directories: Vec<ShardId> = {
        let known = shard.directories.borrow();
        let own = known.keys().copied().filter(|directory| directory.0 % shard.shards == shard.id.0);
        own.chain([shard.directory]).collect()
    };
    let mut all = Vec::new();
    for directory in directories {
        match files(&shard.disk, directory).await {
            Ok(found) => all.extend(found),
            Err(error) => tracing::debug!(%error, %directory, "no trace can be looked for"),
        }
    }
    let days = wanted.since_s / DAY_S..=wanted.until_s / DAY_S;
    all.retain(|file| days.contains(&file.day.into()));
    all.sort_unstable();
    all.dedup();
    all
}

/// Which rows are wanted.
struct Sieve<'a> {
    wanted: &'a TraceWanted,
    id: Option<QueueId>,
}

impl Sieve<'_> {
    fn takes(&self, found: &Found) -> bool {
        let (wanted, row): (_, &TraceRow) = (self.wanted, &found.row);
        let at_s = found.at.0 / 1000;
        let is_same = |wanted: &Option<String>, text: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(text))
        };
        self.id.is_none_or(|id| id == found.queue_id)
            && (wanted.since_s..wanted.until_s).contains(&at_s)
            && wanted.domain.as_ref().is_none_or(|domain| **domain == *row.domain)
            && is_same(&wanted.sender, &row.reverse_path)
            && (wanted.recipient.is_none()
                || row.units.iter().any(|unit| is_same(&wanted.recipient, &unit.mailbox)))
            && wanted.code.is_none_or(|code| row.units.iter().any(|unit| unit.code == code))
    }
}

fn shown(Found { at, queue_id, row }: Found) -> Traced {
    let recipient = |unit: storage::format::trace::TracedUnit| TracedRecipient {
        address: unit.mailbox,
        what: unit.what.word(),
        is_final: unit.what.is_final(),
        code: unit.code,
        text: unit.text,
    };
    Traced {
        at_ms: at.0,
        id: (queue_id != QueueId(0)).then(|| queue_id.to_string()),
        domain: row.domain,
        order: row.stamp.0,
        reverse_path: row.reverse_path,
        host: row.host.map(|host| host.to_string()),
        redirected: row.is_redirected,
        aside: row.is_aside,
        accepted: row.accepted.map(acceptance),
        recipients: row.units.into_iter().map(recipient).collect(),
    }
}

fn acceptance(accepted: Accepted) -> Acceptance {
    let tls = accepted.tls.map(|(version, cipher_suite)| TlsFacts { version, cipher_suite }.to_string());
    let Accepted { received_s, size, client, helo, .. } = accepted;
    Acceptance { received_s, size, client: client.to_string(), helo, tls }
}
