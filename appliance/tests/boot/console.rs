//! Who stands in front of the machine, and what stands behind it: consoles, the cloud's volume, a second disk, the log's host.

use crate::configuration;
use crate::machine::{Disk, Machine, Release, needed};
use crate::mail::{self, LogHost, Sink};

/// Configured by its cloud's volume; at its console a lost token is replaced, then it is reset, once with its mail kept and once without.
#[test]
fn a_cloud_configures_the_machine_and_its_console_mends_it() {
    let Some(needed) = needed() else { return };
    let sink_port = mail::free_port();
    let disk = Disk::from(Release::common(&needed), "console", 4 << 30);
    let [(_, server), _] = configuration(sink_port);
    let admin = "[admin]\nlisten = \"0.0.0.0:8025\"\ntls = \"own\"\n";
    let network = "version: 2\nethernets:\n  enp1s0:\n    addresses: [10.0.2.15/32]\n    gateway4: 10.0.2.2\n    nameservers: {addresses: [127.0.0.1]}\n";
    disk.seed(&[
        ("meta-data", "instance-id: i-1\nlocal-hostname: nobody.test\n".to_owned()),
        ("network-config", network.to_owned()),
        ("user-data", format!("#stratamx\n{}", server.replace("[smtp]", &format!("{admin}[smtp]")))),
    ]);
    let mut machine = Machine::boot_again_and_again(&disk);
    machine.wait_for("configuration taken: appliance.toml, stratamx.toml");
    machine.wait_for("READY, mx2.test takes mail");
    let first = machine.wait_for("the first administrator's token, told this once: ");
    let reply = mail::send(machine.smtp_port, "one@example.test", "what outlives a reset");
    assert!(reply.starts_with("250 "), "{reply}");

    machine.type_line("");
    machine.wait_for("server    takes mail");
    machine.wait_for("admin API https://10.0.2.15:8025");
    machine.wait_for("6 power off");
    machine.type_line("3");
    machine.wait_for("a new one is shown here, once.");
    machine.type_line("yes");
    let second = machine.wait_for("The new administrator's token, shown this once: ");
    let token = |line: &str| line.rsplit(' ').next().unwrap().to_owned();
    let answer = |line: &str| mail::ask(machine.admin_port, "/api/v1/domains", &token(line));
    mail::eventually(|| answer(&second).starts_with("HTTP/1.1 200 "));
    assert!(answer(&first).starts_with("HTTP/1.1 401 "), "the lost token is still worth something");

    machine.reset("1", "reset");
    machine.wait_for("factory reset: the configuration is gone, mail is kept");
    machine.wait_for("configuration taken: appliance.toml, stratamx.toml");
    machine.wait_for("READY, mx2.test takes mail");
    let sink = Sink::start(sink_port);
    let message = sink.message();
    assert!(message.contains("what outlives a reset"), "{message}");

    machine.reset("2", "wipe");
    machine.wait_for("factory reset: configuration and mail are gone");
    machine.wait_for("READY, mx2.test takes mail");
    assert!(!machine.said("formatting"));
    machine.type_line("");
    machine.wait_for("6 power off");
    machine.type_line("6");
    machine.wait_for("switches off.");
    machine.type_line("yes");
    machine.wait_for("stopped");
    assert!(machine.ended().success());
    disk.remove();
}

/// Of two disks none is served from, whichever came first; without the second one the first is, and nobody has to press a button.
#[test]
fn of_two_disks_none_is_served_from() {
    let Some(needed) = needed() else { return };
    let disk = Disk::from(Release::common(&needed), "two", 4 << 30);
    let log = LogHost::start();
    let [(name, server), _] = configuration(9);
    let syslog =
        format!("[clock]\nservers = []\n[syslog]\nserver = \"10.0.2.2:{}\"\ntransport = \"tcp\"\n", log.port);
    disk.configure(&[(name, server), ("appliance.toml", syslog)]);
    let second = disk.copy_as("second.raw");
    let second = format!("file={},format=raw,if=none,id=second", second.display());
    let arguments = ["-no-reboot", "-device", "virtio-scsi-pci,id=scsi", "-drive", &second];
    let arguments = [&arguments[..], &["-device", "scsi-hd,drive=second,id=stick,bus=scsi.0"]].concat();
    let mut machine = Machine::start(&disk, &arguments);
    machine.wait_for("partitions named stratamx-data, /dev/sda3 and /dev/vda3; exactly one may be connected");
    assert!(!mail::greets(machine.smtp_port), "somebody greets");
    machine.type_line("");
    machine.wait_for("server    REFUSED: there are 2 partitions");
    machine.wait_for("6 power off");
    assert!(!machine.said("factory reset") && !machine.said("READY"));
    machine.monitor("device_del stick");
    machine.wait_for("the disks are others now: once more");
    machine.wait_for("READY, mx2.test takes mail");
    // From before the configuration was read, from behind it, and of the server.
    log.wait_for(" stratamx-init - - - REFUSED, no mail is taken: ");
    log.wait_for("<22>1 ");
    log.wait_for(" mx2.test stratamx-init - - - READY, mx2.test takes mail");
    machine.press_the_button();
    machine.wait_for("stopped");
    assert!(machine.ended().success());
    disk.remove();
}
