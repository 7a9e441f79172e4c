//! An outage as its operator sees it: who is told, once, in which words; and what is told of it afterwards.

use super::*;
use base64::Engine as _;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

/// A web server that takes whatever comes and says so; what came, head and body.
fn web() -> (SocketAddr, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut octets = Vec::new();
            let mut buffer = [0; 4096];
            let (head, body) = loop {
                let text = String::from_utf8_lossy(&octets).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let lower = head.to_ascii_lowercase();
                    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                        break (lower, body.to_owned());
                    }
                }
                let read = stream.read(&mut buffer).unwrap();
                assert!(read > 0, "cut off");
                octets.extend_from_slice(&buffer[..read]);
            };
            let says = if head.starts_with("post /broken") { "500 No" } else { "200 OK" };
            write!(stream, "HTTP/1.1 {says}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            if sender.send((head, body)).is_err() {
                return;
            }
        }
    });
    (address, received)
}

fn value<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {head}"))
}

/// The kinds of what a webhook was told, in order, until one of them came.
fn kinds_until(received: &Receiver<(String, String)>, last: &str) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    while !kinds.iter().any(|kind| kind == last) {
        let (_, body) =
            received.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{last} never came: {kinds:?}"));
        let body: Value = serde_json::from_str(&body).unwrap();
        let events = body["events"].as_array().unwrap().iter();
        kinds.extend(events.map(|event| event["kind"].as_str().unwrap().to_owned()));
    }
    kinds
}

#[test]
fn an_outage_is_told_once_over_a_kill_and_its_report_accounts_for_all_mail() {
    let directory = Scratch::new("alerts-outage");
    let (address, received) = web();
    let (record, inbox) = (directory.path("record.jsonl"), directory.path("inbox.jsonl"));
    let operator = Primary::sink("127.0.0.1:0", &inbox, &[]);
    let primary = free_address();
    let delivery = format!("smarthost = \"{}\"", operator.address);
    let config = configure(&directory, &Settings { primary, delivery: &delivery, ..Settings::default() });
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[admin]\n", "[admin]\nalert_after = \"0s\"\n")).unwrap();
    let node = Node::start(&directory, &config);
    let run = |node: &Node, arguments: &[&str]| {
        let (status, stdout, stderr) = node.command(arguments);
        assert_eq!(status, Some(0), "{arguments:?}: {stderr}");
        stdout
    };
    let (status, _, stderr) = node.command(&["contact", "add", "me", "mail", "to=me@example.test"]);
    assert!(status == Some(1) && stderr.contains("in an outage nobody reads it"), "{stderr}");
    let url = format!("url=http://{address}/alerts");
    run(&node, &["contact", "add", "panel", "webhook", &url, "secret=whsec_c2VjcmV0"]);
    run(&node, &["contact", "add", "ops", "mail", "to=ops@operator.example"]);
    run(&node, &["contact", "add", "me", "mail", "to=me@example.test", "--severity", "critical"]);
    let listed = run(&node, &["contact", "list"]);
    assert!(listed.contains("ops@operator.example") && !listed.contains("c2VjcmV0"), "{listed}");
    let (status, _, stderr) = node.command(&["contact", "remove", "2"]);
    assert_eq!(status, Some(0), "the webhook is left: {stderr}");
    run(&node, &["contact", "add", "ops", "mail", "to=ops@operator.example"]);
    for number in 0..5 {
        bring(&node.server, &format!("user{number}@example.test"));
    }
    let (head, body) = received.recv_timeout(PATIENCE).unwrap();
    let (id, at) = (value(&head, "webhook-id: "), value(&head, "webhook-timestamp: "));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
    let tag = ring::hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes());
    let expected = format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(tag));
    // The head came in lower case.
    assert_eq!(value(&head, "webhook-signature: "), expected.to_ascii_lowercase());
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["events"][0]["kind"], "primary-down-opened", "{told}");
    assert!(
        told["text"].as_str().unwrap().contains("The mail server of example.test cannot be reached since 20"),
        "{told}"
    );
    let open = run(&node, &["alert", "list"]);
    assert!(open.contains("critical") && open.contains("example.test") && open.contains("holds"), "{open}");
    let mut node = node;
    node.server.process.kill();
    let node = Node::start(&directory, &config);
    run(&node, &["alert", "acknowledge", "1"]);
    assert!(run(&node, &["alert", "list"]).contains("first administrator"));
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    let kinds = kinds_until(&received, "outage-ended");
    assert!(!kinds.iter().any(|kind| kind == "primary-down-opened"), "told once, over a kill: {kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| *kind == "outage-ended").count(), 1, "{kinds:?}");
    let outages = node.get("/api/v1/outages");
    let outage = &outages["outages"][0];
    assert_eq!(
        (&outage["ledger"]["delivered"], &outage["ledger"]["is_balanced"]),
        (&json!(5), &json!(true)),
        "{outages}"
    );
    assert!(outage["ended_s"].as_u64().unwrap() >= outage["returned_s"].as_u64().unwrap(), "{outages}");
    let id = outage["id"].to_string();
    let page = run(&node, &["outage", "show", &id, "--html"]);
    assert!(page.starts_with("<!doctype html>") && page.contains("Nothing was lost"), "{page}");
    assert!(run(&node, &["outage", "list"]).contains("yes"));
    assert!(run(&node, &["alert", "log"]).contains("outage-began"));
    node.server.stop();
    sink.stop();
    operator.stop();
    let mails = std::fs::read_to_string(&inbox).unwrap();
    assert!(mails.contains("ops@operator.example") && mails.contains("me@example.test"), "{mails}");
}

