//! What the blaster sends: every octet follows from the seed and the number of the message.
//!
//! ```text
//!   head   X-Blaster-Id and the other fields, the empty line; every eighth message: a line with octets from 0x80 up
//!   body   whole lines of a text that is made once (`body`)
//!   tail   filler up to the octet, and a last line with the id again: a message that was put together from two is told
//! ```
//! Head and tail are made for each message, a few hundred octets; the body is only pointed at.

use std::ops::RangeInclusive;

use crc32fast::Hasher;
use stratamx_tools::draw::{Random, Zipf};
use stratamx_tools::fingerprint::ID_FIELD;

use crate::body::{Body, LINE_OCTETS_MAX, Texts};

/// Every n-th message has octets from 0x80 up.
const EIGHT_BIT_EVERY: u64 = 8;
/// `realistic`: half of the messages are smaller.
const REALISTIC_MEDIAN: f64 = 4634.0;
/// `realistic`: the deviation of the logarithm.
const REALISTIC_DEVIATION: f64 = 2.256;
/// `realistic` is cut there: what large providers take.
const REALISTIC_MAX: f64 = 25.0 * 1024.0 * 1024.0;

/// How large messages are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// Each size of a range is as likely.
    Range(RangeInclusive<u64>),
    /// Log-normal, with a median of 4.5 KiB and a deviation of 2.256: a quarter below 1 KiB, 90 % below 82 KiB, 99 % below
    /// 0.9 MiB; the mean is near 55 KiB. Fitted by least squares to the cumulative sizes of a provider's mail that were published on
    /// the FreeBSD net list in October 2002 (half below 4 KiB, 90 % below 64 KiB, 98 % below 1 MiB).
    Realistic,
}

/// What the messages of a run have in common.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) run: String,
    pub(crate) seed: u64,
    pub(crate) sizes: Sizes,
    pub(crate) texts: Texts,
    pub(crate) recipient_domain: String,
    pub(crate) recipients_per_message: u64,
    /// Number of mailboxes that recipients are drawn from.
    pub(crate) mailboxes: Zipf,
    /// Mailboxes at least as many as recipients of a message.
    pub(crate) pool: u64,
    /// Domains; none: the recipient domain alone.
    pub(crate) domains: Option<Zipf>,
}

/// One message, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) reverse_path: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Body,
    pub(crate) tail: Vec<u8>,
    pub(crate) has_8bit: bool,
}

