//! Notices with the real server: an outage, the primary's return, a refusal; what the sender is told, and who is told nothing.

use super::harness::client::Client;
use super::harness::*;
use mail_parser::{MessageParser, MimeHeaders};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

const RECORDS: [(&str, &str); 1] = [("sender.example", "v=spf1 ip4:192.0.2.0/24 -all")];
/// After an outage: who is refused, and enough that are taken.
const REFUSED: &str = "rcpt:to=refused@*:reject=550";

struct Setting {
    directory: Scratch,
    config: PathBuf,
    primary: SocketAddr,
    smarthost: SocketAddr,
}

impl Setting {
    fn new(name: &str) -> Self {
        let directory = Scratch::new(name);
        let (primary, smarthost) = (free_address(), free_address());
        let rest = format!("[dns]\nnameservers = [\"{}\"]", name_server::start_texts(&RECORDS));
        let delivery = format!("smarthost = \"{smarthost}\"");
        let smtp = "xclient_from = [\"127.0.0.1\"]";
        let settings = Settings { primary, smtp, delivery: &delivery, rest: &rest, ..Settings::default() };
        let config = configure(&directory, &settings);
        Self { directory, config, primary, smarthost }
    }

    /// The primary comes back.
    fn primary(&self) -> Primary {
        Primary::sink(&self.primary.to_string(), &self.directory.path("record"), &[REFUSED])
    }

    /// The primary takes mail for two, so that it is known who is good, and is gone again.
    fn know(&self, server: &mut Server) {
        let sink = self.primary();
        for (recipient, count) in [("<one@example.test>", 1), ("<two@example.test>", 2)] {
            bring(server, "<ann@sender.example>", &[recipient]);
            let is_it = |line: &&String| line.contains("\"handed over\"");
            while server.process.seen.iter().filter(is_it).count() < count {
                server.process.wait_for("\"handed over\"");
            }
        }
        sink.stop();
    }

    /// The smarthost, and where it keeps what it gets.
    fn smarthost(&self) -> (Primary, PathBuf) {
        let kept = self.directory.path("notices");
        std::fs::create_dir_all(&kept).unwrap();
        let sink = Primary::sink_that_keeps(&self.smarthost.to_string(), &self.directory.path("told"), &kept);
        (sink, kept)
    }

    fn audit(&self) -> String {
        let output =
            Command::new(tool("stratamx-segment")).arg("audit").arg(self.directory.path("data")).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        text
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// As a client that SPF lets send for sender.example.
fn bring(server: &mut Server, from: &str, recipients: &[&str]) {
    let mut client = Client::connect(server.address);
    client.say("EHLO trusted.example", "250-");
    client.say("XCLIENT ADDR=192.0.2.7", "220 ");
    client.say("EHLO client.example", "250-");
    client.say(&format!("MAIL FROM:{from}"), "250 2.1.0");
    for recipient in recipients {
        client.say(&format!("RCPT TO:{recipient}"), "250 2.1.5");
    }
    client.say("DATA", "354");
    let reply = client.say("Subject: hello\r\n\r\nthe body\r\n.", "250 2.0.0 Ok: queued as ");
    let id = reply.rsplit(' ').next().unwrap().to_owned();
    let is_it = |line: &String| line.contains("\"authenticated\"") && line.contains(&id);
    while !server.process.seen.iter().any(is_it) {
        server.process.wait_for("\"authenticated\"");
    }
}

#[test]
fn a_proven_sender_hears_of_the_one_recipient_that_failed_over_a_kill() {
    let setting = Setting::new("bounces-one");
    let mut server = Server::start(&setting.config);
    setting.know(&mut server);
    let recipients =
        ["<one@example.test>", "<refused@example.test> ORCPT=rfc822;R@example.test", "<two@example.test>"];
    bring(&mut server, "<ann@sender.example> ENVID=x1", &recipients);
    let sink = setting.primary();
    server.process.wait_for("a notice to the sender is made");
    // The smarthost is not there yet; nor are we for a moment.
    server.process.kill();
    setting.audit();
    // There before the notice is tried again: the next time would be minutes later.
    let (smarthost, kept) = setting.smarthost();
    let mut server = Server::start(&setting.config);
    // A notice may leave before the listeners are told.
    server.process.wait_for_any("a notice was brought");
    smarthost.stop();
    let notices: Vec<_> = files(&kept).iter().map(|path| std::fs::read(path).unwrap()).collect();
    let [notice] = &notices[..] else { panic!("one notice: {}", notices.len()) };
    let text = String::from_utf8_lossy(notice);
    let read = MessageParser::default().parse(notice).expect("a message");
    let report = read.content_type().expect("a type");
    assert_eq!(report.attribute("report-type"), Some("delivery-status"), "{text}");
    for words in [
        "To: <ann@sender.example>",
        "Auto-Submitted: auto-replied",
        "Original-Envelope-Id: x1",
        "Original-Recipient: rfc822; R@example.test",
        "Final-Recipient: rfc822; refused@example.test",
        "Remote-MTA: dns; [127.0.0.1]",
        "Subject: hello",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("one@example.test") && !text.contains("the body"), "{text}");
    server.stop();
    sink.stop();
    let audit = setting.audit();
    assert!(audit.contains("notices.invalid"), "{audit}");
}

#[test]
fn p5_who_is_not_proven_or_wants_no_notice_gets_none() {
    let setting = Setting::new("bounces-none");
    let mut server = Server::start(&setting.config);
    setting.know(&mut server);
    for (from, parameters) in
        [("<victim@nobody.example>", ""), ("<ann@sender.example>", " NOTIFY=NEVER"), ("<>", "")]
    {
        let refused = format!("<refused@example.test>{parameters}");
        bring(&mut server, from, &["<one@example.test>", &refused]);
    }
    let sink = setting.primary();
    let mut events = Vec::new();
    while events.len() < 3 {
        let line = server.process.wait_for("refused by the primary: ");
        if line.contains(": held\"") || line.contains("wants no notice") || line.contains("is told") {
            events.push(line);
        }
    }
    let count = |words: &str| events.iter().filter(|line| line.contains(words)).count();
    assert_eq!((count("refused by the primary: held"), count("wants no notice")), (1, 2), "{events:#?}");
    server.stop();
    sink.stop();
    let audit = setting.audit();
    assert!(!audit.contains("notices.invalid"), "{audit}");
}
