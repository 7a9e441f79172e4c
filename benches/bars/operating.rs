//! The operator's side of a large queue: a million messages of ten thousand provisioned domains. How long the first page of a list takes, what
//! a sender notices of it, and what the control plane keeps in memory: the whole process, less the same process without an admin API and with
//! the domains in its file.
#![allow(clippy::disallowed_methods, reason = "a bench watches the clock of the machine")]

use crate::common::server::{Client, Server};
use crate::common::{Node, Scratch, body_of, disk_at, on_executor, sized};
use crate::{Bar, Bound, median};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MESSAGE_OCTETS: usize = 512;
const PRIMARY: &str = "primary = [\"127.0.0.1:9\"]\nauthenticate = false\nretention = \"3650d\"\n";

fn messages() -> usize {
    sized(1_000_000, 200)
}

fn domains() -> usize {
    // With the one of the file ten thousand.
    sized(9_999, 20)
}

fn name(number: usize) -> String {
    format!("domain-{number:05}.test")
}

fn recipient(number: usize) -> String {
    format!("user@{}", name(number % domains()))
}

pub(crate) fn bars() -> Vec<Bar> {
    let scratch = Rc::new(Scratch::new("operating"));
    provision(&scratch);
    fill(&scratch);
    let alone = without_control(&scratch);
    let admin = free_address();
    let server = Server::at(Rc::clone(&scratch), PRIMARY, &admin.to_string());
    let asker = Asker::of(&server, admin);
    wait_until_known(&asker);
    let mut bars = pages(&asker);
    bars.extend(noticed(&server, &asker));
    asker.ask("/metrics", |page| page.contains("stratamx_"));
    let with = server.resident_kib("VmRSS");
    println!(
        "bar=operating messages={} domains={} resident_kib={with} without_control_kib={alone}",
        messages(),
        domains()
    );
    let mebi = (with as f64 - alone as f64) / 1024.0;
    bars.push(Bar::new("control plane, resident", mebi, "MiB", Bound::Below(64.0)));
    bars
}

