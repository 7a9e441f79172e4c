//! SPF (RFC 7208): may this client send mail with this MAIL FROM? Records are parsed by mail-auth and evaluated here.
//!
//! Bounds of RFC 7208 4.6.4: 10 terms that ask DNS, 10 exchangers or names of a term, 2 void lookups; beyond is
//! `permerror`. The time is the caller's. An explanation is not looked up: nobody is refused for a result.

use super::dns::{Dns, DnsError};
use crate::limits::{SPF_LOOKUPS_MAX, SPF_NAMES_MAX, SPF_VOID_LOOKUPS_MAX};
use crate::message::authentication::Spf;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::pin::Pin;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::spf::{self as record, Directive, Macro, Mechanism, Qualifier, Variables};

/// Whom it is about.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The client.
    pub client: IpAddr,
    /// What it calls itself.
    pub helo: &'a str,
    /// The reverse-path; empty for the null one, which makes it HELO's identity (RFC 7208 2.4).
    pub reverse_path: &'a str,
    /// Our name.
    pub receiver: &'a str,
}

impl Identity<'_> {
    /// The sender and its domain.
    fn sender(&self) -> (String, String) {
        match self.reverse_path.rsplit_once('@') {
            // RFC 7208 4.3: an empty local part is postmaster.
            Some(("", domain)) => (format!("postmaster@{domain}"), domain.to_owned()),
            Some((_, domain)) => (self.reverse_path.to_owned(), domain.to_owned()),
            None => (format!("postmaster@{}", self.helo), self.helo.to_owned()),
        }
    }
}

/// RFC 7208 4: check_host().
pub async fn check<D: Dns>(dns: &D, identity: &Identity<'_>) -> Spf {
    let (sender, domain) = identity.sender();
    let mut evaluation = Evaluation { dns, identity, sender, lookups: 0, voids: 0 };
    evaluation.host(domain).await.unwrap_or_else(|error| error)
}

struct Evaluation<'a, D> {
    dns: &'a D,
    identity: &'a Identity<'a>,
    sender: String,
    /// Terms that asked DNS.
    lookups: usize,
    /// Answers without anything.
    voids: usize,
}

/// An error is the result of the whole evaluation.
type Outcome<T> = Result<T, Spf>;

