//! Name servers on loopback (RFC 1035 4.1): one of one name, which says that every name it is asked for is 127.0.0.1 and has
//! no IPv6 address; one that knows some TXT or MX records; one that never answers.

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
    start_records(TYPE_TXT, texts.iter().map(|(name, text)| ((*name).to_owned(), text_data(text))).collect())
}

/// Answers MX questions about these names: preference and host, which is empty for a null MX. A name without a host has no records.
pub fn start_exchangers(exchangers: &[(&str, Option<(u16, &str)>)]) -> SocketAddr {
    let row = |(name, exchanger): &(&str, Option<(u16, &str)>)| {
        ((*name).to_owned(), exchanger.map_or_else(Vec::new, |(preference, host)| mx_data(preference, host)))
    };
    start_records(TYPE_MX, exchangers.iter().map(row).collect())
}

/// Records of one type, by name; a name with empty data exists and has none.
fn start_records(kind: [u8; 2], records: Vec<(String, Vec<u8>)>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut memory = [0; 1500];
        while let Ok((count, peer)) = socket.recv_from(&mut memory) {
            let _ = socket.send_to(&answer_records(&memory[..count], kind, &records), peer);
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
const TYPE_MX: [u8; 2] = [0, 15];

/// Strings of at most 255 octets.
fn text_data(text: &str) -> Vec<u8> {
    let string = |string: &[u8]| [&[u8::try_from(string.len()).unwrap()], string].concat();
    text.as_bytes().chunks(255).flat_map(string).collect()
}

fn mx_data(preference: u16, host: &str) -> Vec<u8> {
    let mut data = preference.to_be_bytes().to_vec();
    for label in host.split('.').filter(|label| !label.is_empty()) {
        data.push(u8::try_from(label.len()).unwrap());
        data.extend(label.as_bytes());
    }
    data.push(0);
    data
}

fn answer_records(query: &[u8], kind: [u8; 2], records: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut name = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let label = &query[at + 1..=at + usize::from(query[at])];
        name.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + label.len();
    }
    let end = at + 5;
    let name = name.join(".");
    let is_known = records.iter().any(|(known, _)| *known == name);
    let is_asked = |record: &&(String, Vec<u8>)| record.0 == name && !record.1.is_empty();
    let found: Vec<&(String, Vec<u8>)> =
        records.iter().filter(is_asked).filter(|_| query[end - 4..end - 2] == kind).collect();
    let code = if is_known { 0 } else { 3 };
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(found.len()).unwrap(), 0, 0, 0, 0]);
    reply.extend(&query[12..end]);
    for (_, data) in found {
        // A pointer to the name of the question, the type, class IN, 60 s.
        reply.extend([0xC0, 12, kind[0], kind[1], 0, 1, 0, 0, 0, 60]);
        reply.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        reply.extend(data);
    }
    reply
}
