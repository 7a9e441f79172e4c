//! The configuration from afar: what is read at once, what has to be confirmed, and what cuts the operator off and is over by itself.

use crate::machine::{Disk, Machine, Needed, Release, needed};
use crate::mail;
use crate::updates::files;
use serde_json::Value;

impl Needed {
    /// `stratamx configuration` against the machine: what it says.
    fn configuration(&self, machine: &Machine, arguments: &[&str]) -> String {
        let output = self.command(machine, "configuration", arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn in_force(&self, machine: &Machine) -> (Value, Value) {
        let list: Value = serde_json::from_str(&self.configuration(machine, &["list", "--json"])).unwrap();
        (list["in_force"].clone(), list["probation"].clone())
    }
}

/// A network that does not work is over with the next start, also where that is a power cut; and mail is where it was all the time.
#[test]
fn a_configuration_that_cuts_the_operator_off_does_not_stand() {
    let Some(needed) = needed() else { return };
    let disk = Disk::from(Release::common(&needed), "revisions", 4 << 30);
    let given = files(9);
    disk.configure(&given);
    let write = |name: &str, text: &str| disk.file(name, text);
    let mut machine = Machine::boot_again_and_again(&disk);
    machine.wait_for("READY, mx2.test takes mail");
    mail::ask_plainly(machine.admin_port, "/healthz");

    // What a reload reads.
    let server = given[0].1.replace("mx2.test", "mx3.test");
    let said = needed.configuration(&machine, &["apply", &write("stratamx.toml", &server), "--yes"]);
    assert_eq!(said, "Revision 2 is in force.\n");
    let reply = mail::send(machine.smtp_port, "one@example.test", "in whichever revision");
    assert!(reply.starts_with("250 "), "{reply}");

    // What a start of the server does, over which it is confirmed.
    let server = write("stratamx.toml", &format!("cores = 1\n{server}"));
    let said = needed.configuration(&machine, &["apply", &server, "--yes"]);
    assert!(said.starts_with("Revision 3 comes into force now, by a start of the server."), "{said}");
    machine.wait_for("the server takes mail again");
    mail::eventually(|| needed.command(&machine, "configuration", &["confirm", "3"]).status.success());
    machine.wait_for("configuration revision 3 stands");

    // What cuts off who makes it.
    let network =
        write("appliance.toml", "[clock]\nservers = []\n[network]\naddress = [\"192.0.2.77/24\"]\n");
    let said = needed.configuration(&machine, &["apply", &network, "--yes"]);
    assert!(said.contains("by a start of the machine") && said.contains("unless it is confirmed"), "{said}");
    machine.wait_again_for("READY, mx3.test takes mail");
    machine.wait_for("address 192.0.2.77");
    machine.type_line("");
    machine.wait_for("probation revision 4 waits to be confirmed; else 3 is in force again in ");
    machine.pull_the_plug();
    let mut machine = Machine::boot_again_and_again(&disk);
    machine.wait_for("configuration revision 4 is given back, 3 is in force again");
    machine.wait_for("READY, mx3.test takes mail");
    mail::ask_plainly(machine.admin_port, "/healthz");
    assert_eq!(needed.in_force(&machine), (3.into(), Value::Null));
    let list = needed.command(&machine, "queue", &["list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("one@example.test"), "the mail is elsewhere");
    machine.press_the_button();
    machine.wait_for("stopped");
    assert!(machine.ended().success());
    disk.remove();
}