impl<D: Dns> Evaluation<'_, D> {
    /// The result of one domain's record; boxed, since records include others.
    fn host(&mut self, domain: String) -> Pin<Box<dyn Future<Output = Outcome<Spf>> + '_>> {
        Box::pin(async move {
            if !is_domain(&domain) {
                return Ok(Spf::None);
            }
            let Some(record) = self.record(&domain).await? else { return Ok(Spf::None) };
            for directive in &record.directives {
                if self.matches(&domain, directive).await? {
                    return Ok(match directive.qualifier {
                        Qualifier::Pass => Spf::Pass,
                        Qualifier::Fail => Spf::Fail,
                        Qualifier::SoftFail => Spf::SoftFail,
                        Qualifier::Neutral => Spf::Neutral,
                    });
                }
            }
            let Some(redirect) = &record.redirect else { return Ok(Spf::Neutral) };
            // RFC 7208 6.1
            self.count_lookup()?;
            let target = self.expand(&domain, redirect).await?;
            match self.host(target).await? {
                Spf::None => Err(Spf::PermError),
                result => Ok(result),
            }
        })
    }

    /// RFC 7208 4.4, 4.5: the one record of a domain.
    async fn record(&mut self, domain: &str) -> Outcome<Option<record::Spf>> {
        let all = match self.dns.txt(domain).await {
            Ok(all) => all,
            Err(DnsError::NotFound) => Vec::new(),
            Err(DnsError::Temporary) => return Err(Spf::TempError),
        };
        let is_spf = |text: &&Vec<u8>| {
            let version = text.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"v=spf1"));
            version && text.get(6).is_none_or(|next| *next == b' ')
        };
        let mut records = all.iter().filter(is_spf);
        let Some(text) = records.next() else { return Ok(None) };
        if records.next().is_some() {
            return Err(Spf::PermError);
        }
        // The parser skips terms that it does not know.
        if !text[6..].split(|octet| *octet == b' ').all(is_term) {
            return Err(Spf::PermError);
        }
        record::Spf::parse(text).map(Some).map_err(|_| Spf::PermError)
    }

    /// RFC 7208 5
    async fn matches(&mut self, domain: &str, directive: &Directive) -> Outcome<bool> {
        if !matches!(directive.mechanism, Mechanism::All | Mechanism::Ip4 { .. } | Mechanism::Ip6 { .. }) {
            self.count_lookup()?;
        }
        match &directive.mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4 { addr, mask } => Ok(self.is_in_v4(*addr, *mask)),
            Mechanism::Ip6 { addr, mask } => Ok(self.is_in_v6(*addr, *mask)),
            Mechanism::A { macro_string, ip4_mask, ip6_mask } => {
                let target = self.expand(domain, macro_string).await?;
                match self.is_address_of(&target, *ip4_mask, *ip6_mask).await {
                    Err(DnsError::NotFound) => self.count_void().map(|()| false),
                    other => other.map_err(|_| Spf::TempError),
                }
            }
            Mechanism::Mx { macro_string, ip4_mask, ip6_mask } => {
                let target = self.expand(domain, macro_string).await?;
                self.has_exchanger(&target, *ip4_mask, *ip6_mask).await
            }
            Mechanism::Ptr { macro_string } => {
                let target = self.expand(domain, macro_string).await?;
                let names = self.validated_names().await?;
                Ok(names.iter().any(|name| is_below(name, &target)))
            }
            Mechanism::Exists { macro_string } => {
                let target = self.expand(domain, macro_string).await?;
                // RFC 7208 5.7: A also for IPv6 clients.
                match self.dns.a(&target).await {
                    Ok(_) => Ok(true),
                    Err(DnsError::NotFound) => self.count_void().map(|()| false),
                    Err(DnsError::Temporary) => Err(Spf::TempError),
                }
            }
            Mechanism::Include { macro_string } => {
                let target = self.expand(domain, macro_string).await?;
                match self.host(target).await? {
                    Spf::Pass => Ok(true),
                    Spf::None => Err(Spf::PermError),
                    _ => Ok(false),
                }
            }
        }
    }

    /// RFC 7208 5.4
    async fn has_exchanger(&mut self, target: &str, ip4_mask: u32, ip6_mask: u128) -> Outcome<bool> {
        let exchangers = match self.dns.mx(target).await {
            Ok(exchangers) => exchangers,
            Err(DnsError::NotFound) => return self.count_void().map(|()| false),
            Err(DnsError::Temporary) => return Err(Spf::TempError),
        };
        for (number, exchanger) in exchangers.iter().enumerate() {
            if number == SPF_NAMES_MAX {
                return Err(Spf::PermError);
            }
            match self.is_address_of(exchanger, ip4_mask, ip6_mask).await {
                Ok(true) => return Ok(true),
                Ok(false) | Err(DnsError::NotFound) => {}
                Err(DnsError::Temporary) => return Err(Spf::TempError),
            }
        }
        Ok(false)
    }

    /// RFC 7208 5.5: names of the client that have its address. Errors are no match.
    async fn validated_names(&mut self) -> Outcome<Vec<String>> {
        let names = match self.dns.ptr(self.identity.client).await {
            Ok(names) => names,
            Err(DnsError::NotFound) => {
                self.count_void()?;
                Vec::new()
            }
            Err(DnsError::Temporary) => Vec::new(),
        };
        let mut validated = Vec::new();
        for name in names.into_iter().take(SPF_NAMES_MAX) {
            if self.is_address_of(&name, u32::MAX, u128::MAX).await == Ok(true) {
                validated.push(name);
            }
        }
        Ok(validated)
    }

    async fn is_address_of(&self, name: &str, ip4_mask: u32, ip6_mask: u128) -> Result<bool, DnsError> {
        match self.identity.client {
            IpAddr::V4(_) => {
                Ok(self.dns.a(name).await?.into_iter().any(|address| self.is_in_v4(address, ip4_mask)))
            }
            IpAddr::V6(_) => {
                Ok(self.dns.aaaa(name).await?.into_iter().any(|address| self.is_in_v6(address, ip6_mask)))
            }
        }
    }

    fn is_in_v4(&self, network: Ipv4Addr, mask: u32) -> bool {
        let IpAddr::V4(client) = self.identity.client else { return false };
        u32::from(client) & mask == u32::from(network) & mask
    }

    fn is_in_v6(&self, network: Ipv6Addr, mask: u128) -> bool {
        let IpAddr::V6(client) = self.identity.client else { return false };
        u128::from(client) & mask == u128::from(network) & mask
    }

    /// RFC 7208 7; without a macro the domain itself. A `%{p}` costs a lookup.
    async fn expand(&mut self, domain: &str, text: &Macro) -> Outcome<String> {
        let mut variables = Variables::new();
        variables.set_ip(&self.identity.client);
        variables.set_sender(self.sender.clone().into_bytes());
        variables.set_domain(domain.as_bytes());
        variables.set_helo_domain(self.identity.helo.as_bytes());
        variables.set_host_domain(self.identity.receiver.as_bytes());
        if text.needs_ptr() {
            self.count_lookup()?;
            let names = self.validated_names().await?;
            let best = names.iter().find(|name| is_below(name, domain)).or(names.first());
            variables.set_validated_domain(best.map_or("unknown", String::as_str).as_bytes().to_vec());
        }
        let expanded = text.eval(&variables, domain, true);
        let mut name = expanded.trim_end_matches('.');
        // RFC 7208 7.3: labels are taken off the left.
        while name.len() > NAME_OCTETS_MAX {
            name = name.split_once('.').map_or("", |(_, rest)| rest);
        }
        Ok(name.to_ascii_lowercase())
    }

    fn count_lookup(&mut self) -> Outcome<()> {
        self.lookups += 1;
        if self.lookups > SPF_LOOKUPS_MAX { Err(Spf::PermError) } else { Ok(()) }
    }

    fn count_void(&mut self) -> Outcome<()> {
        self.voids += 1;
        if self.voids > SPF_VOID_LOOKUPS_MAX { Err(Spf::PermError) } else { Ok(()) }
    }
}

