//! Maintenance, redirects and giving mail up, by the commands that an operator types.

use super::*;

/// A kill in the middle of a maintenance: an order that was told to hold holds on.
#[test]
fn a_maintenance_outlives_the_process_and_ends_when_it_is_told_to() {
    let directory = Scratch::new("orders-hold");
    let record = directory.path("record.jsonl");
    let sink = Primary::sink("127.0.0.1:0", &record, &[]);
    let settings = Settings { primary: sink.address.parse().unwrap(), ..Settings::default() };
    let config = configure(&directory, &settings);
    let mut node = Node::start(&directory, &config);
    for (wrong, words) in
        [(&["--for", "40d"][..], "within 30 days"), (&["--until", "2001-01-01T00:00"], "behind now")]
    {
        let (status, _, stderr) = node.command(&[&["domain", "hold", "example.test"], wrong].concat());
        assert!(status == Some(1) && stderr.contains(words), "{stderr}");
    }
    assert_eq!(node.command(&["domain", "hold", "example.test"]).0, Some(2));
    let order = ["domain", "hold", "example.test", "--for", "1h", "--by", "tester", "--reason", "a new disk"];
    let (status, stdout, stderr) = node.command(&order);
    assert_eq!(status, Some(0), "{stderr}");
    assert!(
        stdout.starts_with("maintenance: from 20") && stdout.ends_with(", by tester: a new disk\n"),
        "{stdout}"
    );
    bring(&node.server, "held@example.test");
    assert_eq!(node.domain()["state"], "held");
    node.server.process.kill();
    let node = Node::start(&directory, &config);
    assert_eq!((&node.domain()["state"], &node.domain()["backlog"]), (&json!("held"), &json!(1)));
    // Not by a flush either: the operator has said so himself.
    assert_eq!(node.command(&["queue", "flush", "example.test"]).0, Some(0));
    let (_, stdout, _) = node.command(&["domain", "show", "example.test"]);
    assert!(stdout.contains("by tester: a new disk"), "{stdout}");
    assert_eq!(node.domain()["delivered"], 0);
    let (status, stdout, _) = node.command(&["domain", "release", "example.test"]);
    assert_eq!((status, stdout.as_str()), (Some(0), "nothing is ordered about example.test\n"));
    node.wait_for("delivered", |domain| domain["delivered"] == 1 && domain["state"] == "up");
    node.server.stop();
    sink.stop();
}

#[test]
fn mail_is_redirected_only_behind_a_test_message_and_goes_back_when_told() {
    let directory = Scratch::new("orders-redirect");
    let (record, other) = (directory.path("record.jsonl"), directory.path("other.jsonl"));
    let primary = free_address();
    let config = configure(&directory, &Settings { primary, rest: SELDOM, ..Settings::default() });
    let node = Node::start(&directory, &config);
    bring(&node.server, "a@example.test");
    node.wait_for("down", |domain| domain["state"] == "down");
    let redirect = |to: &str, more: &[&str]| {
        node.command(&[&["queue", "redirect", "example.test", "--to", to], more].concat())
    };
    let picky =
        Primary::sink("127.0.0.1:0", &directory.path("picky.jsonl"), &["rcpt:to=postmaster*:reject=550"]);
    for (to, words) in [
        ("127.0.0.1:9", "was not taken: 127.0.0.1:9: no connection"),
        (picky.address.as_str(), "refused it at RCPT: 550 "),
    ] {
        let (status, stdout, stderr) = redirect(to, &[]);
        assert!(status == Some(1) && stdout.is_empty() && stderr.contains(words), "{stderr}");
    }
    assert_eq!(node.get("/api/v1/domains/example.test")["orders"], json!({}));
    let sink = Primary::sink("127.0.0.1:0", &other, &[]);
    let (status, stdout, stderr) = redirect(&sink.address, &["--test-only"]);
    assert!(
        status == Some(0) && stdout.starts_with("test message: ") && stdout.lines().count() == 1,
        "{stderr}"
    );
    let (status, stdout, stderr) =
        redirect(&sink.address, &["--by", "tester", "--test-recipient", "you@example.test"]);
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.contains("took it: 250 ") && stdout.contains("redirected: to "), "{stdout}");
    let domain = node.wait_for("delivered", |domain| domain["delivered"] == 1);
    assert_eq!(domain["redirected"], 1);
    let (status, stdout, _) = node.command(&["queue", "redirect", "example.test", "--off"]);
    assert_eq!((status, stdout.as_str()), (Some(0), "mail of example.test goes to its own primaries\n"));
    let back = Primary::sink(&primary.to_string(), &record, &[]);
    bring(&node.server, "b@example.test");
    let domain = node.wait_for("delivered", |domain| domain["delivered"] == 2);
    assert_eq!(domain["redirected"], 1);
    node.server.stop();
    for sink in [sink, back, picky] {
        sink.stop();
    }
    let (other, record) =
        (std::fs::read_to_string(&other).unwrap(), std::fs::read_to_string(&record).unwrap());
    assert!(
        other.lines().count() == 3 && other.contains("postmaster@") && other.contains("a@example.test"),
        "{other}"
    );
    assert!(record.lines().count() == 1 && record.contains("b@example.test"), "{record}");
}

#[test]
fn who_is_not_proven_is_not_told_and_his_mail_is_held() {
    let directory = Scratch::new("orders-bounce");
    let config = configure(&directory, &Settings { rest: SELDOM, ..Settings::default() });
    let node = Node::start(&directory, &config);
    let id = bring(&node.server, "a@example.test");
    for arguments in
        [&["queue", "bounce", id.as_str()][..], &["queue", "bounce", "--all", "--domain", "example.test"]]
    {
        let (status, _, stderr) = node.command(arguments);
        assert!(status == Some(1) && stderr.contains("nothing proves"), "{stderr}");
        assert_eq!((&node.domain()["held"], &node.domain()["bounced"]), (&json!(1), &json!(0)));
    }
    node.server.stop();
    assert_eq!(["bounced", "held"].map(|column| audited(&directory, column)), ["0", "1"]);
}

#[test]
fn what_is_watched_is_looked_at_again() {
    let directory = Scratch::new("admin-watched");
    let config = configure(&directory, &Settings::default());
    let node = Node::start(&directory, &config);
    let (status, told, error) = node.command(&["queue", "flush", "example.test", "--watch"]);
    assert_eq!((status, error.as_str()), (Some(0), ""));
    assert_eq!(told, "messages tried now: 0\nnothing waits: 0 handed over\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
    command.args(["status", "--json", "--watch"]).env("STRATAMX_URL", format!("http://{}", node.api));
    let mut watching = Process::start(command.env("STRATAMX_TOKEN", &node.token));
    for _ in 0..2 {
        let line: Value = serde_json::from_str(&watching.wait_for("uptime_s")).unwrap();
        assert_eq!(line["domains"][0]["name"], "example.test");
    }
}
