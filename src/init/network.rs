//! The machine's addresses: static ones by busybox's `ip`, others by its `udhcpc`, IPv6 also by the kernel from router advertisements.
//!
//! What `udhcpc` is told goes through a script of the image (`/etc/udhcpc`), which leaves the address in [`ADDRESSES`].

use super::console::say;
use super::settings::{Network, is_hardware};
use super::tool::{self, BUSYBOX};
use core::net::{IpAddr, Ipv6Addr};
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
        Some(wanted) if is_hardware(wanted) => {
            names.into_iter().find(|name| hardware(name).eq_ignore_ascii_case(wanted))
        }
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
    for address in &network.address {
        ip(&["addr", "add", address, "dev", &interface])?;
    }
    for gateway in &network.gateway {
        let family = if gateway.is_ipv6() { "-6" } else { "-4" };
        let text = gateway.to_string();
        if !is_on_link(*gateway, &network.address) {
            // Providers give a /32 and a gateway outside of it: the kernel takes no gateway that it has no way to.
            let length = if gateway.is_ipv6() { 128 } else { 32 };
            ip(&[family, "route", "add", &format!("{text}/{length}"), "dev", &interface])?;
        }
        ip(&[family, "route", "add", "default", "via", &text, "dev", &interface])?;
    }
    if !network.needs_dhcp() {
        fs::write(ADDRESSES, network.address.join("\n")).map_err(|error| error.to_string())?;
        return Ok(None);
    }
    let program =
        [BUSYBOX, "udhcpc", "-f", "-i", &interface, "-s", "/etc/udhcpc", "-t", "5", "-T", "1", "-A", "5"];
    Ok(Some(program.map(str::to_owned).to_vec()))
}

/// Whether a gateway is in the network of one of these addresses, which have their prefix lengths; or is one of the link itself.
fn is_on_link(gateway: IpAddr, addresses: &[String]) -> bool {
    let is_in = |address: &String| -> Option<bool> {
        let (address, length) = address.split_once('/')?;
        let length: u32 = length.parse().ok()?;
        Some(match (address.parse().ok()?, gateway) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).leading_zeros() >= length
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).leading_zeros() >= length
            }
            _ => false,
        })
    };
    matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local())
        || addresses.iter().any(|address| is_in(address).unwrap_or(false))
}

/// The addresses that the machine has by now: those that were given, or came by DHCP, and global ones of IPv6 by router advertisements.
pub(super) fn addresses() -> Vec<IpAddr> {
    let text = fs::read_to_string(ADDRESSES).unwrap_or_default();
    let mut addresses: Vec<IpAddr> =
        text.lines().filter_map(|line| line.split('/').next()?.parse().ok()).collect();
    for address in global(&fs::read_to_string("/proc/net/if_inet6").unwrap_or_default()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Addresses of global scope that can be used, of /proc/net/if_inet6: address, index, prefix length, scope, flags, interface, each in hexadecimal.
fn global(table: &str) -> Vec<IpAddr> {
    /// IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE.
    const UNUSABLE: u32 = 0x08 | 0x20 | 0x40;
    let address = |line: &str| -> Option<IpAddr> {
        let mut fields = line.split_whitespace();
        let bits = u128::from_str_radix(fields.next()?, 16).ok()?;
        let scope = fields.nth(2)?;
        let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
        (scope == "00" && flags & UNUSABLE == 0).then(|| Ipv6Addr::from_bits(bits).into())
    };
    table.lines().filter_map(address).collect()
}

/// A name for a machine that was given none: from the address of its interface's hardware, so that it stays.
pub(super) fn name(interface: Option<&str>) -> String {
    let digits: String =
        interface.map(hardware).unwrap_or_default().chars().filter(char::is_ascii_hexdigit).skip(6).collect();
    if digits.is_empty() { "stratamx.invalid".to_owned() } else { format!("stratamx-{digits}.invalid") }
}

/// The address of an interface's hardware.
fn hardware(interface: &str) -> String {
    let address = fs::read_to_string(Path::new("/sys/class/net").join(interface).join("address"));
    address.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_outside_of_its_network_has_a_way_of_its_own() {
        for (gateway, addresses, expected) in [
            ("192.0.2.1", &["192.0.2.5/24"][..], true),
            ("192.0.2.1", &["192.0.2.5/32"], false),
            ("198.51.100.1", &["192.0.2.5/24", "198.51.100.9/25"], true),
            ("198.51.100.129", &["192.0.2.5/24", "198.51.100.9/25"], false),
            ("192.0.2.1", &["2001:db8::5/64"], false),
            ("fe80::1", &["2001:db8::5/128"], true),
            ("2001:db8::1", &["2001:db8::5/64"], true),
            ("2001:db8:0:1::1", &["2001:db8::5/64"], false),
            ("10.0.0.1", &["192.0.2.5/0"], true),
        ] {
            let addresses: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
            assert_eq!(is_on_link(gateway.parse().unwrap(), &addresses), expected, "{gateway} {addresses:?}");
        }
    }

    #[test]
    fn addresses_by_router_advertisements_are_told_once_they_can_be_used() {
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
            fe800000000000005054 broken\n\
            fe80000000000000505400fffe123456 02 40 20 80     eth0\n\
            20010db8000000000000000000000005 02 40 00 80     eth0\n\
            20010db8000000000000000000000006 02 40 00 40     eth0\n\
            20010db8000000000000000000000007 02 40 00 08     eth0\n\
            fd000000000000000000000000000008 02 40 00 00     eth0\n";
        let told: Vec<String> = global(table).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["2001:db8::5", "fd00::8"],
            "neither the link's own, nor tentative, nor somebody else's"
        );
    }
}
