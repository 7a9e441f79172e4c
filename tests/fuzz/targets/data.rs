//! The scanner of mail data: whatever the split, the same spans and the same verdict, and those of a reader that
//! looks at single octets. The first octet of an input is the size limit, in steps of 16 octets.

use stratamx::smtp::data::{DATA_END, DataFault, DataScan, DataScanner, DataSummary};

use super::engine::Signs;
use super::wire;

/// See the module.
pub fn run(input: &[u8]) -> Signs {
    let mut signs = Signs::default();
    let Some((limit, data)) = input.split_first() else { return signs };
    let octets_max = if *limit == u8::MAX { u64::MAX } else { u64::from(*limit) * 16 };
    let expected = expected(data, octets_max);
    for pieces in wire::cuts(data) {
        let (spans, ended) = scan(&pieces, octets_max);
        assert_eq!(ended, expected, "{} pieces of {}", pieces.len(), data.escape_ascii());
        match expected {
            Some((Ok(_), end)) => assert_eq!(spans, data[..end], "a good message is what came"),
            _ => assert!(data.starts_with(&spans), "what was handed out is what came"),
        }
    }
    if let Some((Ok(summary), end)) = expected {
        let body = wire::unstuff(&data[..end]);
        assert_eq!(body.len() as u64, summary.unstuffed_octets);
        if summary.stuffed_lines == dotted_lines(&body) {
            assert_eq!(wire::stuff(&body), data[..end], "what was taken out is put in again");
        }
        signs.note((summary.has_8bit, summary.has_nul));
        signs.note_size("dots", usize::try_from(summary.stuffed_lines).expect("few"));
    }
    signs.note(expected.map(|(verdict, _)| verdict.is_ok()));
    signs
        .note((data.len() > 600, expected.and_then(|(verdict, _)| verdict.err()) == Some(DataFault::TooBig)));
    signs.note_size("end", expected.map_or(0, |(_, end)| end));
    signs
}

/// Lines of a body that a sender would stuff. Fewer than were stuffed: a sender put dots where none was needed.
fn dotted_lines(body: &[u8]) -> u64 {
    let stuffed = wire::stuff(body).len() - body.len();
    stuffed as u64
}

type Ended = Option<(Result<DataSummary, DataFault>, usize)>;

/// The verdict and where the data ends.
fn expected(data: &[u8], octets_max: u64) -> Ended {
    let end = wire::end_of_data(data)?;
    let data = &data[..end];
    let unstuffed = wire::unstuff(data).len() as u64;
    let verdict = if wire::has_bare_line_end(data) {
        Err(DataFault::BareLineEnd)
    } else if wire::has_dot_nul(data) {
        Err(DataFault::DotNul)
    } else if unstuffed > octets_max {
        Err(DataFault::TooBig)
    } else {
        Ok(DataSummary {
            stored_octets: end as u64,
            unstuffed_octets: unstuffed,
            stuffed_lines: end as u64 - unstuffed,
            has_8bit: data.iter().any(|octet| *octet >= 0x80),
            has_nul: data.contains(&0),
            ..DataSummary::default()
        })
    };
    Some((verdict, end))
}

fn scan(pieces: &[&[u8]], octets_max: u64) -> (Vec<u8>, Ended) {
    let mut scanner = DataScanner::new(octets_max);
    let (mut buffer, mut spans, mut consumed) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let octets = match scanner.scan(&buffer) {
                DataScan::End => {
                    assert!(buffer.starts_with(b".\r\n") && DATA_END == 3);
                    return (spans, Some((scanner.verdict(), consumed)));
                }
                DataScan::Span(octets) => {
                    spans.extend_from_slice(&buffer[..octets]);
                    octets
                }
                DataScan::Swallow(octets) => octets,
            };
            buffer.drain(..octets);
            consumed += octets;
            if octets == 0 {
                break;
            }
        }
        assert!(buffer.len() < DATA_END, "a tail that cannot be judged is shorter than the terminator");
    }
    (spans, None)
}
