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

/// What a name has.
pub enum Has<'a> {
    Address([u8; 4]),
    Alias(&'a str),
    Exchanger(u16, &'a str),
    Name(&'a str),
    Text(&'a str),
}

/// Answers questions of all these types; an alias only to who asks for it.
pub fn start_zone(zone: &[(&str, Has<'_>)]) -> SocketAddr {
    let row = |(name, has): &(&str, Has<'_>)| {
        let (kind, data) = match has {
            Has::Address(address) => (TYPE_A, address.to_vec()),
            Has::Alias(target) => ([0, 5], name_data(target)),
            Has::Exchanger(preference, host) => (TYPE_MX, mx_data(*preference, host)),
            Has::Name(host) => ([0, 12], name_data(host)),
            Has::Text(text) => (TYPE_TXT, text_data(text)),
        };
        ((*name).to_owned(), kind, data)
    };
    serve(zone.iter().map(row).collect())
}

/// Records of one type, by name; a name with empty data exists and has none.
fn start_records(kind: [u8; 2], records: Vec<(String, Vec<u8>)>) -> SocketAddr {
    serve(records.into_iter().map(|(name, data)| (name, kind, data)).collect())
}

/// A name, a type, and its data.
type Record = (String, [u8; 2], Vec<u8>);

fn serve(records: Vec<Record>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut memory = [0; 1500];
        while let Ok((count, peer)) = socket.recv_from(&mut memory) {
            let _ = socket.send_to(&answer_records(&memory[..count], &records), peer);
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
    [&preference.to_be_bytes()[..], &name_data(host)].concat()
}

fn name_data(host: &str) -> Vec<u8> {
    let mut data = Vec::new();
    for label in host.split('.').filter(|label| !label.is_empty()) {
        data.push(u8::try_from(label.len()).unwrap());
        data.extend(label.as_bytes());
    }
    data.push(0);
    data
}

fn answer_records(query: &[u8], records: &[Record]) -> Vec<u8> {
    let mut name = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let label = &query[at + 1..=at + usize::from(query[at])];
        name.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + label.len();
    }
    let end = at + 5;
    let name = name.join(".");
    let is_known = records.iter().any(|(known, ..)| *known == name);
    let is_asked = |(known, kind, data): &&Record| {
        *known == name && !data.is_empty() && query[end - 4..end - 2] == *kind
    };
    let found: Vec<&Record> = records.iter().filter(is_asked).collect();
    let code = if is_known { 0 } else { 3 };
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(found.len()).unwrap(), 0, 0, 0, 0]);
    reply.extend(&query[12..end]);
    for (_, kind, data) in found {
        // A pointer to the name of the question, the type, class IN, 60 s.
        reply.extend([0xC0, 12, kind[0], kind[1], 0, 1, 0, 0, 0, 60]);
        reply.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        reply.extend(data);
    }
    reply
}
