//! `queue replay`: what a first mail server took and lost goes to a second one, with a kill in the middle.

use super::*;

const MESSAGES: u64 = 300;

#[test]
fn what_was_delivered_goes_once_more_and_a_kill_in_the_middle_doubles_nothing() {
    let directory = Scratch::new("queue-replay");
    let listen = free_address();
    let first = Primary::sink(&listen.to_string(), &directory.path("first"), &[]);
    let (delivery, rest) = ("safety_net = \"1h\"", "when_up = \"relay\"");
    let config = configure(&directory, &Settings { primary: listen, delivery, rest, ..Settings::default() });
    let mut node = Node::start(&directory, &config);
    let mut sender = Client::connect(node.server.address);
    for _ in 0..MESSAGES {
        assert!(sender.message("b@example.test", "Subject: small\r\n\r\nbody").starts_with("250 "));
    }
    node.wait_for("delivered", |domain| domain["delivered"] == MESSAGES);
    drop(first);
    let replay = ["queue", "replay", "example.test", "--since", "2020-01-01T00:00"];
    let (status, told, _) = node.command(&[&replay[..], &["--dry-run"]].concat());
    assert_eq!(status, Some(0));
    assert!(told.contains(&format!("would be queued once more: {MESSAGES} messages")), "{told}");
    assert!(told.contains("copies are kept of what was delivered since 20"), "{told}");
    assert_eq!(node.domain()["replayed"], 0);
    // One page of two, and then the power.
    let body = json!({ "domain": "example.test", "since_s": 0, "until_s": u32::MAX });
    let (status, page) = node.ask("POST", "/api/v1/queue/replay", &body);
    assert_eq!(status, 200, "{page}");
    let paged = page["messages"].as_u64().unwrap();
    assert!(paged > 0 && paged < MESSAGES && !page["next"].is_null(), "{page}");
    node.server.process.kill();
    let _second = Primary::sink(&listen.to_string(), &directory.path("second"), &[]);
    let node = Node::start(&directory, &config);
    let (status, told, error) = node.command(&replay);
    assert_eq!(status, Some(0), "{error}");
    assert!(told.contains(&format!("queued once more: {} messages", MESSAGES - paged)), "{told}");
    let row = node.wait_for("all of it", |domain| domain["delivered"] == 2 * MESSAGES);
    assert_eq!((&row["accepted"], &row["backlog"]), (&json!(2 * MESSAGES), &json!(0)));
    let (_, told, _) = node.command(&replay);
    assert!(told.contains("queued once more: 0 messages"), "{told}");
    let (status, problem) = node.ask(
        "POST",
        "/api/v1/queue/replay",
        &json!({ "domain": "example.test", "since_s": 5, "until_s": 5 }),
    );
    assert_eq!(status, 400, "{problem}");
    node.server.stop();
    assert_eq!(audited(&directory, "delivered"), (2 * MESSAGES).to_string());
}
