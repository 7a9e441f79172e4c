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
