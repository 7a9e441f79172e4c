//! Whose mail it was, after an outage, in what a real Postfix writes down: by XCLIENT and by XFORWARD.

use super::super::harness::client::Client;
use super::super::harness::*;
use serde_json::Value;
use std::fs;

/// Clients, of which the last but one has an address that an IPv4 Postfix does not take, and the last one is on our host.
const CLIENTS: [(&str, &str); 6] = [
    ("192.0.2.7", "seven.example"),
    ("192.0.2.7", "seven.example"),
    ("198.51.100.8", "a+b.example"),
    ("192.0.2.7", "[192.0.2.7]"),
    ("IPV6:2001:db8::9", "nine.example"),
    ("127.0.0.1", "ten.example"),
];

/// Takes a message of each while the primary is down, and hands them over; the primary's record and log.
fn drained(command: &str) -> (Vec<Value>, String) {
    let scratch = Scratch::new(&format!("postfix-{command}"));
    let (primary, record) = (free_address(), scratch.path("record"));
    let smtp = "xclient_from = [\"127.0.0.0/8\"]";
    let config = configure(&scratch, &Settings { primary, smtp, ..Settings::default() });
    let mut server = Server::start(&config);
    bring_each(&server, &CLIENTS);
    let postfix = Primary::postfix_trusting(command, &primary.to_string(), &scratch.path("postfix"), &record);
    server.process.wait_for("nothing is left to hand over");
    server.stop();
    postfix.stop();
    let log = fs::read_to_string(scratch.path("record.log")).unwrap();
    let lines = fs::read_to_string(&record).unwrap();
    let arrivals: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let order: Vec<String> = (0..CLIENTS.len()).map(|number| format!("{number}@example.org")).collect();
    let came: Vec<&str> = arrivals.iter().map(|arrival| arrival["reverse_path"].as_str().unwrap()).collect();
    assert_eq!(came, order, "{log}");
    (arrivals, log)
}

/// A message of each client, by his address and HELO name, from his number.
pub(super) fn bring_each(server: &Server, clients: &[(&str, &str)]) {
    for (number, (address, helo)) in clients.iter().enumerate() {
        let mut client = Client::connect(server.address);
        client.say("EHLO proxy.example", "250-");
        client.say(&format!("XCLIENT ADDR={address}"), "220 ");
        client.say(&format!("EHLO {helo}"), "250-");
        client.say(&format!("MAIL FROM:<{number}@example.org>"), "250 2.1.0");
        client.say("RCPT TO:<a@example.test>", "250 2.1.5");
        client.say("DATA", "354");
        client.say(&format!("Subject: {number}\r\n\r\nx\r\n."), "250 2.0.0");
    }
}

/// What smtpd logged as the client of an arrival.
fn logged(arrival: &Value, log: &str) -> String {
    let queue_id = arrival["reply"].as_str().unwrap().rsplit(' ').next().unwrap();
    let mark = format!("{queue_id}: client=");
    log.lines().find_map(|line| line.split_once(&mark)).expect("each has a client").1.to_owned()
}

#[test]
fn a_postfix_that_takes_xclient_has_the_true_client_in_received_and_log() {
    let (arrivals, log) = drained("xclient");
    for (arrival, (address, helo)) in arrivals.iter().zip(CLIENTS) {
        let (received, logged) = (arrival["received"].as_str().unwrap(), logged(arrival, &log));
        if address.starts_with("IPV6:") || address == "127.0.0.1" {
            assert!(received.contains("from mx2.example.test (localhost [127.0.0.1])"), "{received}");
            assert_eq!(logged, "localhost[127.0.0.1]");
        } else {
            assert!(received.contains(&format!("from {helo} (unknown [{address}])")), "{received}");
            assert_eq!(logged, format!("unknown[{address}]"));
        }
    }
    assert!(log.contains("xclient="), "{log}");
}

#[test]
fn a_postfix_that_takes_xforward_has_the_true_client_in_its_log() {
    let (arrivals, log) = drained("xforward");
    for (arrival, (address, _)) in arrivals.iter().zip(CLIENTS) {
        let (received, logged) = (arrival["received"].as_str().unwrap(), logged(arrival, &log));
        assert!(received.contains("from mx2.example.test (localhost [127.0.0.1])"), "{received}");
        if address.starts_with("IPV6:") || address == "127.0.0.1" {
            assert!(!logged.contains("orig_client"), "{logged}");
        } else {
            assert!(logged.contains(&format!("[{address}]")), "{logged}");
        }
    }
    assert!(log.contains("xforward="), "{log}");
}
