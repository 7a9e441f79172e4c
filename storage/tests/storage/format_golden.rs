//! Bytes on disk stay what they are: fixed inputs encode to exactly the files in `golden/`, and these decode back.
//!
//! A file that differs means a changed format: an older program could not read what this one writes. If that is
//! meant, give the structure a new version (FORMAT.md, "Versions") and make the files again:
//!
//! ```sh
//! STRATAMX_GOLDEN=write cargo test -p stratamx-storage --test storage every_structure
//! ```

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use storage::crypt::{CipherPlace, Keys, TAG_OCTETS};
use storage::format::checkpoint::{Checkpoint, DirectoryRow, HeldUnit, Outcomes};
use storage::format::checksum::Seed;
use storage::format::frame::{FRAME_HEADER_OCTETS, FrameHeader, FrameKind, PLAIN, frame_octets};
use storage::format::index_file::{IndexEntry, Pin, SegmentIndex};
use storage::format::journal_entry::{Authentication, FINAL_OUTCOMES, Fact, Outcome, Void};
use storage::format::message::{
    ChunkReference, DataFacts, Envelope, Extensions, MessageView, NoticeOf, Protocol, RecipientDsn, Ret,
    Smtputf8, TlsFacts, Transfer, domain_groups, domain_of, encode_head,
};
use storage::format::segment_header::{KeyMark, Purpose, SegmentHeader};
use storage::format::store_file::StoreFile;
use storage::format::tally::{Ledger, Tally, TallyRow};
use storage::format::{BLOCK_OCTETS, Reader};
use storage::position::{Offset, QueueId, Salt, SegmentId, ShardId, Stamp, StoreId, UnixMillis};
use storage::segment::sealing::{Opener, Sealing, write_frame};

pub(crate) const SALT: Salt =
    Salt([0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF]);
const STORE: StoreId =
    StoreId([0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x5B, 0x5C, 0x5D, 0x5E, 0x5F]);
pub(crate) const SHARD: ShardId = ShardId(0x0102);
pub(crate) const SEGMENT: SegmentId = SegmentId(0x0304_0506);
pub(crate) const OFFSET: Offset = Offset(0x0012_3000);
const RECIPIENTS: [&str; 3] = ["a@one.test", "b@one.test", "ü@two.test"];

const STORE_FILE: StoreFile = StoreFile {
    sequence: 0x0102_0304_0506_0708,
    store: STORE,
    incarnation: 0x1112_1314_1516_1718,
    stamp_ceiling: Stamp(0x2122_2324_2526_2728),
    number_ceiling: SegmentId(0),
    shards: 0x3132,
};

/// As it is written since numbers of segments have a ceiling.
const NUMBERED_STORE_FILE: StoreFile = StoreFile { number_ceiling: SegmentId(0x4142_4344), ..STORE_FILE };

const HEADER: SegmentHeader = SegmentHeader {
    purpose: Purpose::Mail,
    segment: SEGMENT,
    shard: SHARD,
    store: STORE,
    salt: SALT,
    size: 64 << 20,
    created: UnixMillis(1_767_225_600_123),
    stamp_floor: Stamp(0x4142_4344_4546_4748),
    previous: Some(SegmentId(0x0304_0505)),
    key: None,
    sources: Vec::new(),
    others: Vec::new(),
};

/// Of an encrypted segment that a rewrite made.
fn mail_header() -> SegmentHeader {
    let check =
        [0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF];
    let key = Some(KeyMark { key_id: 0x9192_9394, check });
    SegmentHeader { key, sources: vec![SegmentId(0x0304_0501), SegmentId(0x0304_0503)], ..HEADER }
}

/// The same, made behind segments that no other header names.
fn header_with_others() -> SegmentHeader {
    SegmentHeader { others: vec![SegmentId(0x0304_0502), SegmentId(0x0304_0504)], ..mail_header() }
}