impl Sizes {
    /// No body is larger.
    pub(crate) fn max(&self) -> u64 {
        match self {
            Self::Range(range) => *range.end(),
            // The text is repeated for the few that are larger.
            Self::Realistic => 1 << 20,
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is cut at both ends")]
    fn draw(&self, random: &mut Random) -> u64 {
        match self {
            Self::Range(range) => random.within(range),
            Self::Realistic => {
                let size = REALISTIC_MEDIAN * (REALISTIC_DEVIATION * random.normal()).exp();
                size.clamp(0.0, REALISTIC_MAX) as u64
            }
        }
    }
}

impl Plan {
    /// The message of a number.
    pub(crate) fn message(&self, number: u64) -> Message {
        let mut random = Random::new(self.seed, number);
        let id = format!("{}-{number}", self.run);
        let recipients = self.recipients(&mut random);
        let has_8bit = number % EIGHT_BIT_EVERY == EIGHT_BIT_EVERY - 1;
        let head = head(&id, recipients.first().map_or("", String::as_str), has_8bit);
        let size = usize::try_from(self.sizes.draw(&mut random)).unwrap_or(usize::MAX);
        let last = last_line(&id);
        // A message that has no room for a body has no tail either.
        let room = size.saturating_sub(head.len() + last.len());
        let body = self.texts.body(number, room);
        let tail = if room > 0 { tail(room - body.octets(), last) } else { Vec::new() };
        Message { reverse_path: format!("{id}@blaster.test"), id, recipients, head, body, tail, has_8bit }
    }

    /// Distinct mailboxes of one domain; neighbours in the pool, so that messages share some of them.
    fn recipients(&self, random: &mut Random) -> Vec<String> {
        let first = self.mailboxes.draw(random);
        let domain = match &self.domains {
            Some(domains) => format!("d{:04}.{}", domains.draw(random) + 1, self.recipient_domain),
            None => self.recipient_domain.clone(),
        };
        let mailbox = |offset| format!("user{}@{domain}", (first + offset) % self.pool);
        (0..self.recipients_per_message).map(mailbox).collect()
    }
}

impl Message {
    /// Octets, unstuffed.
    pub(crate) fn octets(&self) -> u64 {
        (self.head.len() + self.body.octets() + self.tail.len()) as u64
    }

    /// CRC32, unstuffed.
    pub(crate) fn crc32(&self) -> u32 {
        let mut hasher = Hasher::new();
        hasher.update(&self.head);
        self.body.hash(&mut hasher);
        hasher.update(&self.tail);
        hasher.finalize()
    }
}

/// No line of it begins with a dot.
fn head(id: &str, to: &str, has_8bit: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    let (encoding, line) = if has_8bit { ("8bit", "Größe\r\n") } else { ("7bit", "") };
    for piece in [
        ID_FIELD,
        ": ",
        id,
        "\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nFrom: Blaster <",
        id,
        "@blaster.test>\r\nTo: <",
        to,
        ">\r\nSubject: message ",
        id,
        "\r\nMessage-ID: <",
        id,
        "@blaster.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: ",
        encoding,
        "\r\n\r\n",
        line,
    ] {
        head.extend_from_slice(piece.as_bytes());
    }
    head
}

/// It begins with no dot, whatever the name of the run.
fn last_line(id: &str) -> String {
    format!("-- {id}\r\n")
}

/// Exactly `filler` octets and the last line.
fn tail(mut filler: usize, last: String) -> Vec<u8> {
    let mut tail = Vec::with_capacity(filler + last.len());
    while filler >= 2 {
        let length = (filler - 2).min(LINE_OCTETS_MAX);
        tail.extend(core::iter::repeat_n(b'x', length));
        tail.extend_from_slice(b"\r\n");
        filler -= length + 2;
    }
    // One octet could be no line of its own.
    tail.extend(core::iter::repeat_n(b'x', filler));
    tail.extend_from_slice(last.as_bytes());
    tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use stratamx_tools::fingerprint::Fingerprint;

    fn plan(sizes: Sizes, domains: u64, zipf: f64) -> Plan {
        Plan {
            run: "run".to_owned(),
            seed: 7,
            texts: Texts::new(7, sizes.max()),
            sizes,
            recipient_domain: "example.test".to_owned(),
            recipients_per_message: 3,
            mailboxes: Zipf::new(10, zipf),
            pool: 10,
            domains: (domains > 1).then(|| Zipf::new(domains, zipf)),
        }
    }

    fn whole(message: &Message) -> Vec<u8> {
        let body: Vec<u8> = message.body.pieces(false).flatten().copied().collect();
        [&message.head[..], &body, &message.tail].concat()
    }

    #[test]
    fn the_seed_and_the_number_decide_everything() {
        let plan = plan(Sizes::Range(2000..=20_000), 1, 0.0);
        assert_eq!(whole(&plan.message(5)), whole(&plan.message(5)));
        assert_ne!(plan.message(5).crc32(), plan.message(6).crc32());
        let other = Plan { seed: 8, texts: Texts::new(8, 20_000), ..plan.clone() };
        assert_ne!(other.message(5).crc32(), plan.message(5).crc32());
    }

    #[test]
    fn a_message_is_what_it_says_it_is() {
        let range = 2_000..=30_000;
        let plan = plan(Sizes::Range(range.clone()), 1, 0.0);
        let mut eight_bit = 0;
        for number in 0..64 {
            let message = plan.message(number);
            let content = whole(&message);
            assert!(range.contains(&message.octets()));
            let lines: Vec<&[u8]> = content.split_inclusive(|octet| *octet == b'\n').collect();
            assert!(lines.iter().all(|line| line.ends_with(b"\r\n") && line.len() <= 1000));
            let ours = [&message.head[..], &message.tail].concat();
            assert!(ours.split(|octet| *octet == b'\n').all(|line| !line.starts_with(b".")), "never stuffed");
            let fingerprint = Fingerprint::of(&content);
            assert_eq!(fingerprint.id.as_deref(), Some(message.id.as_str()));
            assert_eq!((fingerprint.octets, fingerprint.crc32), (message.octets(), message.crc32()));
            assert_eq!(message.has_8bit, !content.is_ascii());
            // One octet of filler may be in front: it could be no line of its own.
            assert!(
                lines.last().is_some_and(|last| last.ends_with(format!("-- run-{number}\r\n").as_bytes()))
            );
            eight_bit += usize::from(message.has_8bit);
        }
        assert_eq!(eight_bit, 8);
    }

    #[test]
    fn sizes_are_met_to_the_octet() {
        for size in (1_000..3_200).chain([1_234_567]) {
            assert_eq!(plan_of(size).message(7).octets(), size);
        }
        assert!(plan_of(0).message(1).octets() < 500);
    }

    fn plan_of(size: u64) -> Plan {
        Plan { texts: Texts::new(7, 1_500), ..plan(Sizes::Range(size..=size), 1, 0.0) }
    }

    #[test]
    fn realistic_sizes_are_as_published() {
        let mut random = Random::new(1, 0);
        let mut sizes: Vec<u64> = (0..50_000).map(|_| Sizes::Realistic.draw(&mut random)).collect();
        sizes.sort_unstable();
        let quantile = |percent: usize| sizes[sizes.len() * percent / 100];
        assert!((4_400..4_900).contains(&quantile(50)), "{}", quantile(50));
        assert!((75_000..93_000).contains(&quantile(90)), "{}", quantile(90));
        assert!(sizes.last().is_some_and(|size| *size <= 25 << 20));
    }

    #[test]
    fn recipients_are_distinct_mailboxes_of_one_domain() {
        let message = plan(Sizes::Range(0..=0), 1, 0.0).message(3);
        let mut recipients = message.recipients.clone();
        recipients.sort();
        recipients.dedup();
        assert_eq!(recipients.len(), 3);
        assert!(recipients.iter().all(|recipient| recipient.ends_with("@example.test")));
    }

    #[test]
    fn popular_domains_get_more() {
        let plan = plan(Sizes::Range(0..=0), 50, 1.1);
        let count = |name: &str| {
            (0..2000)
                .filter(|number| {
                    plan.message(*number).recipients[0].ends_with(&format!("@{name}.example.test"))
                })
                .count()
        };
        let (first, last) = (count("d0001"), count("d0050"));
        assert!(first > 10 * last.max(1) && first < 1000, "{first} {last}");
    }
}
