//! Networks in CIDR notation (RFC 4632 3.1, RFC 4291 2.3): who may do what others may not.

use core::fmt;
use core::net::IpAddr;

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither `address` nor `address/prefix`.
    #[error("is not an address or a network (\"192.0.2.0/24\", \"2001:db8::/32\")")]
    NotANetwork,
    /// Bits are set that do not count: most likely another network was meant.
    #[error("has bits set behind its prefix")]
    HostBits,
}

impl Network {
    /// Reads `address/prefix`; an address alone is a network of one.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(text, prefix)| (text, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError::NotANetwork)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) if digits.bytes().all(|octet| octet.is_ascii_digit()) => {
                let prefix: Option<u8> = digits.parse().ok().filter(|prefix| *prefix <= bits);
                prefix.ok_or(NetworkError::NotANetwork)?
            }
            Some(_) => return Err(NetworkError::NotANetwork),
        };
        let network = Self { address, prefix };
        if number(address) & !network.mask() == 0 { Ok(network) } else { Err(NetworkError::HostBits) }
    }

    /// Whether an address is in it. IPv4 addresses that are mapped into IPv6 are IPv4 addresses.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && number(address) & self.mask() == number(self.address)
    }

    /// Ones where bits count, within the 128 or the lower 32 bits.
    fn mask(&self) -> u128 {
        let bits = if self.address.is_ipv4() { 32 } else { 128 };
        let all = u128::MAX >> (128 - bits);
        all & !all.checked_shr(self.prefix.into()).unwrap_or(0)
    }
}

/// The address as a number; an IPv4 address in the lower 32 bits.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_own_and_nobody_else() {
        for (network, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("10.0.0.0/9", "10.127.0.1", "10.128.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "ffff::", "192.0.2.1"),
            ("::1", "::1", "::2"),
            ("192.0.2.0/24", "::ffff:192.0.2.1", "2001:db8::192.0.2.1"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
            assert_eq!(Network::parse(&parsed.to_string()), Ok(parsed));
        }
    }

    #[test]
    fn what_is_no_network_says_so() {
        for text in [
            "",
            "example.com",
            "192.0.2.0/",
            "192.0.2.0/33",
            "::/129",
            "192.0.2/24",
            "192.0.2.0/+8",
            "/8",
            "::/8/8",
        ] {
            assert_eq!(Network::parse(text), Err(NetworkError::NotANetwork), "{text}");
        }
        for text in ["192.0.2.1/24", "::1/64", "255.255.255.255/0"] {
            assert_eq!(Network::parse(text), Err(NetworkError::HostBits), "{text}");
        }
    }
}
