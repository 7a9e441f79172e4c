//! A name server of one name: it says that every name it is asked for is 127.0.0.1 and has no IPv6 address
//! (RFC 1035 4.1).

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
