//! What service extensions say, from the sender's wire over the disk to the primary's: real server, real tools.

use super::harness::client::Client;
use super::harness::*;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// MAIL, RCPT with their parameters, and a body by BDAT in two chunks.
fn bring(client: &mut Client, mail: &str, rcpts: &[&str], body: (&str, &str)) -> String {
    client.say(&format!("MAIL FROM:{mail}"), "250 2.1.0");
    for rcpt in rcpts {
        client.say(&format!("RCPT TO:{rcpt}"), "250 2.1.5");
    }
    let (first, last) = body;
    client.send(format!("BDAT {}\r\n{first}BDAT {} LAST\r\n{last}", first.len(), last.len()).as_bytes());
    assert_eq!(client.reply(), format!("250 2.0.0 Ok: {} octets received", first.len()));
    let reply = client.reply();
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
    reply.rsplit(' ').next().unwrap().to_owned()
}

/// `stratamx-segment show --json`.
fn show(data: &Path, queue_id: &str) -> Value {
    let shown =
        Command::new(tool("stratamx-segment")).arg("show").arg(data).args([queue_id, "--json"]).output();
    let shown = shown.unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    serde_json::from_slice(&shown.stdout).unwrap()
}

fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_extensions_say_reaches_the_primary() {
    let directory = Scratch::new("extensions");
    let (primary, record, kept) = (free_address(), directory.path("record"), directory.path("kept"));
    let rest = "[[domain]]\nname = \"bücher.test\"\nprimary = [\"127.0.0.1:9\"]";
    let config = configure(&directory, &Settings { primary, rest, ..Settings::default() });
    let mut server = Server::start(&config);
    let mut client = Client::connect(server.address);
    client.say("EHLO client.example", "250-");
    let rcpts = [
        "<ö@Example.TEST> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;ö@example.test",
        "<b@example.test>",
        "<x@bu\u{308}cher.test> NOTIFY=NEVER",
    ];
    let mail = "<ü@example.org> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B3";
    // A dot at the start of a chunk that is none of a line, one that is, and no CRLF at the end.
    let queue_id = bring(&mut client, mail, &rcpts, ("Subject: grüße\r\n\r\na", ".b\r\n.\r\nQUIT\r\n.c"));
    let shown = show(&directory.path("data"), &queue_id);
    let said = &shown["extensions"];
    assert_eq!((&said["ret"], &said["envid"]), (&"HDRS".into(), &"QQ+2B3".into()));
    assert_eq!((&said["smtputf8"], &said["header_8bit"]), (&true.into(), &true.into()));
    assert_eq!((&said["transfer"], &said["line_end_added"]), (&"BDAT".into(), &true.into()));
    assert_eq!(said["tls"], Value::Null);
    assert_eq!(
        (&shown["stuffed_lines"], &shown["recipients"][2]["mailbox"]),
        (&2.into(), &"x@xn--bcher-kva.test".into())
    );
    let sink = Primary::sink_that_keeps(&primary.to_string(), &record, &kept);
    server.process.wait_for("handed over");
    let arrived = &records(&record)[0];
    assert_eq!(arrived["reverse_path"], "ü@example.org");
    assert_eq!(arrived["mail_parameters"], "SMTPUTF8 RET=HDRS ENVID=QQ+2B3");
    assert_eq!(arrived["recipients"], serde_json::json!(["ö@example.test", "b@example.test"]));
    let expected = ["NOTIFY=SUCCESS,DELAY ORCPT=utf-8;ö@example.test", ""];
    assert_eq!(arrived["recipient_parameters"], serde_json::json!(expected));
    let message = std::fs::read_to_string(kept.join("00000001.eml")).unwrap();
    let (trace, message) = message.split_at(message.find("Subject:").unwrap());
    assert_eq!(message, "Subject: grüße\r\n\r\na.b\r\n.\r\nQUIT\r\n.c\r\n");
    assert!(trace.contains(" with UTF8SMTP id ") && trace.matches("Received: ").count() == 1, "{trace}");
    sink.stop();
    server.stop();
}

#[test]
fn what_a_primary_does_not_offer_is_not_said_and_what_needs_it_is_held() {
    let directory = Scratch::new("extensions-withheld");
    let (primary, record) = (free_address(), directory.path("record"));
    let sink = Primary::older_sink(&primary.to_string(), &record, &["DSN", "SMTPUTF8"]);
    let rest = "on_reject = \"hold\"";
    let config = configure(&directory, &Settings { primary, rest, ..Settings::default() });
    let mut server = Server::start(&config);
    let mut client = Client::connect(server.address);
    client.say("EHLO client.example", "250-");
    let body = ("Subject: x\r\n", "\r\nö\r\n");
    let rcpts = ["<a@example.test> NOTIFY=NEVER", "<ö@example.test>"];
    let queue_id = bring(&mut client, "<s@example.org> SMTPUTF8 RET=FULL", &rcpts, body);
    let line = server.process.wait_for("refused by the primary: held");
    assert!(line.contains(&queue_id) && line.contains("\"code\":553"), "{line}");
    // Of this one nothing goes at all: its header cannot.
    let rcpts = ["<a@example.test>"];
    let header_id = bring(&mut client, "<s@example.org> SMTPUTF8", &rcpts, ("Subject: ö\r\n", "\r\nx\r\n"));
    let line = server.process.wait_for("refused by the primary: held");
    assert!(line.contains(&header_id) && line.contains("\"delivered\":0"), "{line}");
    server.stop();
    sink.stop();
    let records = records(&record);
    assert_eq!(records.len(), 1);
    assert_eq!(
        (&records[0]["recipients"], &records[0]["mail_parameters"]),
        (&serde_json::json!(["a@example.test"]), &"".into())
    );
    assert_eq!(records[0]["recipient_parameters"], serde_json::json!([""]));
    let shown = show(&directory.path("data"), &queue_id);
    let states: Vec<_> =
        shown["recipients"].as_array().unwrap().iter().map(|recipient| &recipient["state"]).collect();
    assert_eq!(states, ["delivered", "held"]);
    assert_eq!(shown["recipients"][1]["code"], 553);
}

