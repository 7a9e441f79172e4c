//! The appliance as a machine, with somebody at the other end of the socket who plays PID 1; and where there is nobody.

use super::*;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;

/// Plays PID 1 at this socket, a request at a time. How the machine is, is asked each minute by whoever runs: that it says by itself.
pub(super) fn play(socket: &Path, machine: Value, mut answer: impl FnMut(&Value) -> Value + Send + 'static) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            let request: Value = serde_json::from_str(&line).unwrap();
            let answer = if request == "machine" { json!({ "machine": machine }) } else { answer(&request) };
            stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
    });
}

/// A machine whose disk is in this state.
pub(super) fn with_disk(state: &str, findings: &[&str]) -> Value {
    let figures = json!({ "temperature_c": 41, "used_percent": 12, "spare_percent": 100, "media_errors": 0,
        "reallocated": null, "unsafe_shutdowns": 3, "hours": 99, "io_errors": 0, "file_system_errors": 0 });
    let disk = json!({ "device": "nvme0n1", "model": "M", "serial": "S", "firmware": "F", "state": state,
        "findings": findings, "figures": figures, "looked_s": 1_795_388_400 });
    let data = json!({ "size_octets": 1_u64 << 32, "free_octets": 1_u64 << 31, "is_read_only": false });
    json!({ "version": "0.1.9", "variant": "cloud", "uptime_s": 60, "data": data, "disk": disk })
}

/// A server that has a PID 1.
pub(super) fn node(directory: &Scratch, socket: &Path) -> Node {
    let config = configure(directory, &Settings::default());
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
    command.args(["serve", "--config"]).arg(config).env("STRATAMX_INIT", socket);
    let mut process = Process::start(&mut command);
    let line: Value = serde_json::from_str(&process.wait_for("\"listening\"")).unwrap();
    let server = Server { process, address: line["address"].as_str().unwrap().parse().unwrap() };
    let token = std::fs::read_to_string(directory.path("data/admin-token")).unwrap().trim().to_owned();
    Node { api: server.admin(), server, token }
}

/// Waits until this alert is told.
fn alert(node: &Node, kind: &str) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let told = node.get("/api/v1/alerts");
        let mut all = told["alerts"].as_array().unwrap().iter();
        if let Some(alert) = all.find(|alert| alert["kind"] == kind) {
            return alert.clone();
        }
        assert!(Instant::now() < end, "never {kind}: {told}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_disk_that_fails_is_told_by_api_command_metrics_and_alert() {
    let directory = Scratch::new("admin-machine");
    let socket = directory.path("init.sock");
    play(&socket, with_disk("failing", &["it says that it is unreliable"]), |_| json!({ "refused": "no" }));
    let node = node(&directory, &socket);
    assert_eq!(node.get("/api/v1/machine")["disk"]["state"], "failing");
    let (status, text, _) = node.command(&["machine"]);
    assert_eq!(status, Some(1), "a script has to see it");
    assert!(text.contains("nvme0n1 (M, S, F): failing") && text.contains("it is unreliable"), "{text}");
    assert_eq!(alert(&node, "disk-health")["severity"], "critical");
    let asked = format!("GET /metrics HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n", node.token);
    let metrics = raw(node.api, asked.as_bytes());
    for line in [
        "stratamx_disk_state{device=\"nvme0n1\",state=\"failing\"} 1",
        "stratamx_disk_used_ratio{device=\"nvme0n1\"} 0.12",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    node.server.stop();
}

#[test]
fn a_server_that_is_no_appliance_has_no_machine() {
    let directory = Scratch::new("admin-no-machine");
    let config = configure(&directory, &Settings::default());
    let node = Node::start(&directory, &config);
    assert_eq!(node.ask("GET", "/api/v1/machine", &Value::Null).0, 409);
    let (status, _, stderr) = node.command(&["machine"]);
    assert!(status == Some(1) && stderr.contains("this is no appliance"), "{stderr}");
    node.server.stop();
}
