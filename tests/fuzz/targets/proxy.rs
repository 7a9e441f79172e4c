//! The PROXY header: a prefix of a good one wants more and never an octet of the client; a whole one says what a reader of fixed
//! places finds in it, whatever follows.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use stratamx::limits::PROXY_HEADER_OCTETS_MAX;
use stratamx::shard::proxy_header::{ProxyHeader, octets_wanted, parse};

use super::engine::Signs;

pub const WORDS: &[&[u8]] = &[
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x20\x00\x00\x00",
    b"\x21\x11\x00\x0c",
    b"\x21\x21\x00\x24",
    b"\x21\x31\x00\xd8",
    b"PROXY TCP4 ",
    b"\x00\x0c",
    b"\x07\xf0",
    b"\x07\xf1",
    b"\x04\x00\x01x",
    b"EHLO a\r\n",
];

/// See the module.
pub fn run(input: &[u8]) -> Signs {
    let mut signs = Signs::default();
    let whole = parse(input);
    let mut ended = false;
    for length in 0..=input.len().min(PROXY_HEADER_OCTETS_MAX + 8) {
        let part = parse(&input[..length]);
        assert!(!ended || part == whole || part.is_err(), "what is behind the answer does not change it");
        match part {
            Ok(ProxyHeader::Incomplete) => {
                assert!(length < PROXY_HEADER_OCTETS_MAX, "what is kept is bounded");
                let wanted = octets_wanted(&input[..length]);
                assert!(length < wanted && wanted <= PROXY_HEADER_OCTETS_MAX, "there is something to read");
                if let Ok(ProxyHeader::Complete { octets, .. }) = whole {
                    assert!(wanted <= octets, "never an octet of the client");
                }
            }
            // A text is told from other octets by its first: which it was may show later.
            _ => {
                let is_same = part == whole || (part.is_err() && whole.is_err());
                assert!(is_same, "{length} octets of {}: {part:?}, {whole:?}", input.escape_ascii());
                ended = true;
            }
        }
    }
    if let Ok(ProxyHeader::Complete { client, octets }) = whole {
        assert_eq!((client, octets), expected(input), "{}", input.escape_ascii());
        signs.note(client.map(|client| client.is_ipv4()));
        signs.note_size("octets", octets);
    }
    signs
        .note(whole.map_err(|error| error.to_string()).is_ok_and(|header| header == ProxyHeader::Incomplete));
    signs.note(whole.map_err(|error| error.to_string()).err());
    signs
}

/// What a good header says.
fn expected(input: &[u8]) -> (Option<SocketAddr>, usize) {
    assert_eq!(&input[..12], b"\r\n\r\n\0\r\nQUIT\n");
    let octets = 16 + usize::from(input[14]) * 256 + usize::from(input[15]);
    let port = |at: usize| u16::from(input[at]) << 8 | u16::from(input[at + 1]);
    let client = match (input[12], input[13]) {
        (0x20, _) | (0x21, 0) => None,
        (0x21, 0x11) => {
            assert!(octets >= 28, "the addresses are in the header");
            let address: [u8; 4] = input[16..20].try_into().expect("four octets");
            Some(SocketAddr::from((Ipv4Addr::from(address), port(24))))
        }
        (0x21, 0x21) => {
            assert!(octets >= 52, "the addresses are in the header");
            let address: [u8; 16] = input[16..32].try_into().expect("sixteen octets");
            Some(SocketAddr::from((Ipv6Addr::from(address), port(48))))
        }
        other => panic!("{other:?} is no header that is taken"),
    };
    (client, octets)
}