/// A message of 100 KiB a chunk, of lines that all need a dot, is more than memory holds of it: chunk records.
#[test]
fn a_large_message_by_bdat_arrives_as_it_was() {
    let directory = Scratch::new("extensions-large");
    let (primary, record, kept) = (free_address(), directory.path("record"), directory.path("kept"));
    let sink = Primary::sink_that_keeps(&primary.to_string(), &record, &kept);
    let config = configure(&directory, &Settings { primary, ..Settings::default() });
    let mut server = Server::start(&config);
    let mut client = Client::connect(server.address);
    client.say("EHLO client.example", "250-");
    client.say("MAIL FROM:<s@example.org>", "250 2.1.0");
    client.say("RCPT TO:<a@example.test>", "250 2.1.5");
    let body = format!("Subject: large\r\n\r\n{}", ".\r\n..\r\nx\r\n".repeat(100_000));
    for chunk in body.as_bytes().chunks(100 * 1024) {
        client.send(format!("BDAT {}\r\n", chunk.len()).as_bytes());
        client.send(chunk);
        assert!(client.reply().starts_with("250 2.0.0 Ok: "));
    }
    let reply = client.say("BDAT 0 LAST", "250 2.0.0 Ok: queued as ");
    let shown = show(&directory.path("data"), reply.rsplit(' ').next().unwrap());
    assert!(shown["chunks"].as_array().unwrap().len() >= 3, "{shown}");
    assert_eq!(shown["stuffed_lines"], 200_000);
    server.process.wait_for("handed over");
    server.stop();
    sink.stop();
    let message = std::fs::read_to_string(kept.join("00000001.eml")).unwrap();
    assert!(message[message.find("Subject:").unwrap()..] == body, "not an octet more or less");
}

#[test]
fn etrn_ends_the_pause_of_a_domain() {
    let directory = Scratch::new("extensions-etrn");
    let (primary, record) = (free_address(), directory.path("record"));
    // What is put off waits for 5 minutes at least, longer than this test waits for anything.
    let rest = "retry_interval = \"1h\"\n[[domain]]\nname = \"two.test\"\nprimary = [\"192.0.2.1\"]";
    let config = configure(&directory, &Settings { primary, rest, ..Settings::default() });
    let sink = Primary::sink(&primary.to_string(), &record, &["rcpt:from=s@*:first=2:defer"]);
    let mut server = Server::start(&config);
    let mut client = Client::connect(server.address);
    client.say("EHLO client.example", "250-");
    client.say("ETRN example.test", "251 2.0.0 Ok, no messages waiting for node example.test");
    for mailbox in ["<a@example.test>", "<b@example.test>"] {
        bring(&mut client, "<s@example.org>", &[mailbox], ("Subject: x\r\n\r\n", "x\r\n"));
        server.process.wait_for("deferred by the primary");
        server.process.wait_for("nothing is left to hand over now");
    }
    client.say("ETRN two.test", "459 4.7.1 Node two.test not allowed");
    client.say("ETRN other.test", "459 4.7.1 Node other.test not allowed");
    client.say("ETRN #example.test", "458 4.3.0 ");
    client.say("ETRN Example.Test", "253 2.0.0 Ok, 2 pending messages for node Example.Test started");
    for _ in 0..2 {
        server.process.wait_for("handed over");
    }
    server.process.wait_for("nothing is left to hand over now");
    client.say("ETRN @test", "251 2.0.0 Ok, no messages waiting for node test");
    server.stop();
    sink.stop();
}

#[test]
fn a_trusted_proxy_names_the_client_and_nobody_else_does() {
    let directory = Scratch::new("extensions-xclient");
    let config =
        configure(&directory, &Settings { smtp: "xclient_from = [\"127.0.0.0/8\"]", ..Settings::default() });
    let server = Server::start(&config);
    let mut client = Client::connect(server.address);
    let offer = client.say("EHLO proxy.example", "250-");
    assert!(offer.contains("250-XCLIENT NAME ADDR PORT PROTO HELO\r\n"), "{offer}");
    client.say("XCLIENT ADDR=IPV6:2001:db8::7 PROTO=SMTP HELO=far.example", "220 ");
    let queue_id =
        bring(&mut client, "<s@example.org>", &["<a@example.test>"], ("Subject: x\r\n", "\r\nx\r\n"));
    let shown = show(&directory.path("data"), &queue_id);
    assert_eq!((&shown["client"], &shown["helo"]), (&"2001:db8::7".into(), &"far.example".into()));
    assert_eq!(shown["protocol"], "SMTP");
    let trace = shown["trace"].as_str().unwrap();
    assert!(
        trace.contains("from far.example ([IPv6:2001:db8::7])") && trace.contains(" with SMTP id "),
        "{trace}"
    );
    // The primary's address is this one's too, but the client that was named is not.
    client.say("HELO again", "250 ");
    client.say("ETRN example.test", "459 ");
    server.stop();
    let config = configure(&directory, &Settings::default());
    let server = Server::start(&config);
    let mut client = Client::connect(server.address);
    assert!(!client.say("EHLO proxy.example", "250-").contains("XCLIENT"));
    client.say("XCLIENT ADDR=192.0.2.1", "550 5.7.0 ");
    server.stop();
}
