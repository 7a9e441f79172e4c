//! The payload of a message record (`FORMAT.md`, "Message"): fixed fields, chunk table, envelope, trace field
//! and the mail data that did not go into chunks, as it came by DATA (dot-stuffed, without the final dot).
//!
//! The envelope is a list of tagged values; a reader skips tags that it does not know, so that later versions
//! add facts without a new format. Recipients are stored grouped by domain, so that the units of one domain
//! are a contiguous range of ordinals.

use super::{Reader, Writer};
use crate::position::{Offset, SegmentId};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// How the message came: the `with` of its Received field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// HELO.
    Smtp,
    /// EHLO.
    #[default]
    Esmtp,
}

/// An envelope to be stored. Recipients are `local@domain`, grouped by domain.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// Empty for the null reverse-path.
    pub reverse_path: &'a str,
    /// Units by ordinal.
    pub recipients: &'a [&'a str],
    /// The client's address.
    pub client: IpAddr,
    /// What it called itself.
    pub helo: &'a str,
    /// How it spoke.
    pub protocol: Protocol,
    /// BODY=8BITMIME was said (RFC 6152).
    pub body_8bit: bool,
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
    /// Our Received field, made at acceptance.
    pub trace: &'a [u8],
    /// The data behind the chunks.
    pub tail: &'a [u8],
}

const FIXED_OCTETS: usize = 64;
const CHUNK_OCTETS: usize = 16;
const FLAG_8BIT: u32 = 1;
const FLAG_NUL: u32 = 2;

const TAG_REVERSE_PATH: u16 = 1;
const TAG_RECIPIENT: u16 = 2;
const TAG_CLIENT: u16 = 3;
const TAG_HELO: u16 = 4;
const TAG_PROTOCOL: u16 = 5;
const TAG_BODY_8BIT: u16 = 6;

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
    encode_envelope(out, envelope);
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

fn encode_envelope(out: &mut Vec<u8>, envelope: &Envelope<'_>) {
    let mut put = |tag: u16, value: &[u8]| {
        let octets = u16::try_from(value.len()).expect("a path or name is below 64 KiB");
        Writer(out).u16(tag).u16(octets).octets(value);
    };
    put(TAG_REVERSE_PATH, envelope.reverse_path.as_bytes());
    for recipient in envelope.recipients {
        put(TAG_RECIPIENT, recipient.as_bytes());
    }
    match envelope.client {
        IpAddr::V4(address) => put(TAG_CLIENT, &address.octets()),
        IpAddr::V6(address) => put(TAG_CLIENT, &address.octets()),
    }
    put(TAG_HELO, envelope.helo.as_bytes());
    put(TAG_PROTOCOL, &[if envelope.protocol == Protocol::Esmtp { 2 } else { 1 }]);
    if envelope.body_8bit {
        put(TAG_BODY_8BIT, &[1]);
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
        let mut view = Self {
            data,
            chunks,
            reverse_path: "",
            recipients: Vec::with_capacity(recipient_count.min(envelope.len() / 4)),
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            helo: "",
            protocol: Protocol::Esmtp,
            body_8bit: false,
            trace,
            tail,
        };
        view.decode_envelope(envelope)?;
        let chunked: u64 = view.chunks.iter().map(|chunk| u64::from(chunk.octets)).sum();
        let whole = chunked.checked_add(tail_octets as u64)? == stored_octets;
        (whole && view.recipients.len() == recipient_count && reader.rest().is_empty()).then_some(view)
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

    fn decode_envelope(&mut self, envelope: &'a [u8]) -> Option<()> {
        let mut reader = Reader::new(envelope);
        while !reader.rest().is_empty() {
            let tag = reader.u16()?;
            let octets = reader.u16()?;
            let value = reader.take(octets.into())?;
            let text = core::str::from_utf8(value);
            match tag {
                TAG_REVERSE_PATH => self.reverse_path = text.ok()?,
                TAG_RECIPIENT => self.recipients.push(text.ok()?),
                TAG_CLIENT => self.client = decode_address(value)?,
                TAG_HELO => self.helo = text.ok()?,
                TAG_PROTOCOL => self.protocol = if value == [1] { Protocol::Smtp } else { Protocol::Esmtp },
                TAG_BODY_8BIT => self.body_8bit = true,
                _ => {}
            }
        }
        Some(())
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

fn decode_address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(IpAddr::V4(octets.into()));
    }
    <[u8; 16]>::try_from(value).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
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
