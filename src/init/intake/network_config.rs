//! `network-config` of a NoCloud volume: versions 1 and 2 of cloud-init's format, as far as a machine with one interface has use for them. Pure.
//!
//! | taken | |
//! |---|---|
//! | DHCP for IPv4 | `dhcp4`, `type: dhcp`, `dhcp4` of a subnet |
//! | addresses, with prefix length or `netmask` | `addresses`, `address` |
//! | gateways | `gateway4`, `gateway6`, `gateway`, routes to `default`, `0.0.0.0/0`, `::/0` |
//! | name servers | `nameservers.addresses`, `dns_nameservers`, `type: nameserver` |
//! | one VLAN on it | `vlans`, `type: vlan` |
//! | which interface | `match.macaddress`, `mac_address`; names do not count: they are other systems' |
//!
//! DHCP for IPv6 is taken as router advertisements, which come in any case. Several interfaces, bonds and bridges are refused; what else there is, is named to
//! the caller, who tells it.

use super::super::settings::{Network, is_hardware};
use core::net::IpAddr;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// What it says, and the keys that are not used.
///
/// # Errors
/// A sentence that names the key.
pub(super) fn read(text: &str) -> Result<(Network, Vec<String>), String> {
    let root = parse(text)?;
    let root = match root.get("network") {
        Some(wrapped) => object(wrapped, "network")?.clone(),
        None => root,
    };
    let mut reader = Reader::default();
    match root.get("version").and_then(Value::as_u64) {
        Some(1) => reader.version_1(&root)?,
        Some(2) => reader.version_2(&root)?,
        _ => return Err("version is neither 1 nor 2".to_owned()),
    }
    Ok((reader.finish()?, reader.unused))
}

/// `local-hostname` of meta data.
///
/// # Errors
/// A sentence.
pub(super) fn host_name(text: &str) -> Result<Option<String>, String> {
    let root = parse(text)?;
    let Some(value) = root.get("local-hostname") else { return Ok(None) };
    let name = string(value, "local-hostname")?;
    let is_usual = |c: char| c.is_ascii_alphanumeric() || ['.', '-'].contains(&c);
    if name.is_empty() || !name.chars().all(is_usual) {
        return Err(format!("local-hostname: {name:?} is not a host name"));
    }
    // A server's name has two labels or more.
    Ok(Some(if name.contains('.') { name.to_owned() } else { format!("{name}.invalid") }))
}

fn parse(text: &str) -> Result<Object, String> {
    match serde_saphyr::from_str(text).map_err(|error| error.to_string())? {
        Value::Object(root) => Ok(root),
        Value::Null => Ok(Object::new()),
        _ => Err("is not a mapping".to_owned()),
    }
}

#[derive(Debug, Default)]
struct Reader {
    network: Network,
    has_dhcp: bool,
    /// Which interface has the addresses: there may be one.
    holder: Option<String>,
    unused: Vec<String>,
}

impl Reader {
    fn version_2(&mut self, root: &Object) -> Result<(), String> {
        for (key, value) in root {
            match key.as_str() {
                "version" => {}
                "ethernets" => {
                    let (name, interface) = only(value, key)?;
                    self.interface(&format!("ethernets.{name}"), interface, false)?;
                }
                "vlans" => {
                    let (name, interface) = only(value, key)?;
                    self.interface(&format!("vlans.{name}"), interface, true)?;
                }
                "bonds" | "bridges" | "tunnels" | "wifis" => {
                    return Err(format!("{key} cannot be had here"));
                }
                _ => self.unused.push(key.clone()),
            }
        }
        Ok(())
    }

    fn interface(&mut self, path: &str, interface: &Object, is_vlan: bool) -> Result<(), String> {
        for (key, value) in interface {
            let path = format!("{path}.{key}");
            match key.as_str() {
                "match" => {
                    for (key, value) in object(value, &path)? {
                        match key.as_str() {
                            "macaddress" => self.hardware(value, &path)?,
                            _ => self.unused.push(format!("{path}.{key}")),
                        }
                    }
                }
                "set-name" | "link" | "accept-ra" | "optional" => {}
                "id" if is_vlan => self.vlan(value, &path)?,
                "dhcp4" => self.dhcp(&path, boolean(value, &path)?)?,
                "dhcp6" if boolean(value, &path)? => {
                    self.unused.push(format!("{path} (router advertisements are)"))
                }
                "dhcp6" => {}
                "addresses" => {
                    for address in list(value, &path)? {
                        self.address(&path, string(address, &path)?.to_owned())?;
                    }
                }
                "gateway4" | "gateway6" => self.gateway(value, &path)?,
                "routes" => self.routes(value, &path, ("to", "via"))?,
                "nameservers" => {
                    for (key, value) in object(value, &path)? {
                        match key.as_str() {
                            "addresses" => self.nameservers(value, &path)?,
                            _ => self.unused.push(format!("{path}.{key}")),
                        }
                    }
                }
                _ => self.unused.push(path),
            }
        }
        Ok(())
    }

