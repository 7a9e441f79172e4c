//! The cases: `cases.txt`, whose head says how to read it.

use super::super::conversations::unescape;
use super::SERVERS;
use std::path::Path;

/// What a client does next.
#[derive(Debug)]
pub enum Act {
    Send(Vec<u8>),
    Await,
}

/// See the module.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub acts: Vec<Act>,
    pub says_ehlo: bool,
    pub awaits_greeting: bool,
    /// A keyword of EHLO.
    pub needs: Option<String>,
}

impl Case {
    pub fn all() -> Vec<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/differential/cases.txt");
        let text = std::fs::read_to_string(path).unwrap();
        let cases: Vec<Self> = text.split("\n== ").skip(1).map(Self::parse).collect();
        assert!(cases.len() >= 80, "{} cases", cases.len());
        cases
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let name = lines.next().unwrap().to_owned();
        let (says_ehlo, awaits_greeting, needs) = (true, true, None);
        let mut case = Self { name, acts: Vec::new(), says_ehlo, awaits_greeting, needs };
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (mark, text) = line.split_once(' ').unwrap_or((line, ""));
            match mark {
                "C:" => case.send([unescape(text).as_slice(), b"\r\n"].concat()),
                "C-" => case.send(unescape(text)),
                "S" => case.acts.push(Act::Await),
                "S*2" => case.acts.extend([Act::Await, Act::Await]),
                "S*3" => case.acts.extend([Act::Await, Act::Await, Act::Await]),
                "S*4" => case.acts.extend([Act::Await, Act::Await, Act::Await, Act::Await]),
                "!" if text == "no-ehlo" => case.says_ehlo = false,
                "!" if text == "no-greeting" => case.awaits_greeting = false,
                "!" if text.starts_with("needs ") => case.needs = Some(text["needs ".len()..].to_owned()),
                _ => panic!("{}: {line}", case.name),
            }
        }
        case
    }

    /// Lines in a row leave at once.
    fn send(&mut self, octets: Vec<u8>) {
        match self.acts.last_mut() {
            Some(Act::Send(block)) => block.extend(octets),
            _ => self.acts.push(Act::Send(octets)),
        }
    }

    /// For whom its messages are: which case and which server, once they have arrived.
    pub fn recipient(&self, server: usize) -> String {
        format!("{}.{}@example.test", self.name, SERVERS[server].to_lowercase())
    }
}

/// Of whom a message is: the name of the case, and the number of the server.
pub fn of_recipient(recipient: &str) -> (&str, usize) {
    let (name, rest) = recipient.split_once('.').expect("names have no dot");
    let is_server = |server: &&str| rest == format!("{}@example.test", server.to_lowercase());
    (name, SERVERS.iter().position(is_server).expect("one of them"))
}
