//! Mail data that comes by BDAT (RFC 3030), and the transform to how DATA would have brought it.
//!
//! A chunk says its octets, so nothing in it ends it: [`ChunkScanner`] only judges. What it judges is what
//! `data` judges: only CRLF ends a line (H46: a bare LF that came by BDAT would smuggle where it leaves by
//! DATA), the size counts, a NUL is data. A CRLF may lie across two chunks, and an octet stream is the same
//! message however it is cut.
//!
//! [`DotStuffer`] makes of good chunks what DATA would have brought (RFC 5321 4.5.2): there is one stored form, which
//! every reader knows. A last line without a line end gets one, and that is recorded, since the message had none.
//!
//! [`DotUnstuffer`] is the way back, for what was stored and leaves by BDAT.
//!
//! Invariant: stuffed octets, and a `.` CRLF behind them, pass the scanner of `data` with the same summary.

use memchr::{memchr, memchr2_iter, memmem};

use crate::smtp::data::{DataFault, DataSummary, Transfer};
use crate::smtp::glance::plain_head;

/// Follows one message through its chunks. Small, so that it is handed from state to state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkScanner {
    octets: u64,
    dotted_lines: u64,
    has_8bit: bool,
    has_nul: bool,
    has_bare_line_end: bool,
    place: Place,
}

/// Behind which octet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// A CRLF, or none at all.
    #[default]
    LineStart,
    /// A CR that may begin a CRLF.
    Return,
    /// Any other.
    Inside,
}

impl ChunkScanner {
    /// Judges the next octets. False: the message has a fault, and they need not be kept.
    pub fn scan(&mut self, span: &[u8]) -> bool {
        self.octets += span.len() as u64;
        if self.has_bare_line_end {
            return false;
        }
        let mut rest = span;
        while !rest.is_empty() {
            rest = &rest[self.skip_plain(rest)..];
            let (piece, behind) = rest.split_at(rest.len().min(PIECE_OCTETS));
            self.has_8bit = self.has_8bit || !piece.is_ascii();
            self.has_nul = self.has_nul || memchr(0, piece).is_some();
            self.follow_lines(piece);
            rest = behind;
        }
        !self.has_bare_line_end
    }

    /// As much as one glance shows to be plain.
    fn skip_plain(&mut self, rest: &[u8]) -> usize {
        let may_glance = match rest {
            [b'.', ..] => self.place == Place::Inside,
            [b'\n', ..] => false,
            _ => self.place != Place::Return,
        };
        if !may_glance {
            return 0;
        }
        let (octets, seen) = plain_head(rest);
        self.has_8bit |= seen.has_8bit;
        self.has_nul |= seen.has_nul;
        self.note_place(&rest[..octets]);
        octets
    }

    /// Octets so far.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// What all chunks amount to, once the last one is over: the summary is that of the stored form.
    pub fn verdict(&self) -> Result<DataSummary, DataFault> {
        if self.has_bare_line_end || self.place == Place::Return {
            return Err(DataFault::BareLineEnd);
        }
        let line_end_added = self.place == Place::Inside;
        let unstuffed_octets = self.octets + if line_end_added { 2 } else { 0 };
        Ok(DataSummary {
            stored_octets: unstuffed_octets + self.dotted_lines,
            unstuffed_octets,
            stuffed_lines: self.dotted_lines,
            has_8bit: self.has_8bit,
            has_nul: self.has_nul,
            transfer: Transfer::Bdat { line_end_added },
        })
    }

    /// Looks at each CR and LF and its neighbours.
    fn follow_lines(&mut self, span: &[u8]) {
        let Some(first) = span.first() else { return };
        match (self.place, first) {
            (Place::Return, b'\n') => {}
            (Place::Return, _) => self.has_bare_line_end = true,
            (Place::LineStart, b'.') => self.dotted_lines += 1,
            _ => {}
        }
        for at in memchr2_iter(b'\r', b'\n', span) {
            let before = at.checked_sub(1).map(|before| span[before]);
            let is_paired = match (span[at], before, span.get(at + 1)) {
                (b'\r', _, Some(b'\n') | None) => true,
                (b'\r', _, Some(_)) => false,
                (_, Some(before), _) => before == b'\r',
                (_, None, _) => self.place == Place::Return,
            };
            self.has_bare_line_end |= !is_paired;
            if span[at] == b'\n' && span.get(at + 1) == Some(&b'.') {
                self.dotted_lines += 1;
            }
        }
        self.note_place(span);
    }

