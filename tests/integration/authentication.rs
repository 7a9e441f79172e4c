//! SPF, DKIM and DMARC with the real server and scripted name servers: what a verdict says, where it goes, and that nobody
//! ever waits for it.

use super::harness::client::Client;
use super::harness::*;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// RFC 8463 appendix A.3.
const RFC_8463: &str = include_str!("rfc_8463.eml");

const RECORDS: [(&str, &str); 4] = [
    (
        "brisbane._domainkey.football.example.com",
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    ),
    (
        "test._domainkey.football.example.com",
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
    ),
    ("_dmarc.football.example.com", "v=DMARC1; p=reject"),
    ("sender.example", "v=spf1 ip4:192.0.2.0/24 -all"),
];

/// MAIL, RCPT and DATA; the queue id.
fn bring(client: &mut Client, from: &str, to: &str, data: &str) -> String {
    client.say(&format!("MAIL FROM:<{from}>"), "250 2.1.0");
    client.say(&format!("RCPT TO:<{to}>"), "250 2.1.5");
    client.say("DATA", "354");
    queue_id(&client.say(&format!("{data}."), "250 2.0.0 Ok: queued as "))
}

fn queue_id(reply: &str) -> String {
    reply.rsplit(' ').next().unwrap().to_owned()
}

/// The same by BDAT, in chunks of `size`.
fn bring_chunks(client: &mut Client, from: &str, to: &str, data: &str, size: usize) -> String {
    client.say(&format!("MAIL FROM:<{from}>"), "250 2.1.0");
    client.say(&format!("RCPT TO:<{to}>"), "250 2.1.5");
    for chunk in data.as_bytes().chunks(size) {
        client.send(format!("BDAT {}\r\n", chunk.len()).as_bytes());
        client.send(chunk);
        client.reply();
    }
    queue_id(&client.say("BDAT 0 LAST", "250 2.0.0 Ok: queued as "))
}

/// What `stratamx-segment show` says of a message's authentication, once the journal has it.
fn shown(data: &Path, queue_id: &str) -> String {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let shown =
            Command::new(tool("stratamx-segment")).arg("show").arg(data).args([queue_id, "--json"]).output();
        let shown: Value = serde_json::from_slice(&shown.unwrap().stdout).unwrap_or_default();
        if let Some(text) = shown["authentication"].as_str() {
            return text.to_owned();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{queue_id} has no verdict on disk");
}

/// The verdict in the log's line about a message; verdicts come in no order.
fn logged(server: &mut Server, queue_id: &str) -> String {
    let is_it = |line: &String| line.contains("\"authenticated\"") && line.contains(queue_id);
    loop {
        if let Some(line) = server.process.seen.iter().find(|line| is_it(line)) {
            let line: Value = serde_json::from_str(line).unwrap();
            return line["verdict"].as_str().unwrap().to_owned();
        }
        server.process.wait_for("\"authenticated\"");
    }
}

#[test]
fn verdicts_come_after_the_250_stand_in_the_journal_and_survive_kills() {
    let directory = Scratch::new("authentication");
    let (primary, record) = (free_address(), directory.path("record"));
    let rest = format!(
        "[[domain]]\nname = \"off.test\"\nprimary = [\"127.0.0.1:9\"]\nauthenticate = false\n\
         [dns]\nnameservers = [\"{}\"]",
        name_server::start_texts(&RECORDS)
    );
    let smtp = "xclient_from = [\"127.0.0.1\"]";
    let config = configure(&directory, &Settings { primary, smtp, rest: &rest, ..Settings::default() });
    let mut server = Server::start(&config);
    let mut client = Client::connect(server.address);
    // The true client, not the one at the other end of the connection.
    client.say("EHLO trusted.example", "250-");
    client.say("XCLIENT ADDR=192.0.2.7", "220 ");
    client.say("EHLO client.example", "250-");
    let signed = "spf=none dkim=pass,pass dmarc=pass policy=reject proven=dkim";
    let unrelated = "spf=pass dkim=pass,pass dmarc=pass policy=reject proven=spf";
    let joe = "joe@football.example.com";
    let off = bring(&mut client, joe, "a@off.test", RFC_8463);
    let large = format!("{RFC_8463}{}", "..a line with a dot, and more of them\r\n".repeat(12_000));
    let mut expected = Vec::new();
    for (id, verdict) in [
        (bring(&mut client, joe, "a@example.test", RFC_8463), signed),
        (bring_chunks(&mut client, joe, "a@example.test", RFC_8463, 17), signed),
        // H28: a valid signature of another domain.
        (bring(&mut client, "a@sender.example", "a@example.test", RFC_8463), unrelated),
        (
            bring(&mut client, "victim@nobody.example", "a@example.test", RFC_8463),
            "spf=none dkim=pass,pass dmarc=pass policy=reject proven=no",
        ),
        (
            bring(&mut client, "", "a@example.test", "Subject: x\r\n\r\n"),
            "spf=none dkim=none dmarc=none proven=no",
        ),
        // Chunk records: the body is another one.
        (
            bring(&mut client, joe, "a@example.test", &large),
            "spf=none dkim=fail,fail dmarc=fail policy=reject proven=no",
        ),
    ] {
        assert_eq!(logged(&mut server, &id), verdict);
        assert_eq!(shown(&directory.path("data"), &id), verdict);
        expected.push((id, verdict));
    }
    assert!(
        !server.process.seen.iter().any(|line| line.contains("\"authenticated\"") && line.contains(&off))
    );
    server.process.kill();
    // A start restates them; another one reads what was restated.
    Server::start(&config).process.kill();
    for (id, verdict) in &expected {
        assert_eq!(shown(&directory.path("data"), id), *verdict);
    }
    let mut server = Server::start(&config);
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    for (id, verdict) in &expected {
        let line = loop {
            let line = server.process.wait_for("handed over");
            if line.contains(id.as_str()) {
                break line;
            }
        };
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["proven"], Value::Bool(!verdict.ends_with("proven=no")), "{line}");
    }
    sink.stop();
    server.stop();
}

