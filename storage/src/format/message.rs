//! The payload of a message record (`FORMAT.md`, "Message"): fixed fields, chunk table, envelope, trace field
//! and the mail data that did not go into chunks, in the form of DATA (dot-stuffed, without the final dot).
//!
//! The envelope is in `envelope.rs`. Recipients are stored grouped by domain, so that the units of one domain
//! are a contiguous range of ordinals.

use super::envelope::{self, Decoded};
pub use super::envelope::{
    Envelope, Extensions, NoticeOf, Protocol, RecipientDsn, Ret, Smtputf8, TlsFacts, Transfer,
};
use super::{Reader, Writer};
use crate::position::{Offset, SegmentId};
use core::net::IpAddr;

/// Facts about mail data that replay needs before it reads them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DataFacts {
    /// Octets as stored, over all chunks and the tail.
    pub stored_octets: u64,
    /// Octets after dot-unstuffing: the message's size (RFC 1870).
    pub unstuffed_octets: u64,
    /// Lines that carry an added dot (RFC 5321 4.5.2).
    pub stuffed_lines: u64,
    /// An octet above 127 occurs.
    pub has_8bit: bool,
    /// A NUL occurs.
    pub has_nul: bool,
}

/// A chunk frame that holds a part of a message's data; in the same shard as the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkReference {
    /// The segment, pinned until the message is settled (H3).
    pub segment: SegmentId,
    /// The frame.
    pub offset: Offset,
    /// Octets of data in it.
    pub octets: u32,
}

/// The payload of a message record, decoded in place.
#[derive(Clone, Debug)]
pub struct MessageView<'a> {
    /// Facts about the data.
    pub data: DataFacts,
    /// Data that went ahead as chunk records, in order.
    pub chunks: Vec<ChunkReference>,
    /// Empty for the null reverse-path.
    pub reverse_path: &'a str,
    /// Units by ordinal.
    pub recipients: Vec<&'a str>,
    /// The client's address.
    pub client: IpAddr,
    /// What it called itself.
    pub helo: &'a str,
    /// How it spoke.
    pub protocol: Protocol,
    /// BODY=8BITMIME was said.
    pub body_8bit: bool,
    /// What else was said, and over what.
    pub extensions: Extensions<'a>,
    /// Our Received field, made at acceptance.
    pub trace: &'a [u8],
    /// The data behind the chunks.
    pub tail: &'a [u8],
}

const FIXED_OCTETS: usize = 64;
const CHUNK_OCTETS: usize = 16;
const FLAG_8BIT: u32 = 1;
const FLAG_NUL: u32 = 2;

/// Writes everything in front of the mail data into `out`, which is cleared first. `tail_octets` of data
/// follow it in the record.
///
/// # Panics
/// If the trace field or the envelope exceed 4 GiB, or a value of the envelope exceeds 64 KiB: the caller's
/// bounds are far below.
pub fn encode_head(
    out: &mut Vec<u8>,
    envelope: &Envelope<'_>,
    data: &DataFacts,
    chunks: &[ChunkReference],
    trace: &[u8],
    tail_octets: usize,
) {
    out.clear();
    out.resize(FIXED_OCTETS, 0);
    encode_chunks(out, chunks);
    let envelope_start = out.len();
    envelope::encode(out, envelope);
    let envelope_octets = out.len() - envelope_start;
    out.extend_from_slice(trace);
    let length = |octets: usize| u32::try_from(octets).expect("bounded by limits of the caller");
    let mut fixed = Vec::with_capacity(FIXED_OCTETS);
    let mut writer = Writer(&mut fixed);
    writer.u32(length(envelope_octets)).u32(length(trace.len()));
    writer.u64(data.stored_octets).u64(data.unstuffed_octets).u64(data.stuffed_lines);
    let flags = if data.has_8bit { FLAG_8BIT } else { 0 } | if data.has_nul { FLAG_NUL } else { 0 };
    writer.u32(flags).u32(length(chunks.len())).u32(length(tail_octets));
    writer.u32(length(envelope.recipients.len())).zeros(FIXED_OCTETS - 48);
    out[..FIXED_OCTETS].copy_from_slice(&fixed);
}

