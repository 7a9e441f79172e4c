//! What clouds and hypervisors write, and what becomes of it.

use super::*;

/// As `appliance.toml` would have it, and what is not used.
fn told(text: &str) -> Result<(String, Vec<String>), String> {
    let (network, unused) = read(text)?;
    let table = toml::Table::try_from(&network).unwrap();
    let keys = table.iter().filter(|(_, value)| value.as_array().is_none_or(|list| !list.is_empty()));
    Ok((keys.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "), unused))
}

#[test]
fn one_interface_is_understood_in_both_versions() {
    for (text, expected) in [
        ("version: 2\nethernets:\n  eth0:\n    dhcp4: true\n", ""),
        (
            "version: 2\nethernets:\n  eth0:\n    dhcp4: yes\n    dhcp6: no\n    match: {macaddress: '52:54:00:AB:cd:ef'}\n",
            "interface=\"52:54:00:ab:cd:ef\"",
        ),
        (
            "network:\n  version: 2\n  ethernets:\n    id0:\n      dhcp4: true\n      addresses: ['2001:db8::5/64']\n      gateway6: 'fe80::1'\n",
            "address=[\"2001:db8::5/64\"] dhcp=true gateway=[\"fe80::1\"]",
        ),
        ("version: 2\nethernets: {e: {dhcp4: false, accept-ra: true}}\n", "dhcp=false"),
        (
            "version: 2\nethernets:\n  eth0:\n    addresses: [192.0.2.5/24, '2001:db8::5/64']\n    gateway4: 192.0.2.1\n    nameservers: {addresses: [192.0.2.53]}\n    routes: [{to: '::/0', via: 'fe80::1'}, {to: default, via: 192.0.2.1}]\n",
            "address=[\"192.0.2.5/24\", \"2001:db8::5/64\"] gateway=[\"192.0.2.1\", \"fe80::1\"] nameservers=[\"192.0.2.53\"]",
        ),
        (
            "version: 2\nethernets: {e: {}}\nvlans: {v: {id: 7, link: e, addresses: [192.0.2.5/24]}}\n",
            "address=[\"192.0.2.5/24\"] vlan=7",
        ),
        ("version: 1\nconfig:\n  - type: physical\n    name: eth0\n    subnets:\n      - type: dhcp\n", ""),
        (
            "version: 1\nconfig:\n  - type: physical\n    name: eth0\n    mac_address: 52:54:00:12:34:56\n    subnets:\n      - type: static\n        address: 192.0.2.5\n        netmask: 255.255.255.128\n        gateway: 192.0.2.1\n        dns_nameservers: [192.0.2.53]\n      - {type: static6, address: '2001:db8::5/64', gateway: 'fe80::1'}\n  - type: nameserver\n    address: 192.0.2.54\n",
            "address=[\"192.0.2.5/25\", \"2001:db8::5/64\"] gateway=[\"192.0.2.1\", \"fe80::1\"] interface=\"52:54:00:12:34:56\" nameservers=[\"192.0.2.53\", \"192.0.2.54\"]",
        ),
        (
            "version: 1\nconfig:\n  - {type: physical, name: eth0}\n  - type: vlan\n    name: eth0.9\n    vlan_link: eth0\n    vlan_id: 9\n    subnets: [{type: static, address: 192.0.2.5/24, routes: [{network: 0.0.0.0, netmask: 0.0.0.0, gateway: 192.0.2.9}]}]\n",
            "address=[\"192.0.2.5/24\"] gateway=[\"192.0.2.9\"] vlan=9",
        ),
    ] {
        let (words, _) = told(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(words, expected, "{text}");
    }
}

#[test]
fn what_a_machine_with_one_interface_has_no_use_for_is_said() {
    for (text, expected) in [
        (
            "version: 2\nrenderer: networkd\nethernets: {e: {mtu: 9000}}\n",
            &["renderer", "ethernets.e.mtu"][..],
        ),
        (
            "version: 2\nethernets: {e: {routes: [{to: 10.0.0.0/8, via: 192.0.2.9}], addresses: [192.0.2.5/24]}}\n",
            &["ethernets.e.routes to 10.0.0.0/8"],
        ),
        (
            "version: 2\nethernets: {e: {dhcp4: true, dhcp6: true}}\n",
            &["ethernets.e.dhcp6 (router advertisements are)"],
        ),
        (
            "version: 1\nconfig: [{type: physical, name: e, mtu: 1400, subnets: [{type: dhcp6}]}]\n",
            &["config.0.mtu", "config.0.subnets.type (router advertisements are)"],
        ),
    ] {
        let (_, mut unused) = told(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        unused.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(unused, expected, "{text}");
    }
}

#[test]
fn what_cannot_be_had_is_refused_by_its_name() {
    for (text, expected) in [
        ("version: 2\nethernets: {a: {dhcp4: true}, b: {dhcp4: true}}\n", "ethernets has 2 interfaces"),
        (
            "version: 2\nethernets: {a: {dhcp4: true}}\nvlans: {v: {id: 7, dhcp4: true}}\n",
            "both have addresses",
        ),
        ("version: 2\nbonds: {b: {}}\n", "bonds cannot be had"),
        ("version: 2\nethernets: {a: {match: {macaddress: eth0}}}\n", "ethernets.a.match"),
        ("version: 2\nethernets: {a: {addresses: 192.0.2.5/24}}\n", "ethernets.a.addresses is not a list"),
        (
            "version: 2\nethernets: {a: {gateway4: router}}\n",
            "ethernets.a.gateway4: router is not an address",
        ),
        ("version: 2\nethernets: {a: {dhcp4: maybe}}\n", "ethernets.a.dhcp4 is neither"),
        ("version: 2\nethernets: {a: {gateway4: 192.0.2.1}}\n", "no address"),
        ("version: 2\nethernets: [a]\n", "ethernets is not a mapping"),
        ("version: 1\nconfig: [{type: bond, name: b}]\n", "config.0: bond"),
        ("version: 1\nconfig: [{type: physical, name: a}, {type: physical, name: b}]\n", "2 interfaces"),
        (
            "version: 1\nconfig: [{type: physical, name: a, subnets: [{type: static, address: 192.0.2.5, netmask: 255.0.255.0}]}]\n",
            "255.0.255.0 is not a mask",
        ),
        ("version: 1\n", "config is not there"),
        ("version: 3\n", "version"),
        ("ethernets: {}\n", "version"),
        ("- a\n", "not a mapping"),
        ("a: [\n", ""),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
            "",
        ),
    ] {
        let error = told(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_host_name_is_one() {
    assert_eq!(host_name("instance-id: x\n").unwrap(), None);
    assert_eq!(host_name("local-hostname: mx7.test\n").unwrap().as_deref(), Some("mx7.test"));
    assert_eq!(host_name("local-hostname: mx7\n").unwrap().as_deref(), Some("mx7.invalid"));
    for wrong in ["local-hostname: 'a\"b'\n", "local-hostname: ''\n", "local-hostname: [a]\n"] {
        assert!(host_name(wrong).unwrap_err().starts_with("local-hostname"), "{wrong}");
    }
}
