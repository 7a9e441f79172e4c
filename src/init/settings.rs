//! `appliance.toml`: what the machine needs besides the server's own configuration. Pure; all of it may be left out.
//!
//! ```toml
//! [network]
//! interface = "eth0"                          # or its hardware address; else the first one that there is
//! vlan = 5                                    # else untagged
//! address = ["192.0.2.5/24", "2001:db8::5/64"] # else DHCP; IPv6 also by router advertisements
//! dhcp = true                                 # IPv4 by DHCP also where there are addresses, of IPv6 then
//! gateway = ["192.0.2.1", "2001:db8::1"]
//! nameservers = ["192.0.2.1"]                 # else those of DHCP
//!
//! [clock]
//! servers = ["ntp.example.net"]               # else the public pool; [] for none: the machine's own clock
//!
//! [console]
//! menu = false                                # else whoever is at a console can change the machine
//!
//! [syslog]
//! server = "192.0.2.9:514"                    # else nowhere
//! transport = "tcp"                           # else udp
//!
//! [at_rest]
//! key = "passphrase"                          # else auto: the TPM where there is one; or tpm, or none
//! ```

use crate::limits::MACHINE_ADDRESSES_MAX;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// Time servers when no others are named.
const CLOCK_SERVERS: [&str; 2] = ["0.pool.ntp.org", "2.pool.ntp.org"];
/// IFNAMSIZ without its NUL.
const INTERFACE_OCTETS_MAX: usize = 15;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) network: Network,
    pub(super) clock: Clock,
    pub(super) console: Console,
    #[serde(skip_serializing_if = "AtRest::is_default")]
    pub(super) at_rest: AtRest,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) syslog: Option<Syslog>,
}

/// `[network]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Network {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vlan: Option<u16>,
    /// Left out: where there are no addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dhcp: Option<bool>,
    /// With their prefix lengths.
    pub(super) address: Vec<String>,
    pub(super) gateway: Vec<IpAddr>,
    pub(super) nameservers: Vec<IpAddr>,
}

/// `[clock]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Clock {
    pub(super) servers: Vec<String>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { servers: CLOCK_SERVERS.map(str::to_owned).to_vec() }
    }
}

/// `[console]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Console {
    pub(super) menu: bool,
}

impl Default for Console {
    fn default() -> Self {
        Self { menu: true }
    }
}

/// `[at_rest]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AtRest {
    pub(super) key: Choice,
}

/// What opens the keys of mail at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Choice {
    /// The TPM where there is one; else mail is not encrypted.
    #[default]
    Auto,
    None,
    Passphrase,
    Tpm,
}

impl AtRest {
    /// Left out of what is written: a version that does not know the table may come back (H13).
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `[syslog]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Syslog {
    /// Host, or its address, and port.
    pub(super) server: String,
    #[serde(default)]
    pub(super) transport: Transport,
}

/// How lines get there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    /// RFC 6587 3.4.1: octet counting.
    Tcp,
    /// RFC 5426.
    #[default]
    Udp,
}

impl Network {
    /// Whether an IPv4 address comes by DHCP.
    pub(super) fn needs_dhcp(&self) -> bool {
        self.dhcp.unwrap_or(self.address.is_empty())
    }
}

impl Settings {
    /// Reads the text.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let settings: Self = toml::from_str(text).map_err(|error| format!("appliance.toml: {error}"))?;
        let Network { interface, vlan, dhcp, address, gateway, nameservers } = &settings.network;
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
        if *dhcp == Some(true) && address.iter().any(|address| !address.contains(':')) {
            return refuse("network.dhcp", "brings the IPv4 address: leave one of both out");
        }
        if settings.syslog.as_ref().is_some_and(|syslog| !is_host_and_port(&syslog.server)) {
            return refuse("syslog.server", "is not a host and its port, as in \"192.0.2.9:514\"");
        }
        let counts = [address.len(), gateway.len(), nameservers.len(), settings.clock.servers.len()];
        if counts.iter().any(|count| *count > MACHINE_ADDRESSES_MAX) {
            return refuse("network", &format!("at most {MACHINE_ADDRESSES_MAX} of a kind"));
        }
        Ok(settings)
    }
}

/// What may become an argument of `ip`: no option, no path. Or a hardware address, which is looked for.
fn is_interface(name: &str) -> bool {
    is_hardware(name)
        || (1..=INTERFACE_OCTETS_MAX).contains(&name.len())
            && name.chars().all(|character| character.is_ascii_alphanumeric())
}

/// Six octets, as in `52:54:00:12:34:56`.
pub(super) fn is_hardware(name: &str) -> bool {
    let is_octet = |octet: &str| octet.len() == 2 && octet.chars().all(|c| c.is_ascii_hexdigit());
    name.split(':').count() == 6 && name.split(':').all(is_octet)
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_name = |c: char| c.is_ascii_alphanumeric() || ['.', '-'].contains(&c);
    let is_host = !host.is_empty() && host.chars().all(is_name);
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = address.is_some_and(|address| address.parse::<core::net::Ipv6Addr>().is_ok());
    (is_host || is_address) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

pub(super) fn is_address(text: &str) -> bool {
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
            ("[network]\ninterface = \"52:54:00:12:34\"", "network.interface"),
            ("[network]\ndhcp = true\naddress = [\"192.0.2.5/24\"]", "network.dhcp"),
            ("[syslog]\nserver = \"192.0.2.9\"", "syslog.server"),
            ("[syslog]\nserver = \"2001:db8::9:514\"", "syslog.server"),
            ("[syslog]\nserver = \"-x y:514\"", "syslog.server"),
            ("[syslog]\nserver = \"192.0.2.9:0\"", "syslog.server"),
            ("[syslog]\nserver = \"192.0.2.9:514\"\ntransport = \"tls\"", "unknown variant `tls`"),
            ("[syslog]\ntransport = \"tcp\"", "missing field `server`"),
            ("[console]\nmenu = 1", "expected a boolean"),
            ("[at_rest]\nkey = \"file\"", "unknown variant `file`"),
            ("[network]\ngateway = [\"192.0.2.1\"]", "needs network.address"),
        ] {
            let error = Settings::parse(wrong).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let all = "[network]\ninterface = \"52:54:00:12:34:56\"\nvlan = 5\ndhcp = true\naddress = [\"2001:db8::5/64\"]\n\
            gateway = [\"fe80::1\"]\nnameservers = [\"192.0.2.1\"]\n[clock]\nservers = []\n[console]\nmenu = false\n\
            [syslog]\nserver = \"[2001:db8::9]:514\"\ntransport = \"tcp\"\n\
            [at_rest]\nkey = \"passphrase\"\n";
        for text in ["", all, "[syslog]\nserver = \"log.test:514\"\n"] {
            let settings = Settings::parse(text).unwrap();
            assert_eq!(Settings::parse(&toml::to_string(&settings).unwrap()).unwrap(), settings, "{text}");
        }
    }
}
