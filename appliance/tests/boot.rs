//! The image, as who flashes it has it: built twice, booted under UEFI in an emulator, fed with mail, killed, booted again.
//!
//! It needs QEMU, OVMF, mtools, swtpm and the static server, which `STRATAMX_STATIC_SERVER` names (`make appliance-test` builds it). Where one of them is
//! not there the tests say SKIP and why; with `STRATAMX_REQUIRE_VM=1` that is a failure. All networking is on loopback: the guest's addresses are
//! QEMU's own, and its configuration names no server outside.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may wait, and has files"
)]

#[path = "boot/arm64.rs"]
mod arm64;
#[path = "boot/at_rest.rs"]
mod at_rest;
#[path = "boot/chip.rs"]
mod chip;
#[path = "boot/console.rs"]
mod console;
#[path = "boot/cuts.rs"]
mod cuts;
#[path = "boot/machine.rs"]
mod machine;
#[path = "boot/mail.rs"]
mod mail;
#[path = "boot/platform.rs"]
mod platform;
#[path = "boot/restores.rs"]
mod restores;
#[path = "boot/revisions.rs"]
mod revisions;
#[path = "boot/updates.rs"]
mod updates;
#[path = "boot/volatile.rs"]
mod volatile;

use machine::{Disk, Machine, Needed, Release, needed};
use mail::Sink;
use std::fs;

/// The same parts give the same octets, image included.
#[test]
fn two_builds_are_one() {
    let Some(needed) = needed() else { return };
    builds_are_one(&needed);
    let size = fs::metadata(&Release::common(&needed).uki).unwrap().len();
    assert!(size <= 32 << 20, "the image is larger than 32 MiB: {size}");
}

fn builds_are_one(needed: &Needed) {
    let (first, second) = (Release::common(needed), Release::build(needed, "second"));
    for (one, other) in [(&first.uki, &second.uki), (&first.raw, &second.raw)] {
        assert!(machine::is_same(one, other), "{} and {} differ", one.display(), other.display());
    }
    second.remove();
}

/// From an image to a delivered message, with a power cut in between; then the power button.
#[test]
fn mail_outlives_the_machine() {
    let Some(needed) = needed() else { return };
    outlives(&needed, "mail");
}

fn outlives(needed: &Needed, name: &str) {
    let sink_port = mail::free_port();
    let disk = Disk::from(Release::common(needed), name, 4 << 30);
    disk.configure(&configuration(sink_port));

    let mut machine = Machine::boot(&disk);
    machine.wait_for("formatting");
    machine.wait_for("configuration taken: appliance.toml, stratamx.toml");
    machine.wait_for("READY, mx2.test takes mail");
    let reply = mail::send(machine.smtp_port, "one@example.test", "what outlives the machine");
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
    machine.pull_the_plug();
    let left = disk.configuration_files();
    assert!(!left.contains(&"stratamx.toml".to_owned()), "secrets stay on the FAT partition: {left:?}");
    assert!(left.iter().any(|name| name.eq_ignore_ascii_case("IMPORTED.TXT")), "{left:?}");

    let sink = Sink::start(sink_port);
    let mut machine = Machine::boot(&disk);
    machine.wait_for("READY, mx2.test takes mail");
    let message = sink.message();
    assert!(message.contains("what outlives the machine"), "{message}");
    assert!(!machine.said("formatting"), "the data partition was formatted twice");
    machine.press_the_button();
    machine.wait_for("stopped");
    assert!(machine.ended().success());
    disk.remove();
}

/// A machine whose data partition is not there has nothing to promise a 250 by.
#[test]
fn nothing_is_served_without_the_data_partition() {
    let Some(needed) = needed() else { return };
    let release = Release::common(&needed);
    let disk = Disk::from(release, "missing", 4 << 30);
    disk.configure(&configuration(9));
    disk.rename_partition("stratamx-data", "somebody-elses");
    let mut machine = Machine::boot(&disk);
    machine.wait_for("REFUSED, no mail is taken: there is no partition named stratamx-data");
    assert!(!mail::greets(machine.smtp_port), "somebody greets");
    // Nobody greets also where there is no network: no server was started.
    assert!(!machine.said("READY") && !machine.said("listening") && !machine.said("store opened"));
    machine.pull_the_plug();
    assert!(
        disk.configuration_files().contains(&"stratamx.toml".to_owned()),
        "it was taken by a machine that cannot keep it"
    );
    disk.remove();
}

/// Nothing was given: how the machine is reached stands on the console, and the token that does stands there once.
#[test]
fn a_machine_that_was_given_nothing_tells_how_it_is_configured() {
    let Some(needed) = needed() else { return };
    let disk = Disk::from(Release::common(&needed), "nothing", 4 << 30);
    let mut machine = Machine::boot(&disk);
    machine.wait_for("admin API: https://10.0.2.15:8025");
    let line = machine.wait_for("the first administrator's token, told this once: ");
    let token = &line.rsplit(' ').next().unwrap().to_owned();
    let answer = mail::ask(machine.admin_port, "/api/v1/domains", token);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(mail::ask(machine.admin_port, "/api/v1/domains", "smx_wrong").starts_with("HTTP/1.1 401 "));
    // The button: what was told is on the disk then.
    machine.press_the_button();
    assert!(machine.ended().success());
    // The same disk at another controller, which says that it wears out.
    let mut machine = Machine::boot_on_nvme(&disk, 1 << 2);
    machine.wait_for("the disk nvme0n1 is failing: it says that it is unreliable");
    machine.wait_for("admin API: https://10.0.2.15:8025");
    let answer = mail::ask(machine.admin_port, "/api/v1/machine", token);
    assert!(answer.contains("\"state\":\"failing\"") && answer.contains("QEMU NVMe Ctrl"), "{answer}");
    // It would stand right behind that line: looked for when no more lines come.
    machine.press_the_button();
    machine.wait_for("stopped");
    assert!(!machine.said("told this once"), "the token was told twice");
    assert!(machine.ended().success());
    disk.remove();
}

/// A server for one domain whose mail server is the sink on the host.
fn configuration(sink_port: u16) -> [(&'static str, String); 2] {
    let server = format!(
        "hostname = \"mx2.test\"\npostmaster = \"postmaster@example.test\"\n[smtp]\nlisten = [\"0.0.0.0:25\"]\n\
         [delivery]\nauthenticate = false\nretry_interval = \"2s\"\n[dns]\nnameservers = [\"127.0.0.1:9\"]\n\
         [[domain]]\nname = \"example.test\"\nprimary = [\"10.0.2.2:{sink_port}\"]\n"
    );
    [("stratamx.toml", server), ("appliance.toml", "[clock]\nservers = []\n".to_owned())]
}

impl Needed {
    /// Of this package.
    fn builder() -> &'static str {
        env!("CARGO_BIN_EXE_stratamx-appliance")
    }
}
