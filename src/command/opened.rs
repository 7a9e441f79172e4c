//! What a start found in the store: told to the operator.

use storage::store::{Finding, FindingKind, Opened};

/// Tells the operator what a start found.
pub(super) fn report(opened: &Opened) {
    for Finding { path, kind } in &opened.findings {
        match kind {
            FindingKind::Damaged(record) => {
                let queue_id = record.header.map(|header| header.queue_id.to_string());
                let (offset, octets, promised) = (record.offset.0, record.octets, record.was_durable);
                if promised {
                    tracing::error!(path, offset, octets, queue_id, "a damaged record: its mail is lost");
                } else {
                    tracing::info!(
                        path,
                        offset,
                        octets,
                        "a write that a crash cut off: nothing of it was promised"
                    );
                }
            }
            FindingKind::Foreign => tracing::error!(path, "a segment of another store is left alone"),
            FindingKind::Journal => {
                tracing::error!(path, "a damaged or missing journal: mail may be delivered again")
            }
            FindingKind::Missing => tracing::error!(
                path,
                "a segment is missing: the mail in it is lost, unless a missing journal told that it was done"
            ),
            FindingKind::Unreadable => tracing::error!(path, "a segment whose header is lost is left alone"),
        }
    }
    if let Some(above) = opened.frontier.held_back_above() {
        tracing::error!(
            above = above.0,
            "a shard is missing: mail is taken, what came after its last known message waits for its return"
        );
    }
    if opened.incomplete {
        tracing::error!(
            "not all of the data directory could be read: journals are kept, and grow until it can"
        );
    }
    if opened.recovered_unacknowledged > 0 {
        tracing::info!(
            recovered_unacknowledged = opened.recovered_unacknowledged,
            "messages of the last commits before a crash: whether their senders were answered is not known, they are queued"
        );
    }
    tracing::info!(messages = opened.messages, incarnation = opened.store.incarnation, "store opened");
}