pub(crate) const DATA: DataFacts = DataFacts {
    stored_octets: 0x1_0000 + 12,
    unstuffed_octets: 0x1_0000 + 11,
    stuffed_lines: 1,
    has_8bit: true,
    has_nul: false,
};

const CHUNKS: [ChunkReference; 2] = [
    ChunkReference { segment: SegmentId(0x0304_0505), offset: Offset(4096), octets: 0x8000 },
    ChunkReference { segment: SEGMENT, offset: Offset(0x9000), octets: 0x8000 },
];

const TRACE: &[u8] = b"Received: from client.example by mx2.example.net\r\n";
const TAIL: &[u8] = b"..dot\r\nend\r\n";

pub(crate) fn envelope() -> Envelope<'static> {
    Envelope {
        reverse_path: "sender@example.org",
        recipients: &RECIPIENTS,
        client: IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        helo: "client.example",
        protocol: Protocol::Esmtp,
        body_8bit: true,
        extensions: Extensions::NONE,
    }
}

/// All that service extensions can add; the second recipient said nothing.
fn extensions() -> Extensions<'static> {
    let dsn = |notify, orcpt: &'static str| RecipientDsn { notify, orcpt: orcpt.into() };
    Extensions {
        smtputf8: Some(Smtputf8 { header_8bit: true }),
        ret: Some(Ret::Headers),
        envid: "QQ+2B314159".into(),
        recipients: vec![
            dsn(1, "rfc822;a+2Bb@one.test"),
            RecipientDsn::default(),
            dsn(14, "utf-8;ü@two.test"),
        ],
        transfer: Transfer::Bdat { line_end_added: true },
        tls: Some(TlsFacts { version: 0x0304, cipher_suite: 0x1301 }),
        notice: None,
        replay_of: None,
    }
}

fn message(extensions: Extensions<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    let envelope = Envelope { extensions, ..envelope() };
    encode_head(&mut payload, &envelope, &DATA, &CHUNKS, TRACE, TAIL.len());
    payload.extend_from_slice(TAIL);
    payload
}

/// A whole frame at [`OFFSET`], with its padding.
fn frame(kind: FrameKind, stamp: Stamp, queue_id: QueueId, payload: &[u8]) -> Vec<u8> {
    let seed = Seed::new(&SALT, SEGMENT);
    let mut hasher = seed.hasher(OFFSET);
    hasher.update(payload);
    let header = FrameHeader {
        kind,
        payload_length: u32::try_from(payload.len()).unwrap(),
        stamp,
        received: UnixMillis(1_767_225_600_456),
        queue_id,
        durable_before: Offset(0x0012_2000),
        payload_checksum: hasher.finalize(),
        key_id: PLAIN,
        unit_base: 0x7172_7374,
    };
    let mut octets = header.encode(&seed, OFFSET).to_vec();
    octets.extend_from_slice(payload);
    octets.resize(frame_octets(payload.len()), 0);
    octets
}

/// A master key, as a key file has it.
fn keys() -> Keys {
    Keys::parse("7 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n").unwrap()
}

const PLACE: CipherPlace = CipherPlace { store: STORE, shard: SHARD, segment: SEGMENT, salt: SALT };

/// A frame as it is in an encrypted segment.
fn encrypted(payload: &[u8]) -> Vec<u8> {
    let (seed, cipher) = (Seed::new(&SALT, SEGMENT), keys().cipher(7, &PLACE).unwrap());
    let mut header = FrameHeader {
        kind: FrameKind::Message,
        payload_length: u32::try_from(payload.len() + TAG_OCTETS).unwrap(),
        stamp: Stamp(0x6162_6364_6566_6768),
        received: UnixMillis(1_767_225_600_456),
        queue_id: QueueId::new(3, ShardId(2), 77),
        durable_before: Offset(0x0012_2000),
        payload_checksum: 0,
        key_id: PLAIN,
        unit_base: 0x7172_7374,
    };
    let mut octets = vec![0xAA; frame_octets(payload.len() + TAG_OCTETS)];
    let sealing = Sealing { seed: &seed, cipher: Some(&cipher) };
    write_frame(&mut octets, &sealing, &mut header, OFFSET, &[payload]);
    octets
}

