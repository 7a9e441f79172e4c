//! A client that sends a case and notes what comes back.

use super::super::harness::PATIENCE;
use super::Behaviour;
use super::case::{Act, Case};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server that has said nothing for so long waits for more octets. Only where it has greeted: to get there takes what it takes.
const SILENCE: Duration = Duration::from_secs(6);

/// Plays the case until the server has closed, or waits for more. None: it does not offer what the case needs.
pub fn play(case: &Case, server: usize, address: SocketAddr) -> Option<Behaviour> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut dialogue =
        Dialogue { reader: BufReader::new(stream), found: Behaviour::default(), is_over: false };
    if case.awaits_greeting {
        dialogue.greeting();
    }
    if case.says_ehlo {
        dialogue.send(b"EHLO client.example\r\n");
        let offer = dialogue.reply();
        dialogue.found.codes.clear();
        if case.needs.as_ref().is_some_and(|keyword| !offer.contains(keyword)) {
            return None;
        }
    }
    dialogue.reader.get_ref().set_read_timeout(Some(SILENCE)).unwrap();
    let recipient = case.recipient(server);
    for act in &case.acts {
        match act {
            Act::Send(octets) => {
                dialogue.send(&replaced(octets, &recipient));
                if !case.awaits_greeting && dialogue.found.codes.is_empty() {
                    dialogue.reply();
                }
            }
            Act::Await => drop(dialogue.reply()),
        }
    }
    while !dialogue.is_over {
        dialogue.reply();
    }
    Some(dialogue.found)
}

struct Dialogue {
    reader: BufReader<TcpStream>,
    found: Behaviour,
    is_over: bool,
}

impl Dialogue {
    fn greeting(&mut self) {
        self.reply();
        assert_eq!(self.found.codes, ["220"], "a greeting");
        self.found.codes.clear();
    }

    /// A server that has closed does not read any more; what it said is still to be read.
    fn send(&mut self, octets: &[u8]) {
        let _ = self.reader.get_mut().write_all(octets);
    }

    /// All lines of the next reply; empty where none comes any more.
    fn reply(&mut self) -> String {
        if self.is_over {
            return String::new();
        }
        let mut reply = Vec::new();
        let last = loop {
            let start = reply.len();
            match self.reader.read_until(b'\n', &mut reply) {
                Ok(1..) => {}
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                    self.found.codes.push("open".to_owned());
                    self.is_over = true;
                    return String::new();
                }
                // The end, orderly or not: some reset what they did not read.
                Ok(0) | Err(_) => {
                    self.is_over = true;
                    return String::new();
                }
            }
            if reply.get(start + 3) != Some(&b'-') {
                break start;
            }
        };
        let text = String::from_utf8_lossy(&reply).into_owned();
        // What Postfix and StrataMX, Exim, and OpenSMTPD say of a message that they have taken.
        let is_taken = ["queued as", "OK id=", "Message accepted"].iter().any(|words| text.contains(words));
        self.found.taken += usize::from(is_taken && text.starts_with("250"));
        self.found.codes.push(text.get(last..last + 3).unwrap_or("?").to_owned());
        text
    }
}

fn replaced(octets: &[u8], recipient: &str) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = octets;
    while let Some(at) = rest.windows(6).position(|word| word == b"<NAME>") {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(format!("<{recipient}>").as_bytes());
        rest = &rest[at + 6..];
    }
    replaced.extend_from_slice(rest);
    replaced
}
