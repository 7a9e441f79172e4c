//! Domains, recipients and tokens through the commands that an operator types, down to what a sender is told.

use super::*;
use rusqlite::Connection;

/// What a sender is told about a recipient.
fn told_about(server: &Server, recipient: &str) -> String {
    let mut client = Client::connect(server.address);
    client.say("EHLO client.example", "250");
    client.say("MAIL FROM:<sender@example.org>", "250");
    client.send(format!("RCPT TO:<{recipient}>\r\n").as_bytes());
    client.reply()
}

fn run(node: &Node, arguments: &[&str]) -> String {
    let (status, stdout, stderr) = node.command(arguments);
    assert_eq!(status, Some(0), "{arguments:?}: {stderr}");
    stdout
}

#[test]
fn a_domain_that_is_added_is_protected_at_once_over_a_kill_and_until_it_is_removed() {
    let directory = Scratch::new("provision");
    let record = directory.path("record.jsonl");
    let sink = Primary::sink("127.0.0.1:0", &record, &[]);
    let config = configure(&directory, &Settings::default());
    let mut node = Node::start(&directory, &config);
    assert!(told_about(&node.server, "a@added.test").starts_with("550 5.7.1"));
    let primary = sink.address.as_str();
    let told =
        run(&node, &["domain", "add", "Added.test", "--primary", primary, "when_up=relay", "retention=2d"]);
    assert_eq!(told, format!("added.test is protected from now on; its mail goes to {primary}\n"));
    // No restart, no pause: the very next command is answered by it.
    assert!(told_about(&node.server, "a@added.test").starts_with("250"));
    let (status, _, stderr) = node.command(&["domain", "add", "added.test", "--primary", "192.0.2.1"]);
    assert!(status == Some(1) && stderr.contains("is provisioned already"), "{stderr}");
    let (status, _, stderr) = node.command(&["domain", "set", "example.test", "retention=1d"]);
    assert!(status == Some(1) && stderr.contains("pinned by the configuration file"), "{stderr}");
    node.server.process.kill();
    let node = Node::start(&directory, &config);
    bring(&node.server, "a@added.test");
    let row = |node: &Node| {
        let all = node.get("/api/v1/status");
        let mut rows = all["domains"].as_array().unwrap().iter();
        rows.find(|row| row["name"] == "added.test").cloned().unwrap_or(Value::Null)
    };
    let end = Instant::now() + PATIENCE;
    while row(&node)["delivered"] != 1 {
        assert!(Instant::now() < end, "never delivered: {}", row(&node));
        std::thread::sleep(Duration::from_millis(20));
    }
    let shown = run(&node, &["domain", "show", "added.test"]);
    assert!(shown.contains("the API, changed last at 20") && shown.contains("2d"), "{shown}");
    let shown = run(&node, &["domain", "set", "added.test", "retention=", "max_connections=2"]);
    assert!(shown.contains("30d"), "{shown}");
    let listed = run(&node, &["domain", "list"]);
    assert!(listed.contains("pinned") && listed.contains("api"), "{listed}");
    run(&node, &["domain", "remove", "added.test"]);
    assert!(told_about(&node.server, "a@added.test").starts_with("550 5.7.1"));
    node.server.stop();
    sink.stop();
}