fn facts() -> Vec<Fact> {
    let outcomes = FINAL_OUTCOMES.into_iter().chain([Outcome::Held, Outcome::Released]);
    let fact = |(ordinal, outcome)| {
        let ordinal = u16::try_from(ordinal).unwrap();
        Fact { stamp: Stamp(0x6162_6364_6566_6768), ordinal, outcome, code: 250 + ordinal }
    };
    outcomes.enumerate().map(fact).collect()
}

fn settlement() -> Vec<u8> {
    let mut payload = Vec::new();
    facts().iter().for_each(|fact| fact.encode(&mut payload));
    payload
}

/// `spf=pass dkim=pass,permerror dmarc=fail policy=reject proven=spf`
const AUTHENTICATION: Authentication =
    Authentication { stamp: Stamp(0x6162_6364_6566_6768), bits: 0b1_1000_1101_1101_1011 };

/// A verdict between two facts.
fn authenticated() -> Vec<u8> {
    let mut payload = Vec::new();
    facts()[0].encode(&mut payload);
    AUTHENTICATION.encode(&mut payload);
    facts()[1].encode(&mut payload);
    payload
}

fn tally() -> Tally {
    Tally { shard: SHARD, segment: SEGMENT, rows: rows() }
}

fn rows() -> Vec<TallyRow> {
    let row = |domain: &str, first| TallyRow {
        domain: domain.to_owned(),
        accepted: 6 * first + 15,
        ended: [first, first + 1, first + 2, first + 3, first + 4, first + 5],
    };
    vec![row("one.test", 0x10), row("two.test", 0x20)]
}

fn ledger() -> Ledger {
    Ledger { gone: vec![1..=0x0304_0502, 0x0304_0504..=0x0304_0504], rows: rows() }
}

fn outcomes() -> Outcomes {
    Outcomes { shard: SHARD, segment: SEGMENT, first: 0x7172_7374, halves: vec![0x10, 0x32, 0x54, 0x06] }
}

fn held() -> Vec<HeldUnit> {
    let unit = |ordinal| HeldUnit {
        stamp: Stamp(0x6162_6364_6566_6768),
        ordinal,
        code: 550,
        since_s: 1_767_225_600 + u32::from(ordinal),
    };
    vec![unit(1), unit(2)]
}

fn held_payload() -> Vec<u8> {
    let mut payload = Vec::new();
    held().iter().for_each(|unit| unit.encode(&mut payload));
    payload
}

/// As an older program wrote it: it did not tell which journals count.
fn checkpoint() -> Checkpoint {
    let row = |shard, last_stamp| DirectoryRow { shard, last_stamp, first_journal: None };
    Checkpoint { directories: vec![row(ShardId(0), Stamp(0x81)), row(SHARD, Stamp(0x6162_6364_6566_6768))] }
}

fn checkpoint_with_journals() -> Checkpoint {
    let mut checkpoint = checkpoint();
    checkpoint.directories[0].first_journal = Some(SegmentId(7));
    checkpoint.directories[1].first_journal = Some(SegmentId(0x0304_0506));
    checkpoint
}

const VOID: Void = Void { segment: SegmentId(0x0304_0505), from: 0x0011_2000, to: 64 << 20 };

