//! Real senders: mail servers and programs of others bring small and large mail, plain and through TLS, to one and
//! to 500 recipients, in ASCII and beyond; each message reaches the primary as it was sent, octet by octet.
//!
//! BDAT is Exim's, the only one here that sends it. OpenSMTPD does not know SMTPUTF8, nor does swaks.

mod arrivals;
pub mod relay;

use super::harness::client::Client;
use super::harness::*;
use arrivals::{Arrivals, Mail};
use relay::{Kind, Relay, peers};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// What a program is told to send, and how.
struct Errand<'a> {
    to: SocketAddr,
    tls: bool,
    mail: &'a Mail,
    /// The message in a file.
    message: String,
    /// The recipients in a file, one a line.
    recipients: String,
}

impl Errand<'_> {
    fn arguments(&self) -> [String; 6] {
        let tls = if self.tls { "tls" } else { "plain" };
        let Self { to, message, recipients, .. } = self;
        let place = [to.ip().to_string(), to.port().to_string(), tls.to_owned()];
        let [host, port, tls] = place;
        [host, port, tls, self.mail.sender.clone(), recipients.clone(), message.clone()]
    }
}

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/interop").join(name)
}

fn python(kind: &str, errand: &Errand<'_>) -> Command {
    let mut command = Command::new("python3");
    command.arg(file("programs.py")).arg(kind).args(errand.arguments()).arg("BODY=8BITMIME");
    command.args(errand.mail.is_utf8.then_some("SMTPUTF8"));
    command.env("PYTHONPATH", peers().join("usr/lib/python3/dist-packages"));
    command
}

fn nodemailer(errand: &Errand<'_>) -> Command {
    let mut command = Command::new("node");
    command.arg(file("nodemailer.cjs")).args(errand.arguments());
    command.env("NODE_PATH", peers().join("usr/share/nodejs"));
    command
}

fn curl(errand: &Errand<'_>) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--mail-from", &errand.mail.sender]);
    command.args(errand.mail.recipients.iter().flat_map(|recipient| ["--mail-rcpt", recipient]));
    command.args(["--upload-file", &errand.message, &format!("smtp://{}/program.test", errand.to)]);
    command.args(if errand.tls { &["--ssl-reqd", "--insecure"][..] } else { &[] });
    // Addresses beyond ASCII are told from the locale.
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// It ends the data that it is given by a line end of its own.
fn swaks(errand: &Errand<'_>) -> Command {
    let content = errand.mail.content.strip_suffix(b"\r\n").unwrap();
    fs::write(&errand.message, content).unwrap();
    let mut command = Command::new("swaks");
    let (server, data) = (errand.to.to_string(), format!("@{}", errand.message));
    command.args(["--server", &server, "--helo", "program.test", "--from", &errand.mail.sender]);
    command.args(["--to", &errand.mail.recipients.join(","), "--data", &data, "--suppress-data"]);
    command.args(["--silent", "2", "--timeout", "60"]).args(errand.tls.then_some("--tls"));
    command
}

/// Small mail plain, all others as the program can: each arrives as it was.
fn program_sends(name: &str, can_utf8: bool, command: impl Fn(&Errand<'_>) -> Command) {
    let directory = Scratch::new(&format!("interop-{name}"));
    let mut arrivals = Arrivals::start(&directory);
    let errands = [
        (Mail::small("plain"), false),
        (Mail::small("tls"), true),
        (Mail::many("many"), false),
        (Mail::large("large"), true),
        (Mail::utf8("utf8"), true),
    ];
    for (mail, tls) in errands.into_iter().filter(|(mail, _)| can_utf8 || !mail.is_utf8) {
        let path = |suffix: &str| directory.path(&format!("{}.{suffix}", mail.name)).display().to_string();
        let errand =
            Errand { to: arrivals.address(), tls, mail: &mail, message: path("eml"), recipients: path("to") };
        fs::write(&errand.message, &mail.content).unwrap();
        fs::write(&errand.recipients, mail.recipients.join("\n")).unwrap();
        let sent = command(&errand).stdin(std::process::Stdio::null()).output().unwrap();
        assert!(sent.status.success(), "{name} {}: {}", mail.name, String::from_utf8_lossy(&sent.stderr));
        arrivals.expect(mail, tls, 0);
    }
    let arrived = arrivals.finish();
    assert!(arrived.iter().all(|arrived| !arrived.by_bdat), "{name} sends BDAT: say so above");
}

/// By SMTP to a real server, which hands it on.
fn server_sends(kind: Kind, can_utf8: bool) {
    let directory = Scratch::new(&format!("interop-{kind:?}"));
    let mut arrivals = Arrivals::start(&directory);
    let plain = Relay::start(kind, &directory.path("plain"), arrivals.address(), false);
    let tls = Relay::start(kind, &directory.path("tls"), arrivals.address(), true);
    let errands = [
        (Mail::small("plain"), false),
        (Mail::small("tls"), true),
        (Mail::many("many"), false),
        (Mail::large("large"), true),
        (Mail::utf8("utf8"), false),
    ];
    for (mail, through_tls) in errands.into_iter().filter(|(mail, _)| can_utf8 || !mail.is_utf8) {
        bring(if through_tls { tls.address } else { plain.address }, &mail);
        arrivals.expect(mail, through_tls, 1);
    }
    let arrived = arrivals.finish();
    assert!(arrived.iter().all(|arrived| arrived.by_bdat == (kind == Kind::Exim)), "{arrived:?}");
}

fn bring(to: SocketAddr, mail: &Mail) {
    let mut client = Client::connect(to);
    client.say("EHLO client.example", "250");
    let parameters = if mail.is_utf8 { " BODY=8BITMIME SMTPUTF8" } else { " BODY=8BITMIME" };
    client.say(&format!("MAIL FROM:<{}>{parameters}", mail.sender), "250");
    for recipient in &mail.recipients {
        client.say(&format!("RCPT TO:<{recipient}>"), "250");
    }
    client.say("DATA", "354");
    client.send(&arrivals::stuffed(&mail.content));
    client.say(".", "250");
    client.say("QUIT", "221");
}

#[test]
fn smtplib_sends() {
    program_sends("smtplib", true, |errand| python("smtplib", errand));
}

#[test]
fn aiosmtplib_sends() {
    program_sends("aiosmtplib", true, |errand| python("aiosmtplib", errand));
}

#[test]
fn nodemailer_sends() {
    program_sends("nodemailer", true, nodemailer);
}

#[test]
fn curl_sends() {
    program_sends("curl", true, curl);
}

#[test]
fn swaks_sends() {
    program_sends("swaks", false, swaks);
}

#[test]
fn exim_sends() {
    server_sends(Kind::Exim, true);
}

#[test]
fn opensmtpd_sends() {
    server_sends(Kind::OpenSmtpd, false);
}

#[test]
fn postfix_sends() {
    server_sends(Kind::Postfix, true);
}
