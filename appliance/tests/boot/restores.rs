//! A machine that is lost: what it had comes back on another one.

use crate::machine::{Disk, Machine, Release, needed};
use crate::mail::{self, Sink};
use crate::updates::{TOKEN, files};
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};

const BODY: &str = "what outlives its machine";

/// Mail that waits behind one TPM is handed over by a machine with another, which was configured otherwise; of what was encrypted nothing is plain on its disk.
#[test]
fn another_machine_takes_a_backup_back_and_hands_its_mail_over() {
    let Some(needed) = needed() else { return };
    let release = Release::common(&needed);
    let sink_port = mail::free_port();
    let (lost, other) = (Disk::from(release, "lost", 4 << 30), Disk::from(release, "other", 4 << 30));
    lost.configure(&files(sink_port));
    other.configure(&files(9));
    let archive = lost.file("backup.tar.zst", "");
    fs::remove_file(&archive).unwrap();

    let mut machine = Machine::boot_with(&lost, &lost.chip("lost"));
    machine.wait_for("READY, mx2.test takes mail");
    let reply = mail::send(machine.smtp_port, "one@example.test", BODY);
    assert!(reply.starts_with("250 "), "{reply}");
    mail::ask_plainly(machine.admin_port, "/healthz");
    let made = needed.command(&machine, "backup", &[&archive]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    machine.pull_the_plug();

    let chip = other.chip("found");
    let mut machine = Machine::boot_with(&other, &chip);
    machine.wait_for("READY, mx2.test takes mail");
    mail::ask_plainly(machine.admin_port, "/healthz");
    let url = format!("http://127.0.0.1:{}", machine.admin_port);
    let mut command = Command::new(needed.server());
    command.args(["restore", &archive, "--yes", "--url", &url, "--token", TOKEN]);
    let mut command = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    machine.wait_for("has a backup of mx2.test taken back");
    machine.wait_for("the next start takes back the backup of mx2.test");
    assert!(machine.ended().success());
    command.kill().unwrap();
    command.wait().unwrap();

    let sink = Sink::start(sink_port);
    let mut machine = Machine::boot_with(&other, &chip);
    machine.wait_for("the backup of mx2.test has taken its place");
    machine.wait_for("READY, mx2.test takes mail");
    assert!(sink.message().contains(BODY));
    mail::ask_plainly(machine.admin_port, "/healthz");
    let told = needed.command(&machine, "restore", &["--status", "--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(
        (&told["last"]["outcome"], &told["last"]["backlog"]),
        (&"restored".into(), &1.into()),
        "{told}"
    );
    machine.press_the_button();
    assert!(machine.ended().success());
    assert!(!other.holds(BODY), "the mail stands on the disk");
    lost.remove();
    other.remove();
}
