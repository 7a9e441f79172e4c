//! Mail data between the 354 and its true end (RFC 5321 4.1.1.4, 4.5.2).
//!
//! The scanner glances at the data in blocks, and goes by lines where a block has something; it hands out the data as it came, dot-stuffed, as a
//! count of octets at the head of the input. It starts as if after a CRLF, so that a body whose first line is
//! `.` ends at once. It may be stopped and resumed at any octet: a tail that cannot be judged yet (`.`, `.` CR
//! or CR) stays unconsumed, at most two octets.
//!
//! Only `CRLF . CRLF` ends the data. A bare CR or a bare LF anywhere is a fault of the message, found here and
//! answered after the true end, so that nothing behind such an octet is ever taken for commands. A fault is
//! sticky: from there on the data is [`DataScan::Swallow`]ed. A NUL is data, but not behind a dot that begins a line: who reads
//! lines as C strings takes that for the end (OpenSMTPD 6.8 does), and this data is handed on as it came. No sender that stuffs
//! dots sends it.
//!
//! Invariants: concatenated spans = what the client sent, without the final `.` CRLF; `unstuffed_octets` =
//! `stored_octets` - `stuffed_lines`; a good message is empty or ends with CRLF. Memory is a few counters;
//! no line is too long for it, only the whole message is bounded.

use memchr::{memchr, memchr2};

use crate::smtp::glance::plain_head;

/// What is known about the mail data at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataSummary {
    /// Octets as they came, dot-stuffed, without the terminator.
    pub stored_octets: u64,
    /// Octets of the message itself: RFC 1870 counts it so.
    pub unstuffed_octets: u64,
    /// Lines that begin with a dot which unstuffing removes.
    pub stuffed_lines: u64,
    /// An octet from 0x80 up is in it.
    pub has_8bit: bool,
    /// A NUL is in it.
    pub has_nul: bool,
    /// How it came.
    pub transfer: Transfer,
}

/// How mail data came. Stored is always what DATA has: dot-stuffed, the last line ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// By DATA.
    #[default]
    Data,
    /// By BDAT (RFC 3030).
    Bdat {
        /// The last line had no CRLF and is given one, which counts in the octets (H46).
        line_end_added: bool,
    },
}

/// Why the message must be refused at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataFault {
    /// A CR or LF that is not part of a CRLF.
    #[error("the message has a bare CR or a bare LF")]
    BareLineEnd,
    /// A line that begins with a dot and a NUL, which some servers take for the end of data.
    #[error("the message has a line that begins with a dot and a NUL")]
    DotNul,
    /// More octets than `max_message_size`.
    #[error("the message is too big")]
    TooBig,
}

/// What the head of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataScan {
    /// The terminator: [`DATA_END`] octets. The scanner is done.
    End,
    /// This many octets of mail data; 0 when more input is needed.
    Span(usize),
    /// This many octets to drop: the message has a fault.
    Swallow(usize),
}

/// Octets of the final `.` CRLF.
pub const DATA_END: usize = 3;

/// Follows one message through its data.
#[derive(Debug)]
pub struct DataScanner {
    octets_max: u64,
    at_line_start: bool,
    fault: Option<DataFault>,
    summary: DataSummary,
}

impl DataScanner {
    /// For a message of at most `octets_max` octets after unstuffing.
    pub fn new(octets_max: u64) -> Self {
        Self { octets_max, at_line_start: true, fault: None, summary: DataSummary::default() }
    }

    /// Judges the head of `input`, which starts where the last answer ended.
    pub fn scan(&mut self, input: &[u8]) -> DataScan {
        if self.at_line_start && input.starts_with(b".\r\n") {
            return DataScan::End;
        }
        let octets = self.advance(input);
        self.observe(&input[..octets]);
        match self.fault {
            None => DataScan::Span(octets),
            Some(_) => DataScan::Swallow(octets),
        }
    }

    /// What the whole data amounts to; meant for after [`DataScan::End`].
    pub fn verdict(&self) -> Result<DataSummary, DataFault> {
        self.fault.map_or(Ok(self.summary), Err)
    }

