//! A message into its record in the memory of a batch, encoded, copied once and checksummed on the way; beside it an octet at a time through vectors
//! of its own. Both must make the same octets.

use crate::common::body_of;
use criterion::{Criterion, Throughput};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use storage::commit::{BATCH_OCTETS, Batch};
use storage::disk::Block;
use storage::format::checksum::Seed;
use storage::format::frame::{FRAME_HEADER_OCTETS, FrameHeader, FrameKind, PLAIN, frame_octets};
use storage::format::message::{DataFacts, Envelope, Extensions, Protocol, encode_head};
use storage::position::{Offset, QueueId, Salt, SegmentId, Stamp, UnixMillis};
use storage::segment::sealing::Sealing;

const SALT: Salt = Salt([7; 16]);
const SEGMENT: SegmentId = SegmentId(9);
const BASE: Offset = Offset(4096);
const TRACE: &[u8] = b"Received: from client.example ([127.0.0.1])\r\n\tby mx2.example.net with ESMTP\r\n\tid 00000000000000;\r\n";

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    for (size, octets) in [("1KiB", 1 << 10), ("10KiB", 10 << 10), ("100KiB", 100 << 10)] {
        let body = body_of(octets);
        group.throughput(Throughput::Bytes(BATCH_OCTETS as u64));
        group.bench_function(format!("size={size}/batch=full"), |bencher| {
            let (mut whole, mut naive) = (Whole::new(), Naive::new());
            let records = whole.fill(&body);
            assert_eq!(naive.fill(&body), records);
            assert!(whole.sealed() == naive.memory[..], "the same octets");
            bencher.iter(|| assert_eq!(whole.fill(black_box(&body)), records));
        });
        group.bench_function(format!("baseline=bytewise/size={size}/batch=full"), |bencher| {
            let mut naive = Naive::new();
            bencher.iter(|| naive.fill(black_box(&body)));
        });
    }
    group.finish();
}

fn envelope<'a>(recipients: &'a [&'a str]) -> Envelope<'a> {
    Envelope {
        reverse_path: "sender@example.org",
        recipients,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        helo: "client.example",
        protocol: Protocol::Esmtp,
        body_8bit: false,
        extensions: Extensions::NONE,
    }
}

fn encode(head: &mut Vec<u8>, body: &[u8]) {
    let octets = body.len() as u64;
    let facts = DataFacts { stored_octets: octets, unstuffed_octets: octets, ..DataFacts::default() };
    encode_head(head, &envelope(&["user@example.test"]), &facts, &[], TRACE, body.len());
}

fn header_of(number: u64) -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Message,
        payload_length: 0,
        stamp: Stamp(number + 1),
        received: UnixMillis(1_767_225_600_000),
        queue_id: QueueId(number + 1),
        durable_before: BASE,
        payload_checksum: 0,
        key_id: PLAIN,
        unit_base: 0,
    }
}

/// A batch that is filled, again and again in the same memory.
struct Whole {
    seed: Seed,
    head: Vec<u8>,
    batch: Batch<Memory>,
    spare: Option<Memory>,
}

struct Memory(Vec<u8>);

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Memory {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Block for Memory {
    fn truncate(&mut self, octets: usize) {
        self.0.truncate(octets);
    }
}

impl Whole {
    fn new() -> Self {
        let memory = Memory(vec![0; BATCH_OCTETS]);
        Self {
            seed: Seed::new(&SALT, SEGMENT),
            head: Vec::new(),
            batch: Batch::new(BASE),
            spare: Some(memory),
        }
    }

    /// As many messages as there is room for; how many.
    fn fill(&mut self, body: &[u8]) -> usize {
        if let Some(mut memory) = self.batch.seal() {
            memory.0.resize(BATCH_OCTETS, 0);
            self.spare = Some(memory);
        }
        self.batch = Batch::new(BASE);
        let seal = Sealing { seed: &self.seed, cipher: None };
        let mut records = 0;
        loop {
            encode(&mut self.head, body);
            if !self.batch.fits(self.head.len() + body.len(), u64::MAX) {
                return records;
            }
            let mut header = header_of(records as u64);
            let spare = &mut self.spare;
            let allocate = || spare.take().expect("one batch at a time");
            self.batch.push(allocate, &seal, &mut header, &[&self.head, body]);
            records += 1;
        }
    }

    fn sealed(&mut self) -> Vec<u8> {
        let used = usize::try_from(self.batch.next().0 - BASE.0).expect("a batch");
        let memory = self.batch.seal().expect("it is not empty");
        let octets = memory.0[..used].to_vec();
        self.spare = Some(Memory(vec![0; BATCH_OCTETS]));
        octets
    }
}

struct Naive {
    seed: Seed,
    seeded: Vec<u8>,
    memory: Vec<u8>,
}

impl Naive {
    fn new() -> Self {
        let seeded = [&SALT.0[..], &SEGMENT.0.to_le_bytes()].concat();
        Self { seed: Seed::new(&SALT, SEGMENT), seeded, memory: Vec::new() }
    }

    fn fill(&mut self, body: &[u8]) -> usize {
        self.memory = Vec::new();
        let mut records = 0;
        loop {
            let mut payload = Vec::new();
            encode(&mut payload, body);
            payload.extend(body.iter().copied());
            let octets = frame_octets(payload.len());
            if self.memory.len() + octets > BATCH_OCTETS {
                return records;
            }
            let offset = BASE.plus(self.memory.len() as u64);
            let mut header = header_of(records as u64);
            header.payload_length = u32::try_from(payload.len()).expect("a small message");
            header.payload_checksum = crc(self.seeded.iter().chain(&offset.0.to_le_bytes()).chain(&payload));
            self.memory.extend(header.encode(&self.seed, offset));
            for octet in &payload {
                self.memory.push(*octet);
            }
            let padding = octets - FRAME_HEADER_OCTETS - payload.len();
            self.memory.extend(vec![0; padding]);
            records += 1;
        }
    }
}

/// CRC32 (ISO-HDLC) by a table, an octet at a time.
fn crc<'a>(octets: impl Iterator<Item = &'a u8>) -> u32 {
    const TABLE: [u32; 256] = table();
    !octets.fold(!0_u32, |sum, octet| (sum >> 8) ^ TABLE[(sum.to_le_bytes()[0] ^ octet) as usize])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index: u32 = 0;
    while index < 256 {
        let mut sum = index;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xEDB8_8320 } else { sum >> 1 };
            bit += 1;
        }
        table[index as usize] = sum;
        index += 1;
    }
    table
}
