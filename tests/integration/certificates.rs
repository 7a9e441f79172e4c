//! Our own certificate: issued by an authority, shown without a restart, renewed; and the admin API over TLS.

use super::harness::certificate_authority::{CertificateAuthority, shaken};
use super::harness::policy_host::Authority;
use super::harness::*;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Whether STARTTLS shows a certificate that the authority vouches for, for our name.
fn is_vouched_for(address: SocketAddr, authority: &Path) -> bool {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-starttls", "smtp", "-connect", &address.to_string(), "-CAfile"])
        .arg(authority);
    command.args(["-servername", "mx2.example.test", "-verify_hostname", "mx2.example.test"]);
    command.arg("-verify_return_error").stdin(Stdio::null());
    command.output().unwrap().status.success()
}

fn tls_of_admin(config: &Path) {
    let text = fs::read_to_string(config).unwrap();
    fs::write(config, text.replace("[admin]\n", "[admin]\ntls = \"own\"\n")).unwrap();
}

fn table(authority: &CertificateAuthority, roots: &Path, rest: &str) -> String {
    format!(
        "[acme]\nagree_to_terms = true\ndirectory = \"{}\"\nroots = \"{}\"\n{rest}\n",
        authority.directory(),
        roots.display()
    )
}

/// A command on the server's own machine, by its configuration.
fn command(config: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
    let output = command.args(arguments).arg("--config").arg(config).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn an_authority_issues_by_a_page_and_a_refusal_leaves_what_is_shown() {
    let directory = Scratch::new("acme-page");
    let (listen, roots) = (free_address(), directory.path("ca.pem"));
    let issuer = Authority::new();
    fs::write(&roots, &issuer.pem).unwrap();
    let authority = CertificateAuthority::start(issuer, listen, false);
    (authority.state().refuses, authority.state().bad_nonces) = (true, 1);
    let rest = |contact: &str| {
        table(&authority, &roots, &format!("listen = [\"{listen}\"]\ncontact = \"{contact}\""))
    };
    let config = configure(&directory, &Settings { rest: &rest("one@example.test"), ..Settings::default() });
    let mut server = Server::start(&config);
    let said = server.process.wait_for("no certificate was issued");
    assert!(said.contains("nothing of yours is there") && said.contains("\"again_s\":900"), "{said}");
    assert!(!is_vouched_for(server.address, &roots), "self-signed");
    let end = Instant::now() + PATIENCE;
    let told = loop {
        let alerts = server.told(&directory, &["alert", "list"]);
        let all = alerts["alerts"].as_array().unwrap().iter();
        match all.clone().find(|alert| alert["kind"] == "certificate") {
            Some(alert) => break alert["text"].as_str().unwrap().to_owned(),
            None => assert!(Instant::now() < end, "{alerts}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(told.contains("nothing of yours is there"), "{told}");

    // Nothing else is there for visitors, and nothing of an order that has ended.
    for path in ["/", "/.well-known/acme-challenge/token0", "/.well-known/acme-challenge/"] {
        let output = Command::new("curl").args(["-si", &format!("http://{listen}{path}")]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("HTTP/1.1 404 ") && text.ends_with("\r\n\r\n"), "{path}: {text}");
    }

    // Another contact is another wish: it is tried at once.
    authority.state().refuses = false;
    configure(&directory, &Settings { rest: &rest("two@example.test"), ..Settings::default() });
    server.process.signal("-HUP");
    server.process.wait_for("a certificate was issued");
    assert!(is_vouched_for(server.address, &roots), "the next handshake shows it");
    {
        let state = authority.state();
        assert_eq!((state.accounts.len(), state.issued), (1, 1));
        assert_eq!(state.accounts[0].payload["contact"][0], "mailto:one@example.test");
        assert_eq!(state.accounts[0].payload["termsOfServiceAgreed"], true);
    }
    for file in ["data/acme.pem", "data/acme-account.json"] {
        let status = fs::metadata(directory.path(file)).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&status.permissions()) & 0o777, 0o600, "{file}");
    }
    server.stop();
}

#[test]
fn a_certificate_outlives_the_process_and_is_renewed_also_by_an_authority_that_forgot_us() {
    let directory = Scratch::new("acme-renewal");
    let (listen, roots) = (free_address(), directory.path("ca.pem"));
    let issuer = Authority::new();
    fs::write(&roots, &issuer.pem).unwrap();
    let authority = CertificateAuthority::start(issuer, listen, false);
    authority.state().issues_old = true;
    let rest = table(&authority, &roots, &format!("listen = [\"{listen}\"]"));
    let config = configure(&directory, &Settings { rest: &rest, ..Settings::default() });
    let mut server = Server::start(&config);
    server.process.wait_for("a certificate was issued");
    assert!(is_vouched_for(server.address, &roots));
    let first = fs::read(directory.path("data/acme.pem")).unwrap();
    server.process.kill();

    // It is shown at once; two thirds of its time are over, so that another is ordered, by the same account.
    authority.state().forgets = true;
    let mut server = Server::start(&config);
    assert!(is_vouched_for(server.address, &roots), "what is kept is shown from the start");
    server.process.wait_for("does not know our account any more");
    server.process.wait_for("a certificate was issued");
    assert_ne!(fs::read(directory.path("data/acme.pem")).unwrap(), first);
    let counts = || {
        let state = authority.state();
        (state.accounts.len(), state.issued)
    };
    assert_eq!(counts(), (2, 2));
    // What is old when it is issued is not ordered again and again.
    authority.state().issues_old = false;
    server.process.kill();
    let mut server = Server::start(&config);
    server.process.wait_for("a certificate was issued");
    assert_eq!(counts(), (2, 3), "the account is kept");
    server.stop();
    let server = Server::start(&config);
    let status = server.told(&directory, &["status"]);
    assert_eq!(status["domains"][0]["name"], "example.test");
    let log = server.stop();
    assert!(!log.iter().any(|line| line.contains("a certificate is ordered")), "it holds: {log:#?}");
}

#[test]
fn the_admin_api_answers_an_authority_by_a_handshake_and_its_clients_by_tls() {
    let directory = Scratch::new("acme-handshake");
    let roots = directory.path("ca.pem");
    let issuer = Authority::new();
    fs::write(&roots, &issuer.pem).unwrap();
    let api = free_address();
    let authority = CertificateAuthority::start(issuer, api, true);
    let rest = "challenge = \"tls-alpn-01\"\nlisten = []\nnames = [\"mx2.example.test\", \"localhost\"]";
    let rest = table(&authority, &roots, rest);
    let config = configure(&directory, &Settings { rest: &rest, ..Settings::default() });
    tls_of_admin(&config);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\nlisten = \"127.0.0.1:0\"", &format!("\nlisten = \"{api}\""))).unwrap();
    let mut server = Server::start(&config);
    server.process.wait_for("a certificate was issued");
    assert!(is_vouched_for(server.address, &roots), "senders see it too");
    assert!(shaken(api, "mx2.example.test").is_err(), "no order is under way");

    // On the server itself exactly its certificate is trusted, elsewhere whom authorities vouch for.
    let (done, text) = command(&config, &["status"]);
    assert!(done && text.contains("example.test"), "{text}");
    let token = fs::read_to_string(directory.path("data/admin-token")).unwrap();
    let elsewhere = |url: &str, ca: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
        command.args(["status", "--json", "--url", url, "--token", token.trim()]);
        if let Some(ca) = ca {
            command.arg("--ca").arg(ca);
        }
        let output = command.output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (status["domains"][0]["name"].clone(), String::from_utf8(output.stderr).unwrap())
    };
    let (named, port) = (format!("https://localhost:{}", api.port()), api.port());
    assert_eq!(elsewhere(&named, Some(&roots)).0, "example.test");
    let (_, unknown) = elsewhere(&named, None);
    assert!(unknown.contains("no TLS: ") && unknown.contains("--ca names a file"), "{unknown}");
    let (_, misnamed) = elsewhere(&format!("https://127.0.0.1:{port}"), Some(&roots));
    assert!(misnamed.contains("no TLS: ") && misnamed.contains("not valid for name"), "{misnamed}");
    let (_, plain) = elsewhere(&format!("http://localhost:{port}"), None);
    assert!(plain.contains("no answer from"), "{plain}");
    let curl = Command::new("curl")
        .args(["-s", "--cacert", roots.to_str().unwrap(), &format!("{named}/healthz")])
        .output()
        .unwrap();
    assert!(curl.status.success(), "{curl:?}");
    server.stop();
}