#[test]
fn a_dead_name_server_delays_no_mail_and_loses_none() {
    let directory = Scratch::new("authentication-dead");
    let (_socket, dead) = name_server::silent();
    let (primary, record) = (free_address(), directory.path("record"));
    let rest = format!("[dns]\nnameservers = [\"{dead}\"]");
    let config = configure(&directory, &Settings { primary, rest: &rest, ..Settings::default() });
    let sink = Primary::sink(&primary.to_string(), &record, &[]);
    let mut server = Server::start(&config);
    let mut client = Client::connect(server.address);
    client.say("EHLO client.example", "250-");
    let begun = Instant::now();
    // More than may be asked about at a time, and than may wait for that.
    let ids: Vec<String> =
        (0..600).map(|_| bring(&mut client, "a@sender.example", "a@example.test", RFC_8463)).collect();
    let took = begun.elapsed();
    for id in &ids {
        let is_it = |line: &String| line.contains("handed over") && line.contains(id.as_str());
        while !server.process.seen.iter().any(is_it) {
            server.process.wait_for("handed over");
        }
    }
    // One after the other, with a sync each: far from one budget of SPF a message.
    assert!(took.as_secs() < 60, "600 messages took {took:?}");
    let line = server.process.wait_for("\"authenticated\"");
    assert!(line.contains("spf=temperror dkim=temperror,temperror dmarc=temperror proven=no"), "{line}");
    sink.stop();
    server.stop();
}

/// Verifies what it is given by dkimpy, which knows nothing of us; the first line is the record of our key.
const VERIFIER: &str = r#"
import dkim, sys
record, message = sys.stdin.buffer.read().split(b"\n", 1)
verdict, _, reason = dkim.arc_verify(message, dnsfunc=lambda name, timeout=5: record)
print(verdict.decode(), reason)
"#;

#[test]
fn another_implementation_believes_our_seal_small_and_large_by_data_and_by_chunks() {
    let directory = Scratch::new("arc");
    let (primary, record, kept) = (free_address(), directory.path("record"), directory.path("kept"));
    let key = directory.path("arc.pem");
    std::fs::write(&key, include_bytes!("../../src/auth/arc/rsa.pem")).unwrap();
    let rest = format!(
        "arc = {{ domain = \"mx2.example.test\", selector = \"s1\", key = \"{}\" }}\n[dns]\nnameservers = [\"{}\"]",
        key.display(),
        name_server::start_texts(&RECORDS)
    );
    let config = configure(&directory, &Settings { primary, rest: &rest, ..Settings::default() });
    let mut server = Server::start(&config);
    let mut client = Client::connect(server.address);
    client.say("EHLO client.example", "250-");
    let large = format!("{RFC_8463}{}", "..a line with a dot, and more of them\r\n".repeat(12_000));
    let joe = "joe@football.example.com";
    let forged = format!("Authentication-Results: mx2.example.test; dkim=pass\r\n{RFC_8463}");
    let ids = [
        bring(&mut client, joe, "a@example.test", RFC_8463),
        bring_chunks(&mut client, joe, "a@example.test", &forged, 70),
        bring(&mut client, joe, "a@example.test", &large),
    ];
    for id in &ids {
        logged(&mut server, id);
    }
    let sink = Primary::sink_that_keeps(&primary.to_string(), &record, &kept);
    server.process.wait_for("nothing is left to hand over");
    sink.stop();
    server.stop();
    let public = format!("v=DKIM1; k=rsa; p={}\n", include_str!("../../src/auth/arc/rsa.pub"));
    let mut mails: Vec<_> = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()).collect();
    mails.sort();
    assert_eq!(mails.len(), 3);
    for (number, mail) in mails.iter().enumerate() {
        let mail = std::fs::read_to_string(mail).unwrap();
        assert!(
            mail.starts_with("ARC-Seal: i=1; a=rsa-sha256; s=s1; d=mx2.example.test; cv=none;"),
            "{}",
            &mail[..900]
        );
        assert_eq!(mail.matches("Authentication-Results: ").count(), 2, "{}", &mail[..1900]);
        let dkim = if number == 2 {
            "dkim=fail header.d=football.example.com"
        } else {
            "dkim=pass header.d=football.example.com"
        };
        assert!(mail.contains(&format!(";\r\n\t{dkim} header.s=brisbane")), "{}", &mail[..1900]);
        let altered = mail.replacen("Subject: ", "Subject: not ", 1);
        for (message, expected) in [(mail, "pass "), (altered, "fail ")] {
            let mut verifier = Command::new("python3");
            verifier
                .args(["-c", VERIFIER])
                .env("PYTHONPATH", peers::unpacked().join("usr/lib/python3/dist-packages"));
            let output = piped(&mut verifier, &format!("{public}{message}"));
            assert!(output.starts_with(expected), "{number}: {output}");
        }
    }
}

/// What a command says to this input.
fn piped(command: &mut Command, input: &str) -> String {
    use std::io::Write;
    use std::process::Stdio;
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
