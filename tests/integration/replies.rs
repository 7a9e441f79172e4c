//! Every reply that there is, is seen by somebody: in a conversation, or at the real server by a test that is named here.

use super::harness::client::Client;
use super::harness::*;
use std::fs;
use std::path::Path;
use stratamx::limits::{OWN_RECEIVED_FIELDS_MAX, RECEIVED_FIELDS_MAX};

/// Replies that the host gives: the constant, how the reply begins, and who sees it: a file and its test.
const BY_THE_HOST: [(&str, &str, &str, &str); 10] = [
    (
        "PRIMARY_IS_UP_451",
        "451 4.7.1",
        "src/shard/simulated/carried.rs",
        "defer_sends_to_a_primary_that_is_up_and_takes_whom_it_does_not_reach",
    ),
    (
        "PENDING_MESSAGES_STARTED_253",
        "253 2.0.0",
        "tests/integration/extensions.rs",
        "etrn_ends_the_pause_of_a_domain",
    ),
    (
        "PENDING_MESSAGES_STARTED_252",
        "252 2.0.0",
        "tests/integration/replies.rs",
        "etrn_for_what_is_below_a_domain_tells_no_number",
    ),
    (
        "TOO_MANY_CONNECTIONS_421",
        "421 4.7.0",
        "tests/integration/serve.rs",
        "connections_over_the_cap_are_told_421",
    ),
    (
        "CONNECTION_RATE_421",
        "421 4.7.0",
        "tests/integration/edge.rs",
        "who_comes_too_fast_is_told_to_come_later",
    ),
    (
        "MEMORY_PRESSURE_421",
        "421 4.3.1",
        "src/shard/simulated/edge.rs",
        "p7_short_memory_is_told_to_who_comes_and_to_who_begins",
    ),
    (
        "UNVERIFIED_RECIPIENT_450",
        "450 4.1.1",
        "tests/integration/recipients.rs",
        "a_server_is_asked_and_its_answers_outlive_a_restart",
    ),
    (
        "MESSAGE_RATE_451",
        "451 4.7.1",
        "tests/integration/edge.rs",
        "who_comes_too_fast_is_told_to_come_later",
    ),
    (
        "ETRN_NOT_ALLOWED_459",
        "459 4.7.1",
        "tests/integration/extensions.rs",
        "etrn_ends_the_pause_of_a_domain",
    ),
    ("LOOP_554", "554 5.4.6", "tests/integration/replies.rs", "what_goes_in_circles_is_refused_in_step"),
];
fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Names of the constants, and each as its line goes over the wire.
fn constants() -> Vec<(String, String)> {
    let source = read("src/smtp/reply/mod.rs");
    let constants = source.split("\npub const ").skip(1).filter_map(|constant| {
        let (name, rest) = constant.split_once(": Reply")?;
        let (numbers, rest) = rest.split_once('"')?;
        let text = rest.split('"').next()?;
        // `fixed(250, 2, 1, 5, "Ok")`, or `ReplyCode::new(354)` without an enhanced code.
        let numbers: Vec<&str> =
            numbers.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()).collect();
        let codes = match *numbers.as_slice() {
            [code, class, subject, detail] => format!("{code} {class}.{subject}.{detail}"),
            [code] => code.to_owned(),
            _ => panic!("{name}: {numbers:?}"),
        };
        assert!(codes.starts_with(name.rsplit('_').next()?), "{name} is {codes}");
        Some((name.to_owned(), format!("{codes} {text}")))
    });
    constants.collect()
}

/// The server's lines of all conversations.
fn said() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations");
    let texts = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.ends_with(".smtp") && !name.starts_with("client-")
    });
    let texts: Vec<String> = texts.map(|path| fs::read_to_string(path).unwrap()).collect();
    // `S: text`, or `S*20: text`.
    let marked = texts.iter().flat_map(|text| text.lines().filter(|line| line.starts_with('S')));
    marked.filter_map(|line| line.split_once(": ")).map(|(_, text)| text.to_owned()).collect()
}

