//! Updates of the appliance, with somebody at the other end of the socket who plays PID 1; and where there is nobody.

use super::machine::node;
use super::*;
use minisign::KeyPair;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

const PATH: &str = "/api/v1/update";

/// A PE file with a section that says who it is, and padding.
fn image(version: &str, padding: usize) -> Vec<u8> {
    let os_release = format!("ID=stratamx\nIMAGE_VERSION={version}\nVARIANT_ID=cloud\n");
    let mut file = b"MZ".to_vec();
    file.resize(0x3c, 0);
    file.extend(0x40_u32.to_le_bytes());
    file.extend(b"PE\0\0\x64\x86\x01\0");
    file.extend([0; 16]);
    let (place, octets) = (u32::try_from(file.len() + 40).unwrap(), u32::try_from(os_release.len()).unwrap());
    file.extend(b".osrel\0\0");
    for word in [octets, 0x1000, octets, place, 0, 0, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(os_release.as_bytes());
    file.resize(file.len() + padding, 7);
    file
}

/// Writes an image and its signature.
fn signed(directory: &Scratch, key: &KeyPair, version: &str, padding: usize) -> PathBuf {
    let octets = image(version, padding);
    let file = directory.path(&format!("stratamx_{version}_cloud.efi"));
    let comment = format!("file:stratamx_{version}_cloud.efi");
    let signature = minisign::sign(Some(&key.pk), &key.sk, octets.as_slice(), Some(&comment), None).unwrap();
    std::fs::write(&file, octets).unwrap();
    std::fs::write(format!("{}.minisig", file.display()), signature.to_string()).unwrap();
    file
}

/// Plays PID 1: says what runs, and hands on what it is to install with the octets that it finds.
fn init(socket: &Path, image: PathBuf, key: &KeyPair, refusal: Option<&'static str>) -> Receiver<Vec<u8>> {
    let key = key.pk.to_box().unwrap().into_string();
    let (tell, told) = channel();
    machine::play(socket, machine::with_disk("healthy", &[]), move |request| {
        match (request["install"]["signature"].as_str(), refusal) {
            (Some(_), Some(why)) => json!({ "refused": why }),
            (Some(signature), None) => {
                assert!(signature.contains("trusted comment: file:stratamx_"), "{signature}");
                tell.send(std::fs::read(&image).unwrap()).unwrap();
                json!({ "installed": { "version": "0.2.0" } })
            }
            (None, _) => {
                json!({ "status": { "version": "0.1.9", "variant": "cloud", "state": "idle", "key": key,
                    "good": null, "last": null } })
            }
        }
    });
    told
}

#[test]
fn a_server_that_is_no_appliance_says_so() {
    let directory = Scratch::new("update-none");
    let config = configure(&directory, &Settings::default());
    let node = Node::start(&directory, &config);
    for method in ["GET", "POST"] {
        let (status, body) = node.ask(method, PATH, &Value::Null);
        assert!(status == 409 && body["detail"].as_str().unwrap().contains("no appliance"), "{body}");
    }
    let key = KeyPair::generate_unencrypted_keypair().unwrap();
    let file = signed(&directory, &key, "0.2.0", 0).display().to_string();
    for arguments in [&["update", "--status"][..], &["update", &file]] {
        let (status, _, stderr) = node.command(arguments);
        assert!(status == Some(1) && stderr.contains("no appliance"), "{stderr}");
    }
    assert_eq!(node.command(&["update"]).0, Some(2));
}

#[test]
fn what_is_signed_and_newer_reaches_pid_1_as_it_was_sent() {
    let directory = Scratch::new("update-good");
    let (socket, key) = (directory.path("init.sock"), KeyPair::generate_unencrypted_keypair().unwrap());
    let installed = init(&socket, directory.path("data/update.efi"), &key, None);
    let node = node(&directory, &socket);
    assert_eq!(node.get(PATH)["version"], "0.1.9");
    let file = signed(&directory, &key, "0.2.0", 3 << 20);
    let (status, stdout, stderr) = node.command(&["update", &file.display().to_string()]);
    assert!(status == Some(0) && stdout.starts_with("0.2.0 is installed."), "{stderr}");
    assert!(installed.recv_timeout(PATIENCE).unwrap() == std::fs::read(&file).unwrap());
    assert!(!directory.path("data/update.efi").exists(), "it stays");
    let (status, stdout, _) = node.command(&["update", "--status"]);
    assert!(status == Some(0) && stdout.starts_with("running    0.1.9 (cloud)\n"), "{stdout}");
    let entries = node.get("/api/v1/audit");
    assert!(entries.to_string().contains("POST") && entries.to_string().contains(PATH), "{entries}");
}

#[test]
fn what_breaks_the_rule_is_refused_before_pid_1_is_asked() {
    let directory = Scratch::new("update-bad");
    let (socket, key) = (directory.path("init.sock"), KeyPair::generate_unencrypted_keypair().unwrap());
    let installed = init(&socket, directory.path("data/update.efi"), &key, None);
    let node = node(&directory, &socket);
    let refused = |file: &Path, why: &str| {
        let (status, _, stderr) = node.command(&["update", &file.display().to_string()]);
        assert!(status == Some(1) && stderr.contains(why), "{why}: {stderr}");
    };
    refused(&signed(&directory, &key, "0.1.9", 0), "0.1.9 is not newer than the running 0.1.9");
    refused(&signed(&directory, &key, "0.1.2", 0), "is not newer");
    let stranger = KeyPair::generate_unencrypted_keypair().unwrap();
    refused(&signed(&directory, &stranger, "0.2.0", 0), "another key");
    let changed = signed(&directory, &key, "0.2.0", 100);
    std::fs::write(&changed, image("0.2.0", 101)).unwrap();
    refused(&changed, "was changed");
    refused(&directory.path("stratamx.toml"), "No such file");
    // No signature, none that can be read, and a body of another kind.
    for (headers, expected) in [
        ("", 400),
        ("Update-Signature: !\r\n", 400),
        ("Update-Signature: aGVsbG8=\r\n", 400),
        ("Content-Type: text/plain\r\n", 415),
    ] {
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n{headers}Content-Length: 2\r\n\r\nMZ",
            node.token
        );
        let answer = raw(node.api, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{headers}: {answer}");
    }
    // Larger than any image: cut off, and nothing of it stays.
    let signature = std::fs::read(directory.path("stratamx_0.2.0_cloud.efi.minisig")).unwrap();
    let large = directory.path("large.efi");
    std::fs::File::create(&large).unwrap().set_len((64 << 20) + 1).unwrap();
    std::fs::write(directory.path("large.efi.minisig"), signature).unwrap();
    let output = Command::new("curl")
        .args(["--silent", "--include", "--header", &format!("Authorization: Bearer {}", node.token)])
        .args(["--header", "Content-Type: application/octet-stream", "--header", "Expect:", "--header"])
        .arg(format!("Update-Signature: {}", base64(&directory.path("large.efi.minisig"))))
        .arg("--data-binary")
        .arg(format!("@{}", large.display()))
        .arg(format!("http://{}{PATH}", node.api))
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(!directory.path("data/update.efi").exists(), "it stays");
    assert!(installed.try_recv().is_err(), "PID 1 was asked");
}

fn base64(file: &Path) -> String {
    let output = Command::new("base64").arg("-w0").arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_pid_1_says_is_passed_on_and_its_silence_is_no_answer() {
    let directory = Scratch::new("update-words");
    let (socket, key) = (directory.path("init.sock"), KeyPair::generate_unencrypted_keypair().unwrap());
    let _installed =
        init(&socket, directory.path("data/update.efi"), &key, Some("the running version is on trial"));
    let file = signed(&directory, &key, "0.2.0", 0).display().to_string();
    let first = node(&directory, &socket);
    let (status, _, stderr) = first.command(&["update", &file]);
    assert!(status == Some(1) && stderr.contains("the running version is on trial"), "{stderr}");
    first.server.stop();
    let second = node(&directory, &directory.path("nobody.sock"));
    assert_eq!(second.ask("GET", PATH, &Value::Null).0, 503);
}
