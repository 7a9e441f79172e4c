//! A message with all that it carries: envelope, trace, the state of its units, and its data as a stream.

use super::account::Standing;
use super::records::{Filter, Record, Viewer};
use super::{Directory, Known, Loss, Walked, describe, outcomes_of};
use crate::disk::Disk;
use crate::error::ReadError;
use crate::format::frame::PLAIN;
use crate::format::index_file::IndexEntry;
use crate::format::message::{ChunkReference, Protocol};
use crate::format::segment_header::Purpose;
use crate::position::{Offset, QueueId, ShardId, Stamp, StoreId};
use crate::reader::Reader;
use crate::segment::path;
use core::net::IpAddr;

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mail {
    /// Place, envelope and the state of its units.
    pub record: Record,
    /// The client's address.
    pub client: IpAddr,
    /// What it called itself.
    pub helo: String,
    /// `SMTP` or `ESMTP`.
    pub protocol: &'static str,
    /// BODY=8BITMIME was said.
    pub body_8bit: bool,
    /// An octet above 127 occurs in the data.
    pub has_8bit: bool,
    /// A NUL occurs in the data.
    pub has_nul: bool,
    /// Octets after dot-unstuffing.
    pub octets: u64,
    /// Lines with an added dot.
    pub stuffed_lines: u64,
    /// Our Received field, with its CRLF.
    pub trace: Vec<u8>,
    /// Where the parts of its data are that went ahead.
    pub chunks: Vec<ChunkPlace>,
    /// The key that encrypts it; 0 for none.
    pub key_id: u32,
    shard: ShardId,
    tail: Vec<u8>,
}

/// A part of a message's data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkPlace {
    /// The file, relative to the data directory.
    pub path: String,
    /// Where in it.
    pub offset: u64,
    /// Octets of data.
    pub octets: u32,
    reference: ChunkReference,
}

/// Why a message cannot be told whole.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MailError<E> {
    /// It cannot be read.
    #[error("{path}: offset {offset}: {error}")]
    Read {
        /// The file.
        path: String,
        /// Where.
        offset: u64,
        /// Why.
        error: ReadError,
    },
    /// It was promised, and its record is lost while a unit of it is open.
    #[error("{path}: offset {offset}: lost: {what}")]
    Lost {
        /// The file.
        path: String,
        /// Where it was.
        offset: u64,
        /// What is known of it.
        what: String,
    },
    /// Whoever takes the octets has had enough.
    #[error("{0}")]
    Taker(E),
}