    /// These octets are judged.
    fn note_place(&mut self, octets: &[u8]) {
        self.place = match octets.last() {
            None => return,
            Some(b'\n') => Place::LineStart,
            Some(b'\r') => Place::Return,
            Some(_) => Place::Inside,
        };
    }
}

/// Octets that are looked at line by line before the next glance.
const PIECE_OCTETS: usize = 512;

/// Stuffs dots into a body that comes in pieces (RFC 5321 4.5.2). Only for octets whose lines end with CRLF.
#[derive(Clone, Copy, Debug)]
pub struct DotStuffer {
    at_line_start: bool,
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self { at_line_start: true }
    }
}

impl DotStuffer {
    /// Appends the next piece to `out`.
    pub fn stuff(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Some(last) = piece.last() else { return };
        if self.at_line_start && piece[0] == b'.' {
            out.push(b'.');
        }
        let mut rest = piece;
        while let Some(found) = memmem::find(rest, b"\n.") {
            let (line, behind) = rest.split_at(found + 1);
            out.extend_from_slice(line);
            out.push(b'.');
            rest = behind;
        }
        out.extend_from_slice(rest);
        self.at_line_start = *last == b'\n';
    }

    /// The end of the body: a last line without an end gets one.
    pub fn finish(self, out: &mut Vec<u8>) {
        if !self.at_line_start {
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Takes out the dots that stuffing put in, of data that comes in pieces: of a line that begins with a dot the first octet.
#[derive(Clone, Copy, Debug)]
pub struct DotUnstuffer {
    at_line_start: bool,
}

impl Default for DotUnstuffer {
    fn default() -> Self {
        Self { at_line_start: true }
    }
}

impl DotUnstuffer {
    /// Octets that are taken out of a whole body.
    pub fn dots(body: &[u8]) -> usize {
        usize::from(body.starts_with(b".")) + memmem::find_iter(body, b"\n.").count()
    }

    /// Appends what the next piece stands for to `out`.
    pub fn unstuff(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Some(last) = piece.last() else { return };
        let mut rest = piece;
        if self.at_line_start && piece[0] == b'.' {
            rest = &rest[1..];
        }
        while let Some(found) = memmem::find(rest, b"\n.") {
            out.extend_from_slice(&rest[..=found]);
            rest = &rest[found + 2..];
        }
        out.extend_from_slice(rest);
        self.at_line_start = *last == b'\n';
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::smtp::data::{DATA_END, DataScan, DataScanner};

    fn cut<'a>(data: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
        places.extend([0, data.len()]);
        places.sort_unstable();
        places.windows(2).map(|pair| &data[pair[0]..pair[1]]).collect()
    }

    fn scanned<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<DataSummary, DataFault> {
        let mut scanner = ChunkScanner::default();
        for piece in pieces {
            scanner.scan(piece);
        }
        scanner.verdict()
    }

    fn stuffed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let (mut stuffer, mut out) = (DotStuffer::default(), Vec::new());
        for piece in pieces {
            stuffer.stuff(piece, &mut out);
        }
        stuffer.finish(&mut out);
        out
    }

    /// The naive judge: looks at single octets and their neighbours only.
    fn has_bare_line_end(data: &[u8]) -> bool {
        (0..data.len()).any(|index| match data[index] {
            b'\r' => data.get(index + 1) != Some(&b'\n'),
            b'\n' => index == 0 || data[index - 1] != b'\r',
            _ => false,
        })
    }

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![
            4 => Just(b'.'), 3 => Just(b'\r'), 3 => Just(b'\n'), 4 => Just(b'a'), 1 => Just(0), 1 => Just(0xe9)
        ];
        prop::collection::vec(octet, 0..60)
    }

    /// Mostly whole lines, the last one perhaps not.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![Just(b'.'), Just(b'a'), Just(0), Just(0xff)];
        let line = prop::collection::vec(octet, 0..6);
        (prop::collection::vec(line.clone(), 0..12), line)
            .prop_map(|(lines, last)| [lines.join(&b"\r\n"[..]), b"\r\n".to_vec(), last].concat())
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_verdict(
            data in octets(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let expected = if has_bare_line_end(&data) { Err(DataFault::BareLineEnd) } else { scanned([&data[..]]) };
            prop_assert_eq!(scanned([&data[..]]), expected);
            prop_assert_eq!(scanned(cut(&data, &cuts)), expected);
            prop_assert_eq!(scanned(data.chunks(1)), expected);
        }

        /// H46: what leaves by DATA is one message, ends where it should, and is the body that came by BDAT.
        #[test]
        fn h46_stuffed_chunks_are_what_data_would_have_brought(
            body in body(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let summary = scanned(cut(&body, &cuts)).expect("a good body");
            let stored = stuffed(cut(&body, &cuts));
            prop_assert_eq!(&stored, &stuffed([&body[..]]));
            prop_assert_eq!(&stored, &stuffed(body.chunks(1)));
            let mut wire = [&stored[..], b".\r\nQUIT\r\n"].concat();
            let mut scanner = DataScanner::new(u64::MAX);
            let mut unstuffed = Vec::new();
            while let DataScan::Span(octets) = scanner.scan(&wire) {
                unstuffed.extend(wire.drain(..octets));
            }
            prop_assert_eq!(&wire[DATA_END..], b"QUIT\r\n");
            prop_assert_eq!(&unstuffed, &stored);
            prop_assert_eq!(scanner.verdict().map(|found| DataSummary { transfer: summary.transfer, ..found }), Ok(summary));
            for pieces in [vec![&stored[..]], stored.chunks(1).collect(), cut(&stored, &cuts)] {
                let (mut unstuffer, mut out) = (DotUnstuffer::default(), Vec::new());
                pieces.iter().for_each(|piece| unstuffer.unstuff(piece, &mut out));
                let added = if summary.transfer == (Transfer::Bdat { line_end_added: true }) { 2 } else { 0 };
                prop_assert_eq!(&out[..out.len() - added], &body[..]);
                prop_assert_eq!(stored.len() - out.len(), DotUnstuffer::dots(&stored));
            }
            // What a receiver takes out again.
            let mut received = Vec::new();
            for (index, octet) in stored.iter().enumerate() {
                if *octet != b'.' || !(index == 0 || stored[..index].ends_with(b"\r\n")) {
                    received.push(*octet);
                }
            }
            let line_end_added = summary.transfer == Transfer::Bdat { line_end_added: true };
            let expected = [&body[..], if line_end_added { b"\r\n" } else { b"" }].concat();
            prop_assert_eq!(received, expected);
            prop_assert_eq!(line_end_added, !body.is_empty() && !body.ends_with(b"\r\n"));
        }
    }

    #[test]
    fn bare_line_ends_are_faults_wherever_chunks_end() {
        for pieces in [
            &[&b"a\n"[..]][..],
            &[b"a\r"],
            &[b"a\r", b"b\r\n"],
            &[b"a", b"\n"],
            &[b"\n"],
            &[b"a\r\r\n"],
            &[b"\r\n.\n\r\n"],
        ] {
            assert_eq!(scanned(pieces.iter().copied()), Err(DataFault::BareLineEnd), "{pieces:?}");
        }
        assert!(scanned([&b"a\r"[..], b"", b"\nb"]).is_ok());
    }

    #[test]
    fn nothing_at_all_is_a_message_of_no_octets() {
        let summary = scanned([]).unwrap();
        assert_eq!((summary.stored_octets, summary.transfer), (0, Transfer::Bdat { line_end_added: false }));
        assert_eq!(stuffed([]), b"");
    }
}
