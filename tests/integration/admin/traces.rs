//! `trace`: what happened to a message, from the real server: tries, ends, restarts, a kill; who may ask, and who asked.

use super::*;

/// All events of a search, page by page.
fn search(node: &Node, filter: &str) -> Vec<Value> {
    let (mut events, mut after) = (Vec::new(), String::new());
    loop {
        let page = node.get(&format!("/api/v1/trace?{filter}{after}"));
        events.extend(page["events"].as_array().unwrap().iter().cloned());
        let progress = &page["progress"];
        assert!(
            progress["done"].as_u64() <= progress["of"].as_u64() && progress["unreadable"] == 0,
            "{progress}"
        );
        let Some(next) = page["next"].as_str() else { return events };
        after = format!("&after={next}");
    }
}

/// What became of whom, with which code.
fn ends(events: &[Value]) -> Vec<(String, String, u64)> {
    let recipients = events.iter().flat_map(|event| event["recipients"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    recipients.map(|one| (text(&one["address"]), text(&one["what"]), one["code"].as_u64().unwrap())).collect()
}

fn end(address: &str, what: &str, code: u64) -> (String, String, u64) {
    (format!("{address}@example.test"), what.to_owned(), code)
}

#[test]
fn a_message_is_followed_from_its_acceptance_over_each_try_to_its_end() {
    let directory = Scratch::new("trace-follow");
    let primary = free_address();
    let settings = Settings { primary, rest: SELDOM, ..Settings::default() };
    let config = configure(&directory, &settings);
    let node = Node::start(&directory, &config);
    let kept = bring(&node.server, "kept@example.test");
    let full = bring(&node.server, "full@example.test");
    let gone = bring(&node.server, "gone@example.test");
    // Queued: the record tells.
    let told = node.get(&format!("/api/v1/trace/{kept}"));
    let queued = &told["messages"][0];
    assert_eq!((&queued["client"], &queued["state"]), (&json!("127.0.0.1"), &json!("queued")), "{told}");
    assert_eq!((&told["events"], &told["next"]), (&json!([]), &Value::Null));
    assert_eq!(node.command(&["queue", "hold", &kept]).0, Some(0));
    assert_eq!(node.command(&["queue", "delete", &gone]).0, Some(0));
    let record = directory.path("record.jsonl");
    let sink = Primary::sink(&primary.to_string(), &record, &["rcpt:to=full*:defer=452"]);
    node.wait_for("tried", |domain| domain["state"] == "down");
    assert_eq!(node.command(&["queue", "flush", "example.test"]).0, Some(0));
    assert_eq!(node.command(&["queue", "release", &kept]).0, Some(0));
    node.wait_for("delivered", |domain| domain["delivered"] == 1);
    let whole = node.get(&format!("/api/v1/trace/{}", kept.to_lowercase()));
    let events = whole["events"].as_array().unwrap();
    let expected = [end("kept", "held", 0), end("kept", "released", 0), end("kept", "delivered", 250)];
    assert_eq!(ends(events), expected, "{whole}");
    let last = &events[2];
    assert_eq!(last["host"], primary.to_string());
    let accepted = &last["accepted"];
    assert_eq!(accepted["client"], "127.0.0.1");
    assert!(accepted["helo"].is_string() && accepted["size"].as_u64() > Some(20), "{accepted}");
    assert!(last["recipients"][0]["text"].as_str().is_some_and(|text| !text.is_empty()), "{last}");
    assert_eq!(
        ends(node.get(&format!("/api/v1/trace/{gone}"))["events"].as_array().unwrap()),
        [end("gone", "deleted", 0)]
    );
    let tried = node.get(&format!("/api/v1/trace/{full}"));
    let first = &ends(tried["events"].as_array().unwrap())[0];
    assert_eq!(first, &end("full", "deferred", 452), "{tried}");
    assert_eq!(tried["messages"][0]["id"], full.as_str(), "it is queued still");
    // What people see.
    let (status, shown, error) = node.command(&["trace", &kept]);
    assert_eq!(status, Some(0), "{error}");
    for part in ["accepted", "127.0.0.1", "held", "released", "delivered", "250 "] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let (status, lines, _) = node.command(&["trace", "--recipient", "FULL@example.test", "--json"]);
    let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((status, &line["id"]), (Some(0), &json!(full)));
    let (status, table, _) = node.command(&["trace", "--domain", "example.test", "--code", "452"]);
    assert!(status == Some(0) && table.contains(&full) && !table.contains(&kept), "{table}");
    for wrong in [&["trace"][..], &["trace", &kept, "--domain", "x"], &["trace", "--since", "1h"]] {
        assert_eq!(node.command(wrong).0, Some(2), "{wrong:?}");
    }
    let (status, _, error) = node.command(&["trace", "0000000000000"]);
    assert!(status == Some(1) && error.contains("nothing is known"), "{error}");
    // Who looked is written down, and a token that may not read sees nothing.
    let audit = node.get("/api/v1/audit").to_string();
    assert!(audit.contains(&format!("/api/v1/trace/{kept}")), "{audit}");
    node.server.stop();
    sink.stop();
    // A restart forgets nothing, and the offline tool says the same.
    let again = Node::start(&directory, &config);
    assert_eq!(ends(&search(&again, "recipient=kept@example.test")).len(), 3);
    again.server.stop();
    let dumped = Command::new(tool("stratamx-segment"))
        .args(["trace", "--json"])
        .arg(directory.path("data"))
        .output()
        .unwrap();
    let dumped = String::from_utf8(dumped.stdout).unwrap();
    assert!(dumped.contains(&kept) && dumped.contains("\"released\""), "{dumped}");
}

#[test]
fn a_kill_takes_a_second_of_it_and_mail_does_not_wait_for_a_trace_that_cannot_be_kept() {
    let directory = Scratch::new("trace-kill");
    let primary = free_address();
    let record = directory.path("record.jsonl");
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    let settings = Settings { primary, rest: "when_up = \"relay\"", ..Settings::default() };
    let config = configure(&directory, &settings);
    let mut node = Node::start(&directory, &config);
    let first = bring(&node.server, "first@example.test");
    node.wait_for("delivered", |domain| domain["delivered"] == 1);
    // A question has it written.
    assert_eq!(ends(&search(&node, "code=250")), [end("first", "delivered", 250)]);
    node.server.process.kill();
    let node = Node::start(&directory, &config);
    let found = search(&node, "domain=example.test");
    assert_eq!((ends(&found), &found[0]["id"]), (vec![end("first", "delivered", 250)], &json!(first)));
    node.server.stop();
    // All names that it could use are taken, by directories.
    let shards: Vec<_> = std::fs::read_dir(directory.path("data"))
        .unwrap()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("shard-"))
        .collect();
    for shard in shards {
        let today =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400;
        for number in 0..40 {
            for day in today..=today + 1 {
                let name = shard.join(format!("trace-{day:05}-{number:08x}.log"));
                let _ = std::fs::remove_file(&name);
                std::fs::create_dir(&name).unwrap();
            }
        }
        std::fs::create_dir(shard.join(format!("trace-{today:05}-ffffffff.log"))).unwrap();
    }
    let node = Node::start(&directory, &config);
    for number in 0..20 {
        bring(&node.server, &format!("b{number}@example.test"));
    }
    node.wait_for("delivered all the same", |domain| domain["delivered"] == 21);
    node.get("/api/v1/trace?domain=example.test");
    let log = node.server.stop();
    assert_eq!(log.iter().filter(|line| line.contains("cannot be traced")).count(), 1, "it is told once");
    sink.stop();
}

#[test]
fn without_a_retention_nothing_is_kept() {
    let directory = Scratch::new("trace-off");
    let primary = free_address();
    let sink = Primary::sink(&primary.to_string(), &directory.path("record.jsonl"), &[]);
    let settings = Settings { primary, rest: "when_up = \"relay\"", ..Settings::default() };
    let config = configure(&directory, &settings);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[storage]\n", "[storage]\ntrace_retention = \"0s\"\n")).unwrap();
    let node = Node::start(&directory, &config);
    bring(&node.server, "first@example.test");
    node.wait_for("delivered", |domain| domain["delivered"] == 1);
    assert_eq!(search(&node, "domain=example.test"), Vec::<Value>::new());
    node.server.stop();
    sink.stop();
}
