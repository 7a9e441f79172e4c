//! The texts that bodies are cut from, made once: a message costs no work that grows with its size.
//!
//! The content is made to be hard on servers: lines from nothing to 998 octets, and lines of dots. Each text is held as it is and
//! dot-stuffed, with an index of its lines, so the body of any size is the text so many times and then its first lines, by
//! whole lines; and the CRC32 of such a body is known without reading it.

use std::sync::Arc;

use crc32fast::Hasher;
use stratamx_tools::draw::Random;

/// Longest line without its CRLF (RFC 5321 4.5.3.1.6).
pub(crate) const LINE_OCTETS_MAX: usize = 998;
/// Length of a text; larger bodies repeat it.
const TEXT_OCTETS_MAX: usize = 1 << 20;
/// So many texts there are: neighbours differ in every line.
const TEXTS: u64 = 8;

/// One text.
#[derive(Debug, Default)]
pub(crate) struct Text {
    plain: Vec<u8>,
    stuffed: Vec<u8>,
    lines: Vec<LineEnd>,
}

/// Where a line ends, and the CRC32 of all that is before.
#[derive(Clone, Copy, Debug, Default)]
struct LineEnd {
    plain: usize,
    stuffed: usize,
    crc32: u32,
}

/// A body: the text `times` times, and its lines up to an end.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    text: Arc<Text>,
    times: usize,
    end: LineEnd,
}

/// All texts of a run.
#[derive(Clone, Debug)]
pub(crate) struct Texts(Vec<Arc<Text>>);

impl Texts {
    /// For bodies of at most so many octets.
    pub(crate) fn new(seed: u64, octets_max: u64) -> Self {
        let octets = usize::try_from(octets_max).unwrap_or(usize::MAX).min(TEXT_OCTETS_MAX);
        Self((0..TEXTS).map(|number| Arc::new(Text::new(&mut Random::new(seed, number), octets))).collect())
    }

    /// A body of whole lines with at most `octets` octets, not much less.
    pub(crate) fn body(&self, number: u64, octets: usize) -> Body {
        let text = &self.0[usize::try_from(number % TEXTS).expect("a few texts")];
        let (times, rest) = if text.plain.is_empty() {
            (0, 0)
        } else {
            (octets / text.plain.len(), octets % text.plain.len())
        };
        let lines = text.lines.partition_point(|line| line.plain <= rest);
        let end = lines.checked_sub(1).map_or(LineEnd::default(), |last| text.lines[last]);
        Body { text: Arc::clone(text), times, end }
    }
}

impl Text {
    fn new(random: &mut Random, octets: usize) -> Self {
        let (mut text, mut hasher) = (Self::default(), Hasher::new());
        while text.plain.len() < octets {
            let start = text.plain.len();
            append_line(&mut text.plain, line_length(random), random);
            let line = &text.plain[start..];
            // RFC 5321 4.5.2: a line that begins with a dot gets another one.
            if line.starts_with(b".") {
                text.stuffed.push(b'.');
            }
            text.stuffed.extend_from_slice(line);
            hasher.update(line);
            let crc32 = hasher.clone().finalize();
            text.lines.push(LineEnd { plain: text.plain.len(), stuffed: text.stuffed.len(), crc32 });
        }
        text
    }
}

impl Body {
    /// Octets, unstuffed.
    pub(crate) fn octets(&self) -> usize {
        self.times * self.text.plain.len() + self.end.plain
    }

    /// The pieces of the body in their order.
    pub(crate) fn pieces(&self, stuffed: bool) -> impl Iterator<Item = &[u8]> {
        let whole = if stuffed { &self.text.stuffed } else { &self.text.plain };
        let end = if stuffed { self.end.stuffed } else { self.end.plain };
        core::iter::repeat_n(&whole[..], self.times).chain(core::iter::once(&whole[..end]))
    }

    /// Goes on with a checksum.
    pub(crate) fn hash(&self, hasher: &mut Hasher) {
        let whole = self.text.lines.last().copied().unwrap_or_default();
        for end in core::iter::repeat_n(whole, self.times).chain([self.end]) {
            hasher.combine(&Hasher::new_with_initial_len(end.crc32, end.plain as u64));
        }
    }
}

/// Mostly lines as people write them, some empty, some as long as they may be.
fn line_length(random: &mut Random) -> usize {
    let range = match random.draw() % 16 {
        0 => 0..=0,
        1 => 1..=3,
        2 => 200..=LINE_OCTETS_MAX as u64 - 1,
        _ => 20..=78,
    };
    usize::try_from(random.within(&range)).expect("a line is short")
}

fn append_line(content: &mut Vec<u8>, length: usize, random: &mut Random) {
    let dots = if random.draw().is_multiple_of(8) { length.min(1 + (random.draw() % 3) as usize) } else { 0 };
    content.extend((0..dots).map(|_| b'.'));
    let letters = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .";
    let mut left = length - dots;
    while left > 0 {
        let word = random.draw().to_le_bytes();
        content.extend(word.iter().take(left).map(|octet| letters[usize::from(*octet) % letters.len()]));
        left = left.saturating_sub(word.len());
    }
    content.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_whole_lines_and_their_checksum_is_that_of_their_octets() {
        let texts = Texts::new(7, 50_000);
        let (mut dots, mut empty, mut long) = (0, 0, 0);
        for (number, octets) in
            [0, 1, 2, 500, 10_240, 49_999, 50_000, 130_000, 700_001].into_iter().enumerate()
        {
            let body = texts.body(number as u64, octets);
            let plain: Vec<u8> = body.pieces(false).flatten().copied().collect();
            assert_eq!(plain.len(), body.octets());
            assert!(plain.len() <= octets && octets - plain.len() <= LINE_OCTETS_MAX + 2, "{octets}");
            let mut hasher = Hasher::new();
            body.hash(&mut hasher);
            assert_eq!(hasher.finalize(), crc32fast::hash(&plain));
            let stuffed: Vec<u8> = body.pieces(true).flatten().copied().collect();
            let lines: Vec<&[u8]> = stuffed.split_inclusive(|octet| *octet == b'\n').collect();
            assert!(lines.iter().all(|line| line.ends_with(b"\r\n") && line.len() <= LINE_OCTETS_MAX + 3));
            assert!(lines.iter().all(|line| !line.starts_with(b".") || line.starts_with(b"..")));
            let unstuffed = lines.iter().flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied();
            assert_eq!(unstuffed.collect::<Vec<u8>>(), plain);
            dots += lines.iter().filter(|line| line.starts_with(b"..")).count();
            empty += lines.iter().filter(|line| **line == b"\r\n").count();
            long += lines.iter().filter(|line| line.len() > 500).count();
        }
        assert!(dots > 50 && empty > 100 && long > 50, "{dots} {empty} {long}");
    }

    #[test]
    fn neighbours_differ() {
        let texts = Texts::new(1, 10_000);
        let head = |number| {
            texts.body(number, 5_000).pieces(false).flatten().copied().take(2_000).collect::<Vec<u8>>()
        };
        assert_ne!(head(0), head(1));
        assert_eq!(head(0), head(TEXTS));
    }
}
