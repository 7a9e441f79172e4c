//! After an outage a content filter behind the primary judges senders and not us: a real rspamd as the milter of a real Postfix. Where
//! Postfix takes XCLIENT it knows the client itself; where it does not, rspamd's `external_relay` counts one Received field, which
//! has to be ours, with the client's address in it (DESIGN.md 5: exactly one honest Received field).

use super::super::harness::*;
use super::naming;
use std::fs;

const CLIENTS: [(&str, &str); 3] =
    [("192.0.2.7", "seven.example"), ("198.51.100.8", "eight.example"), ("203.0.113.9", "[203.0.113.9]")];

/// Takes a message of each while the primary is down, and hands them over; what rspamd saw of each, first and last.
fn seen(by_received: bool) -> Vec<[String; 2]> {
    let scratch = Scratch::new(&format!("rspamd-{by_received}"));
    let (primary, record) = (free_address(), scratch.path("record"));
    let smtp = "xclient_from = [\"127.0.0.0/8\"]";
    let config = configure(&scratch, &Settings { primary, smtp, ..Settings::default() });
    let mut server = Server::start(&config);
    naming::bring_each(&server, &CLIENTS);
    let directory = scratch.path("postfix");
    let postfix = Primary::postfix_filtering(by_received, &primary.to_string(), &directory, &record);
    server.process.wait_for("nothing is left to hand over");
    server.stop();
    postfix.stop();
    let log = fs::read_to_string(scratch.path("record.log")).unwrap();
    let of = |when: &str, number: usize| {
        let mark = format!("seen {when}: <{number}@example.org> from ");
        let found = log.lines().find_map(|line| line.split_once(&mark));
        found.unwrap_or_else(|| panic!("{mark}: {log}")).1.to_owned()
    };
    (0..CLIENTS.len()).map(|number| [of("first", number), of("last", number)]).collect()
}

#[test]
fn rspamd_sees_the_original_address_where_postfix_takes_xclient() {
    for ([first, last], (address, helo)) in seen(false).into_iter().zip(CLIENTS) {
        assert_eq!(
            first,
            format!("{address}, who says {helo}; 0 fields of trace"),
            "it has no header section yet"
        );
        assert_eq!(last, format!("{address}, who says {helo}; 1 fields of trace"));
    }
}

#[test]
fn rspamd_finds_the_original_address_in_our_one_received_field() {
    for ([first, last], (address, _)) in seen(true).into_iter().zip(CLIENTS) {
        assert_eq!(first, "127.0.0.1, who says mx2.example.test; 0 fields of trace", "{address}");
        assert!(last.starts_with(&format!("{address}, who says ")), "{last}");
        assert!(last.ends_with("; 1 fields of trace"), "{last}");
    }
}
