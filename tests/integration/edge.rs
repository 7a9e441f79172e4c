//! The edge of the receiving side: TLS with real peers, load balancers, rates, slow and erring clients.

use super::harness::client::Client;
use super::harness::*;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What `openssl s_client` says after a handshake: the peer's certificate and the session.
fn s_client(address: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-starttls", "smtp", "-connect", &address.to_string()]).args(arguments);
    let output = run(&mut command, "QUIT\r\n");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A certificate of its own for `names`, by openssl; the paths of certificate and key.
fn make_certificate(directory: &Scratch, file: &str, names: &[&str], algorithm: &[&str]) -> (String, String) {
    let path = |suffix: &str| directory.path(&format!("{file}.{suffix}")).display().to_string();
    let (cert, key) = (path("crt"), path("key"));
    let alternatives: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-subj", &format!("/CN={}", names[0])])
        .args(["-addext", &format!("subjectAltName={}", alternatives.join(","))])
        .args(["-keyout", &key, "-out", &cert])
        .args(algorithm)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (cert, key)
}

const EC: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
const RSA: [&str; 2] = ["-newkey", "rsa:2048"];

#[test]
fn openssl_and_swaks_and_smtplib_send_through_tls() {
    let directory = Scratch::new("tls-peers");
    let primary = free_address();
    let config = configure(&directory, &Settings { primary, ..Settings::default() });
    let mut server = Server::start(&config);
    for (version, expected) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = s_client(server.address, &[version]);
        assert!(said.contains(&format!("New, {expected}, Cipher is ")), "{said}");
        assert!(said.contains("mx2.example.test"), "the certificate is for our own name: {said}");
    }
    let said = s_client(server.address, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(said.contains("Cipher is (NONE)"), "RFC 8996: {said}");
    let address = server.address.to_string();
    let swaks = Command::new("swaks")
        .args(["--server", &address, "--from", "a@example.org", "--to", "swaks@example.test", "--tls"])
        .output()
        .unwrap();
    assert!(swaks.status.success(), "{}", String::from_utf8_lossy(&swaks.stdout));
    let script = format!(
        "import smtplib, ssl\n\
         c = ssl._create_unverified_context()\n\
         s = smtplib.SMTP('{}', {})\n\
         assert s.ehlo()[0] == 250 and s.has_extn('starttls')\n\
         s.starttls(context=c); s.ehlo()\n\
         assert not s.has_extn('starttls')\n\
         s.sendmail('a@example.org', ['smtplib@example.test'], 'Subject: x\\r\\n\\r\\n' + 'x' * 70 + ('\\r\\n' + 'y' * 70) * 20000)\n\
         s.quit()\n",
        server.address.ip(),
        server.address.port()
    );
    let python = run(Command::new("python3").arg("-"), &script);
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let record = directory.path("record.jsonl");
    let kept = directory.path("inbox");
    let sink = Primary::sink_that_keeps(&primary.to_string(), &record, &kept);
    server.process.wait_for("nothing is left to hand over");
    sink.stop();
    let mails: Vec<String> = fs::read_dir(&kept)
        .unwrap()
        .map(|entry| String::from_utf8(fs::read(entry.unwrap().path()).unwrap()).unwrap())
        .collect();
    assert_eq!(mails.len(), 2);
    for mail in &mails {
        let received = &mail[mail.find("Received: ").unwrap()..];
        let trace = &received[..received.find(";").unwrap()];
        assert!(trace.contains(" with ESMTPS id ") && trace.contains("(TLSv1.3 TLS_"), "{trace}");
    }
    let log = server.stop();
    let accepted = log.iter().find(|line| line.contains("\"accepted\"")).unwrap();
    assert!(accepted.contains("\"tls\":\"TLSv1.3 TLS_"), "{accepted}");
}

#[test]
fn the_self_signed_certificate_stays_the_same() {
    let directory = Scratch::new("tls-self");
    let config = configure(&directory, &Settings::default());
    let fingerprint = |server: &Server| {
        let said = s_client(server.address, &["-showcerts"]);
        let start = said.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("{said}"));
        said[start..said.find("-----END CERTIFICATE-----").unwrap()].to_owned()
    };
    let server = Server::start(&config);
    let first = fingerprint(&server);
    server.stop();
    let mode = fs::metadata(directory.path("data/self-signed.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let server = Server::start(&config);
    assert_eq!(fingerprint(&server), first);
    server.stop();
    // Another name is another certificate over the same key.
    let text = fs::read_to_string(&config).unwrap().replace("mx2.example.test", "mx3.example.test");
    fs::write(&config, text).unwrap();
    let key = |path: &Path| {
        let pem = fs::read_to_string(path).unwrap();
        pem[pem.find("-----BEGIN PRIVATE KEY").unwrap()..].to_owned()
    };
    let before = key(&directory.path("data/self-signed.pem"));
    let server = Server::start(&config);
    assert_ne!(fingerprint(&server), first);
    assert_eq!(key(&directory.path("data/self-signed.pem")), before);
    server.stop();
}

#[test]
fn certificates_are_chosen_by_name_and_reloaded_when_they_change() {
    let directory = Scratch::new("tls-files");
    let (cert_a, key_a) = make_certificate(&directory, "a", &["a.example.test"], &RSA);
    let (cert_b, key_b) = make_certificate(&directory, "b", &["b.example.test", "*.b.example.test"], &EC);
    let smtp = format!(
        "tls = [{{ cert = \"{cert_a}\", key = \"{key_a}\" }}, {{ cert = \"{cert_b}\", key = \"{key_b}\" }}]"
    );
    let config = configure(&directory, &Settings { smtp: &smtp, ..Settings::default() });
    let mut server = Server::start(&config);
    let subject = |server: &Server, name: &[&str]| {
        let said = s_client(server.address, name);
        said.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or(&said).trim().to_owned()
    };
    assert!(subject(&server, &["-noservername"]).ends_with("a.example.test"));
    assert!(subject(&server, &["-servername", "b.example.test"]).ends_with("b.example.test"));
    assert!(subject(&server, &["-servername", "x.b.example.test"]).ends_with("b.example.test"));
    assert!(subject(&server, &["-servername", "elsewhere.test"]).ends_with("a.example.test"));
    // A session that is open goes on over a renewal.
    let mut open = Client::connect(server.address);
    // A renewal that is broken keeps what was there; one that is whole is taken without a restart.
    fs::write(&cert_a, "no certificate").unwrap();
    let complaint = server.process.wait_for("the certificates in force stay");
    assert!(complaint.contains("a.crt"), "{complaint}");
    assert!(subject(&server, &["-noservername"]).ends_with("a.example.test"));
    make_certificate(&directory, "new", &["renewed.example.test"], &EC);
    fs::rename(directory.path("new.key"), &key_a).unwrap();
    fs::rename(directory.path("new.crt"), &cert_a).unwrap();
    server.process.wait_for("the certificates have changed and were read again");
    assert!(subject(&server, &["-noservername"]).ends_with("renewed.example.test"));
    // By SIGHUP: other files.
    let smtp = format!("tls = {{ cert = \"{cert_b}\", key = \"{key_b}\" }}");
    configure(&directory, &Settings { smtp: &smtp, ..Settings::default() });
    server.process.signal("-HUP");
    server.process.wait_for("configuration reloaded");
    assert!(subject(&server, &["-noservername"]).ends_with("b.example.test"));
    open.say("NOOP", "250");
    server.stop();
    // At a start nothing is there to be kept.
    fs::write(&cert_b, "no certificate").unwrap();
    for command in ["serve", "check"] {
        let refused =
            Command::new(tool("stratamx")).args([command, "--config"]).arg(&config).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("b.crt"), "{said}");
    }
}

#[test]
fn plain_text_behind_starttls_is_never_run() {
    let directory = Scratch::new("tls-injection");
    let server = Server::start(&configure(&directory, &Settings::default()));
    let mut client = Client::connect(server.address);
    client.say("EHLO client.example", "250-");
    client.send(b"STARTTLS\r\nMAIL FROM:<forged@example.org>\r\nRCPT TO:<b@example.test>\r\n");
    assert!(client.reply().starts_with("554 5.5.0"));
    assert_eq!(client.reply(), "", "and the connection ends");
    // Sent behind the 220 it is no handshake, and ends the connection with an alert.
    let mut client = Client::connect(server.address);
    client.say("EHLO client.example", "250-");
    client.say("STARTTLS", "220 2.0.0");
    client.send(b"MAIL FROM:<forged@example.org>\r\nNOOP\r\n");
    let rest = client.rest();
    assert_eq!(rest.first(), Some(&0x15), "an alert (RFC 8446 5.1): {rest:?}");
    assert!(!rest.windows(3).any(|window| window == b"250"), "{rest:?}");
}

/// A PROXY header for a TCP connection of `source`.
fn proxy_header(source: &str) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match source.parse::<SocketAddr>().unwrap() {
        SocketAddr::V4(source) => {
            header.extend([0x11, 0, 12 + 7]);
            header.extend(source.ip().octets());
            header.extend([127, 0, 0, 1]);
            header.extend(source.port().to_be_bytes());
        }
        SocketAddr::V6(source) => {
            header.extend([0x21, 0, 36 + 7]);
            header.extend(source.ip().octets());
            header.extend([0; 16]);
            header.extend(source.port().to_be_bytes());
        }
    }
    // The destination's port, and a field that is skipped.
    header.extend([0, 25, 0x04, 0, 4, 1, 2, 3, 4]);
    header
}

