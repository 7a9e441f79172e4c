//! Who is a recipient, by real programs: a list that changes, a server that is asked, what is learned.

use super::harness::client::Client;
use super::harness::*;
use std::fs;
use std::process::Command;

fn rcpt(client: &mut Client, mailbox: &str, expected: &str) {
    client.say(&format!("RCPT TO:<{mailbox}>"), expected);
}

fn begin(server: &Server) -> Client {
    let mut client = Client::connect(server.address);
    client.say("EHLO client.example", "250-");
    client.say("MAIL FROM:<s@example.org>", "250 2.1.0");
    client
}

#[test]
fn a_list_decides_and_a_bad_one_changes_nothing() {
    let directory = Scratch::new("recipients-list");
    let list = directory.path("recipients.txt");
    let rest = format!("recipients = \"list\"\nrecipient_list = \"{}\"", list.display());
    let config = configure(&directory, &Settings { rest: &rest, ..Settings::default() });
    for command in ["check", "serve"] {
        let refused =
            Command::new(env!("CARGO_BIN_EXE_stratamx")).args([command, "--config"]).arg(&config).output();
        let refused = refused.unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains("recipients.txt: "), "{command}: {said}");
    }
    fs::write(&list, "# staff\nAnna@example.test\n").unwrap();
    let mut server = Server::start(&config);
    let mut client = begin(&server);
    rcpt(&mut client, "anna@example.test", "250 2.1.5");
    rcpt(&mut client, "ANNA+list@EXAMPLE.test", "250 2.1.5");
    rcpt(&mut client, "postmaster@example.test", "250 2.1.5");
    rcpt(&mut client, "bert@example.test", "550 5.1.1");
    // A look that finds it changed, and one that finds it at rest.
    fs::write(&list, "anna@example.test\nbert@elsewhere.test\n").unwrap();
    let line = server.process.wait_for("the list in force stays");
    assert!(line.contains("recipients.txt:2: "), "{line}");
    rcpt(&mut client, "bert@example.test", "550 5.1.1");
    fs::write(&list, "bert@example.test\n").unwrap();
    server.process.wait_for("recipients read again");
    rcpt(&mut client, "bert@example.test", "250 2.1.5");
    rcpt(&mut client, "anna+other@example.test", "550 5.1.1");
    // A reload with a list that cannot be used changes nothing else either.
    fs::remove_file(&list).unwrap();
    server.process.signal("-HUP");
    server.process.wait_for("the configuration in force stays");
    rcpt(&mut client, "bert+x@example.test", "250 2.1.5");
    server.stop();
}

fn verifying(directory: &Scratch, primary: std::net::SocketAddr, policy: &str) -> std::path::PathBuf {
    let rest = format!("recipients = \"{policy}\"\nunknown_during_outage = \"defer\"");
    configure(directory, &Settings { primary, rest: &rest, ..Settings::default() })
}

/// What a server said before it went down is known after a restart without it.
#[test]
fn a_server_is_asked_and_its_answers_outlive_a_restart() {
    let directory = Scratch::new("recipients-verify");
    let (primary, record) = (free_address(), directory.path("record"));
    let config = verifying(&directory, primary, "verify");
    let rules = ["rcpt:to=good@*:accept", "rcpt:to=postmaster@*:accept", "rcpt:unknown"];
    let sink = Primary::sink(&primary.to_string(), &record, &rules);
    let server = Server::start(&config);
    let mut client = begin(&server);
    for (mailbox, expected) in [
        ("good@example.test", "250 2.1.5"),
        ("bad@example.test", "550 5.1.1"),
        ("Good+list@example.test", "250 2.1.5"),
    ] {
        rcpt(&mut client, mailbox, expected);
    }
    sink.stop();
    rcpt(&mut client, "good@example.test", "250 2.1.5");
    rcpt(&mut client, "new@example.test", "450 4.1.1");
    server.stop();
    assert!(directory.path("data").join("recipients").exists());
    let server = Server::start(&config);
    let mut client = begin(&server);
    for (mailbox, expected) in [
        ("new@example.test", "450 4.1.1"),
        ("good@example.test", "250 2.1.5"),
        // Refused once only: in an outage that proves nothing.
        ("bad@example.test", "450 4.1.1"),
        ("postmaster@example.test", "250 2.1.5"),
    ] {
        rcpt(&mut client, mailbox, expected);
    }
    server.stop();
    // A damaged file is as good as none, and refuses nobody for good.
    fs::write(directory.path("data").join("recipients"), "STRATAMX RECIPIENTS 1\nxx").unwrap();
    let server = Server::start(&config);
    assert!(server.process.seen.iter().any(|line| line.contains("is damaged: it is learned anew")));
    rcpt(&mut begin(&server), "good@example.test", "450 4.1.1");
    server.stop();
}

#[test]
fn what_was_handed_over_is_known_in_the_next_outage() {
    let directory = Scratch::new("recipients-learn");
    let (primary, record) = (free_address(), directory.path("record"));
    let config = verifying(&directory, primary, "learn");
    // It does not take just anybody: else nobody would be unknown.
    let rules = ["rcpt:to=no-such-user-*:reject=550"];
    let sink = Primary::sink(&primary.to_string(), &record, &rules);
    let mut server = Server::start(&config);
    let mut client = begin(&server);
    let send = |client: &mut Client, mailbox: &str| {
        rcpt(client, mailbox, "250 2.1.5");
        client.say("DATA", "354 ");
        client.say("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 Ok: queued as ");
        client.say("MAIL FROM:<s@example.org>", "250 2.1.0");
    };
    send(&mut client, "good@example.test");
    server.process.wait_for("nothing is left to hand over now");
    sink.stop();
    send(&mut client, "good@example.test");
    server.process.wait_for("the primary is tried again later");
    rcpt(&mut client, "good+x@example.test", "250 2.1.5");
    rcpt(&mut client, "new@example.test", "450 4.1.1");
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    server.process.wait_for("nothing is left to hand over now");
    rcpt(&mut client, "newer@example.test", "250 2.1.5");
    server.stop();
    sink.stop();
}
