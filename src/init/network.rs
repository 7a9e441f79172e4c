//! The machine's addresses: static ones by busybox's `ip`, others by its `udhcpc`, IPv6 also by the kernel from router advertisements.
//!
//! What `udhcpc` is told goes through a script of the image (`/etc/udhcpc`), which leaves the address in [`ADDRESSES`].

use super::console::say;
use super::settings::Network;
use super::tool::{self, BUSYBOX};
use core::net::IpAddr;
use std::fs;
use std::path::Path;

/// An address a line: what the machine has, for people.
pub(super) const ADDRESSES: &str = "/run/addresses";
/// Where names are asked for.
pub(super) const RESOLVERS: &str = "/etc/resolv.conf";
/// Its presence keeps DHCP from changing the name servers.
const FIXED_RESOLVERS: &str = "/run/fixed-resolvers";

/// The first interface that is a device, by name; or the one that is named, once it is there.
pub(super) fn interface(network: &Network) -> Option<String> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("device").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    match &network.interface {
        Some(wanted) => names.into_iter().find(|name| name == wanted),
        None => names.into_iter().next(),
    }
}

/// Brings the loopback interface up: the machine talks to itself whatever becomes of the others.
pub(super) fn start_loopback() {
    if let Err(error) = tool::busybox(&["ip", "link", "set", "lo", "up"]) {
        say(&error);
    }
}

/// Brings an interface up. What has to run on for it, if anything: program and arguments.
///
/// # Errors
/// A sentence; the machine has no network then.
pub(super) fn start(network: &Network, interface: &str) -> Result<Option<Vec<String>>, String> {
    let ip = |arguments: &[&str]| tool::busybox(&[&["ip"], arguments].concat());
    ip(&["link", "set", interface, "up"])?;
    let mut interface = interface.to_owned();
    if let Some(vlan) = network.vlan {
        let (tag, tagged) = (vlan.to_string(), format!("{interface}.{vlan}"));
        ip(&["link", "add", "link", &interface, "name", &tagged, "type", "vlan", "id", &tag])?;
        ip(&["link", "set", &tagged, "up"])?;
        interface = tagged;
    }
    if !network.nameservers.is_empty() {
        let lines = network.nameservers.iter().map(|server| format!("nameserver {server}\n"));
        fs::write(RESOLVERS, lines.collect::<String>()).map_err(|error| format!("{RESOLVERS}: {error}"))?;
        fs::write(FIXED_RESOLVERS, "").map_err(|error| error.to_string())?;
    }
    if network.address.is_empty() {
        let program =
            [BUSYBOX, "udhcpc", "-f", "-i", &interface, "-s", "/etc/udhcpc", "-t", "5", "-T", "1", "-A", "5"];
        return Ok(Some(program.map(str::to_owned).to_vec()));
    }
    for address in &network.address {
        ip(&["addr", "add", address, "dev", &interface])?;
    }
    for gateway in &network.gateway {
        let family = if gateway.is_ipv6() { "-6" } else { "-4" };
        ip(&[family, "route", "add", "default", "via", &gateway.to_string(), "dev", &interface])?;
    }
    fs::write(ADDRESSES, network.address.join("\n")).map_err(|error| error.to_string())?;
    Ok(None)
}

/// The addresses that the machine has by now.
pub(super) fn addresses() -> Vec<IpAddr> {
    let text = fs::read_to_string(ADDRESSES).unwrap_or_default();
    text.lines().filter_map(|line| line.split('/').next()?.parse().ok()).collect()
}

/// A name for a machine that was given none: from the address of its interface's hardware, so that it stays.
pub(super) fn name(interface: Option<&str>) -> String {
    let hardware = interface
        .and_then(|name| fs::read_to_string(Path::new("/sys/class/net").join(name).join("address")).ok())
        .unwrap_or_default();
    let digits: String = hardware.chars().filter(char::is_ascii_hexdigit).skip(6).collect();
    if digits.is_empty() { "stratamx.invalid".to_owned() } else { format!("stratamx-{digits}.invalid") }
}