#[test]
fn a_load_balancer_tells_who_its_client_is() {
    let directory = Scratch::new("proxy-header");
    let smtp = "proxy_from = [\"127.0.0.0/8\"]\nmax_connections_per_ip = 1";
    let config = configure(&directory, &Settings { smtp, ..Settings::default() });
    let mut server = Server::start(&config);
    let connect = |header: &[u8]| {
        let mut client = Client::connect_silently(server.address);
        client.send(header);
        client
    };
    let mut clients = Vec::new();
    for source in ["192.0.2.1:99", "[2001:db8::1]:99"] {
        let mut client = connect(&proxy_header(source));
        assert!(client.reply().starts_with("220 "), "{source}");
        assert!(client.message("b@example.test", "Subject: x").starts_with("250 2.0.0 Ok: queued"));
        clients.push(client);
    }
    let refused = connect(&proxy_header("[2001:db8::2]:99")).reply();
    assert!(refused.starts_with("421 4.7.0"), "caps are the client's, IPv6 by its /64: {refused}");
    let mut other = connect(&proxy_header("192.0.2.2:99"));
    assert!(other.reply().starts_with("220 "));
    // LOCAL: the balancer's own health check.
    let mut local = connect(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    assert!(local.reply().starts_with("220 "));
    // Everything else ends without a word.
    for bad in [&b"EHLO client.example\r\n"[..], b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n"] {
        assert_eq!(connect(bad).reply(), "");
    }
    server.process.wait_for("a PROXY header of version 1");
    // What a client says before its greeting is early talk, behind a header too.
    let early = [&proxy_header("192.0.2.3:99")[..], b"EHLO early.example\r\n"].concat();
    assert!(connect(&early).reply().starts_with("554 5.5.0"));
    let log = server.stop();
    for client in ["192.0.2.1", "2001:db8::1"] {
        let line = format!("\"client\":\"{client}\"");
        assert!(log.iter().any(|entry| entry.contains("\"accepted\"") && entry.contains(&line)), "{log:#?}");
    }
}

#[test]
fn from_others_a_proxy_header_is_early_talk_or_no_command() {
    let directory = Scratch::new("proxy-untrusted");
    let config =
        configure(&directory, &Settings { smtp: "proxy_from = [\"192.0.2.0/24\"]", ..Settings::default() });
    let server = Server::start(&config);
    let mut client = Client::connect_silently(server.address);
    client.send(&proxy_header("192.0.2.1:99"));
    let first = client.reply();
    let reply = if first.starts_with("220 ") { client.reply() } else { first };
    // Its first line is empty, which is no command; or all of it is there before the greeting.
    assert!(reply.starts_with("554 5.5.0") || reply.starts_with("500 5.5."), "{reply}");
}

#[test]
fn who_comes_too_fast_is_told_to_come_later() {
    let directory = Scratch::new("rates");
    let smtp = "rate = { connections_per_minute_per_ip = 3, messages_per_minute_per_ip = 2 }";
    let config = configure(&directory, &Settings { smtp, ..Settings::default() });
    let server = Server::start(&config);
    let mut client = Client::connect(server.address);
    for _ in 0..2 {
        assert!(client.message("b@example.test", "Subject: x").starts_with("250 2.0.0 Ok: queued"));
    }
    client.say("MAIL FROM:<a@example.org>", "451 4.7.1");
    client.say("NOOP", "250");
    drop((Client::connect(server.address), Client::connect(server.address)));
    let refused = Client::connect_silently(server.address).reply();
    assert!(refused.starts_with("421 4.7.0"), "{refused}");
}