fn index() -> SegmentIndex {
    let entry = |stamp, first, count| {
        let mut entry =
            IndexEntry::new(Stamp(stamp), SEGMENT, Offset(0x0012_3000), 0x0001_0058).with_chunks(0x0001_2001);
        entry.received_s = 1_767_225_600;
        entry.unit_base = 0x7172_7374;
        entry.first = first;
        entry.count = count;
        entry
    };
    SegmentIndex {
        domains: vec![
            ("one.test".to_owned(), vec![entry(0x81, 0, 2), entry(0x82, 0, 1)]),
            ("two.test".to_owned(), vec![entry(0x81, 2, 1)]),
        ],
        units: 4,
        pins: vec![Pin {
            unit_base: 0x7172_7374,
            units: 3,
            segments: vec![(SegmentId(0x0304_0505), 0x9192_9394_9596)],
        }],
        voids: vec![VOID],
        last_stamp: Stamp(0x82),
        damaged: 7,
    }
}

/// Every structure, by the name of its file.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let stamp = Stamp(0x6162_6364_6566_6768);
    let queue_id = QueueId::new(3, ShardId(2), 77);
    vec![
        ("store", STORE_FILE.encode()),
        ("store_numbered", NUMBERED_STORE_FILE.encode()),
        ("segment_header", mail_header().encode()),
        ("segment_header_others", header_with_others().encode()),
        ("journal_header", SegmentHeader { purpose: Purpose::Journal, ..HEADER }.encode()),
        // As version 0.1.0 wrote it first, and as it is where nothing was said beyond addresses.
        ("message", frame(FrameKind::Message, stamp, queue_id, &message(Extensions::NONE))),
        ("message_extended", frame(FrameKind::Message, stamp, queue_id, &message(extensions()))),
        ("message_encrypted", encrypted(&message(Extensions::NONE))),
        ("key_check", keys().mark(STORE).unwrap().check.to_vec()),
        ("chunk", frame(FrameKind::Chunk, Stamp::NONE, queue_id, b"mail data\r\n")),
        ("void", frame(FrameKind::Void, Stamp::NONE, QueueId(0), &VOID.encode())),
        ("settlement", frame(FrameKind::Settlement, stamp, QueueId(0), &settlement())),
        ("authentication", frame(FrameKind::Settlement, stamp, QueueId(0), &authenticated())),
        ("tally", frame(FrameKind::Tally, stamp, QueueId(0), &tally().encode()[0])),
        ("outcomes", frame(FrameKind::Outcomes, stamp, QueueId(0), &outcomes().encode())),
        ("ledger", frame(FrameKind::Ledger, stamp, QueueId(0), &ledger().encode(SHARD)[0])),
        ("held", frame(FrameKind::Held, stamp, QueueId(0), &held_payload())),
        ("checkpoint", frame(FrameKind::Checkpoint, stamp, QueueId(0), &checkpoint().encode())),
        (
            "checkpoint_journals",
            frame(FrameKind::Checkpoint, stamp, QueueId(0), &checkpoint_with_journals().encode()),
        ),
        ("index", index().encode(SHARD, SEGMENT, &SALT)),
    ]
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/storage/golden").join(format!("{name}.bin"))
}

fn golden(name: &str) -> Vec<u8> {
    fs::read(file(name)).unwrap()
}

#[test]
fn every_structure_encodes_to_its_golden_file() {
    for (name, octets) in all() {
        if std::env::var("STRATAMX_GOLDEN").as_deref() == Ok("write") {
            fs::write(file(name), &octets).unwrap();
        }
        let golden = golden(name);
        let differs = octets.iter().zip(&golden).position(|(new, old)| new != old);
        assert_eq!(differs, None, "{name}: first difference at this offset");
        assert_eq!(octets.len(), golden.len(), "{name}");
    }
}

fn header_of(octets: &[u8]) -> Option<(FrameHeader, Vec<u8>)> {
    let seed = Seed::new(&SALT, SEGMENT);
    let header = FrameHeader::decode(octets, &seed, OFFSET)?;
    let payload = octets.get(FRAME_HEADER_OCTETS..FRAME_HEADER_OCTETS + header.payload_length as usize)?;
    header.matches(payload, &seed, OFFSET).then(|| (header, payload.to_vec()))
}

