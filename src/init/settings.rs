//! `appliance.toml`: what the machine needs besides the server's own configuration. Pure; all of it may be left out.
//!
//! ```toml
//! [network]
//! interface = "eth0"                          # else the first one that there is
//! vlan = 5                                    # else untagged
//! address = ["192.0.2.5/24", "2001:db8::5/64"] # else DHCP; IPv6 also by router advertisements
//! gateway = ["192.0.2.1", "2001:db8::1"]
//! nameservers = ["192.0.2.1"]                 # else those of DHCP
//!
//! [clock]
//! servers = ["ntp.example.net"]               # else the public pool; [] for none: the machine's own clock
//! ```

use crate::limits::MACHINE_ADDRESSES_MAX;
use core::net::IpAddr;
use serde::Deserialize;

/// Time servers when no others are named.
const CLOCK_SERVERS: [&str; 2] = ["0.pool.ntp.org", "2.pool.ntp.org"];
/// IFNAMSIZ without its NUL.
const INTERFACE_OCTETS_MAX: usize = 15;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) network: Network,
    pub(super) clock: Clock,
}

/// `[network]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Network {
    pub(super) interface: Option<String>,
    pub(super) vlan: Option<u16>,
    /// With their prefix lengths.
    pub(super) address: Vec<String>,
    pub(super) gateway: Vec<IpAddr>,
    pub(super) nameservers: Vec<IpAddr>,
}

/// `[clock]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Clock {
    pub(super) servers: Vec<String>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { servers: CLOCK_SERVERS.map(str::to_owned).to_vec() }
    }
}

impl Settings {
    /// Reads the text.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let settings: Self = toml::from_str(text).map_err(|error| format!("appliance.toml: {error}"))?;
        let Network { interface, vlan, address, gateway, nameservers } = &settings.network;
        let refuse = |key: &str, why: &str| Err(format!("appliance.toml: {key}: {why}"));
        if interface.as_ref().is_some_and(|name| !is_interface(name)) {
            return refuse("network.interface", "is not the name of an interface");
        }
        if vlan.is_some_and(|vlan| !(1..=4094).contains(&vlan)) {
            return refuse("network.vlan", "is not between 1 and 4094");
        }
        if !address.iter().all(|address| is_address(address)) {
            return refuse(
                "network.address",
                "is not an address with its prefix length, as in \"192.0.2.5/24\"",
            );
        }
        if address.is_empty() && !gateway.is_empty() {
            return refuse("network.gateway", "needs network.address: DHCP brings its own");
        }
        let counts = [address.len(), gateway.len(), nameservers.len(), settings.clock.servers.len()];
        if counts.iter().any(|count| *count > MACHINE_ADDRESSES_MAX) {
            return refuse("network", &format!("at most {MACHINE_ADDRESSES_MAX} of a kind"));
        }
        Ok(settings)
    }
}

/// What may become an argument of `ip`: no option, no path.
fn is_interface(name: &str) -> bool {
    (1..=INTERFACE_OCTETS_MAX).contains(&name.len())
        && name.chars().all(|character| character.is_ascii_alphanumeric())
}

fn is_address(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| (1..=most).contains(&length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_configuration() {
        let settings = Settings::parse("").unwrap();
        assert!(settings.network.address.is_empty());
        assert_eq!(settings.clock.servers.len(), 2);
        assert!(Settings::parse("[clock]\nservers = []").unwrap().clock.servers.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = "[network]\ninterface = \"ens3\"\nvlan = 5\naddress = [\"192.0.2.5/24\", \"2001:db8::5/64\"]\n\
            gateway = [\"192.0.2.1\"]\nnameservers = [\"192.0.2.1\"]\n";
        assert_eq!(Settings::parse(good).unwrap().network.gateway.len(), 1);
        for (wrong, expected) in [
            ("[network]\nadress = []", "unknown field `adress`"),
            ("[network]\naddress = [\"192.0.2.5\"]", "network.address"),
            ("[network]\naddress = [\"192.0.2.5/33\"]", "network.address"),
            ("[network]\naddress = [\"-h/24\"]", "network.address"),
            ("[network]\ninterface = \"--help\"", "network.interface"),
            ("[network]\ninterface = \"../eth0\"", "network.interface"),
            ("[network]\nvlan = 4095", "network.vlan"),
            ("[network]\ngateway = [\"192.0.2.1\"]", "needs network.address"),
        ] {
            let error = Settings::parse(wrong).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
