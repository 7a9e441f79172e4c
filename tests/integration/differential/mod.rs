//! The same octets to Postfix, Exim, OpenSMTPD and StrataMX: which replies come, and what arrives behind each, at a
//! server that takes everything as it comes. Each of them is as strict as it can be told to be.
//!
//! The strictest of a case are those of the others behind which the fewest messages arrive. Where StrataMX answers with the classes of
//! replies of one of them, and the same arrives, nothing more is to be said. Every other case has a row in `src/smtp/RFC.md`,
//! which says why and what each did. The test holds the rows against what it finds: a difference without a row
//! fails, a row that does not tell what is found fails, and so does a row without a difference.
//!
//! The rows are of the versions that stand above the table. Where others are installed, only StrataMX is held against its column.

mod case;
mod dialogue;
mod receiver;

use super::harness::*;
use super::interop::relay::{Kind, Relay, peers};
use case::Case;
use receiver::{Received, Receiver};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a server did in a case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Behaviour {
    /// Codes of its replies, behind the greeting and EHLO; `open`: it waited for more.
    codes: Vec<String>,
    /// Messages that it said it has taken.
    taken: usize,
    /// What came out behind it, without trace fields, in order.
    messages: Vec<String>,
    /// Messages that it took and gave back by a notice of its own.
    returned: usize,
}

/// In the order of the columns.
const SERVERS: [&str; 4] = ["StrataMX", "Postfix", "Exim", "OpenSMTPD"];

impl Behaviour {
    /// As the table has it: codes, the messages that arrived, and whether they are those of `ours`.
    fn cell(&self, ours: &Self) -> String {
        let codes = self.codes.join(" ");
        let is_other = !ours.messages.is_empty() && self.messages != ours.messages;
        let difference = if is_other { ", other" } else { "" };
        match (self.messages.len(), self.returned) {
            (0, 0) => codes,
            (0, count) => format!("{codes}; {count} returned"),
            (count, _) => format!("{codes}; {count}{difference}"),
        }
    }

    fn classes(&self) -> Vec<&str> {
        self.codes.iter().map(|code| &code[..1]).collect()
    }

    fn is_like(&self, other: &Self) -> bool {
        self.classes() == other.classes() && self.messages == other.messages
    }
}

