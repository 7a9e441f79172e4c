//! An outage that ends at a real Postfix that greylists, by postgrey, everybody whom it sees for the first time. Learned from them:
//!
//! - Each RCPT is answered by `450 4.2.0 ... Greylisted`, and each DATA behind it by 554. Postfix takes that for errors of the client: from
//!   the 10th in a session on it waits a second before each reply (smtpd_soft_error_limit), and it answers what follows the 20th
//!   by `421 4.7.0 ... too many errors` (smtpd_hard_error_limit). A message that it takes makes it forget them.
//! - postgrey judges by client, sender and recipient, so of a backlog each message is new to it.
//!
//! Domains have the default `retry_interval` here: what comes again within the patience of a test does so since the primary said when.

use super::super::harness::client::Client;
use super::super::harness::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

const STATES: &str = "Greylisted for %s seconds";
const REST: &str = "retry_interval = \"5m\"";

/// Takes what `send` sends while the primary is down, and hands it over to one that greylists, until we say `over`; what we told while it was
/// there, and its log.
fn outage(name: &str, over: &str, send: impl FnOnce(&Scratch, &Server)) -> (Scratch, Vec<String>, String) {
    let scratch = Scratch::new(name);
    let (primary, record) = (free_address(), scratch.path("record"));
    let config = configure(&scratch, &Settings { primary, rest: REST, ..Settings::default() });
    let server = Server::start(&config);
    send(&scratch, &server);
    server.stop();
    let directory = scratch.path("postfix");
    let postfix = Primary::postfix_greylisting(STATES, &primary.to_string(), &directory, &record);
    // A start looks for the primary at once.
    let mut server = Server::start(&config);
    server.process.wait_for(over);
    let ours = server.stop();
    postfix.stop();
    let log = fs::read_to_string(scratch.path("record.log")).unwrap();
    (scratch, ours, log)
}

/// Greylisting is not an outage, and nobody is refused for it.
fn assert_calm(ours: &[String]) {
    for word in ["\"is\":\"down\"", "\"is\":\"impaired\"", "\"is\":\"frozen\"", "refused by the primary"] {
        assert!(!ours.iter().any(|line| line.contains(word)), "{word}: {ours:#?}");
    }
}

#[test]
fn a_greylisted_backlog_comes_again_in_order_when_postgrey_said_and_with_few_errors_a_session() {
    let (scratch, ours, log) = outage("postgrey", "nothing is left to hand over", |scratch, server| {
        let (to, ledger) = (server.address.to_string(), scratch.path("ledger"));
        let load = ["--messages", "60", "--sessions", "2", "--mailboxes", "9", "--size", "1KiB-20KiB"];
        let more = ["--recipients-per-message", "2", "--to", &to, "--ledger", ledger.to_str().unwrap()];
        let blasted = blaster(&[&load[..], &more[..]].concat());
        assert!(blasted.status.success(), "{}", String::from_utf8_lossy(&blasted.stderr));
    });
    let (is_sound, findings) = verify(&[&scratch.path("record")], &[&scratch.path("ledger")]);
    assert!(is_sound, "{findings}");
    let units = (findings["units"].as_u64(), findings["duplicates"].as_u64());
    assert_eq!(units, (Some(120), Some(0)));
    assert_calm(&ours);
    // But for the question for a recipient that cannot exist, which is greylisted as well, and put no second time.
    let of_mail = |said: &str| {
        let lines = log.lines().filter(|line| line.contains(said));
        lines.filter(|line| !line.contains("recipient=no-such-user-")).count()
    };
    // Each once: postgrey calls a first try early, too, where a second began since it came.
    assert_eq!((of_mail("action=greylist, "), of_mail("action=pass, ")), (120, 120), "{log}");
    assert!(!log.contains("too many errors"), "{log}");
}

/// Postfix ends the session among its recipients: twenty of them are known to postgrey then, the others come behind.
#[test]
fn a_message_to_more_than_postfix_has_patience_for_reaches_them_all_once() {
    const RECIPIENTS: usize = 25;
    let recipient = |number| format!("r{number}@example.test");
    let (scratch, ours, log) = outage("postgrey-many", "\"handed over\"", |_, server| {
        let mut client = Client::connect(server.address);
        client.open_transaction(&recipient(0));
        for number in 1..RECIPIENTS {
            client.say(&format!("RCPT TO:<{}>", recipient(number)), "250 2.1.5");
        }
        client.say("DATA", "354");
        client.say("Subject: to many\r\n\r\nx\r\n.", "250 2.0.0");
    });
    assert!(log.contains("too many errors"), "{log}");
    assert_calm(&ours);
    let mut taken: Vec<String> = recipients_of(&scratch.path("record"));
    taken.sort();
    let mut expected: Vec<String> = (0..RECIPIENTS).map(recipient).collect();
    expected.sort();
    assert_eq!(taken, expected, "{log}");
}

fn recipients_of(record: &Path) -> Vec<String> {
    let text = fs::read_to_string(record).unwrap();
    let arrivals = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let each = arrivals.flat_map(|arrival| arrival["recipients"].as_array().unwrap().clone());
    each.map(|recipient| recipient.as_str().unwrap().to_owned()).collect()
}
