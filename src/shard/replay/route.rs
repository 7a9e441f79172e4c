//! From a domain to its primaries, and from these to addresses, in the order to try them.
//!
//! Promise: mail of a domain that leaves us nobody to send it to is kept and told about, never bounced: that its MX names us
//! alone is how an operator moves a server, and a loop is somebody's slip of the pen.

use super::security::Named;
use crate::bridge::{Exchanger, LookupError, SecureExchangers};
use crate::config::{Domain, Host, Primaries, Primary, PrimaryTls, Protocol, SMTP_PORT};
use crate::limits::{ADDRESSES_A_PRIMARY_MAX, EXCHANGERS_MAX};
use crate::shard::measured::Asking;
use core::hash::BuildHasher;
use core::net::{IpAddr, SocketAddr};
use std::borrow::Cow;
use std::hash::RandomState;
use storage::clock::Clock;

/// Why a domain has no primary now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NoRoute {
    /// Name servers were asked in vain, or say that there is no such domain.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// RFC 7505.
    #[error("its MX record says that it takes no mail")]
    NullMx,
    /// RFC 5321 5.1: who is in the MX records sends only to those that come before him.
    #[error("its MX records name nobody before us")]
    OnlyUs,
}

/// Where the mail of a domain goes.
pub(super) struct Route<'a> {
    /// In the order to try them.
    pub(super) primaries: Cow<'a, [Primary]>,
    /// Who says so.
    pub(super) named: Named,
}

/// The route of a domain; `hostname` is ours.
///
/// # Errors
/// See [`NoRoute`].
pub(super) async fn route<'a, C: Clock>(
    domain: &'a Domain,
    hostname: &str,
    lookup: &Asking<'_, C>,
) -> Result<Route<'a>, NoRoute> {
    let Primaries::Exchangers = &domain.primaries else {
        let primaries = Cow::Borrowed(domain.primaries.hosts());
        return Ok(Route { primaries, named: Named::ByConfiguration });
    };
    let SecureExchangers { exchangers, is_secure } = match domain.tls {
        PrimaryTls::Dane => lookup.secure_exchangers(&domain.name).await?,
        _ => {
            let exchangers = lookup.exchangers(&domain.name).await?;
            SecureExchangers { exchangers, is_secure: false }
        }
    };
    let primaries = Cow::Owned(found(exchangers, hostname)?);
    Ok(Route { primaries, named: Named::ByExchangers { is_secure } })
}

/// The mail exchangers of somebody else's domain, for a notice.
///
/// # Errors
/// See [`NoRoute`].
pub(super) async fn exchangers<C: Clock>(
    domain: &str,
    hostname: &str,
    lookup: &Asking<'_, C>,
) -> Result<Vec<Primary>, NoRoute> {
    found(lookup.exchangers(domain).await?, hostname)
}

fn found(found: Vec<Exchanger>, hostname: &str) -> Result<Vec<Primary>, NoRoute> {
    // Other keys at each call: among equals the order is another one each time (RFC 5321 5.1).
    let dice = RandomState::new();
    let hosts = before_us(found, hostname, |host| dice.hash_one(host))?;
    let by_smtp = |host| Primary { host: Host::Name(host), port: SMTP_PORT, protocol: Protocol::Smtp };
    Ok(hosts.into_iter().map(by_smtp).collect())
}

/// The exchangers that come before us, best first, equals in the order of `dice` (RFC 5321 5.1, RFC 7505 3).
fn before_us(
    mut found: Vec<Exchanger>,
    hostname: &str,
    dice: impl Fn(&str) -> u64,
) -> Result<Vec<String>, NoRoute> {
    let is_us = |exchanger: &Exchanger| exchanger.host.eq_ignore_ascii_case(hostname);
    let ours = found.iter().filter(|exchanger| is_us(exchanger)).map(|exchanger| exchanger.preference).min();
    if !found.is_empty() && found.iter().all(|exchanger| exchanger.host.is_empty()) {
        return Err(NoRoute::NullMx);
    }
    found.retain(|exchanger| {
        !exchanger.host.is_empty() && ours.is_none_or(|ours| exchanger.preference < ours)
    });
    if found.is_empty() {
        return Err(NoRoute::OnlyUs);
    }
    found.sort_by_key(|exchanger| (exchanger.preference, dice(&exchanger.host)));
    found.truncate(EXCHANGERS_MAX);
    Ok(found.into_iter().map(|exchanger| exchanger.host).collect())
}

/// Addresses of one primary.
///
/// # Errors
/// See [`LookupError`].
pub(super) async fn addresses<C: Clock>(
    primary: &Primary,
    lookup: &Asking<'_, C>,
) -> Result<Vec<SocketAddr>, LookupError> {
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

    fn exchangers(rows: &[(u16, &str)]) -> Vec<Exchanger> {
        let exchanger = |(preference, host): &(u16, &str)| Exchanger {
            preference: *preference,
            host: (*host).to_owned(),
        };
        rows.iter().map(exchanger).collect()
    }

    #[test]
    fn only_who_comes_before_us_is_a_primary() {
        let by_length = |host: &str| host.len() as u64;
        for (rows, expected) in [
            (&[(10, "a.test")][..], Ok(vec!["a.test"])),
            (&[(20, "b.test"), (10, "a.test")], Ok(vec!["a.test", "b.test"])),
            (&[(10, "long.test"), (10, "a.test")], Ok(vec!["a.test", "long.test"])),
            // Equal or worse than us goes, whoever it is.
            (&[(10, "a.test"), (20, "MX2.test"), (20, "b.test"), (30, "c.test")], Ok(vec!["a.test"])),
            // The better of our two places counts.
            (&[(30, "mx2.test"), (10, "mx2.test"), (20, "a.test")], Err(NoRoute::OnlyUs)),
            (&[(10, "mx2.test")], Err(NoRoute::OnlyUs)),
            (&[(0, "")], Err(NoRoute::NullMx)),
            // RFC 7505 3: a null MX among others is none.
            (&[(0, ""), (10, "a.test")], Ok(vec!["a.test"])),
            (&[(0, ""), (10, "mx2.test")], Err(NoRoute::OnlyUs)),
        ] {
            let found = before_us(exchangers(rows), "mx2.test", by_length);
            let expected = expected.map(|hosts| hosts.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(found, expected, "{rows:?}");
        }
        let many: Vec<(u16, String)> = (0..20).map(|number| (number, format!("{number}.test"))).collect();
        let many: Vec<(u16, &str)> = many.iter().map(|(number, host)| (*number, host.as_str())).collect();
        assert_eq!(
            before_us(exchangers(&many), "mx2.test", by_length).map(|hosts| hosts.len()),
            Ok(EXCHANGERS_MAX)
        );
    }

    #[test]
    fn families_take_turns() {
        let text = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"];
        let found = text.iter().map(|address| address.parse().expect("an address")).collect();
        let ordered: Vec<String> = in_turns(found).iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    }
}