    /// How much of `input` is certainly data; notes stuffed lines, bare line ends, NULs and octets from 0x80 up.
    fn advance(&mut self, input: &[u8]) -> usize {
        let mut position = 0;
        loop {
            position += self.advance_plain(&input[position..]);
            let line = self.advance_line(&input[position..]);
            self.note_octets(&input[position..position + line.octets]);
            position += line.octets;
            if line.is_last {
                return position;
            }
        }
    }

    /// As much as one glance shows to be plain.
    fn advance_plain(&mut self, rest: &[u8]) -> usize {
        let may_glance = match rest {
            [b'.', ..] => !self.at_line_start,
            [b'\n', ..] => false,
            _ => true,
        };
        if !may_glance {
            return 0;
        }
        let (octets, seen) = plain_head(rest);
        self.summary.has_8bit |= seen.has_8bit;
        self.summary.has_nul |= seen.has_nul;
        match rest[..octets].last() {
            None => 0,
            // With its LF it is judged by the next step.
            Some(b'\r') => {
                self.at_line_start = octets > 1 && rest[octets - 2] == b'\n';
                octets - 1
            }
            Some(last) => {
                self.at_line_start = *last == b'\n';
                octets
            }
        }
    }

    /// One line, or what there is of it.
    fn advance_line(&mut self, rest: &[u8]) -> Line {
        if self.at_line_start {
            match rest {
                // The end or its first half: judged by the next call, from its first octet.
                [] | [b'.'] | [b'.', b'\r'] | [b'.', b'\r', b'\n', ..] => {
                    return Line { octets: 0, is_last: true };
                }
                [b'.', octet, ..] => {
                    self.summary.stuffed_lines += 1;
                    // A bare line end is the worse fault, whichever came first, so that no split changes the verdict.
                    if *octet == 0 && self.fault != Some(DataFault::BareLineEnd) {
                        self.fault = Some(DataFault::DotNul);
                    }
                }
                _ => {}
            }
        }
        let Some(found) = memchr2(b'\r', b'\n', rest) else {
            self.at_line_start &= rest.is_empty();
            return Line { octets: rest.len(), is_last: true };
        };
        match &rest[found..] {
            [b'\r', b'\n', ..] => {
                self.at_line_start = true;
                Line { octets: found + 2, is_last: false }
            }
            // A CR at the end of the input may be the first half of a CRLF.
            [b'\r'] => {
                self.at_line_start &= found == 0;
                Line { octets: found, is_last: true }
            }
            _ => {
                self.fault = Some(DataFault::BareLineEnd);
                self.at_line_start = false;
                Line { octets: found + 1, is_last: false }
            }
        }
    }

    fn note_octets(&mut self, octets: &[u8]) {
        self.summary.has_8bit = self.summary.has_8bit || !octets.is_ascii();
        self.summary.has_nul = self.summary.has_nul || memchr(0, octets).is_some();
    }

    fn observe(&mut self, span: &[u8]) {
        let summary = &mut self.summary;
        summary.stored_octets += span.len() as u64;
        summary.unstuffed_octets = summary.stored_octets - summary.stuffed_lines;
        if summary.unstuffed_octets > self.octets_max && self.fault.is_none() {
            self.fault = Some(DataFault::TooBig);
        }
    }
}

/// A step of the scanner.
struct Line {
    octets: usize,
    /// Nothing behind it can be judged yet.
    is_last: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Spans joined, verdict, octets behind the terminator; none when the end is not there.
    type Scanned = (Vec<u8>, Option<(Result<DataSummary, DataFault>, usize)>);

