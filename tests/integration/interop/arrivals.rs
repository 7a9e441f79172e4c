//! Mail that is to arrive, and a server with a primary behind it where it does.

use super::super::harness::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// A message, and whom it is for. Its content has all fields that a server would add, and ends its last line.
pub struct Mail {
    pub name: &'static str,
    pub sender: String,
    pub recipients: Vec<String>,
    pub content: Vec<u8>,
    pub is_utf8: bool,
}

const LARGE_OCTETS: usize = 25 << 20;
const MANY_RECIPIENTS: usize = 500;

impl Mail {
    fn new(name: &'static str, subject: &str, body: &str) -> Self {
        let fields = "From: Sender <sender@example.org>\r\nTo: undisclosed-recipients:;\r\n\
            Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";
        let content = format!(
            "Message-ID: <{name}@example.org>\r\nX-Name: {name}\r\nSubject: {subject}\r\n{fields}\r\n{body}"
        );
        let recipients = vec![format!("{name}@example.test")];
        Self {
            name,
            sender: "sender@example.org".into(),
            recipients,
            content: content.into(),
            is_utf8: false,
        }
    }

    /// Dots, empty lines, a line of 998 octets, characters beyond ASCII, white space at ends of lines.
    pub fn small(name: &'static str) -> Self {
        let body = ".\r\n..\r\n.x\r\n\r\nFrom here on\r\ngrüße \t \r\n".to_owned()
            + &"x".repeat(998)
            + "\r\n\r\n.\r\n\r\nthe end\r\n\r\n\r\n";
        Self::new(name, "small", &body)
    }

    pub fn many(name: &'static str) -> Self {
        let mut mail = Self::new(name, "many", "to all of you\r\n");
        mail.recipients = (0..MANY_RECIPIENTS).map(|number| format!("r{number:03}@example.test")).collect();
        mail
    }

    pub fn large(name: &'static str) -> Self {
        let mut body = String::with_capacity(LARGE_OCTETS + 100);
        let mut number = 0_u32;
        while body.len() < LARGE_OCTETS {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let dot = if number >> 30 == 0 { "." } else { "" };
            write!(body, "{dot}{number:010} the same words on every line, but for their numbers\r\n")
                .unwrap();
        }
        Self::new(name, "large", &body)
    }

    pub fn utf8(name: &'static str) -> Self {
        let mut mail = Self::new(name, "grüße", "größer\r\n");
        mail.sender = "ü@example.org".to_owned();
        mail.recipients = vec!["ö@example.test".to_owned()];
        mail.is_utf8 = true;
        mail
    }
}

/// As DATA has it (RFC 5321 4.5.2).
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    let text = str::from_utf8(content).unwrap();
    let head = if text.starts_with('.') { "." } else { "" };
    (head.to_owned() + &text.replace("\n.", "\n..")).into_bytes()
}

/// What is known about an arrival besides its octets.
#[derive(Debug)]
pub struct Arrived {
    pub by_bdat: bool,
}

struct Expected {
    mail: Mail,
    tls: bool,
    /// Trace fields of others above the message.
    relays: usize,
}

/// See the module.
pub struct Arrivals<'a> {
    directory: &'a Scratch,
    server: Server,
    sink: Primary,
    expected: Vec<Expected>,
}

impl<'a> Arrivals<'a> {
    pub fn start(directory: &'a Scratch) -> Self {
        let primary = free_address();
        let sink = Primary::sink_that_keeps(
            &primary.to_string(),
            &directory.path("record"),
            &directory.path("kept"),
        );
        let config = configure(directory, &Settings { primary, ..Settings::default() });
        Self { directory, server: Server::start(&config), sink, expected: Vec::new() }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub fn expect(&mut self, mail: Mail, tls: bool, relays: usize) {
        self.expected.push(Expected { mail, tls, relays });
    }

    /// Waits until every recipient has his mail, and compares all of it.
    pub fn finish(self) -> Vec<Arrived> {
        let count: usize = self.expected.iter().map(|expected| expected.mail.recipients.len()).sum();
        let end = Instant::now() + PATIENCE;
        while recipients(&self.records()).len() < count {
            assert!(Instant::now() < end, "{} of {count} arrived", recipients(&self.records()).len());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.server.stop();
        self.sink.stop();
        let this = Finished { directory: self.directory };
        let records = this.records();
        let all = self.expected.iter().flat_map(|expected| expected.mail.recipients.iter().cloned());
        let (mut all, mut found): (Vec<String>, _) = (all.collect(), recipients(&records));
        all.sort();
        found.sort();
        assert_eq!(found, all, "none lost, none twice");
        records.iter().map(|record| this.compare(record, &self.expected)).collect()
    }

    fn records(&self) -> Vec<Value> {
        Finished { directory: self.directory }.records()
    }
}

/// What is left on disk.
struct Finished<'a> {
    directory: &'a Scratch,
}

impl Finished<'_> {
    fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.directory.path("record")).unwrap_or_default();
        // The last line may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn compare(&self, record: &Value, expected: &[Expected]) -> Arrived {
        let number = record["sequence"].as_u64().unwrap();
        let message = fs::read(self.kept(number)).unwrap();
        let mut found = expected.iter().filter(|expected| message.ends_with(&expected.mail.content));
        let Some(Expected { mail, tls, relays }) = found.next() else {
            panic!("{} is none that was sent", self.kept(number).display());
        };
        let trace = String::from_utf8(message[..message.len() - mail.content.len()].to_vec()).unwrap();
        let fields = trace.lines().filter(|line| !line.starts_with([' ', '\t']));
        // What was found out about its origin, if that was known by then, stands above all.
        let fields = fields
            .enumerate()
            .filter(|(at, field)| *at > 0 || !field.starts_with("Authentication-Results: "));
        let fields = fields.map(|(_, field)| field);
        assert_eq!(fields.clone().count(), relays + 1, "{trace}");
        assert!(fields.clone().all(|field| field.starts_with("Received: ")), "{trace}");
        let wanted: BTreeSet<&str> = mail.recipients.iter().map(String::as_str).collect();
        assert!(
            recipients(core::slice::from_ref(record)).iter().all(|found| wanted.contains(found.as_str()))
        );
        assert_eq!(record["reverse_path"], mail.sender.as_str());
        let protocol = match (mail.is_utf8, *tls) {
            (false, false) => "ESMTP",
            (false, true) => "ESMTPS",
            (true, false) => "UTF8SMTP",
            (true, true) => "UTF8SMTPS",
        };
        assert!(trace.contains(&format!(" with {protocol} id ")), "{protocol}: {trace}");
        let id = trace.split(&format!(" with {protocol} id ")).nth(1).unwrap();
        let id = id.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap();
        Arrived { by_bdat: self.shown(id)["extensions"]["transfer"] == "BDAT" }
    }

    fn kept(&self, number: u64) -> PathBuf {
        self.directory.path("kept").join(format!("{number:08}.eml"))
    }

    fn shown(&self, queue_id: &str) -> Value {
        let mut show = Command::new(tool("stratamx-segment"));
        let shown =
            show.arg("show").arg(self.directory.path("data")).args([queue_id, "--json"]).output().unwrap();
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        serde_json::from_slice(&shown.stdout).unwrap()
    }
}

/// Of accepted transactions, one by one.
fn recipients(records: &[Value]) -> Vec<String> {
    let accepted = records.iter().filter(|record| record["accepted"] == true);
    let all = accepted.flat_map(|record| record["recipients"].as_array().unwrap());
    all.map(|recipient| recipient.as_str().unwrap().to_owned()).collect()
}