    fn version_1(&mut self, root: &Object) -> Result<(), String> {
        let entries = root.get("config").ok_or("config is not there")?;
        let mut physical = 0;
        for (number, entry) in list(entries, "config")?.iter().enumerate() {
            let path = format!("config.{number}");
            let entry = object(entry, &path)?;
            let kind = entry.get("type").ok_or_else(|| format!("{path}.type is not there"))?;
            match string(kind, &path)? {
                "physical" => {
                    physical += 1;
                    self.entry(&path, entry)?;
                }
                "vlan" => self.entry(&path, entry)?,
                "nameserver" => {
                    let addresses =
                        entry.get("address").ok_or_else(|| format!("{path}.address is not there"))?;
                    self.nameservers(addresses, &path)?;
                }
                "loopback" => {}
                kind => return Err(format!("{path}: {kind} cannot be had here")),
            }
        }
        if physical > 1 {
            Err(format!("config has {physical} interfaces; this machine uses one"))
        } else {
            Ok(())
        }
    }

    fn entry(&mut self, path: &str, entry: &Object) -> Result<(), String> {
        for (key, value) in entry {
            let path = format!("{path}.{key}");
            match key.as_str() {
                "type" | "name" | "vlan_link" => {}
                "mac_address" => self.hardware(value, &path)?,
                "vlan_id" => self.vlan(value, &path)?,
                "subnets" => {
                    for subnet in list(value, &path)? {
                        self.subnet(&path, object(subnet, &path)?)?;
                    }
                }
                _ => self.unused.push(path),
            }
        }
        Ok(())
    }

    fn subnet(&mut self, path: &str, subnet: &Object) -> Result<(), String> {
        let kind = subnet.get("type").ok_or_else(|| format!("{path}.type is not there"))?;
        match string(kind, path)? {
            "dhcp" | "dhcp4" => self.dhcp(path, true)?,
            "dhcp6" | "ipv6_dhcpv6-stateful" | "ipv6_dhcpv6-stateless" | "ipv6_slaac" => {
                self.unused.push(format!("{path}.type (router advertisements are)"));
            }
            "static" | "static6" => {
                let address = subnet.get("address").ok_or_else(|| format!("{path}.address is not there"))?;
                let address = string(address, path)?;
                let address = match subnet.get("netmask") {
                    Some(mask) if !address.contains('/') => {
                        format!("{address}/{}", prefix_length(string(mask, path)?, path)?)
                    }
                    _ => address.to_owned(),
                };
                self.address(path, address)?;
            }
            "manual" => {}
            kind => return Err(format!("{path}.type: {kind} cannot be had here")),
        }
        for (key, value) in subnet {
            let path = format!("{path}.{key}");
            match key.as_str() {
                "type" | "address" | "netmask" => {}
                "gateway" => self.gateway(value, &path)?,
                "dns_nameservers" => self.nameservers(value, &path)?,
                "routes" => self.routes(value, &path, ("network", "gateway"))?,
                _ => self.unused.push(path),
            }
        }
        Ok(())
    }

    fn hardware(&mut self, value: &Value, path: &str) -> Result<(), String> {
        let address = string(value, path)?;
        if !is_hardware(address) {
            return Err(format!("{path}: {address} is not an address as in 52:54:00:12:34:56"));
        }
        self.network.interface = Some(address.to_ascii_lowercase());
        Ok(())
    }

    fn vlan(&mut self, value: &Value, path: &str) -> Result<(), String> {
        let id = value.as_u64().and_then(|id| u16::try_from(id).ok());
        let id = id.ok_or_else(|| format!("{path} is not a number of a VLAN"))?;
        if self.network.vlan.replace(id).is_some() {
            return Err(format!("{path}: this machine uses one VLAN"));
        }
        Ok(())
    }

    fn dhcp(&mut self, path: &str, is_wanted: bool) -> Result<(), String> {
        if is_wanted {
            self.hold(path)?;
            self.has_dhcp = true;
        }
        Ok(())
    }