#[test]
fn golden_identity_and_headers_decode() {
    assert_eq!(StoreFile::decode(&golden("store")), Some(STORE_FILE));
    assert_eq!(StoreFile::decode(&golden("store_numbered")), Some(NUMBERED_STORE_FILE));
    assert_eq!(SegmentHeader::decode(&golden("segment_header")), Ok(mail_header()));
    assert_eq!(SegmentHeader::decode(&golden("segment_header_others")), Ok(header_with_others()));
    let journal = SegmentHeader { purpose: Purpose::Journal, ..HEADER };
    assert_eq!(SegmentHeader::decode(&golden("journal_header")), Ok(journal));
}

#[test]
fn golden_message_decodes() {
    let (header, payload) = header_of(&golden("message")).unwrap();
    assert_eq!((header.kind, header.queue_id), (FrameKind::Message, QueueId::new(3, ShardId(2), 77)));
    let view = MessageView::decode(&payload).unwrap();
    let sent = envelope();
    assert_eq!((view.data, &view.chunks[..]), (DATA, &CHUNKS[..]));
    assert_eq!((view.reverse_path, &view.recipients[..]), (sent.reverse_path, sent.recipients));
    assert_eq!((view.client, view.helo), (sent.client, sent.helo));
    assert_eq!((view.protocol, view.body_8bit), (sent.protocol, sent.body_8bit));
    assert_eq!((view.trace, view.tail), (TRACE, TAIL));
}

#[test]
fn golden_extensions_decode_and_absent_ones_are_none() {
    let payload = |name| header_of(&golden(name)).unwrap().1;
    let (plain, extended) = (payload("message"), payload("message_extended"));
    let (plain, extended) = (MessageView::decode(&plain).unwrap(), MessageView::decode(&extended).unwrap());
    assert_eq!((plain.extensions, extended.extensions), (Extensions::NONE, extensions()));
    assert_eq!((plain.recipients, plain.tail), (extended.recipients, extended.tail));
}

/// H13: a program that knows tags 1 to 6 only has to find its way through the others: each of them has its length in
/// front, and none stands between a reader and what it knows.
#[test]
fn h13_whoever_skips_unknown_tags_reads_the_same_envelope() {
    let extended = message(extensions());
    let envelope_octets = u32::from_le_bytes(extended[..4].try_into().unwrap()) as usize;
    let start = 64 + 16 * CHUNKS.len();
    let mut reader = Reader::new(&extended[start..start + envelope_octets]);
    let mut known = Vec::new();
    while !reader.rest().is_empty() {
        let (tag, length) = (reader.u16().unwrap(), reader.u16().unwrap());
        let value = reader.take(length.into()).unwrap();
        if tag <= 6 {
            known.extend([tag.to_le_bytes(), length.to_le_bytes()].concat());
            known.extend(value);
        }
    }
    let plain = message(Extensions::NONE);
    let envelope_octets = u32::from_le_bytes(plain[..4].try_into().unwrap()) as usize;
    assert_eq!(known, plain[start..start + envelope_octets]);
}

/// What an earlier version encrypted is read for as long as mail is kept: derivation, nonce and associated data are part of the format.
#[test]
fn golden_encrypted_message_decodes() {
    let (header, payload) = header_of(&golden("message_encrypted")).unwrap();
    let keys = keys();
    let mut opener = Opener::new(&keys, PLACE);
    assert_eq!(opener.open(&header, OFFSET, &payload).unwrap(), message(Extensions::NONE));
    let check = golden("key_check").try_into().unwrap();
    assert_eq!(keys.verify(KeyMark { key_id: 7, check }, STORE), Ok(()));
    assert!(opener.open(&header, Offset(OFFSET.0 + 8), &payload).is_err(), "at another place it is nothing");
}

