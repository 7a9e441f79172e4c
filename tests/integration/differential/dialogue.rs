//! A client that sends a case and notes what comes back.

use super::super::harness::PATIENCE;
use super::super::harness::client::Client;
use super::Behaviour;
use super::case::{Act, Case};
use std::io::{BufRead, BufReader, Error, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server that says nothing behind the last act waits for more octets, or is slow. It waits where it was silent for so long and then
/// answered a new client, as often as `PROBES` says: what holds up a server or a machine holds up that client, too.
const SILENCE: Duration = Duration::from_secs(2);
const PROBES: usize = 3;

/// Plays the case until the server has closed, or waits for more. None: it does not offer what the case needs.
pub fn play(case: &Case, server: usize, address: SocketAddr) -> Option<Behaviour> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut dialogue = Dialogue {
        reader: BufReader::new(stream),
        address,
        found: Behaviour::default(),
        is_over: false,
        probes: 0,
    };
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
    dialogue.reader.get_ref().set_read_timeout(Some(SILENCE)).unwrap();
    dialogue.probes = PROBES;
    while !dialogue.is_over {
        dialogue.reply();
    }
    Some(dialogue.found)
}

struct Dialogue {
    reader: BufReader<TcpStream>,
    address: SocketAddr,
    found: Behaviour,
    is_over: bool,
    /// How often a reply that does not come is still waited for.
    probes: usize,
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
        let (mut reply, mut start) = (Vec::new(), 0);
        let mut probes = self.probes;
        let last = loop {
            match self.reader.read_until(b'\n', &mut reply) {
                Ok(1..) => {}
                Err(error) if is_silence(&error) && probes > 0 => {
                    // What was read of a line stays in `reply`.
                    probes -= 1;
                    probe(self.address);
                    continue;
                }
                Err(error) if is_silence(&error) => {
                    assert!(self.probes > 0, "no reply to what the case awaits one for: {:?}", self.found);
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
            start = reply.len();
        };
        let text = String::from_utf8_lossy(&reply).into_owned();
        // What Postfix and StrataMX, Exim, and OpenSMTPD say of a message that they have taken.
        let is_taken = ["queued as", "OK id=", "Message accepted"].iter().any(|words| text.contains(words));
        self.found.taken += usize::from(is_taken && text.starts_with("250"));
        self.found.codes.push(text.get(last..last + 3).unwrap_or("?").to_owned());
        text
    }
}

fn is_silence(error: &Error) -> bool {
    [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind())
}

/// A new client comes as far as a recipient and goes.
fn probe(address: SocketAddr) {
    let mut client = Client::connect(address);
    client.say("EHLO client.example", "250");
    client.say("MAIL FROM:<s@example.org>", "250");
    client.say("RCPT TO:<probe@example.test>", "250");
    client.say("QUIT", "221");
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
