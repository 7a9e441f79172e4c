//! `stratamx check`, run as its users run it: exit status, standard output, standard error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use stratamx::config::{Config, OnExpiry, OnReject};

/// A directory that goes away with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("check-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), bytes).unwrap();
    }

    fn check(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stratamx"));
        let Output { status, stdout, stderr } =
            command.arg("check").args(arguments).current_dir(&self.0).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const GOOD: &str =
    "hostname = \"mx2.example.net\"\n\n[[domain]]\nname = \"Example.com\"\nprimary = [\"mail:26\"]\n";

#[test]
fn without_a_file_the_embedded_default_is_in_force() {
    let directory = Directory::new("embedded");
    let (status, stdout, stderr) = directory.check(&[]);
    assert_eq!(status, 0, "{stderr}");
    let config = Config::parse(&stdout, "stdout").unwrap();
    assert_eq!(config, Config::embedded());
    assert_eq!(config.smtp.listen, ["127.0.0.1:2525".parse().unwrap()]);
    assert_eq!(config.data_dir, PathBuf::from("./stratamx-data"));
    assert_eq!(config.domains[0].name, "example.test");
    assert_eq!(config.domains[0].primaries.hosts()[0].to_string(), "127.0.0.1:2526");
    assert!(stderr.contains("embedded default"), "{stderr}");
    assert_eq!(config.admin.listen, Some("127.0.0.1:8025".parse().unwrap()));
    assert_eq!(
        (config.domains[0].on_reject, config.domains[0].on_expiry),
        (OnReject::Bounce, OnExpiry::Bounce)
    );
    assert!(stderr.contains("self-signed certificate"), "{stderr}");
}

#[test]
fn the_file_of_the_working_directory_is_found_and_a_named_one_preferred() {
    let directory = Directory::new("found");
    directory.write("stratamx.toml", GOOD);
    directory.write("other.toml", GOOD.replace("mx2.example.net", "mx3.example.net"));
    let (status, stdout, _) = directory.check(&[]);
    assert_eq!(status, 0);
    assert!(
        stdout.contains("hostname = \"mx2.example.net\"") && stdout.contains("name = \"example.com\""),
        "{stdout}"
    );
    let (status, stdout, _) = directory.check(&["--config", "other.toml"]);
    assert_eq!(status, 0);
    assert_eq!(Config::parse(&stdout, "stdout").unwrap().hostname, "mx3.example.net");
}

#[test]
fn an_error_names_file_line_and_key_and_prints_no_configuration() {
    let directory = Directory::new("errors");
    for (text, expected) in [
        (
            format!("{GOOD}when_up = \"always\"\n"),
            "stratamx.toml:6: domain[0].when_up: \"always\" is not one of ",
        ),
        (
            format!("[storage]\nsegment_size = \"1MiB\"\n{}", &GOOD[GOOD.find("[[").unwrap()..]),
            "stratamx.toml:2: storage.segment_size: \"1MiB\" is not within 4MiB and 1GiB\n",
        ),
        (format!("{GOOD}[admin]\ntls = \"yes\"\n"), "stratamx.toml:7: admin.tls: \"yes\" is neither "),
        (GOOD.replace("hostname", "hostnam"), "stratamx.toml:1: hostnam: unknown key"),
        (format!("{GOOD}name = \"twice.test\"\n"), "stratamx.toml:6: name: "),
    ] {
        directory.write("stratamx.toml", text);
        let (status, stdout, stderr) = directory.check(&[]);
        assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.starts_with(expected), "{stderr}\n{expected}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let directory = Directory::new("unreadable");
    directory.write("bytes.toml", b"hostname = \"\xff\"");
    for (name, expected) in [
        ("absent.toml", "absent.toml: cannot be read: "),
        (".", ".: cannot be read: "),
        ("bytes.toml", "bytes.toml: cannot be read: "),
    ] {
        let (status, stdout, stderr) = directory.check(&["--config", name]);
        assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.starts_with(expected), "{stderr}");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let directory = Directory::new("usage");
    assert_eq!(directory.check(&["--no-such-option"]).0, 2);
    assert_eq!(directory.check(&["--config"]).0, 2);
}
