//! A client that says exactly what a test wants said.

use super::PATIENCE;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// See the module.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::connect_silently(address);
        let greeting = client.reply();
        assert!(greeting.starts_with("220 "), "{greeting}");
        client
    }

    /// Connects and reads nothing.
    pub fn connect_silently(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    pub fn send(&mut self, octets: &[u8]) {
        self.reader.get_mut().write_all(octets).unwrap();
    }

    /// The next reply, its lines joined as they came; empty at the end of the stream.
    pub fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.reader.read_line(&mut reply).unwrap_or(0) == 0 {
                return reply;
            }
            if reply.as_bytes().get(start + 3) != Some(&b'-') {
                return reply.trim_end().to_owned();
            }
        }
    }

    /// All octets up to the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.reader.read_to_end(&mut rest);
        rest
    }

    /// Sends a line and expects a reply that starts with `expected`.
    pub fn say(&mut self, line: &str, expected: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        let reply = self.reply();
        assert!(reply.starts_with(expected), "{line:?} was answered {reply:?}, not {expected:?}");
        reply
    }

    /// EHLO, MAIL and one RCPT.
    pub fn open_transaction(&mut self, recipient: &str) {
        self.say("EHLO client.example", "250-");
        self.say("MAIL FROM:<sender@example.org>", "250 2.1.0");
        self.say(&format!("RCPT TO:<{recipient}>"), "250 2.1.5");
    }

    /// A whole message in an open session; the reply to its end.
    pub fn message(&mut self, recipient: &str, data: &str) -> String {
        self.open_transaction(recipient);
        self.say("DATA", "354");
        self.send(data.as_bytes());
        self.say("\r\n.", "")
    }
}
