//! A server whose keys of mail at rest are PID 1's to open; somebody at the other end of the socket plays PID 1.

use super::*;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};

const SECRET: &str = "the passphrase of this test";

/// Plays PID 1: hands on what is asked about the keys, and opens them by the one secret.
fn init(socket: &Path) -> Receiver<Value> {
    let (tell, told) = channel();
    machine::play(socket, machine::with_disk("healthy", &[]), move |request| {
        let asked = &request["at_rest"];
        tell.send(asked.clone()).unwrap();
        match asked["unlock"].as_str() {
            Some(SECRET) => json!({ "at_rest": { "done": null } }),
            Some(_) => json!({ "refused": "this is not the passphrase" }),
            None if asked == "status" => json!({ "at_rest": { "status":
                { "state": "locked", "why": "the passphrase is needed", "opened_by": ["passphrase"] } } }),
            None => json!({ "at_rest": { "done": "0000-1111" } }),
        }
    });
    told
}

fn serve(config: &Path, directory: &Scratch) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
    command.args(["serve", "--config"]).arg(config);
    command.env("STRATAMX_INIT", directory.path("init.sock")).env("STRATAMX_AT_REST", directory.path("keys"));
    Process::start(&mut command)
}

fn node(mut process: Process, awaited: &str, address: SocketAddr, directory: &Scratch) -> Node {
    process.wait_for(awaited);
    let server = Server { process, address };
    let token = std::fs::read_to_string(directory.path("data/admin-token")).unwrap().trim().to_owned();
    Node { api: server.admin(), server, token }
}

/// `stratamx ARGUMENTS`, with a line that is typed.
fn command(node: &Node, arguments: &[&str], typed: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
    command
        .args(arguments)
        .args(["--url", &format!("http://{}", node.api)])
        .env("STRATAMX_TOKEN", &node.token);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{typed}").unwrap();
    child.wait_with_output().unwrap()
}

fn open_keys(directory: &Scratch) -> PathBuf {
    let keys = directory.path("keys");
    std::fs::write(&keys, format!("1 {}\n", "5a".repeat(32))).unwrap();
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o400)).unwrap();
    keys
}

#[test]
fn a_locked_server_takes_no_mail_until_its_keys_are_open() {
    let directory = Scratch::new("admin-at-rest");
    let told = init(&directory.path("init.sock"));
    let listen = free_address();
    let config = configure(&directory, &Settings { listen, ..Settings::default() });
    let locked = node(serve(&config, &directory), "the admin API listens", listen, &directory);
    assert!(TcpStream::connect(listen).is_err(), "somebody takes mail");
    assert!(raw(locked.api, b"GET /readyz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 503 "));
    assert_eq!(locked.ask("GET", "/api/v1/status", &Value::Null).0, 503);
    assert_eq!(locked.get("/api/v1/machine/at-rest")["state"], "locked");
    assert_eq!(told.recv().unwrap(), "status");

    let wrong = command(&locked, &["unlock"], "another one");
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("not the passphrase"));
    assert_eq!(told.recv().unwrap(), json!({ "unlock": "another one" }));
    let right = command(&locked, &["unlock"], SECRET);
    assert!(right.status.success(), "{}", String::from_utf8_lossy(&right.stderr));
    assert_eq!(told.recv().unwrap(), json!({ "unlock": SECRET }));
    // It reads nothing again, and does not end by it; what PID 1 does then is an end in order.
    locked.server.process.signal("-HUP");
    let keys = open_keys(&directory);
    let said = locked.server.stop().join("\n");
    assert!(!said.contains(SECRET) && !said.contains("store opened"), "{said}");

    let open = node(serve(&config, &directory), "\"listening\"", listen, &directory);
    bring(&open.server, "a@example.test");
    assert_eq!(
        open.ask("POST", "/api/v1/config/reload", &Value::Null).0,
        204,
        "the machine's keys at a reload"
    );
    let made = command(&open, &["at-rest", "recovery-key"], "");
    assert_eq!(String::from_utf8_lossy(&made.stdout), "0000-1111\n");
    let (_, audit) = open.ask("GET", "/api/v1/audit", &Value::Null);
    let audit = audit.to_string();
    assert!(
        audit.contains("/api/v1/machine/unlock") && !audit.contains(SECRET) && !audit.contains("0000-1111"),
        "{audit}"
    );
    open.server.stop();

    // The mail is behind them: another key is not taken for it.
    std::fs::remove_file(&keys).unwrap();
    std::fs::write(&keys, format!("1 {}\n", "a5".repeat(32))).unwrap();
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o400)).unwrap();
    let mut other = serve(&config, &directory);
    other.wait_for("encrypted with another key 1");
    assert_ne!(other.wait(), Some(0));
}
