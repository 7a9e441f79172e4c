//! A disk without its machine: mail at rest, behind a TPM in software (swtpm), a recovery key, a passphrase.

use crate::machine::{Disk, Machine, Needed, Release, needed};
use crate::mail::{self, Sink};
use crate::updates::{TOKEN, files};
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const BODY: &str = "what nobody reads from a disk that was pulled out";
const PASSPHRASE: &str = "a passphrase of the tests";

impl Needed {
    /// A command about the keys, with a line that is typed.
    fn at_rest(&self, machine: &Machine, arguments: &[&str], typed: &str) -> Output {
        let url = format!("http://127.0.0.1:{}", machine.admin_port);
        let mut command = Command::new(self.server());
        command.args(arguments).args(["--url", &url, "--token", TOKEN]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{typed}").unwrap();
        child.wait_with_output().unwrap()
    }

    fn state(&self, machine: &Machine) -> Value {
        let output = self.at_rest(machine, &["at-rest", "status", "--json"], "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn switch_off(machine: Machine) {
    machine.press_the_button();
    assert!(machine.ended().success());
}

/// The disk by itself gives no mail away; with its TPM it needs nobody, and with another one it waits for the recovery key. Then the same with a passphrase.
#[test]
fn a_disk_without_its_machine_gives_no_mail_away() {
    let Some(needed) = needed() else { return };
    let sink_port = mail::free_port();
    let disk = Disk::from(Release::common(&needed), "at-rest", 4 << 30);
    disk.configure(&files(sink_port));
    let (own, other) = (disk.chip("own"), disk.chip("other"));

    let mut machine = Machine::boot_with(&disk, &own);
    let line = machine.wait_for("the recovery key, told this once: ");
    let recovery = line.rsplit(' ').next().unwrap().to_owned();
    machine.wait_for("READY, mx2.test takes mail");
    let reply = mail::send(machine.smtp_port, "one@example.test", BODY);
    assert!(reply.starts_with("250 "), "{reply}");
    switch_off(machine);
    assert!(disk.holds("postmaster@example.test"), "what is not encrypted is not found either");
    assert!(!disk.holds(BODY), "the mail stands on the disk");
    assert!(!disk.holds(&recovery), "the recovery key stands on the disk");

    let sink = Sink::start(sink_port);
    let mut machine = Machine::boot_with(&disk, &own);
    machine.wait_for("READY, mx2.test takes mail");
    assert!(sink.message().contains(BODY));
    assert!(!machine.said("told this once") && !machine.said("LOCKED"));
    assert_eq!(needed.state(&machine)["state"], "open");
    switch_off(machine);

    let mut machine = Machine::boot_with(&disk, &other);
    machine.wait_for(
        "LOCKED, no mail is taken: this TPM did not seal the key: it is another one, or was cleared",
    );
    mail::ask_plainly(machine.admin_port, "/healthz");
    assert!(!mail::greets(machine.smtp_port), "somebody greets");
    assert_eq!(needed.state(&machine)["state"], "locked");
    machine.type_line("");
    machine.wait_for("server    is LOCKED: this TPM did not seal");
    machine.wait_for("7 unlock, by passphrase or recovery key");
    machine.type_line("7");
    machine.type_until("", "Passphrase or recovery key");
    machine.type_line(&recovery);
    machine.wait_for("UNLOCKED: ");
    machine.wait_for("the keys of mail at rest are sealed to this TPM");
    machine.wait_for("READY, mx2.test takes mail");
    let set = needed.at_rest(&machine, &["at-rest", "passphrase"], PASSPHRASE);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    switch_off(machine);

    // No TPM at all, and nobody at the console.
    let mut machine = Machine::boot(&disk);
    machine.wait_for("LOCKED, no mail is taken: there is no TPM any more");
    mail::ask_plainly(machine.admin_port, "/healthz");
    let wrong = needed.at_rest(&machine, &["unlock"], "another passphrase");
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && told.contains("this is not the passphrase"), "{told}");
    mail::eventually(|| needed.at_rest(&machine, &["unlock"], PASSPHRASE).status.success());
    machine.wait_for("READY, mx2.test takes mail");
    let reply = mail::send(machine.smtp_port, "one@example.test", "behind a passphrase");
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(sink.message().contains("behind a passphrase"));
    switch_off(machine);
    disk.remove();
}
