//! What became of messages, as the traces of a directory tell it: read alone, so that it can be had where nothing else can.

use crate::crypt::Keys;
use crate::disk::plain::PlainDisk;
use crate::error::DiskError;
use crate::inspect::gather::shards;
use crate::trace::{Found, TraceScan, files};

/// One recipient at one time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceLine {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The queue id; all zeros where the record could not be read.
    pub queue_id: String,
    /// The message's place in the order of all.
    pub stamp: u64,
    /// The domain.
    pub domain: String,
    /// The reverse-path.
    pub reverse_path: String,
    /// The host that was tried.
    pub host: Option<String>,
    /// The mailbox.
    pub recipient: String,
    /// What became of it, in a word.
    pub what: &'static str,
    /// The reply code; 0 without one.
    pub code: u16,
    /// What the host said.
    pub text: String,
}

/// Hands each line of all traces to `visit`, a file after the other; files that cannot be read, and why.
///
/// # Errors
/// The directory cannot be listed.
pub async fn traces(
    disk: &PlainDisk,
    keys: &Keys,
    mut visit: impl FnMut(TraceLine),
) -> Result<Vec<(String, String)>, DiskError> {
    let mut problems = Vec::new();
    let mut all = Vec::new();
    for shard in shards(disk).await? {
        all.extend(files(disk, shard).await?);
    }
    all.sort_unstable();
    for file in all {
        let mut scan = match TraceScan::open(disk, keys, None, &file, 0).await {
            Ok(scan) => scan,
            Err(error) => {
                problems.push((file.path(), error.to_string()));
                continue;
            }
        };
        while !scan.is_over() {
            let read = scan.next(|found| {
                lines(found).for_each(&mut visit);
                true
            });
            if let Err(error) = read.await {
                problems.push((file.path(), error.to_string()));
                break;
            }
        }
    }
    Ok(problems)
}

fn lines(Found { at, queue_id, row }: Found) -> impl Iterator<Item = TraceLine> {
    let (domain, reverse_path) = (row.domain, row.reverse_path);
    let (host, stamp) = (row.host.map(|host| host.to_string()), row.stamp.0);
    row.units.into_iter().map(move |unit| TraceLine {
        at_ms: at.0,
        queue_id: queue_id.to_string(),
        stamp,
        domain: domain.clone(),
        reverse_path: reverse_path.clone(),
        host: host.clone(),
        recipient: unit.mailbox,
        what: unit.what.word(),
        code: unit.code,
        text: unit.text,
    })
}
