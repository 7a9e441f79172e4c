//! A message that leaves by the operator's hand: as it came, our trace field in front, the added dots taken out.
//!
//! Part by part, no further ahead of its reader than [`OPERATOR_EXPORT_PARTS`](crate::limits::OPERATOR_EXPORT_PARTS). A task of its own, a bounded number of them for a bounded
//! time: a reader that stalls delays neither mail nor other questions.

use super::find;
use crate::bridge::operator::ExportPart;
use crate::limits::{OPERATOR_EXPORT_TIMEOUT, OPERATOR_EXPORTS_MAX};
use crate::shard::state::Shard;
use async_channel::Sender;
use core::cell::Cell;
use futures_lite::future::or;
use memchr::memchr_iter;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::error::ReadError;
use storage::reader::Reader;

/// Sends the parts of the message with a queue id in `domain`; none if there is none.
pub(super) async fn run<D: Disk, C: Clock>(
    shard: Rc<Shard<D, C>>,
    id: String,
    domain: Arc<str>,
    parts: Sender<ExportPart>,
    exports: Rc<Cell<u32>>,
) {
    if exports.get() >= OPERATOR_EXPORTS_MAX {
        let _ = parts.try_send(ExportPart::Failed("too many exports at a time; try again".to_owned()));
        return;
    }
    exports.set(exports.get() + 1);
    let timeout = async {
        shard.clock.sleep(OPERATOR_EXPORT_TIMEOUT).await;
        Err("the export took too long".to_owned())
    };
    if let Err(error) = or(export(&shard, &id, &domain, &parts), timeout).await {
        tracing::warn!(queue_id = id, %domain, error, "an export ended early");
        // A reader that has gone needs no reason; one that stalls sees the stream end without its end.
        let _ = parts.try_send(ExportPart::Failed(error));
    }
    exports.set(exports.get() - 1);
}

async fn export<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    id: &str,
    domain: &Arc<str>,
    parts: &Sender<ExportPart>,
) -> Result<(), String> {
    let found = find::find(shard, id, Some(domain)).await;
    let found = found.map_err(|_| "the message was not found in time".to_owned())?;
    let Some((stamp, lanes)) = found else { return Ok(()) };
    let _looking = shard.looking.guard();
    let place = lanes.first().and_then(|lane| lane.queue.borrow().place(stamp));
    let Some((directory, entry)) = place else { return Ok(()) };
    let failed = |error: ReadError| error.to_string();
    let reader = Reader::new(shard.disk.clone(), shard.store, Arc::clone(&shard.keys));
    let frame = reader.read_entry(directory, &entry).await.map_err(failed)?;
    let message = frame.message().map_err(failed)?;
    tracing::info!(queue_id = id, %domain, octets = message.data.unstuffed_octets, "exported by an operator");
    let send = async |part| parts.send(part).await.map_err(|_| "the reader has gone".to_owned());
    send(ExportPart::Data(message.trace.to_vec())).await?;
    let mut unstuffer = Unstuffer::default();
    for chunk in &message.chunks {
        let chunk = reader.read_chunk(directory, chunk).await.map_err(failed)?;
        send(ExportPart::Data(unstuffer.take(chunk.payload()))).await?;
    }
    send(ExportPart::Data(unstuffer.take(message.tail))).await?;
    send(ExportPart::End).await
}

/// Takes out the dots that DATA put in front of lines that begin with one (RFC 5321 4.5.2). Stored data has whole CRLF line
/// ends only, so a line begins behind each LF.
#[derive(Debug)]
struct Unstuffer {
    line_begins: bool,
}

impl Default for Unstuffer {
    fn default() -> Self {
        Self { line_begins: true }
    }
}

impl Unstuffer {
    fn take(&mut self, stored: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(stored.len());
        let ends = memchr_iter(b'\n', stored).map(|end| end + 1).chain([stored.len()]);
        let mut from = 0;
        for end in ends {
            let line = &stored[from..end];
            out.extend_from_slice(if self.line_begins {
                line.strip_prefix(b".").unwrap_or(line)
            } else {
                line
            });
            if let Some(last) = line.last() {
                self.line_begins = *last == b'\n';
            }
            from = end;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_taken_out_wherever_parts_are_cut() {
        let stored = b"..a\r\nb.\r\n...\r\n\r\n..";
        let expected = b".a\r\nb.\r\n..\r\n\r\n.";
        for first in 0..=stored.len() {
            for second in first..=stored.len() {
                let mut unstuffer = Unstuffer::default();
                let mut out = unstuffer.take(&stored[..first]);
                out.extend(unstuffer.take(&stored[first..second]));
                out.extend(unstuffer.take(&stored[second..]));
                assert_eq!(out, expected, "cut at {first} and {second}");
            }
        }
    }
}
