//! `domain drill`, the proof of an outage, and lists that are sifted: with the real server.

use super::*;
use std::io::Write as _;
use std::process::Stdio;

/// The steps of a drill that passed, and the first that did not.
fn steps(drilled: &Value) -> (Vec<&str>, Option<&str>) {
    let all = drilled["steps"].as_array().unwrap();
    let name = |step: &&Value| step["step"].as_str().is_some();
    let passed = all.iter().filter(|step| step["passed"] == true).filter(name);
    let failed = all.iter().find(|step| step["passed"] == false);
    (
        passed.map(|step| step["step"].as_str().unwrap()).collect(),
        failed.and_then(|step| step["step"].as_str()),
    )
}

#[test]
fn a_drill_holds_one_recipient_only_and_quotes_what_the_mail_server_said() {
    let directory = Scratch::new("drill");
    let primary = free_address();
    let record = directory.path("record.jsonl");
    let sink = Primary::sink(&primary.to_string(), &record, &["rcpt:to=nobody*:reject=550"]);
    let settings = Settings { primary, ..Settings::default() };
    let config = configure(&directory, &settings);
    let node = Node::start(&directory, &config);
    let command = Command::new(env!("CARGO_BIN_EXE_stratamx"))
        .args(["domain", "drill", "example.test", "--recipient", "test@example.test", "--json"])
        .env("STRATAMX_URL", format!("http://{}", node.api))
        .env("STRATAMX_TOKEN", &node.token)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Once the drill's mail waits, others' goes on.
    node.wait_for("drilled", |domain| domain["messages"].as_u64() >= Some(3));
    let second = node.ask("POST", "/api/v1/domains/example.test/drill", &json!({}));
    assert_eq!(second.0, 409, "{}", second.1);
    for number in 0..5 {
        bring(&node.server, &format!("other-{number}@example.test"));
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = std::fs::read_to_string(&record).unwrap_or_default();
        if seen.matches("other-").count() >= 5 {
            assert!(!seen.contains("test@example.test\""), "{seen}");
            break;
        }
        assert!(Instant::now() < end, "others' mail waits: {seen}");
    }
    let (status, drilled, _) = told(command.wait_with_output().unwrap());
    let drilled: Value = serde_json::from_str(&drilled).unwrap();
    assert_eq!((status, &drilled["passed"]), (Some(0), &json!(true)), "{drilled}");
    let expected = ["primary", "accepted", "held", "drained", "in order", "cleaned up"];
    assert_eq!(steps(&drilled), (expected.to_vec(), None));
    assert!(drilled["verdict"].as_str().unwrap().contains(&format!("{primary} said 250 ")), "{drilled}");
    assert_eq!(node.domain()["backlog"], 0);
    // A recipient whom the server refuses: the step says so, in its words, and nothing is left.
    let (status, shown, _) =
        node.command(&["domain", "drill", "example.test", "--recipient", "nobody@example.test"]);
    assert!(status == Some(1) && shown.contains("FAILED   drained") && shown.contains("550"), "{shown}");
    assert!(shown.contains("cleaned up"), "{shown}");
    node.wait_for("nothing", |domain| domain["backlog"] == 0 && domain["held"] == 0);
    for wrong in ["other@another.test", "none"] {
        let (status, _, error) = node.command(&["domain", "drill", "example.test", "--recipient", wrong]);
        assert!(status == Some(1) && error.contains("of this domain"), "{error}");
    }
    sink.stop();
    // Its server is out: that is told, and no mail is made.
    bring(&node.server, "late@example.test");
    node.wait_for("down", |domain| domain["state"] == "down");
    let accepted = node.domain()["accepted"].clone();
    let (status, told, _) = node.command(&["domain", "drill", "example.test", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((status, steps(&told).1), (Some(1), Some("primary")), "{told}");
    assert_eq!(node.domain()["accepted"], accepted);
    node.server.stop();
}

/// `jq` and `sha256sum`, as the help of the command has them.
fn root_of(lines: &str) -> String {
    let mut ids: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["recipients"].as_array().unwrap().iter().any(|to| to["is_final"] == true))
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    let mut hash = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let all: String = ids.iter().map(|id| format!("{id}\n")).collect();
    hash.stdin.take().unwrap().write_all(all.as_bytes()).unwrap();
    let output = String::from_utf8(hash.wait_with_output().unwrap().stdout).unwrap();
    output.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn an_outage_is_proved_by_its_messages_and_their_order_over_a_restart() {
    let directory = Scratch::new("outage-proof");
    let primary = free_address();
    let settings = Settings { primary, ..Settings::default() };
    let config = configure(&directory, &settings);
    let node = Node::start(&directory, &config);
    let mut ids: Vec<String> =
        (0..30).map(|number| bring(&node.server, &format!("r{}@example.test", number % 3))).collect();
    let end = Instant::now() + PATIENCE;
    while node.get("/api/v1/outages")["outages"].as_array().unwrap().is_empty() {
        assert!(Instant::now() < end, "no outage began");
        std::thread::sleep(Duration::from_millis(100));
    }
    ids.extend((0..10).map(|_| bring(&node.server, "r0@example.test")));
    let sink = Primary::sink(&primary.to_string(), &directory.path("record.jsonl"), &[]);
    node.wait_for("delivered", |domain| domain["delivered"] == 40);
    let end = Instant::now() + PATIENCE;
    let id = loop {
        let outage = node.get("/api/v1/outages")["outages"][0].clone();
        if !outage["ended_s"].is_null() {
            break outage["id"].to_string();
        }
        assert!(Instant::now() < end, "it never ended: {outage}");
        std::thread::sleep(Duration::from_millis(100));
    };
    // It ended a moment ago, and has no proof yet: the next start makes it.
    node.server.stop();
    let node = Node::start(&directory, &config);
    let end = Instant::now() + PATIENCE;
    let outage = loop {
        let outage = node.get(&format!("/api/v1/outages/{id}"));
        if !outage["proof"].is_null() {
            break outage;
        }
        assert!(Instant::now() < end, "it is never proved: {outage}");
        std::thread::sleep(Duration::from_millis(200));
    };
    let proof = &outage["proof"];
    assert_eq!((&proof["messages"], &proof["out_of_order"]), (&json!(40), &json!(0)), "{proof}");
    assert_eq!((&proof["is_whole"], &proof["excepted"]), (&json!(true), &json!(0)), "{proof}");
    let at = |name: &str, later: i64| {
        let seconds = outage[name].as_i64().unwrap() + later;
        jiff::Timestamp::from_second(seconds).unwrap().to_string()
    };
    let (since, until) = (at("began_s", 0), at("ended_s", 1));
    let search = ["trace", "--domain", "example.test", "--since", &since, "--until", &until, "--json"];
    let (status, lines, error) = node.command(&search);
    assert_eq!(status, Some(0), "{error}");
    assert_eq!(proof["root"], root_of(&lines), "anybody can make it again");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 40);
    let (_, shown, _) = node.command(&["outage", "show", &id]);
    assert!(shown.contains(proof["root"].as_str().unwrap()) && shown.contains("kept"), "{shown}");
    let (_, page, _) = node.command(&["outage", "show", &id, "--html"]);
    assert!(page.contains("<h2>Proof</h2>") && page.contains(proof["root"].as_str().unwrap()), "{page}");
    node.server.stop();
    sink.stop();
}

#[test]
fn a_list_is_sifted_by_the_index_and_by_what_records_say() {
    let directory = Scratch::new("queue-sift");
    let primary = free_address();
    let config = configure(&directory, &Settings { primary, rest: SELDOM, ..Settings::default() });
    let node = Node::start(&directory, &config);
    let small: Vec<String> = (0..30).map(|n| bring(&node.server, &format!("s{n}@example.test"))).collect();
    let large = {
        let body = format!(
            "Subject: large\r\n\r\n{}",
            "x".repeat(70)
                .repeat(2000)
                .as_bytes()
                .chunks(70)
                .map(|line| { format!("{}\r\n", String::from_utf8_lossy(line)) })
                .collect::<String>()
        );
        let reply = Client::connect(node.server.address).message("large@example.test", body.trim_end());
        reply.strip_prefix("250 2.0.0 Ok: queued as ").unwrap().to_owned()
    };
    let pages = |filter: &str| {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = node.get(&format!("/api/v1/queue?limit=7&{filter}{after}"));
            assert!(page["progress"]["of"].as_u64() >= Some(31), "{page}");
            all.extend(ids(&page));
            let Some(next) = page["next"].as_str() else { return all };
            after = format!("&after={next}");
        }
    };
    assert_eq!(pages("min_size=100000"), [large.as_str()]);
    assert_eq!(pages("max_size=100000"), small);
    assert_eq!(pages("recipient=S7%40example.test"), [small[7].as_str()]);
    assert_eq!(pages("sender=nobody%40example.test"), Vec::<String>::new());
    assert_eq!(pages("received_since_s=1&domain=example.test").len(), 31);
    assert_eq!(pages("received_before_s=1"), Vec::<String>::new());
    let (status, table, error) =
        node.command(&["queue", "list", "--younger-than", "1h", "--min-size", "100KiB", "--state", "queued"]);
    assert!(status == Some(0) && table.contains(&large) && table.lines().count() == 2, "{table}{error}");
    let (_, table, _) = node.command(&["queue", "list", "--older-than", "1h"]);
    assert_eq!(table.lines().count(), 1, "{table}");
    assert_eq!(node.command(&["queue", "list", "--min-size", "large"]).0, Some(2));
    // What a mail server said last.
    node.wait_for("tried", |domain| domain["state"] == "down");
    let record = directory.path("record.jsonl");
    let sink =
        Primary::sink(&primary.to_string(), &record, &["rcpt:to=s3@*:defer=452", "rcpt:to=s4@*:defer=450"]);
    assert_eq!(node.command(&["queue", "flush", "example.test"]).0, Some(0));
    node.wait_for("delivered", |domain| domain["delivered"] == 29);
    let code = |code: u16| {
        let page = node.get(&format!("/api/v1/queue?code={code}"));
        assert!(page["messages"].as_array().unwrap().iter().all(|one| one["last_code"] == code), "{page}");
        ids(&page)
    };
    assert_eq!((code(452), code(450), code(550)), (vec![small[3].clone()], vec![small[4].clone()], vec![]));
    node.server.stop();
    sink.stop();
}
