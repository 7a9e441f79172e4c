//! An outage that ends at real servers of other makes, each with the limits that it has when nobody sets any. Learned
//! from them:
//!
//! - Exim (4.96) swallows the chunk that it refuses ("valid RCPT command must precede BDAT") and stays in step, so a drain
//!   goes by whole transactions in windows, by BDAT; also within TLS. It takes 1,000 messages a connection, answers each
//!   MAIL behind them by 421, and goes on reading.
//! - OpenSMTPD (6.8) takes 100 messages a session, and answers each MAIL behind them by `452 4.5.3`: the session is full,
//!   the next one is not. It offers neither PIPELINING nor CHUNKING.
//! - OpenSMTPD 6.8 with OpenSSL 3, as Debian 12 has it, offers STARTTLS and breaks off each handshake: mail goes without,
//!   where the policy is `opportunistic`.
//! - aiosmtpd (1.4) offers neither PIPELINING nor CHUNKING: each command waits for the reply to the one before.
//! - Haraka (3.3) offers PIPELINING and no CHUNKING, and takes commands behind a dot for an attack: it drops them and answers 503 to each. So a
//!   drain goes message by message there, with the envelope in one write.
//! - Haraka breaks lines of more than 990 octets in two, where RFC 5321 4.5.3.1.6 has room for 998, and renames Authentication-Results that it did
//!   not make, ours too (clean_auth_results), unless it is told otherwise.
//! - Postfix behind postscreen with its deep tests offers a new client no PIPELINING, answers each RCPT of his first
//!   session by `450 4.3.2`, and lets him through from the next one on: three messages are put off, and go first when they
//!   come again.
//! - Dovecot (2.3.19) by LMTP keeps in step with an envelope behind the dot, answers for each recipient, and finds out at the end
//!   of data who is over quota: `552 5.2.2` for him, 250 for the others.
//! - In the null reverse-path aiosmtpd hands `<>` to its hooks, and OpenSMTPD writes no Return-Path.

use super::super::harness::client::Client;
use super::super::harness::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// What came of an outage whose primary is of this make: lines of its record, which is sound, and its log.
struct Ended {
    arrivals: Vec<Value>,
    log: String,
    ours: Vec<String>,
}

const MESSAGES: u64 = 120;
/// More than OpenSMTPD takes in two sessions.
const MANY: u64 = 240;
/// One of each six has forty recipients.
const ODD: u64 = 12;

/// An outage that ends at a primary of this make, which offers TLS or does not.
fn outage(make: Make, offers_tls: bool, policy: &str) -> Ended {
    let messages = if make == Make::OpenSmtpd { MANY } else { MESSAGES };
    let name = format!("outage-{make:?}-{offers_tls}");
    // OpenSMTPD counts the messages of a session: one connection fills it. Of Dovecot order is known on one.
    let connections = if matches!(make, Make::Dovecot | Make::OpenSmtpd) { 1 } else { 5 };
    let delivery = format!("tls = \"{policy}\"\nmax_connections = {connections}");
    let rest = if make == Make::Dovecot { "protocol = \"lmtp\"" } else { "" };
    outage_until(&name, messages, (&delivery, rest), |listen, directory, record| {
        Primary::other(make, offers_tls, listen, directory, record)
    })
}

/// Takes mail while the primary is down, and hands it over to the one that is started then: where it listens, its
/// directory, its record.
fn outage_until(
    name: &str,
    messages: u64,
    (delivery, rest): (&str, &str),
    start: impl FnOnce(&str, &Path, &Path) -> Primary,
) -> Ended {
    let scratch = Scratch::new(name);
    let (primary, record) = (free_address(), scratch.path("record"));
    let config = configure(&scratch, &Settings { primary, delivery, rest, ..Settings::default() });
    let mut server = Server::start(&config);
    let to = server.address.to_string();
    let ledgers = ["blaster", "odd"].map(|name| scratch.path(name));
    let count = messages.to_string();
    let load = ["--messages", &count, "--sessions", "2", "--mailboxes", "9", "--size", "1KiB-40KiB"];
    let more = ["--recipients-per-message", "2", "--to", &to, "--ledger", ledgers[0].to_str().unwrap()];
    let blasted = blaster(&[&load[..], &more[..]].concat());
    assert!(blasted.status.success(), "{}", String::from_utf8_lossy(&blasted.stderr));
    Sender::start(Software::Odd, &to, ODD, 30, 1, &ledgers[1]).finish();

    let directory = scratch.path("primary");
    let real = start(&primary.to_string(), &directory, &record);
    server.process.wait_for("nothing is left to hand over");
    let ours = server.stop();
    real.stop();
    let (is_sound, findings) = verify(&[&record], &ledgers.each_ref().map(|ledger| ledger.as_path()));
    assert!(is_sound, "{findings}");
    let units = (findings["units"].as_u64(), findings["duplicates"].as_u64());
    assert_eq!(units, (Some(messages * 2 + (ODD - ODD / 6) + ODD / 6 * 40), Some(0)));
    let text = fs::read_to_string(&record).unwrap();
    let arrivals = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Ended { arrivals, log: fs::read_to_string(scratch.path("record.log")).unwrap(), ours }
}

impl Ended {
    /// In how many arrivals this is true.
    fn count(&self, what: &str) -> u64 {
        self.arrivals.iter().filter(|arrival| arrival[what].as_bool().unwrap()).count() as u64
    }

    /// What we told of how the primary is.
    fn was_ever(&self, state: &str) -> bool {
        let state = format!("\"is\":\"{state}\"");
        self.ours.iter().any(|line| line.contains(&state))
    }
}