/// RFC 7208 4.6: a mechanism that there is, or any modifier.
fn is_term(term: &[u8]) -> bool {
    let term = term.strip_prefix(b"+").or(term.strip_prefix(b"-")).unwrap_or(term);
    let term = term.strip_prefix(b"~").or(term.strip_prefix(b"?")).unwrap_or(term);
    let end = term.iter().position(|octet| matches!(octet, b':' | b'/' | b'='));
    let (name, rest) = term.split_at(end.unwrap_or(term.len()));
    let known: [&[u8]; 8] = [b"all", b"include", b"a", b"mx", b"ptr", b"ip4", b"ip6", b"exists"];
    term.is_empty()
        || rest.starts_with(b"=") && !name.is_empty()
        || known.iter().any(|mechanism| mechanism.eq_ignore_ascii_case(name))
}

/// Of a name in text form, without the dot at its end.
const NAME_OCTETS_MAX: usize = 253;

/// RFC 7208 4.3: a name of several labels, none of them empty or too long.
fn is_domain(domain: &str) -> bool {
    let domain = domain.trim_end_matches('.');
    domain.len() <= NAME_OCTETS_MAX
        && domain.contains('.')
        && domain.parse::<IpAddr>().is_err()
        && domain.split('.').all(|label| (1..=63).contains(&label.len()))
}

/// Whether `name` is `domain` or a name below it.
fn is_below(name: &str, domain: &str) -> bool {
    let Some(at) = name.len().checked_sub(domain.len()) else { return false };
    let (front, back) = (&name.as_bytes()[..at], &name.as_bytes()[at..]);
    back.eq_ignore_ascii_case(domain.as_bytes()) && front.last().is_none_or(|last| *last == b'.')
}

#[cfg(test)]
mod tests;