/// H14: mail of a domain that is gone waits, is listed, and goes on when the domain is back; the same when an older
/// database is restored, which knows nothing of the domain.
#[test]
fn h14_mail_of_a_removed_domain_waits_until_it_is_back() {
    let directory = Scratch::new("provision-h14");
    let record = directory.path("record.jsonl");
    let sink = Primary::sink("127.0.0.1:0", &record, &[]);
    let config = configure(&directory, &Settings::default());
    let node = Node::start(&directory, &config);
    node.server.stop();
    let database = directory.path("data/control.sqlite");
    let older = std::fs::read(&database).unwrap();
    let node = Node::start(&directory, &config);
    let down = free_address().to_string();
    run(&node, &["domain", "add", "added.test", "--primary", &down, "retry_interval=1h"]);
    bring(&node.server, "a@added.test");
    let (status, _, stderr) = node.command(&["domain", "remove", "added.test"]);
    assert!(status == Some(1) && stderr.contains("1 messages of it are queued or held"), "{stderr}");
    run(&node, &["domain", "remove", "added.test", "--keep-mail"]);
    assert!(told_about(&node.server, "a@added.test").starts_with("550 5.7.1"));
    let listed = run(&node, &["domain", "list"]);
    assert!(listed.contains("added.test") && listed.contains("not configured"), "{listed}");
    run(&node, &["domain", "add", "added.test", "--primary", &down, "retry_interval=1h"]);
    node.server.stop();
    // The administrator restores yesterday's copy.
    std::fs::write(&database, older).unwrap();
    let node = Node::start(&directory, &config);
    assert!(run(&node, &["domain", "list"]).contains("not configured"));
    run(&node, &["domain", "add", "added.test", "--primary", &sink.address]);
    let end = Instant::now() + PATIENCE;
    while !run(&node, &["queue", "list"]).lines().skip(1).all(|line| !line.contains("added.test")) {
        assert!(Instant::now() < end, "never delivered");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Offline: a segment that is unlinked meanwhile would be missing.
    node.server.stop();
    assert_eq!(audited(&directory, "held"), "0");
    sink.stop();
    let got = std::fs::read_to_string(&record).unwrap();
    assert_eq!(got.matches("a@added.test").count(), 1, "{got}");
}

#[test]
fn recipients_are_imported_and_decide_when_the_domain_says_so() {
    let directory = Scratch::new("provision-recipients");
    let config = configure(&directory, &Settings::default());
    let node = Node::start(&directory, &config);
    run(&node, &["domain", "add", "added.test", "--primary", "192.0.2.1"]);
    let (status, _, stderr) = node.command(&["domain", "set", "added.test", "recipients=list"]);
    assert!(status == Some(1) && stderr.contains("import addresses first"), "{stderr}");
    let file = directory.path("people.csv");
    std::fs::write(&file, "mail,name\nann@added.test,Ann\nBob,Bob\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(run(&node, &["domain", "import", "added.test", file]), "2 new, 2 in all\n");
    run(&node, &["domain", "set", "added.test", "recipients=list"]);
    for (recipient, expected) in [
        ("ann@added.test", "250"),
        ("BOB+x@added.test", "250"),
        ("eve@added.test", "550 5.1.1"),
        ("postmaster@added.test", "250"),
    ] {
        let reply = told_about(&node.server, recipient);
        assert!(reply.starts_with(expected), "{recipient}: {reply}");
    }
    std::fs::write(directory.path("people.csv"), "eve@added.test\nmallory@other.test\n").unwrap();
    let (status, _, stderr) = node.command(&["domain", "import", "added.test", file]);
    assert!(
        status == Some(1) && stderr.contains("line 2: \"mallory@other.test\" is in another domain"),
        "{stderr}"
    );
    std::fs::write(directory.path("people.csv"), "eve@added.test\n").unwrap();
    assert_eq!(run(&node, &["domain", "import", "added.test", file, "--add"]), "1 new, 3 in all\n");
    assert!(told_about(&node.server, "eve@added.test").starts_with("250"));
    assert_eq!(
        run(&node, &["domain", "recipients", "added.test"]),
        "Bob@added.test\nann@added.test\neve@added.test\n"
    );
    node.server.stop();
}

#[test]
fn a_token_is_made_for_a_purpose_and_revoked() {
    let directory = Scratch::new("provision-token");
    let config = configure(&directory, &Settings::default());
    let mut node = Node::start(&directory, &config);
    let made = run(&node, &["token", "add", "panel", "--scope", "provision", "--expires", "90d"]);
    let token = made.trim().to_owned();
    assert!(token.starts_with("smx_"), "{made}");
    let listed = run(&node, &["token", "list"]);
    assert!(listed.contains("panel") && listed.contains("provision") && !listed.contains(&token), "{listed}");
    node.server.process.kill();
    node = Node::start(&directory, &config);
    let first = std::mem::replace(&mut node.token, token.clone());
    run(&node, &["domain", "add", "added.test", "--primary", "192.0.2.1"]);
    let (status, _, stderr) = node.command(&["queue", "flush", "added.test"]);
    assert!(status == Some(1) && stderr.contains("no scope for it: operate is needed"), "{stderr}");
    node.token = first;
    run(&node, &["token", "revoke", "1"]);
    node.token = token;
    let (status, _, stderr) = node.command(&["status"]);
    assert!(status == Some(1) && stderr.contains("does not know this token"), "{stderr}");
    let log = node.server.stop();
    assert!(!log.iter().any(|line| line.contains(&node.token)), "no log has it");
    let database = std::fs::read(directory.path("data/control.sqlite")).unwrap();
    assert!(!String::from_utf8_lossy(&database).contains(&node.token), "nor has the database");
}

/// Another program has the database locked: changes are refused, mail and looks at the queue go on.
#[test]
fn a_locked_database_costs_changes_and_nothing_else() {
    let directory = Scratch::new("provision-locked");
    let record = directory.path("record.jsonl");
    let sink = Primary::sink("127.0.0.1:0", &record, &[]);
    let settings = Settings { primary: sink.address.parse().unwrap(), ..Settings::default() };
    let config = configure(&directory, &settings);
    let node = Node::start(&directory, &config);
    let other = Connection::open(directory.path("data/control.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (status, _, stderr) = node.command(&["domain", "add", "added.test", "--primary", "192.0.2.1"]);
    assert!(status == Some(1) && stderr.contains("another program has the database locked"), "{stderr}");
    for number in 0..20 {
        bring(&node.server, &format!("user{number}@example.test"));
    }
    node.wait_for("delivered", |domain| domain["delivered"] == 20);
    assert_eq!(run(&node, &["queue", "list"]).lines().count(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    run(&node, &["domain", "add", "added.test", "--primary", "192.0.2.1"]);
    node.server.stop();
    sink.stop();
}

#[test]
fn a_server_without_a_pinned_domain_gets_all_by_the_api_and_reloads_by_it() {
    let directory = Scratch::new("provision-bare");
    let config = configure(&directory, &Settings::default());
    let text = std::fs::read_to_string(&config).unwrap();
    let rest = text.split("[[domain]]").next().unwrap();
    // Nothing at all is a file that was cut short.
    std::fs::write(&config, rest).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_stratamx")).args(["check", "--config"]).arg(&config).output();
    assert_eq!(output.unwrap().status.code(), Some(2));
    let bare = format!("domain = []\n{rest}");
    std::fs::write(&config, &bare).unwrap();
    let node = Node::start(&directory, &config);
    assert!(told_about(&node.server, "postmaster").starts_with("451 4.3.5"));
    run(&node, &["domain", "add", "added.test", "--primary", "192.0.2.1"]);
    assert!(told_about(&node.server, "postmaster").starts_with("250"));
    let checked = node.ask("POST", "/api/v1/config/check", &json!({})).1;
    assert_eq!(checked["is_valid"], false, "JSON is no TOML: {checked}");
    std::fs::write(&config, format!("{rest}\n[[domain]]\nname = \"new.test\"\nprimary = [\"192.0.2.1\"]\n"))
        .unwrap();
    assert_eq!(node.ask("POST", "/api/v1/config/reload", &Value::Null).0, 204);
    assert!(told_about(&node.server, "a@new.test").starts_with("250"));
    std::fs::write(&config, "colour = \"red\"").unwrap();
    let (status, problem) = node.ask("POST", "/api/v1/config/reload", &Value::Null);
    assert!(
        status == 422 && problem["detail"].as_str().unwrap().contains("colour: unknown key"),
        "{problem}"
    );
    assert!(told_about(&node.server, "a@new.test").starts_with("250"), "the one before stays");
    node.server.stop();
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let directory = Scratch::new("manual");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_stratamx")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).contains("replay"), "{shell}");
    }
    let page = run(&["man"]);
    assert!(page.contains("stratamx") && page.contains("domain"), "{page}");
    let pages = directory.path("man");
    std::fs::create_dir(&pages).unwrap();
    run(&["man", pages.to_str().unwrap()]);
    assert!(pages.join("stratamx-domain-add.1").exists() && pages.join("stratamx-queue-replay.1").exists());
}

/// What senders find of a domain is looked up by the very name servers that mail relies on.
#[test]
fn the_doctor_looks_at_names_reports_and_what_the_mail_server_can_do() {
    use name_server::Has;
    let directory = Scratch::new("provision-doctor-names");
    let sink = Primary::sink("127.0.0.1:0", &directory.path("record.jsonl"), &[]);
    let zone = |name| {
        name_server::start_zone(&[
            ("example.test", Has::Exchanger(10, "mail.example.test")),
            ("example.test", Has::Exchanger(20, "mx2.example.test")),
            ("mail.example.test", Has::Address([192, 0, 2, 1])),
            ("mail.example.test", Has::Alias("host.example.test")),
            ("mx2.example.test", Has::Address([192, 0, 2, 2])),
            ("2.2.0.192.in-addr.arpa", Has::Name(name)),
            ("_smtp._tls.example.test", Has::Text("v=TLSRPTv1; rua=mailto:tls@example.test")),
            // Ourselves by another name.
            ("alone.test", Has::Exchanger(20, "backup.alone.test")),
            ("backup.alone.test", Has::Address([192, 0, 2, 2])),
        ])
    };
    let examined = |name, domain| {
        let rest = format!("[dns]\nnameservers = [\"{}\"]\n", zone(name));
        let primary = sink.address.parse().unwrap();
        let config = configure(&directory, &Settings { primary, rest: &rest, ..Settings::default() });
        let node = Node::start(&directory, &config);
        if domain == "alone.test" {
            run(&node, &["domain", "add", domain, "--primary", "mx"]);
        } else {
            bring(&node.server, "me@example.test");
            node.wait_for("delivered", |domain| domain["delivered"] == 1);
        }
        let path = format!("/api/v1/domains/{domain}/doctor?test_recipient=me%40{domain}");
        let examined = node.ask("POST", &path, &Value::Null).1;
        node.server.stop();
        std::fs::remove_dir_all(directory.path("data")).unwrap();
        move |check: &str| {
            let found = examined["findings"].as_array().unwrap().iter().find(|one| one["check"] == check);
            found.map(|one| {
                (one["verdict"].as_str().unwrap().to_owned(), one["text"].as_str().unwrap().to_owned())
            })
        }
    };
    let told = examined("static-2.isp.test", "example.test");
    let (verdict, text) = told("mx-alias").unwrap();
    assert!(verdict == "warning" && text.contains("(CNAME) of host.example.test"), "{text}");
    let (verdict, text) = told("reverse-name").unwrap();
    assert!(verdict == "warning" && text.contains("192.0.2.2 has the name static-2.isp.test"), "{text}");
    let (verdict, text) = told("tls-reports").unwrap();
    assert!(verdict == "good" && text.contains("asks senders for reports"), "{text}");
    let (_, text) = told("capabilities").unwrap();
    assert!(text.contains("8BITMIME") && text.contains("PIPELINING"), "{text}");
    assert!(told("catch-all").is_some() && told("certificate-name").is_none());
    let told = examined("mx2.example.test", "alone.test");
    assert_eq!(told("reverse-name").unwrap().0, "good");
    let (verdict, text) = told("test-message").unwrap();
    assert!(verdict == "error" && text.contains("name no host before this one"), "{text}");
    sink.stop();
}

#[test]
fn the_doctor_says_what_is_wrong_and_how_to_mend_it() {
    let directory = Scratch::new("provision-doctor");
    let record = directory.path("record.jsonl");
    let sink = Primary::sink("127.0.0.1:0", &record, &[]);
    let nameserver = name_server::start_exchangers(&[
        ("example.test", Some((10, "mail.example.test"))),
        ("behind.test", Some((20, "mx2.example.test"))),
    ]);
    let rest = format!("[dns]\nnameservers = [\"{nameserver}\"]\n");
    let primary = sink.address.parse().unwrap();
    let config = configure(&directory, &Settings { primary, rest: &rest, ..Settings::default() });
    let node = Node::start(&directory, &config);
    let (status, stdout, stderr) =
        node.command(&["domain", "doctor", "example.test", "--test-recipient", "me@example.test"]);
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stdout.contains("in an outage nobody comes here"), "{stdout}");
    assert!(stdout.contains("Add: example.test. MX 20 mx2.example.test."), "{stdout}");
    assert!(stdout.contains(" took it: 250 2.0.0 Ok"), "{stdout}");
    assert!(stdout.contains("Nobody is told of an outage"), "{stdout}");
    run(&node, &["domain", "add", "behind.test", "--primary", "mx"]);
    let examined = node.ask("POST", "/api/v1/domains/behind.test/doctor", &Value::Null).1;
    let first = &examined["findings"][0];
    assert_eq!((&first["check"], &first["verdict"]), (&json!("mx"), &json!("error")), "{examined}");
    assert!(first["text"].as_str().unwrap().contains("its only MX record"), "{examined}");
    let (status, _, stderr) = node.command(&["domain", "doctor", "nowhere.test"]);
    assert!(status == Some(1) && stderr.contains("not protected"), "{stderr}");
    node.server.stop();
    sink.stop();
    let got = std::fs::read_to_string(&record).unwrap();
    assert_eq!(got.matches("me@example.test").count(), 1, "one test message: {got}");
}
