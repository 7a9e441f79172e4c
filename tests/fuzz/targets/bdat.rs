//! Chunks of BDAT: the same verdict however they are cut, that of a reader of single octets; and what is stored of a good message
//! leaves by DATA as one message that is the body which came.

use stratamx::smtp::chunk::{ChunkScanner, DotStuffer};
use stratamx::smtp::data::{DATA_END, DataFault, DataScan, DataScanner, DataSummary, Transfer};

use super::engine::Signs;
use super::wire;

/// See the module.
pub fn run(input: &[u8]) -> Signs {
    let mut signs = Signs::default();
    let stored = wire::stuff(input);
    let line_end_added = !input.is_empty() && !input.ends_with(b"\r\n");
    let is_bad = wire::has_bare_line_end(input);
    for pieces in wire::cuts(input) {
        let (mut scanner, mut stuffer, mut stuffed) =
            (ChunkScanner::default(), DotStuffer::default(), Vec::new());
        let mut was_good = true;
        for piece in &pieces {
            let is_good = scanner.scan(piece);
            assert!(was_good || !is_good, "a fault stays");
            was_good = is_good;
            stuffer.stuff(piece, &mut stuffed);
        }
        assert_eq!(scanner.octets(), input.len() as u64);
        if is_bad {
            assert_eq!(scanner.verdict(), Err(DataFault::BareLineEnd), "{}", input.escape_ascii());
            continue;
        }
        stuffer.finish(&mut stuffed);
        assert_eq!(stuffed, stored, "{} pieces of {}", pieces.len(), input.escape_ascii());
        let unstuffed_octets = input.len() as u64 + if line_end_added { 2 } else { 0 };
        let expected = DataSummary {
            stored_octets: stored.len() as u64,
            unstuffed_octets,
            stuffed_lines: stored.len() as u64 - unstuffed_octets,
            has_8bit: input.iter().any(|octet| *octet >= 0x80),
            has_nul: input.contains(&0),
            transfer: Transfer::Bdat { line_end_added },
        };
        assert_eq!(scanner.verdict(), Ok(expected), "{}", input.escape_ascii());
        signs.note((expected.has_8bit, expected.has_nul, line_end_added));
        signs.note_size("dots", usize::try_from(expected.stuffed_lines).expect("few"));
    }
    if !is_bad {
        leaves_as_one(&stored, input, line_end_added);
    }
    signs.note(is_bad);
    signs.note_size("octets", input.len());
    signs
}

fn leaves_as_one(stored: &[u8], body: &[u8], line_end_added: bool) {
    let wire = [stored, b".\r\nQUIT\r\n"].concat();
    assert_eq!(wire::end_of_data(&wire), Some(stored.len()), "it ends where it should and nowhere before");
    let (mut scanner, mut at) = (DataScanner::new(u64::MAX), 0);
    while let DataScan::Span(octets) = scanner.scan(&wire[at..]) {
        at += octets;
    }
    assert_eq!(&wire[at + DATA_END..], b"QUIT\r\n");
    let line_end: &[u8] = if line_end_added { b"\r\n" } else { b"" };
    assert_eq!(wire::unstuff(stored), [body, line_end].concat());
}