#[test]
fn golden_payloads_decode() {
    let payload = |name| header_of(&golden(name)).unwrap().1;
    assert_eq!(payload("chunk"), b"mail data\r\n");
    assert_eq!(Void::decode(&payload("void")), Some(VOID));
    assert_eq!(Fact::decode_all(&payload("settlement")), Some(facts()));
    assert_eq!(Authentication::decode_all(&payload("settlement")).count(), 0);
    let authenticated = payload("authentication");
    assert_eq!(Authentication::decode_all(&authenticated).collect::<Vec<_>>(), [AUTHENTICATION]);
    let text = "spf=pass dkim=pass,permerror dmarc=fail policy=reject proven=spf";
    assert_eq!(AUTHENTICATION.to_string(), text);
    // H13: a program that knows no verdicts decodes facts this way, and finds these two.
    assert_eq!(Fact::decode_all(&authenticated).unwrap(), facts()[..2]);
    assert_eq!(Tally::decode(&payload("tally")).unwrap().content, tally());
    let (shard, part) = Ledger::decode(&payload("ledger")).unwrap();
    assert_eq!((shard, part.part, part.parts, part.content), (SHARD, 0, 1, ledger()));
    assert_eq!(Outcomes::decode(&payload("outcomes")), Some(outcomes()));
    let ended: Vec<_> = outcomes().units().map(|(unit, outcome)| (unit - 0x7172_7374, outcome)).collect();
    assert_eq!(ended[0], (1, Outcome::Delivered));
    assert_eq!(ended.len(), 6);
    assert_eq!(HeldUnit::decode_all(&payload("held")), Some(held()));
    assert_eq!(Checkpoint::decode(&payload("checkpoint")), Some(checkpoint()));
    let told = payload("checkpoint_journals");
    assert_eq!(Checkpoint::decode(&told), Some(checkpoint_with_journals()));
    // H13: a program that knows of no journals in it reads directory, six octets of nothing, and stamp.
    for (row, old) in told.chunks_exact(16).zip(payload("checkpoint").chunks_exact(16)) {
        assert_eq!((&row[..2], &row[8..]), (&old[..2], &old[8..]));
    }
    assert_eq!(SegmentIndex::decode(&golden("index"), SHARD, SEGMENT, &SALT), Some(index()));
    assert_eq!(SegmentIndex::salt_of(&golden("index")), Some(SALT));
}

/// Holds `whole` for each octet flipped by each of two masks.
fn no_flip_passes(name: &str, covered: usize, decodes: impl Fn(&[u8]) -> bool) {
    let whole = golden(name);
    assert!(decodes(&whole));
    for at in 0..covered {
        for mask in [0x01, 0xFF] {
            let mut damaged = whole.clone();
            damaged[at] ^= mask;
            assert!(!decodes(&damaged), "{name}: octet {at} flipped by {mask:#x} was not noticed");
        }
    }
}

#[test]
fn a_damaged_octet_is_noticed_anywhere() {
    no_flip_passes("store_numbered", 64, |octets| StoreFile::decode(octets).is_some());
    no_flip_passes("segment_header_others", BLOCK_OCTETS, |octets| SegmentHeader::decode(octets).is_ok());
    no_flip_passes("segment_header", BLOCK_OCTETS, |octets| SegmentHeader::decode(octets).is_ok());
    for name in
        ["message", "chunk", "void", "settlement", "tally", "outcomes", "ledger", "held", "checkpoint"]
    {
        let whole = header_of(&golden(name)).unwrap().0;
        let covered = FRAME_HEADER_OCTETS + whole.payload_length as usize;
        no_flip_passes(name, covered, |octets| header_of(octets).is_some());
    }
    no_flip_passes("index", golden("index").len(), |octets| {
        SegmentIndex::decode(octets, SHARD, SEGMENT, &SALT).is_some()
    });
}