    fn address(&mut self, path: &str, address: String) -> Result<(), String> {
        self.hold(path)?;
        self.network.address.push(address);
        Ok(())
    }

    /// Addresses are of one interface, or of its VLAN.
    fn hold(&mut self, path: &str) -> Result<(), String> {
        let holder: String = path.split('.').take(2).collect::<Vec<_>>().join(".");
        match &self.holder {
            Some(other) if *other != holder => {
                Err(format!("{other} and {holder} both have addresses; this machine uses one interface"))
            }
            _ => {
                self.holder = Some(holder);
                Ok(())
            }
        }
    }

    fn gateway(&mut self, value: &Value, path: &str) -> Result<(), String> {
        let gateway = ip(string(value, path)?, path)?;
        if !self.network.gateway.contains(&gateway) {
            self.network.gateway.push(gateway);
        }
        Ok(())
    }

    fn routes(&mut self, value: &Value, path: &str, (to, via): (&str, &str)) -> Result<(), String> {
        for route in list(value, path)? {
            let route = object(route, path)?;
            let target = route.get(to).map_or(Ok(""), |target| string(target, path))?;
            let mask = route.get("netmask").map_or(Ok(""), |mask| string(mask, path))?;
            let is_default = ["default", "0.0.0.0/0", "::/0", "0/0"].contains(&target)
                || (["0.0.0.0", "::"].contains(&target) && ["0.0.0.0", "::", "0"].contains(&mask));
            match route.get(via).filter(|_| is_default) {
                Some(gateway) => self.gateway(gateway, path)?,
                None => self.unused.push(format!("{path} to {target}")),
            }
        }
        Ok(())
    }

    fn nameservers(&mut self, value: &Value, path: &str) -> Result<(), String> {
        let one = [value.clone()];
        let values = value.as_array().map_or(&one[..], Vec::as_slice);
        for value in values {
            let server = ip(string(value, path)?, path)?;
            if !self.network.nameservers.contains(&server) {
                self.network.nameservers.push(server);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Network, String> {
        let network = &mut self.network;
        network.dhcp = Some(self.has_dhcp).filter(|dhcp| *dhcp != network.address.is_empty());
        if network.address.is_empty() && !network.gateway.is_empty() {
            return Err("there is a gateway, and no address".to_owned());
        }
        Ok(core::mem::take(network))
    }
}

/// The one entry of a mapping.
fn only<'a>(value: &'a Value, path: &str) -> Result<(&'a str, &'a Object), String> {
    let entries = object(value, path)?;
    let mut all = entries.iter();
    match (all.next(), all.next()) {
        (Some((name, value)), None) => Ok((name.as_str(), object(value, path)?)),
        _ => Err(format!("{path} has {} interfaces; this machine uses one", entries.len())),
    }
}

fn object<'a>(value: &'a Value, path: &str) -> Result<&'a Object, String> {
    value.as_object().ok_or_else(|| format!("{path} is not a mapping"))
}

fn list<'a>(value: &'a Value, path: &str) -> Result<&'a [Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| format!("{path} is not a list"))
}

fn string<'a>(value: &'a Value, path: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{path} is not a text"))
}

fn ip(text: &str, path: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{path}: {text} is not an address"))
}

/// YAML 1.1 has more words for it than 1.2.
fn boolean(value: &Value, path: &str) -> Result<bool, String> {
    match (value.as_bool(), value.as_str().map(str::to_ascii_lowercase).as_deref()) {
        (Some(is), _) => Ok(is),
        (None, Some("yes" | "on" | "true")) => Ok(true),
        (None, Some("no" | "off" | "false")) => Ok(false),
        _ => Err(format!("{path} is neither true nor false")),
    }
}

/// Of a mask as in 255.255.255.0, or a number already.
fn prefix_length(mask: &str, path: &str) -> Result<u32, String> {
    let bits = match mask.parse() {
        Ok(IpAddr::V4(mask)) => (u128::from(mask.to_bits()) << 96, mask.to_bits().count_ones()),
        Ok(IpAddr::V6(mask)) => (mask.to_bits(), mask.to_bits().count_ones()),
        Err(_) => return mask.parse().map_err(|_| format!("{path}.netmask: {mask} is not a mask")),
    };
    if bits.0.leading_ones() == bits.1 {
        Ok(bits.1)
    } else {
        Err(format!("{path}.netmask: {mask} is not a mask"))
    }
}

#[cfg(test)]
mod tests;