#[test]
fn the_admin_api_speaks_tls_with_a_certificate_that_it_made_itself() {
    let directory = Scratch::new("admin-tls");
    let config = configure(&directory, &Settings::default());
    let api = free_address();
    tls_of_admin(&config);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\nlisten = \"127.0.0.1:0\"", &format!("\nlisten = \"{api}\""))).unwrap();
    let mut server = Server::start(&config);
    let (done, text) = command(&config, &["status"]);
    assert!(done && text.contains("example.test"), "{text}");
    // A client that says nothing, and one that speaks plainly, cost nobody anything.
    let _silent = std::net::TcpStream::connect(api).unwrap();
    let plain = Command::new("curl").args(["-s", &format!("http://{api}/healthz")]).output().unwrap();
    assert!(!plain.status.success());
    let (done, _) = command(&config, &["domain", "list"]);
    assert!(done);
    // From plain to TLS is for a restart; another certificate is not.
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("tls = \"own\"\n", "")).unwrap();
    server.process.signal("-HUP");
    assert!(server.process.wait_for("needs a restart").contains("admin.tls"));
    let issued = Authority::new().issue("mx2.example.test");
    issued.write(&directory.path("api.pem"));
    let pem = directory.path("api.pem");
    let files = format!("tls = {{ cert = \"{0}\", key = \"{0}\" }}", pem.display());
    fs::write(&config, text.replace("tls = \"own\"", &files)).unwrap();
    server.process.signal("-HUP");
    server.process.wait_for("configuration reloaded");
    let (done, text) = command(&config, &["status"]);
    assert!(done && text.contains("example.test"), "{text}");
    server.stop();
}