impl<D: Disk> Directory<D> {
    /// Shows `visit` each message that `filter` lets pass, in the order of stamps, and each once, whatever copies there are;
    /// or why it cannot be read; lost ones last, as far as what is known of them may pass. Void ones are left out. It
    /// stops where `visit` fails.
    ///
    /// # Errors
    /// The one of `visit`.
    pub async fn mails<E>(
        &self,
        filter: &Filter,
        mut visit: impl AsyncFnMut(Result<Mail, MailError<E>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let standing = Standing::of(self);
        let reader = self.reader();
        let wanted = filter.queue_id.as_deref().map(QueueId::parse);
        let counted = self.counted(&standing);
        for copies in counted.chunk_by(|one, other| one.0 == other.0) {
            let (file, message) = self.at_place(copies[0]);
            if wanted.is_some_and(|wanted| wanted != Some(message.queue_id))
                || !self.may_match(filter, file, message)
            {
                continue;
            }
            let mut read = self.mail(&reader, &standing, copies[0]).await;
            for copy in &copies[1..] {
                if read.is_err() {
                    read = self.mail(&reader, &standing, *copy).await;
                }
            }
            match read {
                Ok(mail) if !filter.passes(&mail.record, wanted, message.queue_id) => {}
                other => visit(other).await?,
            }
        }
        let mut last = None;
        for loss in
            self.losses(&standing, &counted).iter().filter(|loss| self.may_match_lost(filter, wanted, loss))
        {
            let (path, offset) = (path(loss.shard, Purpose::Mail, loss.segment), loss.range.start);
            let place = Some((path.clone(), offset));
            if last != place {
                last = place;
                visit(Err(MailError::Lost { path, offset, what: describe(self, loss) })).await?;
            }
        }
        Ok(())
    }

    /// Whether a lost message with an open unit may be one of those that are wanted.
    fn may_match_lost(&self, filter: &Filter, wanted: Option<Option<QueueId>>, loss: &Loss) -> bool {
        let asked = filter.asked_domain();
        let domain = loss.domain.map(|domain| self.names.name(domain));
        let named = wanted.is_none_or(|wanted| wanted == loss.queue_id && wanted.is_some());
        let open = matches!(filter.state.as_deref(), None | Some("queued" | "held"));
        open && named
            && asked.is_none_or(|asked| domain.is_none_or(|domain| domain.eq_ignore_ascii_case(asked)))
            && outcomes_of(self, loss).contains(&None)
    }

    /// Hands the data of a message to `take`, as it is stored: dot-stuffed, without the final dot, part by part.
    ///
    /// # Errors
    /// See [`MailError`]; parts before that were handed over.
    pub async fn data<E>(
        &self,
        mail: &Mail,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), MailError<E>> {
        let reader = self.reader();
        for chunk in &mail.chunks {
            let read = reader.read_chunk(mail.shard, &chunk.reference).await;
            let frame = read.map_err(|error| MailError::Read {
                path: chunk.path.clone(),
                offset: chunk.offset,
                error,
            })?;
            take(frame.payload()).map_err(MailError::Taker)?;
        }
        take(&mail.tail).map_err(MailError::Taker)
    }

    fn reader(&self) -> Reader<D> {
        let by_header = || self.files.iter().find_map(|file| file.header.as_ref().map(|header| header.store));
        let store = self.store.map(|store| store.store).or_else(by_header).unwrap_or(StoreId([0; 16]));
        Reader::new(self.disk.clone(), store, self.keys.clone())
    }

    /// Whether a message of these domains and this second may pass: it is not read if not.
    fn may_match(&self, filter: &Filter, file: &Walked, message: &Known) -> bool {
        let asked = filter.asked_domain();
        let in_domain = |domain: &str| {
            let mut groups = file.groups_of(message).iter();
            groups.any(|group| self.names.name(group.domain).eq_ignore_ascii_case(domain))
        };
        let received_ms = u64::from(message.received_s) * 1000;
        asked.is_none_or(|domain| message.groups == 0 || in_domain(domain))
            && filter.since_ms.is_none_or(|since| received_ms + 999 >= since)
            && filter.until_ms.is_none_or(|until| received_ms < until)
    }

    async fn mail<E>(
        &self,
        reader: &Reader<D>,
        standing: &Standing,
        place: (Stamp, u32, u32),
    ) -> Result<Mail, MailError<E>> {
        let (file, message) = self.at_place(place);
        let failed = |error| MailError::Read { path: file.shown.path.clone(), offset: message.offset, error };
        let entry = IndexEntry::new(message.stamp, file.segment, Offset(message.offset), message.octets);
        let frame = reader.read_entry(file.shard, &entry).await.map_err(failed)?;
        let view = frame.message().map_err(failed)?;
        let viewer = Viewer { directory: self, standing, number: place.1 as usize };
        let record = viewer.record((Offset(message.offset), &frame.header, frame.payload()), None);
        let chunk = |reference: &ChunkReference| ChunkPlace {
            path: path(file.shard, Purpose::Mail, reference.segment),
            offset: reference.offset.0,
            octets: reference.octets,
            reference: *reference,
        };
        Ok(Mail {
            record,
            client: view.client,
            helo: view.helo.to_owned(),
            protocol: if view.protocol == Protocol::Smtp { "SMTP" } else { "ESMTP" },
            body_8bit: view.body_8bit,
            has_8bit: view.data.has_8bit,
            has_nul: view.data.has_nul,
            octets: view.data.unstuffed_octets,
            stuffed_lines: view.data.stuffed_lines,
            trace: view.trace.to_vec(),
            chunks: view.chunks.iter().map(chunk).collect(),
            key_id: if frame.header.key_id == PLAIN { 0 } else { frame.header.key_id },
            shard: file.shard,
            tail: view.tail.to_vec(),
        })
    }

    /// The messages that count.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.counted(&Standing::of(self)).chunk_by(|one, other| one.0 == other.0).count() as u64
    }
}