#[test]
fn a_contact_that_cannot_be_reached_says_why_and_each_way_has_its_request() {
    let directory = Scratch::new("alerts-contacts");
    let (address, received) = web();
    let config = configure(&directory, &Settings::default());
    let node = Node::start(&directory, &config);
    let add = |arguments: &[&str]| node.command(&[&["contact", "add", "one"], arguments].concat());
    for (arguments, words) in [
        (&["mail", "to=nobody"][..], "not a mail address"),
        (&["webhook", "url=ftp://example.com", "secret=x"], "not an address like https"),
        (&["webhook", "url=https://example.com", "secret="], "secret: is empty"),
        (&["template", "url=http://example.com/", "to=+49"], "neither url nor body has {text}"),
        (&["sms", "to=+49"], "missing field"),
    ] {
        let (status, _, stderr) = add(arguments);
        assert!(status == Some(1) && stderr.contains(words), "{arguments:?}: {stderr}");
    }
    let base = format!("base_url=http://{address}");
    let broken = format!("url=http://{address}/broken");
    let template = format!("url=http://{address}/send?to={{to}}");
    for arguments in [
        &["webhook", &broken, "secret=x"][..],
        &["sms", &base, "account=AC1", "auth_token=T", "from=+1", "to=+49 1"],
        &["template", &template, "body={\"t\":\"{text}\"}", "media_type=application/json", "to=+49"],
    ] {
        assert_eq!(add(arguments).0, Some(0), "{arguments:?}");
    }
    let (status, _, stderr) = node.command(&["contact", "test", "1"]);
    assert!(status == Some(1) && stderr.contains("was not reached: it answers 500"), "{stderr}");
    received.recv_timeout(PATIENCE).unwrap();
    assert_eq!(node.command(&["contact", "test", "2"]).0, Some(0));
    let (head, body) = received.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("post /2010-04-01/accounts/ac1/messages.json "), "{head}");
    assert_eq!(value(&head, "authorization: "), "basic qumxolq=");
    assert!(body.starts_with("To=%2B49+1&From=%2B1&Body="), "{body}");
    assert_eq!(node.command(&["contact", "test", "3"]).0, Some(0));
    let (head, body) = received.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("post /send?to=%2b49 ") && body.starts_with("{\"t\":\"20"), "{head} {body}");
    let audit = node.get("/api/v1/audit").to_string();
    assert!(audit.contains("not written down") && !audit.contains("auth_token\\\":\\\"T"), "{audit}");
    node.server.stop();
}
