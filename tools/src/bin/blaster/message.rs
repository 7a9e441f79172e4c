//! What the blaster sends: every octet follows from the seed and the number of the message.
//!
//! The content is made to be hard on servers: lines from nothing to 998 octets, lines of dots, octets from 0x80
//! up in every eighth message.

use std::ops::RangeInclusive;

use stratamx_tools::fingerprint::ID_FIELD;

/// Longest line without its CRLF (RFC 5321 4.5.3.1.6).
const LINE_OCTETS_MAX: u64 = 998;
/// Every n-th message has octets from 0x80 up.
const EIGHT_BIT_EVERY: u64 = 8;

/// What the messages of a run have in common.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) run: String,
    pub(crate) seed: u64,
    pub(crate) size: RangeInclusive<u64>,
    pub(crate) recipient_domain: String,
    pub(crate) recipients_per_message: u64,
    /// Number of mailboxes that recipients are drawn from.
    pub(crate) mailboxes: u64,
}

/// One message, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) reverse_path: String,
    pub(crate) recipients: Vec<String>,
    /// Dot-stuffed, without the terminator.
    pub(crate) stuffed: Vec<u8>,
    /// Octets unstuffed.
    pub(crate) octets: u64,
    /// CRC32 unstuffed.
    pub(crate) crc32: u32,
    pub(crate) has_8bit: bool,
}

impl Plan {
    /// The message of a number.
    pub(crate) fn message(&self, number: u64) -> Message {
        let mut random = Random::new(self.seed, number);
        let id = format!("{}-{number}", self.run);
        let recipients = self.recipients(&mut random);
        let has_8bit = number % EIGHT_BIT_EVERY == EIGHT_BIT_EVERY - 1;
        let size = random.within(&self.size);
        let content = content(&id, &recipients, size, has_8bit, &mut random);
        Message {
            reverse_path: format!("{id}@blaster.test"),
            id,
            recipients,
            stuffed: stuff(&content),
            octets: content.len() as u64,
            crc32: crc32fast::hash(&content),
            has_8bit,
        }
    }

    /// Distinct mailboxes; neighbours in the pool, so that messages share some of them.
    fn recipients(&self, random: &mut Random) -> Vec<String> {
        let pool = self.mailboxes.max(self.recipients_per_message);
        let first = random.within(&(0..=pool - 1));
        let mailbox = |offset| format!("user{}@{}", (first + offset) % pool, self.recipient_domain);
        (0..self.recipients_per_message).map(mailbox).collect()
    }
}

/// A message of `size` octets, or a little more when the header alone is larger.
fn content(id: &str, recipients: &[String], size: u64, has_8bit: bool, random: &mut Random) -> Vec<u8> {
    let to = recipients.first().map_or("", String::as_str);
    let encoding = if has_8bit { "8bit" } else { "7bit" };
    let mut content = format!(
        "{ID_FIELD}: {id}\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nFrom: Blaster <{id}@blaster.test>\r\n\
         To: <{to}>\r\nSubject: message {id}\r\nMessage-ID: <{id}@blaster.test>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    .into_bytes();
    if has_8bit {
        content.extend_from_slice("Größe\r\n".as_bytes());
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    while content.len() + 2 <= size {
        let room = (size - content.len() - 2) as u64;
        let mut length = random.line_length().min(room);
        // One octet left over could be no line of its own.
        if room - length == 1 {
            length = room;
        }
        append_line(&mut content, length, random);
    }
    content
}

fn append_line(content: &mut Vec<u8>, length: u64, random: &mut Random) {
    let dots = if random.next().is_multiple_of(8) { length.min(1 + random.next() % 3) } else { 0 };
    content.extend((0..dots).map(|_| b'.'));
    let letters = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .";
    let mut left = length - dots;
    while left > 0 {
        let word = random.next().to_le_bytes();
        let take = word.iter().take(usize::try_from(left).unwrap_or(word.len()));
        content.extend(take.map(|octet| letters[usize::from(*octet) % letters.len()]));
        left = left.saturating_sub(word.len() as u64);
    }
    content.extend_from_slice(b"\r\n");
}

/// RFC 5321 4.5.2: a line that begins with a dot gets another one.
fn stuff(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(content.len() + content.len() / 64);
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    stuffed
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64, number: u64) -> Self {
        let mut random = Self(seed);
        let start = random.next() ^ number;
        Self(start)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    /// Mostly lines as people write them, some empty, some as long as they may be.
    fn line_length(&mut self) -> u64 {
        match self.next() % 16 {
            0 => 0,
            1 => self.within(&(1..=3)),
            2 => self.within(&(200..=LINE_OCTETS_MAX - 1)),
            _ => self.within(&(20..=78)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stratamx_tools::fingerprint::Fingerprint;

    fn plan(size: RangeInclusive<u64>) -> Plan {
        Plan {
            run: "run".to_owned(),
            seed: 7,
            size,
            recipient_domain: "example.test".to_owned(),
            recipients_per_message: 3,
            mailboxes: 10,
        }
    }

    #[test]
    fn the_seed_and_the_number_decide_everything() {
        let plan = plan(1000..=20_000);
        assert_eq!(plan.message(5), plan.message(5));
        assert_ne!(plan.message(5).stuffed[300..], plan.message(6).stuffed[300..]);
        assert_ne!(Plan { seed: 8, ..plan.clone() }.message(5).crc32, plan.message(5).crc32);
    }

    #[test]
    fn a_message_is_what_it_says_it_is() {
        let plan = plan(2_000..=30_000);
        let (mut dots, mut empty, mut long, mut eight_bit) = (0, 0, 0, 0);
        for number in 0..64 {
            let message = plan.message(number);
            assert!(plan.size.contains(&message.octets));
            let lines: Vec<&[u8]> = message.stuffed.split_inclusive(|octet| *octet == b'\n').collect();
            assert!(lines.iter().all(|line| line.ends_with(b"\r\n") && line.len() <= 1001));
            assert!(lines.iter().all(|line| !line.starts_with(b".") || line.starts_with(b"..")));
            let content: Vec<u8> =
                lines.iter().flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect();
            let fingerprint = Fingerprint::of(&content);
            assert_eq!(fingerprint.id.as_deref(), Some(message.id.as_str()));
            assert_eq!((fingerprint.octets, fingerprint.crc32), (message.octets, message.crc32));
            assert_eq!(message.has_8bit, !content.is_ascii());
            dots += lines.iter().filter(|line| line.starts_with(b"..")).count();
            empty += lines.iter().filter(|line| **line == b"\r\n").count();
            long += lines.iter().filter(|line| line.len() > 500).count();
            eight_bit += usize::from(message.has_8bit);
        }
        assert!(dots > 50 && empty > 100 && long > 50 && eight_bit == 8, "{dots} {empty} {long} {eight_bit}");
    }

    #[test]
    fn sizes_are_met_to_the_octet() {
        for size in 1_000..1_200 {
            assert_eq!(plan(size..=size).message(7).octets, size);
        }
        assert!(plan(0..=0).message(1).octets < 500);
    }

    #[test]
    fn recipients_are_distinct_mailboxes_of_the_pool() {
        let message = plan(0..=0).message(3);
        let mut recipients = message.recipients.clone();
        recipients.sort();
        recipients.dedup();
        assert_eq!(recipients.len(), 3);
        assert!(recipients.iter().all(|recipient| recipient.ends_with("@example.test")));
    }
}