fn encode_chunks(out: &mut Vec<u8>, chunks: &[ChunkReference]) {
    for chunk in chunks {
        Writer(out).u32(chunk.segment.0).u32(chunk.octets).u64(chunk.offset.0);
    }
}

impl<'a> MessageView<'a> {
    /// The message in `payload`; `None` if the bytes are not one.
    #[must_use]
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let envelope_octets = reader.u32()? as usize;
        let trace_octets = reader.u32()? as usize;
        let (stored_octets, unstuffed_octets, stuffed_lines) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let flags = reader.u32()?;
        let chunk_count = reader.u32()? as usize;
        let tail_octets = reader.u32()? as usize;
        let recipient_count = reader.u32()? as usize;
        reader.take(FIXED_OCTETS - 48)?;
        let data = DataFacts {
            stored_octets,
            unstuffed_octets,
            stuffed_lines,
            has_8bit: flags & FLAG_8BIT != 0,
            has_nul: flags & FLAG_NUL != 0,
        };
        let table = reader.take(chunk_count.checked_mul(CHUNK_OCTETS)?)?;
        let chunks = table.chunks_exact(CHUNK_OCTETS).map(decode_chunk).collect::<Option<Vec<_>>>()?;
        let envelope = reader.take(envelope_octets)?;
        let trace = reader.take(trace_octets)?;
        let tail = reader.take(tail_octets)?;
        let Decoded { reverse_path, recipients, client, helo, protocol, body_8bit, extensions } =
            Decoded::decode(envelope, recipient_count)?;
        let chunked: u64 = chunks.iter().map(|chunk| u64::from(chunk.octets)).sum();
        let whole = chunked.checked_add(tail_octets as u64)? == stored_octets;
        let view = Self {
            data,
            chunks,
            reverse_path,
            recipients,
            client,
            helo,
            protocol,
            body_8bit,
            extensions,
            trace,
            tail,
        };
        (whole && reader.rest().is_empty()).then_some(view)
    }

    /// The payload of a message with as many other chunks: of a record that lies elsewhere now.
    #[must_use]
    pub fn with_chunks(payload: &[u8], chunks: &[ChunkReference]) -> Vec<u8> {
        let mut table = Vec::with_capacity(chunks.len() * CHUNK_OCTETS);
        encode_chunks(&mut table, chunks);
        let mut out = payload.to_vec();
        out[FIXED_OCTETS..FIXED_OCTETS + table.len()].copy_from_slice(&table);
        out
    }
}

fn decode_chunk(entry: &[u8]) -> Option<ChunkReference> {
    let mut reader = Reader::new(entry);
    Some(ChunkReference {
        segment: SegmentId(reader.u32()?),
        octets: reader.u32()?,
        offset: Offset(reader.u64()?),
    })
}

/// The domain of a stored mailbox: what follows the last `@`.
#[must_use]
pub fn domain_of(mailbox: &str) -> &str {
    mailbox.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// Ranges of ordinals per domain, in order: `(domain, first, count)`. Recipients are grouped by domain.
pub fn domain_groups<'a>(recipients: &[&'a str]) -> Vec<(&'a str, u16, u16)> {
    let mut groups: Vec<(&'a str, u16, u16)> = Vec::new();
    for (ordinal, recipient) in recipients.iter().enumerate() {
        let domain = domain_of(recipient);
        match groups.last_mut() {
            Some(group) if group.0 == domain => group.2 += 1,
            _ => {
                groups.push((
                    domain,
                    u16::try_from(ordinal).expect("recipients are bounded below 65,536"),
                    1,
                ));
            }
        }
    }
    groups
}