/// The domains, through the API, as a provider's script adds them.
fn provision(scratch: &Rc<Scratch>) {
    let admin = free_address();
    let server = Server::at(Rc::clone(scratch), PRIMARY, &admin.to_string());
    let asker = Asker::of(&server, admin);
    let start = Instant::now();
    for number in 0..domains() {
        let body = format!(
            "{{\"name\":\"{}\",\"primary\":[\"127.0.0.1:9\"],\"authenticate\":false,\"retention\":\"3650d\"}}",
            name(number)
        );
        let answer = asker.send(
            &format!(
                "POST /api/v1/domains HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            ),
            &body,
        );
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
    println!("bar=operating provisioned={} seconds={:.1}", domains(), start.elapsed().as_secs_f64());
    server.end();
}

fn fill(scratch: &Rc<Scratch>) {
    on_executor(async {
        let disk = disk_at(&scratch.path().join("data")).await;
        let (node, _) = Node::start(&disk).await;
        node.send(512, messages(), &body_of(MESSAGE_OCTETS), recipient).await;
        node.stop().await;
    });
}

/// Memory of the same mail and the same domains, with nobody who operates it: the domains stand in its file, and no database is there.
fn without_control(scratch: &Rc<Scratch>) -> u64 {
    let mut keys = String::from(PRIMARY);
    for number in 0..domains() {
        let _ = write!(keys, "[[domain]]\nname = \"{}\"\n{PRIMARY}", name(number));
    }
    let aside = scratch.path().join("aside");
    let database = scratch.path().join("data/control.sqlite");
    std::fs::rename(&database, &aside).expect("the database of the provisioned");
    let server = Server::at(Rc::clone(scratch), &keys, "");
    // Its readers have come to rest.
    let mut resident = 0;
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = server.resident_kib("VmRSS");
        if now == resident {
            break;
        }
        resident = now;
    }
    server.end();
    let _ = std::fs::remove_file(&database);
    std::fs::rename(&aside, &database).expect("the database goes back");
    resident
}

fn wait_until_known(asker: &Asker) {
    let all = format!("\"of\":{}", messages());
    let deadline = Instant::now() + Duration::from_secs(60);
    while !asker.page("min_size=1099511627776").1.contains(&all) {
        assert!(Instant::now() < deadline, "all is queued");
    }
}

/// First pages of each kind. A list that finds little costs most: it looks at all.
fn pages(asker: &Asker) -> Vec<Bar> {
    let one = format!("domain={}", name(7));
    let kinds = [
        ("all", "", 100),
        ("of a domain", &*one, 100.min(messages() / domains())),
        ("queued", "state=queued", 100),
        ("held, none", "state=held", 0),
        ("younger, all", "received_since_s=1", 100),
        ("older, none", "received_before_s=1", 0),
        ("larger, none", "min_size=1099511627776", 0),
        ("by code, none", "code=599", 0),
    ];
    let judged = kinds.into_iter().map(|(kind, filter, expected)| {
        let mut times: Vec<f64> = (0..sized(21, 1))
            .map(|_| {
                let (time, page) = asker.page(filter);
                assert_eq!(
                    page.matches("\"reverse_path\":\"sender@example.org\"").count(),
                    expected,
                    "{kind}: {page}"
                );
                time.as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "bar=page kind={kind:?} median_ms={:.1} longest_ms={:.1}",
            median(&times),
            times[times.len() - 1]
        );
        Bar::new(format!("first page, {kind}"), median(&times), "ms", Bound::Below(100.0))
    });
    let mut bars: Vec<Bar> = judged.collect();
    // Records are read for these: a page is what a tenth of a second finds.
    let (time, page) = asker.page("recipient=nobody%40domain-00001.test");
    assert!(page.contains("\"progress\""), "{page}");
    println!("bar=page kind=\"by recipient, partial\" ms={:.1}", time.as_secs_f64() * 1e3);
    bars.push(Bar::new("a partial page, by recipient", time.as_secs_f64() * 1e3, "ms", Bound::None));
    bars
}

/// One sender's time for a message, while pages that look at all are asked for and while none is, in turns.
fn noticed(server: &Server, asker: &Asker) -> Option<Bar> {
    let mut client = Client::connect(server);
    client.say("EHLO sender.example", "250-");
    let mut measure = |is_asked: bool| {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if is_asked {
                let is_over = &is_over;
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        asker.page("min_size=1099511627776");
                    }
                });
            }
            let mut times: Vec<f64> = (0..sized(500, 5))
                .map(|_| {
                    let start = Instant::now();
                    client.send_message(MESSAGE_OCTETS);
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            is_over.store(true, Ordering::Relaxed);
            times.sort_by(f64::total_cmp);
            (median(&times), times[times.len() * 99 / 100])
        })
    };
    let turns: Vec<_> = (0..sized(5, 1)).map(|_| (measure(false), measure(true))).collect();
    for ((median, p99), (asked_median, asked_p99)) in &turns {
        println!(
            "bar=noticed median_ms={median:.3} p99_ms={p99:.3} asked_median_ms={asked_median:.3} asked_p99_ms={asked_p99:.3}"
        );
    }
    let ratios: Vec<f64> = turns.iter().map(|((median, _), (asked, _))| asked / median).collect();
    Some(Bar::new(
        "a message while lists are asked for without a pause",
        median(&ratios),
        "times",
        Bound::None,
    ))
}

/// Who asks the admin API.
struct Asker {
    admin: SocketAddr,
    token: String,
}

impl Asker {
    fn of(server: &Server, admin: SocketAddr) -> Self {
        let token = std::fs::read_to_string(server.path("data/admin-token")).expect("made at its start");
        Self { admin, token: token.trim().to_owned() }
    }

    /// A whole answer.
    fn send(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("it listens");
        let head = format!(
            "{head}Host: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n{body}",
            self.token
        );
        stream.write_all(head.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    fn ask(&self, path: &str, is_right: impl Fn(&str) -> bool) -> (Duration, String) {
        let start = Instant::now();
        let answer = self.send(&format!("GET {path} HTTP/1.1\r\n"), "");
        let time = start.elapsed();
        assert!(answer.starts_with("HTTP/1.1 200 ") && is_right(&answer), "{path}: {answer}");
        (time, answer)
    }

    fn page(&self, filter: &str) -> (Duration, String) {
        self.ask(&format!("/api/v1/queue?{filter}"), |page| page.contains("\"messages\":["))
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}
