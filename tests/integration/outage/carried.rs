//! Mail that is carried through to a real Postfix while its sender waits: Postfix judges the sender, not us, and its own words come back. When
//! it is stopped in the middle of a transaction, that transaction is ours.

use super::super::harness::client::Client;
use super::super::harness::*;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

const REFUSED: &str = "198.51.100.66";

/// A session whose client is at `address`, with MAIL said.
fn session(server: &Server, address: &str) -> Client {
    let mut client = Client::connect(server.address);
    client.say("EHLO proxy.example", "250-");
    client.say(&format!("XCLIENT ADDR={address}"), "220 ");
    client.say("EHLO sender.example", "250-");
    client.say("MAIL FROM:<a@example.org>", "250 2.1.0");
    client
}

fn data(client: &mut Client, subject: &str) -> String {
    client.say("DATA", "354");
    client.say(
        &format!("X-Blaster-Id: {subject}\r\nSubject: {subject}\r\n\r\nx\r\n."),
        "250 2.0.0 Ok: queued as ",
    )
}

/// Ends the processes of this Postfix that have a client.
fn kill_smtpd(directory: &Path) {
    let master = fs::read_to_string(directory.join("spool/pid/master.pid")).unwrap().trim().to_owned();
    let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap();
    let is_smtpd =
        |pid: &&str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "smtpd");
    let smtpd: Vec<&str> = children.split_whitespace().filter(is_smtpd).collect();
    assert!(!smtpd.is_empty(), "somebody serves us");
    for pid in smtpd {
        assert!(Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
    }
}

#[test]
fn a_real_postfix_judges_the_sender_while_he_waits() {
    let scratch = Scratch::new("postfix-carried");
    let (primary, record) = (free_address(), scratch.path("record"));
    let smtp = "xclient_from = [\"127.0.0.0/8\"]";
    let config = configure(&scratch, &Settings { primary, smtp, ..Settings::default() });
    let directory = scratch.path("postfix");
    let postfix = Primary::postfix_refusing(REFUSED, &primary.to_string(), &directory, &record);
    let mut server = Server::start(&config);
    let mut client = session(&server, "192.0.2.7");
    client.say("RCPT TO:<warm@example.test>", "250 2.1.5");
    data(&mut client, "warm");
    server.process.wait_for("nothing is left to hand over");

    let mut refused = session(&server, REFUSED);
    let said = refused.say("RCPT TO:<a@example.test>", "554 5.7.1");
    assert!(said.contains("not you"), "{said}");

    client.say("MAIL FROM:<a@example.org>", "250 2.1.0");
    client.say("RCPT TO:<a@example.test>", "250 2.1.5");
    let carried = data(&mut client, "carried");
    server.process.wait_for("carried through");

    client.say("MAIL FROM:<a@example.org>", "250 2.1.0");
    client.say("RCPT TO:<a@example.test>", "250 2.1.5");
    kill_smtpd(&directory);
    data(&mut client, "ours");
    server.process.wait_for("nothing is left to hand over");
    server.stop();
    postfix.stop();

    let lines = fs::read_to_string(&record).unwrap();
    let arrivals: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&str> = arrivals.iter().map(|arrival| arrival["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["warm", "carried", "ours"]);
    let queue_id = arrivals[1]["reply"].as_str().unwrap().rsplit(' ').next().unwrap();
    assert!(carried.contains(queue_id), "Postfix's own words: {carried}");
    for arrival in &arrivals {
        let received = arrival["received"].as_str().unwrap();
        assert!(received.contains("from sender.example (unknown [192.0.2.7])"), "{received}");
    }
}
