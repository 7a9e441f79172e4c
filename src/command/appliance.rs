//! `stratamx machine`: the appliance as a machine, and the health of its disk.

use super::Exit;
use super::client::{Client, Remote, age, fail, print, print_json, size};
use super::domain::{moment, text};
use serde_json::Value;

/// Runs the command; a disk that fails is exit status 1.
#[must_use]
pub fn run(remote: Remote, json: bool) -> Exit {
    let client = match Client::open(remote) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let machine = match client.get("/api/v1/machine") {
        Ok(machine) => machine,
        Err(error) => return fail(&error),
    };
    let printed = if json { print_json(&machine) } else { print(&shown(&machine)) };
    if machine["disk"]["state"] == "failing" { Exit::Failed } else { printed }
}

fn shown(machine: &Value) -> String {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (data, disk) = (&machine["data"], &machine["disk"]);
    let read_only = if data["is_read_only"] == true { ", read-only" } else { "" };
    let mut out = format!(
        "running  {} ({}), for {}\ndata     {} free of {}{read_only}\n",
        text(&machine["version"]),
        text(&machine["variant"]),
        age(number(&machine["uptime_s"])),
        size(number(&data["free_octets"])),
        size(number(&data["size_octets"])),
    );
    let named = ["model", "serial", "firmware"].map(|key| disk[key].as_str().unwrap_or_default());
    let named: Vec<&str> = named.into_iter().filter(|name| !name.is_empty()).collect();
    let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    out.push_str(&format!("disk     {}{named}: {}\n", text(&disk["device"]), text(&disk["state"])));
    for finding in disk["findings"].as_array().into_iter().flatten() {
        out.push_str(&format!("         {}\n", text(finding)));
    }
    let figures = &disk["figures"];
    let told: Vec<String> = [
        ("temperature_c", "", " °C"),
        ("used_percent", "wear ", " %"),
        ("spare_percent", "spare blocks ", " %"),
        ("hours", "on for ", " h"),
        ("unsafe_shutdowns", "power cut ", " times"),
        ("media_errors", "media errors ", ""),
        ("reallocated", "reallocated ", ""),
        ("io_errors", "failed reads and writes since the start ", ""),
    ]
    .into_iter()
    .filter_map(|(key, before, behind)| {
        let figure = &figures[key];
        figure.is_number().then(|| format!("{before}{figure}{behind}"))
    })
    .collect();
    out.push_str(&format!("         {}\n", told.join(", ")));
    if !disk["looked_s"].is_null() {
        out.push_str(&format!("         asked {}\n", moment(&disk["looked_s"])));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_known_is_left_out() {
        let machine = json!({
            "version": "0.1.0", "variant": "cloud", "uptime_s": 7200,
            "data": { "size_octets": 4_u64 << 30, "free_octets": 1_u64 << 30, "is_read_only": false },
            "disk": { "device": "vda", "model": null, "state": "silent", "findings": ["it tells nothing"],
                      "figures": { "temperature_c": null, "io_errors": 0 }, "looked_s": null },
        });
        let told = shown(&machine);
        assert_eq!(
            told,
            "running  0.1.0 (cloud), for 2h\ndata     1.0 GiB free of 4.0 GiB\ndisk     vda: silent\n         it tells nothing\n         \
             failed reads and writes since the start 0\n"
        );
    }
}