#[test]
fn every_reply_is_seen_by_a_conversation_or_by_a_test() {
    let (constants, said) = (constants(), said());
    assert!(constants.len() >= 45, "{} replies", constants.len());
    for (name, line) in &constants {
        // The replies to ETRN go on with the node.
        let is_line = |said: &String| {
            said.strip_prefix(line).is_some_and(|rest| rest.is_empty() || rest.starts_with(" for node "))
        };
        if said.iter().any(is_line) {
            continue;
        }
        let is_told = BY_THE_HOST.iter().any(|row| row.0 == name);
        assert!(is_told, "nobody sees {name}: a conversation, or a test and its row above");
    }
    for (name, begins, file, test) in BY_THE_HOST {
        assert!(constants.iter().any(|(known, _)| known == name), "{name} is no more");
        let source = read(file);
        let body =
            source.split(&format!("fn {test}(")).nth(1).unwrap_or_else(|| panic!("{file} has no {test}"));
        let body = body.split("#[test]").next().unwrap();
        assert!(body.contains(&format!("\"{begins}")), "{test} does not see {begins}");
    }
}

/// RFC 5321 6.3: at least 100 pass. By DATA and by BDAT; the session goes on, and what is no header field does not count.
#[test]
fn what_goes_in_circles_is_refused_in_step() {
    let directory = Scratch::new("loops");
    let server = Server::start(&configure(&directory, &Settings::default()));
    let mut client = Client::connect(server.address);
    let field = "received: from a.example\r\n\tby b.example; Sun, 22 Nov 2026 10:00:00 +0000\r\n";
    let fields = |count: usize| field.repeat(count) + "Subject: x\r\n\r\n" + &field.repeat(200);
    let most = client.message("a@example.test", &fields(RECEIVED_FIELDS_MAX));
    assert!(most.starts_with("250 2.0.0 Ok: queued as "), "{most}");
    let one_more = client.message("a@example.test", &fields(RECEIVED_FIELDS_MAX + 1));
    assert!(one_more.starts_with("554 5.4.6"), "{one_more}");
    client.open_transaction("a@example.test");
    let message = fields(RECEIVED_FIELDS_MAX + 1);
    client.send(format!("BDAT {} LAST\r\n{message}NOOP\r\n", message.len()).as_bytes());
    let by_bdat = client.reply();
    assert!(by_bdat.starts_with("554 5.4.6"), "{by_bdat}");
    assert_eq!(client.reply(), "250 2.0.0 Ok");
    // What was here before may come again, forwarded to another domain, but not for ever.
    let own =
        "Received: from a.example by mx2.example.test with ESMTP id 1; Sun, 22 Nov 2026 10:00:00 +0000\r\n";
    for (count, expected) in
        [(OWN_RECEIVED_FIELDS_MAX, "250 2.0.0"), (OWN_RECEIVED_FIELDS_MAX + 1, "554 5.4.6")]
    {
        let reply =
            client.message("a@example.test", &(own.repeat(count) + "Subject: x\r\n\r\n" + &own.repeat(9)));
        assert!(reply.starts_with(expected), "{count}: {reply}");
    }
    let after = client.message("a@example.test", "Subject: x\r\n\r\nx");
    assert!(after.starts_with("250 2.0.0 Ok: queued as "), "{after}");
    server.stop();
}

/// RFC 1985 5.3: 252 for a node that means several domains.
#[test]
fn etrn_for_what_is_below_a_domain_tells_no_number() {
    let directory = Scratch::new("etrn-below");
    let server = Server::start(&configure(
        &directory,
        &Settings { rest: "etrn_from = [\"127.0.0.1\"]", ..Settings::default() },
    ));
    let mut client = Client::connect(server.address);
    let kept = client.message("a@example.test", "Subject: x\r\n\r\nx");
    assert!(kept.starts_with("250 2.0.0"), "{kept}");
    client.say("ETRN @test", "252 2.0.0 Ok, pending messages for node test started");
    server.stop();
}
