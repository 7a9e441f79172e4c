//! Name servers on loopback (RFC 1035 4.1): one of one name, which says that every name it is asked for is 127.0.0.1 and has
//! no IPv6 address; one that knows some TXT records; one that never answers.

use std::net::{SocketAddr, UdpSocket};
use std::thread;

const TYPE_A: [u8; 2] = [0, 1];

/// Answers until the test ends; its address.
pub fn start() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut memory = [0; 1500];
        while let Ok((count, peer)) = socket.recv_from(&mut memory) {
            let _ = socket.send_to(&answer(&memory[..count]), peer);
        }
    });
    address
}

fn answer(query: &[u8]) -> Vec<u8> {
    // The name ends with an empty label; type and class follow.
    let end = 12 + query[12..].iter().position(|octet| *octet == 0).unwrap() + 5;
    let is_address = query[end - 4..end - 2] == TYPE_A;
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    reply.extend(&query[12..end]);
    if is_address {
        // A pointer to the name of the question, type A, class IN, 60 s, four octets.
        reply.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    reply
}

/// Answers TXT questions about these names, lower case and without a dot at the end; other names do not exist.
pub fn start_texts(texts: &[(&str, &str)]) -> SocketAddr {
    let texts: Vec<(String, String)> =
        texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut memory = [0; 1500];
        while let Ok((count, peer)) = socket.recv_from(&mut memory) {
            let _ = socket.send_to(&answer_text(&memory[..count], &texts), peer);
        }
    });
    address
}

/// A name server that takes questions and answers none, as long as the socket lives.
pub fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

const TYPE_TXT: [u8; 2] = [0, 16];

fn answer_text(query: &[u8], texts: &[(String, String)]) -> Vec<u8> {
    let mut name = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let label = &query[at + 1..=at + usize::from(query[at])];
        name.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + label.len();
    }
    let end = at + 5;
    let name = name.join(".");
    let known: Vec<&(String, String)> = texts.iter().filter(|(known, _)| *known == name).collect();
    let found = if query[end - 4..end - 2] == TYPE_TXT { known.as_slice() } else { &[] };
    let code = if known.is_empty() { 3 } else { 0 };
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(found.len()).unwrap(), 0, 0, 0, 0]);
    reply.extend(&query[12..end]);
    for (_, text) in found {
        // A pointer to the name of the question, type TXT, class IN, 60 s, strings of at most 255 octets.
        let strings: Vec<&[u8]> = text.as_bytes().chunks(255).collect();
        let octets = u16::try_from(text.len() + strings.len()).unwrap();
        reply.extend([0xC0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
        reply.extend(octets.to_be_bytes());
        for string in strings {
            reply.push(u8::try_from(string.len()).unwrap());
            reply.extend(string);
        }
    }
    reply
}
