//! Decoders of what is on disk, fed with anything: they refuse, and never panic; messages come back as they went.

use super::format_golden::{DATA, OFFSET, SALT, SEGMENT, SHARD, all, envelope};
use proptest::prelude::*;
use std::net::IpAddr;
use storage::format::Reader;
use storage::format::checkpoint::{Checkpoint, HeldUnit, Outcomes};
use storage::format::checksum::Seed;
use storage::format::frame::{FRAME_HEADER_OCTETS, FrameHeader};
use storage::format::index_file::SegmentIndex;
use storage::format::journal_entry::{Fact, Void};
use storage::format::message::{ChunkReference, DataFacts, Envelope, MessageView, encode_head};
use storage::format::segment_header::{HeaderError, SegmentHeader};
use storage::format::store_file::StoreFile;
use storage::format::tally::{Ledger, Tally};
use storage::position::{Offset, SegmentId};

fn decode_everything(octets: &[u8]) {
    let seed = Seed::new(&SALT, SEGMENT);
    if let Some(header) = FrameHeader::decode(octets, &seed, OFFSET) {
        let _ = header.matches(octets, &seed, OFFSET);
    }
    let _ = SegmentHeader::decode(octets) == Err(HeaderError::Damaged);
    let _ = (StoreFile::decode(octets), StoreFile::newer(octets));
    let _ = SegmentIndex::decode(octets, SHARD, SEGMENT, &SALT);
    let _ = SegmentIndex::salt_of(octets);
    let _ = (MessageView::decode(octets).is_some(), Void::decode(octets));
    let _ = (Fact::decode_all(octets), Tally::decode(octets), Ledger::decode(octets));
    let _ = (Outcomes::decode(octets), HeldUnit::decode_all(octets), Checkpoint::decode(octets));
    let mut reader = Reader::new(octets);
    let _ = (reader.u8(), reader.u16(), reader.u32(), reader.u64(), reader.take(usize::MAX));
}

proptest! {
    #[test]
    fn decoders_never_panic_on_random_octets(octets in proptest::collection::vec(any::<u8>(), 0..9000)) {
        decode_everything(&octets);
    }

    /// Closer to home: whole structures with a few octets changed, or cut off.
    #[test]
    fn decoders_never_panic_on_damaged_structures(
        which in 0..all().len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
        skip in prop_oneof![Just(0_usize), Just(FRAME_HEADER_OCTETS)],
    ) {
        let whole = all().swap_remove(which).1;
        let mut octets = whole[skip.min(whole.len() - 1)..].to_vec();
        for (at, value) in changes {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        decode_everything(&octets);
        octets.truncate(end.index(octets.len()));
        decode_everything(&octets);
    }

    #[test]
    fn messages_come_back_as_they_went(
        reverse_path in "[a-z@.]{0,40}",
        recipients in proptest::collection::vec("[a-z]{1,9}@[a-z]{1,9}", 0..20),
        chunks in proptest::collection::vec((any::<u32>(), 0..1_u32 << 20, any::<u64>()), 0..20),
        trace in proptest::collection::vec(any::<u8>(), 0..200),
        tail in proptest::collection::vec(any::<u8>(), 0..500),
        octets in any::<[u8; 4]>(),
    ) {
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let chunks: Vec<_> = chunks
            .into_iter()
            .map(|(segment, octets, offset)| ChunkReference {
                segment: SegmentId(segment),
                octets,
                offset: Offset(offset),
            })
            .collect();
        let stored = chunks.iter().map(|chunk| u64::from(chunk.octets)).sum::<u64>() + tail.len() as u64;
        let data = DataFacts { stored_octets: stored, ..DATA };
        let envelope = Envelope {
            reverse_path: &reverse_path,
            recipients: &recipients,
            client: IpAddr::from(octets),
            ..envelope()
        };
        let mut payload = Vec::new();
        encode_head(&mut payload, &envelope, &data, &chunks, &trace, tail.len());
        payload.extend_from_slice(&tail);
        let view = MessageView::decode(&payload).unwrap();
        prop_assert_eq!((view.data, &view.chunks), (data, &chunks));
        prop_assert_eq!((view.reverse_path, &view.recipients), (reverse_path.as_str(), &recipients));
        prop_assert_eq!((view.trace, view.tail, view.client), (&trace[..], &tail[..], envelope.client));
        payload.push(0);
        prop_assert!(MessageView::decode(&payload).is_none(), "nothing may stand behind it");
    }
}
