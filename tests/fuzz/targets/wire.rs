//! Naive second opinions about line ends and dots, octet by octet, and ways to cut an input.

use std::hash::{DefaultHasher, Hash, Hasher};

use storage::sim::Random;

use super::engine::below;

/// For whatever reads mail data.
pub const DATA_WORDS: &[&[u8]] = &[
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n..\r\n",
    b"\r\r\n",
    b"\r\n",
    b".\r\n",
    b"text of a line that is long enough to be glanced at, sixty-four octets and more\r\n",
];

/// Octets before the terminator, if there is one: `.` CRLF at the start, or behind a CRLF.
pub fn end_of_data(input: &[u8]) -> Option<usize> {
    (0..input.len())
        .find(|at| input[*at..].starts_with(b".\r\n") && (*at == 0 || input[..*at].ends_with(b"\r\n")))
}

/// A CR without its LF or an LF without its CR.
pub fn has_bare_line_end(data: &[u8]) -> bool {
    (0..data.len()).any(|at| match data[at] {
        b'\r' => data.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || data[at - 1] != b'\r',
        _ => false,
    })
}

/// A line that begins with a dot and a NUL.
pub fn has_dot_nul(data: &[u8]) -> bool {
    (0..data.len()).any(|at| data[at..].starts_with(b".\0") && (at == 0 || data[..at].ends_with(b"\r\n")))
}

/// Takes the dot away that begins a line.
pub fn unstuff(data: &[u8]) -> Vec<u8> {
    let is_stuffed = |at: usize| data[at] == b'.' && (at == 0 || data[..at].ends_with(b"\r\n"));
    (0..data.len()).filter(|at| !is_stuffed(*at)).map(|at| data[at]).collect()
}

/// Puts a dot before each that begins a line, and a CRLF behind a last line without one.
pub fn stuff(body: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    for (at, octet) in body.iter().enumerate() {
        if *octet == b'.' && (at == 0 || body[..at].ends_with(b"\r\n")) {
            data.push(b'.');
        }
        data.push(*octet);
    }
    if !data.is_empty() && !data.ends_with(b"\r\n") {
        data.extend_from_slice(b"\r\n");
    }
    data
}

/// The input singly, then whole, then cut in ways that it decides itself.
pub fn cuts(input: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let mut random = Random::new(hasher.finish());
    let mut ways = vec![input.chunks(1).collect(), vec![input]];
    for _ in 0..3 {
        let mut places: Vec<usize> =
            (0..1 << below(&mut random, 4)).map(|_| below(&mut random, input.len() + 1)).collect();
        places.extend([0, input.len()]);
        places.sort_unstable();
        ways.push(places.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect());
    }
    ways
}
