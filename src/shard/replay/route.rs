//! From a domain's primaries to addresses, in the order to try them.

use crate::bridge::{Lookup, LookupError};
use crate::config::{Host, Primary};
use crate::limits::ADDRESSES_A_PRIMARY_MAX;
use core::net::{IpAddr, SocketAddr};

/// Addresses of one primary.
///
/// # Errors
/// See [`LookupError`].
pub(super) async fn addresses(primary: &Primary, lookup: &Lookup) -> Result<Vec<SocketAddr>, LookupError> {
    let found = match &primary.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => lookup.addresses(name).await?,
    };
    Ok(in_turns(found).into_iter().map(|address| SocketAddr::new(address, primary.port)).collect())
}

/// IPv6 and IPv4 by turns, so that one family that is broken costs one try, not all of them.
fn in_turns(found: Vec<IpAddr>) -> Vec<IpAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = found.into_iter().partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut ordered = Vec::new();
    loop {
        let before = ordered.len();
        ordered.extend(v6.next());
        ordered.extend(v4.next());
        if ordered.len() == before || ordered.len() >= ADDRESSES_A_PRIMARY_MAX {
            ordered.truncate(ADDRESSES_A_PRIMARY_MAX);
            return ordered;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let text = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"];
        let found = text.iter().map(|address| address.parse().expect("an address")).collect();
        let ordered: Vec<String> = in_turns(found).iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    }
}
