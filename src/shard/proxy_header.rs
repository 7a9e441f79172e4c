//! The header of the PROXY protocol, version 2 (haproxy.org, proxy-protocol.txt 2.2): by it a load balancer tells who
//! its client is. Octets in, an answer out; nothing is read here.
//!
//! Only who is trusted (`smtp.proxy_from`) is asked for one, and must send one before anything else. Taken: PROXY of
//! a TCP connection over IPv4 or IPv6, PROXY of an unknown family and LOCAL (health checks), for which the
//! client is the balancer itself. Refused, since guessing who a client is would defeat every limit: version 1
//! (text, without a length), other commands, families of datagrams or of Unix sockets, addresses that do not fit the
//! stated length, headers longer than the bound. Fields behind the addresses (TLVs) are skipped.

use crate::limits::PROXY_HEADER_OCTETS_MAX;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the head of a connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// More octets are needed.
    Incomplete,
    /// A whole header.
    Complete {
        /// The client; none: the balancer speaks for itself.
        client: Option<SocketAddr>,
        /// Octets of the header; what follows is the client's.
        octets: usize,
    },
}

/// Why a connection from a trusted address is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// No header at all.
    #[error("no PROXY header of version 2")]
    NoSignature,
    /// Text.
    #[error("a PROXY header of version 1: version 2 is wanted")]
    Version1,
    /// Neither LOCAL nor PROXY.
    #[error("a PROXY header of another version, or with an unknown command")]
    Command,
    /// Datagrams, or Unix sockets.
    #[error("a PROXY header of a family that is not TCP")]
    Family,
    /// Too short for its addresses, or over the bound.
    #[error("a PROXY header whose length does not fit")]
    Length,
}

/// Reads the head of `input`.
pub fn parse(input: &[u8]) -> Result<ProxyHeader, BadHeader> {
    let known = input.len().min(SIGNATURE.len());
    if input[..known] != SIGNATURE[..known] {
        let is_text = !input.is_empty() && VERSION_1.starts_with(&input[..input.len().min(VERSION_1.len())]);
        return Err(if is_text { BadHeader::Version1 } else { BadHeader::NoSignature });
    }
    let Some((fixed, rest)) = input.split_first_chunk::<FIXED_OCTETS>() else {
        return Ok(ProxyHeader::Incomplete);
    };
    let [.., command, family, length_high, length_low] = *fixed;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(BadHeader::Command),
    };
    if FIXED_OCTETS + length > PROXY_HEADER_OCTETS_MAX {
        return Err(BadHeader::Length);
    }
    let Some(body) = rest.get(..length) else { return Ok(ProxyHeader::Incomplete) };
    let client = if is_local { None } else { source(family, body)? };
    Ok(ProxyHeader::Complete { client, octets: FIXED_OCTETS + length })
}

/// Up to where to read, given an incomplete head: the fixed part, then all.
pub fn octets_wanted(input: &[u8]) -> usize {
    match input.first_chunk::<FIXED_OCTETS>() {
        None => FIXED_OCTETS,
        Some([.., high, low]) => FIXED_OCTETS + usize::from(u16::from_be_bytes([*high, *low])),
    }
}

/// The source address: source, destination, source port, destination port.
fn source(family: u8, body: &[u8]) -> Result<Option<SocketAddr>, BadHeader> {
    match family {
        UNSPECIFIED => Ok(None),
        TCP_OVER_IPV4 => {
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *body.first_chunk().ok_or(BadHeader::Length)?;
            Ok(Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))))
        }
        TCP_OVER_IPV6 => {
            let body: &[u8; 36] = body.first_chunk().ok_or(BadHeader::Length)?;
            let address: [u8; 16] = *body.first_chunk().ok_or(BadHeader::Length)?;
            let port = u16::from_be_bytes([body[32], body[33]]);
            Ok(Some(SocketAddr::from((Ipv6Addr::from(address), port))))
        }
        _ => Err(BadHeader::Family),
    }
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_1: &[u8] = b"PROXY ";
/// Signature, version and command, family, length.
const FIXED_OCTETS: usize = 16;
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x34, 0, 25];

    fn v6() -> Vec<u8> {
        let address = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        [&address[..], &[0; 16], &[0, 99, 0, 25]].concat()
    }

    #[test]
    fn every_split_needs_more_and_the_whole_is_known() {
        let tlv = [0x04, 0, 2, 9, 9];
        for (whole, client) in [
            (header(0x21, 0x11, &V4), Some("192.0.2.1:4660")),
            (header(0x21, 0x11, &[&V4[..], &tlv].concat()), Some("192.0.2.1:4660")),
            (header(0x21, 0x21, &v6()), Some("[2001:db8::7]:99")),
            (header(0x21, 0x00, &tlv), None),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &V4), None),
            // LOCAL: the rest of the header is to be ignored, whatever family it states.
            (header(0x20, 0x31, &[1; 216]), None),
        ] {
            let client = client.map(|client| client.parse().unwrap());
            for split in 0..whole.len() {
                assert_eq!(parse(&whole[..split]), Ok(ProxyHeader::Incomplete), "{split}");
                let wanted = octets_wanted(&whole[..split]);
                assert!(split < wanted && wanted <= whole.len(), "never an octet of the client");
            }
            let expected = Ok(ProxyHeader::Complete { client, octets: whole.len() });
            assert_eq!(parse(&whole), expected);
            assert_eq!(parse(&[&whole[..], b"EHLO early\r\n"].concat()), expected);
        }
    }

    #[test]
    fn bad_headers_are_refused_as_soon_as_they_are_seen() {
        let long = vec![0; PROXY_HEADER_OCTETS_MAX];
        for (input, expected) in [
            (b"EHLO a\r\n".to_vec(), BadHeader::NoSignature),
            (b"E".to_vec(), BadHeader::NoSignature),
            (b"\r\n\r\n\0\r\nQUIX".to_vec(), BadHeader::NoSignature),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n".to_vec(), BadHeader::Version1),
            (b"P".to_vec(), BadHeader::Version1),
            (header(0x11, 0x11, &V4), BadHeader::Command),
            (header(0x22, 0x11, &V4), BadHeader::Command),
            (header(0x21, 0x12, &V4), BadHeader::Family),
            (header(0x21, 0x31, &[0; 216]), BadHeader::Family),
            (header(0x21, 0x11, &V4[..11]), BadHeader::Length),
            (header(0x21, 0x21, &v6()[..35]), BadHeader::Length),
            (header(0x21, 0x21, &long)[..FIXED_OCTETS].to_vec(), BadHeader::Length),
        ] {
            assert_eq!(parse(&input), Err(expected), "{input:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_octets_panic(command: u8, family: u8, body: Vec<u8>, tail: Vec<u8>) {
            let _ = (parse(&header(command, family, &body)), parse(&tail));
        }
    }
}
