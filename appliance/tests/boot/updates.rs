//! Updates as an operator makes them: by the command, over the API of a machine that runs.

use crate::machine::{self, Disk, Machine, Needed, Release, needed};
use crate::{configuration, mail};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

pub(crate) const TOKEN: &str = "smx_a-token-of-the-tests";

/// What the machine serves with, its API included.
pub(crate) fn files(sink_port: u16) -> Vec<(&'static str, String)> {
    let mut files = configuration(sink_port).to_vec();
    let admin = "[admin]\nlisten = \"0.0.0.0:8025\"\ntoken_file = \"token\"\n[[domain]]";
    files[0].1 = files[0].1.replace("[[domain]]", admin);
    files.push(("token", TOKEN.to_owned()));
    files
}

impl Needed {
    /// `stratamx update` against the machine.
    pub(crate) fn update(&self, machine: &Machine, arguments: &[&str]) -> Output {
        self.command(machine, "update", arguments)
    }

    /// A command against the machine.
    pub(crate) fn command(&self, machine: &Machine, name: &str, arguments: &[&str]) -> Output {
        let url = format!("http://127.0.0.1:{}", machine.admin_port);
        let mut command = Command::new(self.server());
        command.arg(name).args(arguments).args(["--url", &url, "--token", TOKEN]);
        command.output().unwrap()
    }

    /// What the machine says of its updates.
    pub(crate) fn status(&self, machine: &Machine) -> Value {
        let output = self.update(machine, &["--status", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The same for an image, whose end is not waited for.
    pub(crate) fn begin_update(&self, machine: &Machine, release: &Release) -> Child {
        let url = format!("http://127.0.0.1:{}", machine.admin_port);
        let mut command = Command::new(self.server());
        command.arg("update").arg(&release.uki).args(["--url", &url, "--token", TOKEN]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn refused(&self, machine: &Machine, uki: &Path, why: &str) {
        let output = self.update(machine, &[&uki.display().to_string()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{why}: {said}");
    }

    pub(crate) fn installed(&self, machine: &Machine, release: &Release) {
        let output = self.update(machine, &[&release.uki.display().to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What is wrongly signed or older is refused with words; what is newer is taken, proves itself and stays.
#[test]
fn an_update_is_taken_when_it_is_signed_and_newer_and_stays_when_it_has_proven_itself() {
    let Some(needed) = needed() else { return };
    let release = Release::common(&needed);
    let (old, new) = (Release::of_version(&needed, "0.0.9"), Release::of_version(&needed, "9.1"));
    let disk = Disk::from(release, "update", 4 << 30);
    disk.configure(&files(9));
    let mut machine = Machine::boot_again_and_again(&disk);
    machine.wait_for("READY, mx2.test takes mail");
    mail::ask_plainly(machine.admin_port, "/healthz");
    needed.refused(&machine, &old.uki, "version 0.0.9 is not newer than the running");
    let signature = machine::beside(&new.uki, "minisig");
    let good = fs::read(&signature).unwrap();
    machine::sign(&Release::key(&needed, "stranger"), &new.uki);
    needed.refused(&machine, &new.uki, "another key");
    fs::write(&signature, good).unwrap();
    assert_eq!(needed.status(&machine)["state"], "idle");

    needed.installed(&machine, &new);
    machine.wait_for("stopped");
    machine.wait_again_for("READY, mx2.test takes mail");
    machine.wait_for("this version has proven itself: a message was taken, kept and handed over");
    machine.wait_for("this version is good: stratamx_9.1.efi");
    mail::ask_plainly(machine.admin_port, "/healthz");
    let status = needed.status(&machine);
    assert_eq!((&status["version"], &status["state"]), (&"9.1".into(), &"idle".into()), "{status}");
    assert_eq!(
        (&status["good"]["version"], &status["last"]["outcome"]),
        (&"9.1".into(), &"good".into()),
        "{status}"
    );
    machine.press_the_button();
    machine.wait_again_for("stopped");
    drop(machine);
    assert_eq!(disk.versions(), [release.version(), "stratamx_9.1.efi".to_owned()]);
    old.remove();
    new.remove();
    disk.remove();
}

/// A version that cannot serve has three starts; then the one before runs again by itself, and says so.
#[test]
fn a_bad_version_makes_room_by_itself() {
    let Some(needed) = needed() else { return };
    let release = Release::common(&needed);
    let bad = Release::without_module(&needed, "xfs", "9.2");
    let disk = Disk::from(release, "trial", 4 << 30);
    disk.configure(&files(9));
    let mut machine = Machine::boot_again_and_again(&disk);
    machine.wait_for("READY, mx2.test takes mail");
    mail::ask_plainly(machine.admin_port, "/healthz");
    needed.installed(&machine, &bad);
    machine.wait_for("stopped");
    for _ in 0..3 {
        machine.wait_again_for("this version is on trial; the machine restarts");
        assert!(machine.said("REFUSED, no mail is taken: "));
    }
    machine.wait_again_for(
        "the update to 9.2: it did not prove itself, and the version before runs: rolled back",
    );
    machine.wait_for("READY, mx2.test takes mail");
    mail::ask_plainly(machine.admin_port, "/healthz");
    let status = needed.status(&machine);
    assert_eq!(
        (&status["version"], &status["last"]["outcome"]),
        (&env!("CARGO_PKG_VERSION").into(), &"rolled_back".into()),
        "{status}"
    );
    machine.press_the_button();
    machine.wait_again_for("stopped");
    drop(machine);
    assert_eq!(disk.versions(), [release.version(), "stratamx_9.2+0-3.efi".to_owned()]);
    bad.remove();
    disk.remove();
}
