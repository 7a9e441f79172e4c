//! What looking costs: CPU time of the real process for a message, with `/metrics` scraped and a page of the queue read each second, and
//! without, in turns. Each pair
//! of turns gives one ratio, every other pair begins with the scraped one; the median of all is judged, and an interval that holds it in 96 of
//! 100 such runs is told.
#![allow(clippy::disallowed_methods, reason = "a bench watches the clock of the machine")]

use crate::common::server::{Client, Server};
use crate::common::sized;
use crate::{Bar, Bound, median};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SENDERS: usize = 8;
const MESSAGE_OCTETS: usize = 10 << 10;

pub(crate) fn bars() -> Vec<Bar> {
    vec![scraped(1), scraped(sized(10_000, 20))]
}

/// CPU time a message while the server is scraped, over that while it is not.
fn scraped(domains: usize) -> Bar {
    let admin = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let mut keys = String::from("authenticate = false\nprimary = [\"127.0.0.1:9\"]\n");
    for number in 1..domains {
        let _ = write!(keys, "[[domain]]\nname = \"d{number}.test\"\nprimary = [\"127.0.0.1:9\"]\n");
    }
    let server = Server::with_admin("scraped", &keys, &admin.to_string());
    let token = std::fs::read_to_string(server.path("data/admin-token")).expect("made at its start");
    let mut clients: Vec<Client<TcpStream>> = (0..SENDERS).map(|_| Client::connect(&server)).collect();
    clients.iter_mut().for_each(|client| client.say("EHLO sender.example", "250-"));
    let (pairs, turn) = (sized(40, 1), Duration::from_millis(sized(2_000, 50) as u64));
    let mut measure = |is_scraped: bool| {
        let before = server.cpu_s();
        let messages = ingest(&mut clients, turn, is_scraped.then_some((admin, token.trim())));
        (server.cpu_s() - before) / messages as f64
    };
    let _warm = measure(true);
    let mut ratios: Vec<f64> = (0..pairs)
        .map(|pair| {
            let first = measure(pair % 2 == 1);
            let second = measure(pair % 2 == 0);
            if pair % 2 == 1 { first / second } else { second / first }
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    // Of n those at about n/2 less, and more, 1.03 times the root of n enclose the median in 96 of 100: the 14th and the 27th of 40.
    let first = (pairs / 2).saturating_sub((pairs * 106 / 100).isqrt() + 1);
    let (low, high) = (ratios[first], ratios[pairs - 1 - first]);
    println!(
        "bar=scraped domains={domains} pairs={pairs} turn_ms={} more={:.2}% interval={:.2}%..{:.2}%",
        turn.as_millis(),
        percent(median(&ratios)),
        percent(low),
        percent(high)
    );
    let name = format!("scraped and paged each second/domains={domains}/senders={SENDERS}/size=10KiB");
    Bar::new(name, percent(median(&ratios)), "% more CPU", Bound::Below(3.0))
}

/// Messages that all clients together send in a turn.
fn ingest(clients: &mut [Client<TcpStream>], turn: Duration, scraped: Option<(SocketAddr, &str)>) -> usize {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        if let Some((admin, token)) = scraped {
            let is_over = &is_over;
            scope.spawn(move || scrape_each_second(admin, token, is_over));
        }
        let start = Instant::now();
        let senders: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    let mut sent = 0;
                    while start.elapsed() < turn {
                        client.send_message(MESSAGE_OCTETS);
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        let sent = senders.into_iter().map(|sender| sender.join().expect("it sends")).sum();
        is_over.store(true, Ordering::Relaxed);
        sent
    })
}

fn scrape_each_second(admin: SocketAddr, token: &str, is_over: &AtomicBool) {
    let (mut next, mut after) = (Instant::now(), String::new());
    while !is_over.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            scrape(admin, token);
            after = turn_page(admin, token, &after);
            next += Duration::from_secs(1);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn scrape(admin: SocketAddr, token: &str) {
    let page = ask(admin, token, "/metrics");
    assert!(page.ends_with("# EOF\n"), "{page}");
}

/// Reads the page of the queue behind a place; tells the next place, which is the beginning behind the last page.
fn turn_page(admin: SocketAddr, token: &str, after: &str) -> String {
    let page = ask(admin, token, &format!("/api/v1/queue?limit=100{after}"));
    let (_, body) = page.split_once("\r\n\r\n").expect("a head");
    let page: serde_json::Value = serde_json::from_str(body).expect("a page");
    assert!(page["messages"].is_array(), "{page}");
    page["next"].as_str().map_or_else(String::new, |next| format!("&after={next}"))
}

/// A whole answer.
fn ask(admin: SocketAddr, token: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).expect("it listens");
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Accept: application/openmetrics-text\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.") && answer[8..].starts_with(" 200 "), "{answer}");
    answer
}