fn exim_swallows_and_gets_chunks(offers_tls: bool, policy: &str) {
    let ended = outage(Make::Exim, offers_tls, policy);
    assert!(ended.log.contains("SMTP protocol error in \"BDAT 6 LAST\""), "{}", ended.log);
    assert!(ended.count("chunked") > MESSAGES / 2, "{}", ended.log);
    assert_eq!(ended.count("tls"), if offers_tls { MESSAGES + ODD } else { 0 });
    assert!(!ended.was_ever("impaired"), "{:#?}", ended.ours);
}

#[test]
fn exim_swallows_a_refused_chunk_and_gets_its_mail_by_bdat() {
    exim_swallows_and_gets_chunks(false, "none");
}

#[test]
fn exim_swallows_a_refused_chunk_and_gets_its_mail_by_bdat_through_tls() {
    exim_swallows_and_gets_chunks(true, "require");
}

#[test]
fn opensmtpd_takes_a_hundred_messages_a_session_and_is_not_taken_for_impaired() {
    let ended = outage(Make::OpenSmtpd, false, "opportunistic");
    let full = ended.log.lines().filter(|line| line.contains("4.5.3")).count();
    assert_eq!(full, 2, "once a hundred messages: {}", ended.log);
    assert!(!ended.was_ever("impaired"), "{:#?}", ended.ours);
}

#[test]
fn opensmtpd_that_offers_tls_gets_its_mail_whether_its_handshake_works_or_not() {
    let ended = outage(Make::OpenSmtpd, true, "opportunistic");
    let by_tls = ended.count("tls");
    assert!([0, MANY + ODD].contains(&by_tls), "{by_tls}: one way for all");
    if by_tls == 0 {
        assert!(ended.log.contains("SSL routines"), "it broke off: {}", ended.log);
    }
}

#[test]
fn aiosmtpd_gets_its_mail_command_by_command_plain_and_through_tls() {
    for (offers_tls, policy) in [(false, "none"), (true, "require")] {
        let ended = outage(Make::Aiosmtpd, offers_tls, policy);
        assert_eq!(ended.count("tls"), if offers_tls { MESSAGES + ODD } else { 0 });
        assert!(!ended.log.contains("exception"), "{}", ended.log);
    }
}

#[test]
fn haraka_drops_what_rides_behind_a_dot_and_gets_its_mail_message_by_message() {
    for (offers_tls, policy) in [(false, "none"), (true, "require")] {
        let ended = outage(Make::Haraka, offers_tls, policy);
        assert_eq!(ended.count("tls"), if offers_tls { MESSAGES + ODD } else { 0 });
        assert!(ended.log.contains("command pipelined after end of DATA - refused"), "{}", ended.log);
        // Once a connection: neither a broken session a message nor a refusal.
        let broken =
            ended.ours.iter().filter(|line| line.contains("the session with the primary ended")).count();
        assert_eq!(broken, 0, "{:#?}", ended.ours);
        let dropped = ended.log.matches("command pipelined after end of DATA").count();
        assert!(dropped <= 10, "{dropped}: {}", ended.log);
        assert!(!ended.was_ever("impaired"), "{:#?}", ended.ours);
    }
}

#[test]
fn postscreen_that_has_a_new_client_come_again_gets_all_mail_in_order_then() {
    let ended = outage_until(
        "outage-postscreen",
        MESSAGES,
        ("tls = \"none\"", ""),
        Primary::postfix_behind_postscreen,
    );
    assert!(ended.log.contains("450 4.3.2 Service currently unavailable"), "{}", ended.log);
    let came_again = ended.log.find("PASS OLD").expect("the next session is let through");
    assert!(came_again < ended.log.find(": client=").expect("mail came"), "{}", ended.log);
    let put_off = ended.ours.iter().filter(|line| line.contains("deferred by the primary")).count();
    assert_eq!(put_off, 3, "no more than it takes to see that it is everything: {:#?}", ended.ours);
}

#[test]
fn dovecot_gets_its_mail_by_lmtp() {
    let ended = outage(Make::Dovecot, false, "none");
    assert!(!ended.was_ever("impaired"), "{:#?}", ended.ours);
}

/// A mailbox over quota keeps nobody else from his mail, and nobody gets it twice (H43).
#[test]
fn dovecot_answers_for_each_recipient_of_a_message() {
    let scratch = Scratch::new("dovecot-full");
    let (primary, record) = (free_address(), scratch.path("record"));
    let dovecot =
        Primary::other(Make::Dovecot, false, &primary.to_string(), &scratch.path("primary"), &record);
    let rest = "protocol = \"lmtp\"\non_reject = \"hold\"";
    let config = configure(&scratch, &Settings { primary, rest, ..Settings::default() });
    let mut server = Server::start(&config);
    let mut client = Client::connect(server.address);
    client.open_transaction("first@example.test");
    client.say("RCPT TO:<full@example.test>", "250 2.1.5");
    client.say("RCPT TO:<third@example.test>", "250 2.1.5");
    client.say("DATA", "354");
    client.send(b"Subject: to three\r\n\r\nof whom one has no room\r\n.\r\n");
    assert!(client.reply().starts_with("250 2.0.0"));
    let told = server.process.wait_for("refused by the primary: held");
    assert!(told.contains("552"), "{told}");
    server.process.wait_for("nothing is left to hand over");
    server.stop();
    dovecot.stop();
    let text = fs::read_to_string(&record).unwrap();
    let arrivals: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [arrival] = &arrivals[..] else { panic!("{text}") };
    let mut recipients: Vec<&str> =
        arrival["recipients"].as_array().unwrap().iter().map(|to| to.as_str().unwrap()).collect();
    recipients.sort_unstable();
    assert_eq!(recipients, ["first@example.test", "third@example.test"]);
}