#[test]
fn a_frame_is_valid_in_its_own_place_only() {
    let octets = golden("message");
    let elsewhere = [
        (SALT, SEGMENT, Offset(OFFSET.0 + 8)),
        (SALT, SegmentId(SEGMENT.0 + 1), OFFSET),
        (Salt([0; 16]), SEGMENT, OFFSET),
    ];
    for (salt, segment, offset) in elsewhere {
        assert_eq!(FrameHeader::decode(&octets, &Seed::new(&salt, segment), offset), None);
    }
    let decode = |shard, segment, salt| SegmentIndex::decode(&golden("index"), shard, segment, salt);
    assert_eq!(decode(ShardId(0), SEGMENT, &SALT), None);
    assert_eq!(decode(SHARD, SegmentId(1), &SALT), None);
    assert_eq!(decode(SHARD, SEGMENT, &Salt([0; 16])), None);
}

#[test]
fn a_damaged_payload_leaves_a_header_that_names_it() {
    let mut octets = golden("message");
    octets[FRAME_HEADER_OCTETS] ^= 1;
    assert_eq!(header_of(&octets), None);
    let header = FrameHeader::decode(&octets, &Seed::new(&SALT, SEGMENT), OFFSET).unwrap();
    assert_eq!(header.queue_id, QueueId::new(3, ShardId(2), 77));
}

#[test]
fn unknown_tags_and_outcomes_are_skipped() {
    // What a later version may add without a new number.
    let mut payload = Vec::new();
    encode_head(&mut payload, &envelope(), &DataFacts::default(), &[], b"", 0);
    payload.extend_from_slice(&[99, 0, 3, 0, b'n', b'e', b'w']);
    let octets = u32::from_le_bytes(payload[..4].try_into().unwrap()) + 7;
    payload[..4].copy_from_slice(&octets.to_le_bytes());
    assert_eq!(MessageView::decode(&payload).unwrap().recipients, RECIPIENTS);
    let mut settlement = settlement();
    settlement[12] = 200;
    assert_eq!(Fact::decode_all(&settlement).unwrap(), facts()[1..]);
}

#[test]
fn the_newer_of_two_slots_is_the_truth_and_one_of_them_is_enough() {
    let older = StoreFile { sequence: 6, ..STORE_FILE };
    let newer = StoreFile { sequence: 7, ..STORE_FILE };
    assert_eq!((older.slot(), newer.slot()), (0, BLOCK_OCTETS as u64));
    let mut file = [older.encode(), newer.encode()].concat();
    assert_eq!(StoreFile::decode(&file), Some(newer));
    file[BLOCK_OCTETS + 20] ^= 1;
    assert_eq!(StoreFile::decode(&file), Some(older));
    file[20] ^= 1;
    assert_eq!(StoreFile::decode(&file), None);
}

#[test]
fn domains_are_ranges_of_ordinals() {
    assert_eq!(domain_groups(&RECIPIENTS), [("one.test", 0, 2), ("two.test", 2, 1)]);
    assert_eq!(domain_groups(&[]), []);
    assert_eq!((domain_of("\"a@b\"@c.test"), domain_of("postmaster")), ("c.test", ""));
}

#[test]
fn a_notice_names_its_units() {
    let notice = NoticeOf {
        domain: "one.test".into(),
        stamp: Stamp(0x0102),
        ordinals: vec![0, 2],
        outcome: Outcome::Bounced,
    };
    let payload = message(Extensions { notice: Some(notice.clone()), ..Extensions::NONE });
    let value = b"\x0e\0\x17\0\x02\x01\0\0\0\0\0\0\x02\x02\0\0\0\x02\0one.test";
    assert!(payload.windows(value.len()).any(|window| window == value), "{payload:02x?}");
    let view = MessageView::decode(&payload).expect("a message");
    assert_eq!(view.extensions.notice, Some(notice));
    assert_eq!(view.extensions.detached(), view.extensions);
}