    /// Feeds the pieces as a host would: what is not consumed is offered again with the next piece.
    fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, octets_max: u64) -> Scanned {
        let mut scanner = DataScanner::new(octets_max);
        let (mut buffer, mut spans) = (Vec::new(), Vec::new());
        let mut verdict = None;
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while verdict.is_none() {
                match scanner.scan(&buffer) {
                    DataScan::Span(0) | DataScan::Swallow(0) => break,
                    DataScan::Span(octets) => spans.extend(buffer.drain(..octets)),
                    DataScan::Swallow(octets) => drop(buffer.drain(..octets)),
                    DataScan::End => {
                        buffer.drain(..DATA_END);
                        verdict = Some(scanner.verdict());
                    }
                }
            }
            assert!(verdict.is_some() || buffer.len() < DATA_END, "at most a tail stays: {buffer:?}");
        }
        (spans, verdict.map(|verdict| (verdict, buffer.len())))
    }

    fn verdict(data: &[u8]) -> Result<DataSummary, DataFault> {
        scan([data], 1000).1.expect("the data ends").0
    }

    /// RFC 5321 4.5.2, octet by octet: what a sender does.
    fn stuff(body: &[u8]) -> Vec<u8> {
        let mut stuffed = Vec::new();
        for (index, octet) in body.iter().enumerate() {
            if *octet == b'.' && (index == 0 || body[..index].ends_with(b"\r\n")) {
                stuffed.push(b'.');
            }
            stuffed.push(*octet);
        }
        stuffed
    }

    /// What a receiver does.
    fn unstuff(data: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for (index, octet) in data.iter().enumerate() {
            let is_stuffing = *octet == b'.' && (index == 0 || data[..index].ends_with(b"\r\n"));
            if !is_stuffing {
                body.push(*octet);
            }
        }
        body
    }

    /// The naive judge: looks at single octets and their neighbours only.
    fn end_of(data: &[u8]) -> Option<usize> {
        if data.starts_with(b".\r\n") {
            return Some(0);
        }
        data.windows(5).position(|window| window == b"\r\n.\r\n").map(|position| position + 2)
    }

    fn has_bare_line_end(data: &[u8]) -> bool {
        (0..data.len()).any(|index| match data[index] {
            b'\r' => data.get(index + 1) != Some(&b'\n'),
            b'\n' => index == 0 || data[index - 1] != b'\r',
            _ => false,
        })
    }

    fn has_dot_nul(data: &[u8]) -> bool {
        data.starts_with(b".\0") || data.windows(4).any(|window| window == b"\r\n.\0")
    }

    fn octets(lengths: core::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![
            4 => Just(b'.'), 4 => Just(b'\r'), 4 => Just(b'\n'), 4 => Just(b'a'), 1 => Just(0), 1 => Just(0xe9)
        ];
        prop::collection::vec(octet, lengths)
    }

    /// Mostly whole lines, as mail is.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let line = prop::collection::vec(prop_oneof![Just(b'.'), Just(b'a'), Just(0), Just(0xff)], 0..6);
        prop::collection::vec(line, 0..12).prop_map(|lines| {
            lines.into_iter().flat_map(|line| [line.as_slice(), b"\r\n"].concat()).collect()
        })
    }

    fn cut<'a>(data: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
        places.extend([0, data.len()]);
        places.sort_unstable();
        places.windows(2).map(|pair| &data[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_spans_and_verdict(
            data in octets(0..60),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            octets_max in 0_u64..40,
        ) {
            let data = [data.as_slice(), b"\r\n.\r\nQUIT"].concat();
            let end = end_of(&data).expect("an end is appended");
            for pieces in [vec![data.as_slice()], cut(&data, &cuts), data.chunks(1).collect()] {
                let pieces_count = pieces.len();
                let (spans, ended) = scan(pieces, octets_max);
                let (verdict, behind) = ended.expect("an end is appended");
                // What is behind the terminator is not all there yet when the octets come singly.
                prop_assert!(pieces_count > 1 || behind == data.len() - end - DATA_END);
                let unstuffed = unstuff(&data[..end]).len() as u64;
                match verdict {
                    Ok(summary) => {
                        prop_assert!(!has_bare_line_end(&data[..end]) && unstuffed <= octets_max);
                        prop_assert!(!has_dot_nul(&data[..end]));
                        prop_assert_eq!(&spans, &data[..end]);
                        prop_assert_eq!(summary.stored_octets, end as u64);
                        prop_assert_eq!(summary.unstuffed_octets, unstuffed);
                        prop_assert_eq!(summary.stuffed_lines, end as u64 - unstuffed);
                        prop_assert_eq!(summary.has_8bit, !data[..end].is_ascii());
                        prop_assert_eq!(summary.has_nul, data[..end].contains(&0));
                    }
                    Err(fault) => {
                        prop_assert!(data.starts_with(&spans));
                        let expected = match (has_bare_line_end(&data[..end]), has_dot_nul(&data[..end])) {
                            (true, _) => DataFault::BareLineEnd,
                            (false, true) => DataFault::DotNul,
                            (false, false) => DataFault::TooBig,
                        };
                        prop_assert_eq!(fault, expected);
                        prop_assert!(expected != DataFault::TooBig || unstuffed > octets_max);
                    }
                }
            }
        }

        /// Transparency (RFC 5321 4.5.2): what is unstuffed later is what the sender meant.
        #[test]
        fn unstuffed_spans_are_the_body(
            body in body(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let data = [stuff(&body).as_slice(), b".\r\n"].concat();
            let (spans, ended) = scan(cut(&data, &cuts), 1000);
            let summary = ended.expect("the data ends").0.expect("a good message");
            prop_assert_eq!(unstuff(&spans), &body[..]);
            prop_assert_eq!(summary.unstuffed_octets, body.len() as u64);
        }

        #[test]
        fn nothing_ends_without_the_true_end(data in octets(0..60)) {
            prop_assume!(end_of(&data).is_none());
            prop_assert_eq!(scan([data.as_slice()], 1000).1, None);
            prop_assert_eq!(scan(data.chunks(1), 1000).1, None);
        }
    }

    #[test]
    fn a_body_whose_first_line_is_a_dot_ends_at_once() {
        assert_eq!(verdict(b".\r\n"), Ok(DataSummary::default()));
    }

    #[test]
    fn a_tail_that_cannot_be_judged_stays() {
        for (data, span) in
            [(&b".\r"[..], 0), (b".", 0), (b"a\r", 1), (b"a\r\n.", 3), (b"a\r\n.\r", 3), (b"\r", 0)]
        {
            assert_eq!(DataScanner::new(9).scan(data), DataScan::Span(span), "{data:?}");
        }
    }

    #[test]
    fn bare_line_ends_are_faults_and_a_nul_is_not() {
        for data in
            [&b"a\nb\r\n.\r\n"[..], b"a\rb\r\n.\r\n", b"\n.\r\n\r\n.\r\n", b".\rx\r\n.\r\n", b"\r\r\n.\r\n"]
        {
            assert_eq!(verdict(data), Err(DataFault::BareLineEnd), "{data:?}");
        }
        assert!(verdict(b"\0\r\n.\r\n").is_ok_and(|summary| summary.has_nul));
    }

    /// OpenSMTPD 6.8, which reads lines as C strings, ended the data at such a line that was handed on to it; what
    /// stood behind it were commands there. Found by sending the same octets to both.
    #[test]
    fn a_dot_and_a_nul_at_the_start_of_a_line_are_a_fault() {
        for data in [&b".\0\r\n.\r\n"[..], b"a\r\n.\0\r\nMAIL FROM:<a@b>\r\n.\r\n", b"\r\n.\0.\r\n.\r\n"] {
            assert_eq!(verdict(data), Err(DataFault::DotNul), "{data:?}");
            assert_eq!(scan(data.chunks(1), 1).1, Some((Err(DataFault::DotNul), 0)), "not a matter of size");
        }
        for data in [&b"..\0\r\n.\r\n"[..], b"a.\0\r\n.\r\n", b"\0.\r\n.\r\n"] {
            assert!(verdict(data).is_ok_and(|summary| summary.has_nul), "{data:?}");
        }
        assert_eq!(verdict(b".\0\na\r\n.\r\n"), Err(DataFault::BareLineEnd), "the worse fault is told");
    }

    #[test]
    fn the_size_is_that_of_the_unstuffed_message() {
        assert!(scan([&b"..\r\n.\r\n"[..]], 3).1.is_some_and(|(verdict, _)| verdict.is_ok()));
        assert_eq!(scan([&b"..\r\n.\r\n"[..]], 2).1, Some((Err(DataFault::TooBig), 0)));
    }
}