#[test]
fn what_differs_from_the_strictest_is_told_and_why() {
    let directory = Scratch::new("differential");
    let cases = Case::all();
    let receiver = Receiver::start();
    let smtp = "max_connections_per_ip = 500";
    let config = configure(&directory, &Settings { primary: receiver.address, smtp, ..Settings::default() });
    let server = Server::start(&config);
    let relays = [Kind::Postfix, Kind::Exim, Kind::OpenSmtpd]
        .map(|kind| Relay::start(kind, &directory.path(&format!("{kind:?}")), receiver.address, false));
    let addresses = [server.address, relays[0].address, relays[1].address, relays[2].address];
    let mut found = play_all(&cases, addresses);
    let taken: usize = found.values().flatten().flatten().map(|behaviour| behaviour.taken).sum();
    let end = Instant::now() + PATIENCE;
    while receiver.received().len() < taken {
        assert!(Instant::now() < end, "{} of {taken} messages came out", receiver.received().len());
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(relays);
    server.stop();
    let received = receiver.received();
    assert_eq!(received.len(), taken, "no server made more of it than it said");
    for Received { recipient, data } in received {
        let message = below_trace(&data);
        let failed = message.split("X-Failed-Recipients: ").nth(1).and_then(|rest| rest.split("\\r").next());
        let (name, server) = case::of_recipient(failed.unwrap_or(&recipient));
        let behaviour = found.get_mut(name).unwrap()[server].as_mut().unwrap();
        match failed {
            // Where the octets name it: each server has its own.
            None => behaviour.messages.push(message.replace(&recipient, "NAME")),
            Some(_) => behaviour.returned += 1,
        }
    }
    judge(&mut found);
}

type Found = BTreeMap<String, [Option<Behaviour>; 4]>;

/// Each case with each server, several at a time: one that waits for more costs its time limit.
fn play_all(cases: &[Case], addresses: [SocketAddr; 4]) -> Found {
    const AT_ONCE: usize = 12;
    let mut jobs: Vec<(usize, &Case)> = Vec::new();
    for (server, _) in SERVERS.iter().enumerate() {
        jobs.extend(cases.iter().map(|case| (server, case)));
    }
    let jobs = Mutex::new(jobs);
    let found = Mutex::new(Found::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((server, case)) = jobs.lock().unwrap().pop() else { break };
                    let mut played = dialogue::play(case, server, addresses[server]);
                    for _ in 0..2 {
                        if case.name != "early-before-greeting" || !greeted_first(played.as_ref()) {
                            break;
                        }
                        played = dialogue::play(case, server, addresses[server]);
                    }
                    found.lock().unwrap().entry(case.name.clone()).or_default()[server] = played;
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// Whether our octets are there when a server looks, before it greets, is a matter of timing where many play at once: who
/// greets is spoken to again.
fn greeted_first(played: Option<&Behaviour>) -> bool {
    played.and_then(|played| played.codes.first()).is_some_and(|code| code == "220")
}

/// Compares the differences with the rows of the table.
fn judge(found: &mut Found) {
    let mut rows = table();
    let mut wrong = Vec::new();
    let others_are_known = versions_are_those_of_the_table();
    for (name, behaviours) in found {
        for behaviour in behaviours.iter_mut().flatten() {
            behaviour.messages.sort();
        }
        let ours = behaviours[0].as_ref().expect("it is always asked");
        if !others_are_known {
            let row = rows.remove(name).filter(|row| row.cells[0] != ours.cell(ours));
            wrong.extend(row.map(|row| format!("{name}: {}, now {}", row.cells[0], ours.cell(ours))));
            continue;
        }
        let others: Vec<&Behaviour> = behaviours[1..].iter().flatten().collect();
        let fewest = others.iter().map(|other| other.messages.len()).min().expect("others are asked");
        let mut strictest = others.iter().filter(|other| other.messages.len() == fewest);
        let is_told = strictest.any(|other| ours.is_like(other));
        let cells: Vec<String> = behaviours
            .iter()
            .map(|found| found.as_ref().map_or("-".to_owned(), |found| found.cell(ours)))
            .collect();
        match (is_told, rows.remove(name)) {
            (true, None) => {}
            (true, Some(_)) => wrong.push(format!("{name}: no difference any more: {}", cells.join(" | "))),
            (false, Some(row)) if row.cells == cells && !row.why.is_empty() => {}
            (false, _) => wrong.push(format!("| `{name}` | {} | why |", cells.join(" | "))),
        }
        // Whatever a row says: never more than the most lenient.
        let most = others.iter().map(|other| other.messages.len()).max().expect("others are asked");
        assert!(ours.messages.len() <= most, "{name}: {ours:?}");
    }
    wrong.extend(rows.into_keys().map(|name| format!("{name}: a row without a case")));
    assert!(wrong.is_empty(), "the table of src/smtp/RFC.md should say:\n{}", wrong.join("\n"));
}

/// Of the three servers, without what Debian appends.
fn versions_are_those_of_the_table() -> bool {
    let asked = Command::new("/usr/sbin/postconf").args(["-d", "-h", "mail_version"]).output().unwrap();
    let unpacked = fs::read_to_string(peers().join(".versions")).unwrap();
    let unpacked = |package: &str| {
        let line = unpacked.lines().find_map(|line| line.strip_prefix(package)).unwrap();
        line.trim().split(['-', '+']).next().unwrap().to_owned()
    };
    let postfix = String::from_utf8(asked.stdout).unwrap();
    // Of Postfix, a stable release; the last number counts its corrections.
    let postfix = postfix.trim().rsplit_once('.').map_or("", |(release, _)| release);
    let [exim, opensmtpd] = ["exim4-daemon-light", "opensmtpd"].map(unpacked);
    let found = format!("Versions: Postfix {postfix}, Exim {exim}, OpenSMTPD {opensmtpd}");
    let is_known = section().lines().any(|line| line.starts_with(&format!("{found} ")));
    if !is_known {
        eprintln!("The table is of other versions. {found}: only the column of StrataMX is judged.");
    }
    is_known
}

struct Row {
    cells: Vec<String>,
    why: String,
}

/// What stands below the heading that names this test.
fn section() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/smtp/RFC.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("\n## Differences").expect("RFC.md has the differences");
    section.split("\n## ").next().unwrap().to_owned()
}

fn table() -> BTreeMap<String, Row> {
    let section = section();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        let name = cells.next().unwrap().trim_matches('`').to_owned();
        let mut cells: Vec<String> = cells.collect();
        let why = cells.pop().unwrap();
        (name, Row { cells, why })
    })
    .collect()
}

/// The message as it was sent, escaped: without the trace fields on top.
fn below_trace(message: &[u8]) -> String {
    let mut rest = message;
    while rest.starts_with(b"Received:") || rest.starts_with(b"Authentication-Results:") {
        let is_end =
            |at: &usize| rest[*at..].starts_with(b"\r\n") && !matches!(rest.get(at + 2), Some(b' ' | b'\t'));
        let end = (0..rest.len()).find(is_end).unwrap();
        rest = &rest[end + 2..];
    }
    rest.escape_ascii().to_string()
}
