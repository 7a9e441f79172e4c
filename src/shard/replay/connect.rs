//! A session with whichever primary of a domain serves us first, in the configured order.

use super::delivery::{Delivery, OpenError, Security, Use};
use super::race::Race;
use super::route::{self, NoRoute, Route};
use super::security::{self, Named, Requirement, Terms, Tested};
use crate::bridge::operator::Failure;
use crate::bridge::{LookupError, Observed};
use crate::config::{Domain, Host, Primary};
use crate::limits::{COMPLAINTS_MAX, DIAL_TIMEOUT, HOST_STAGGER, SECURITY_TIMEOUT};
use crate::message::mta_sts::Policy;
use crate::shard::backlog::{Lane, is_pacing};
use crate::shard::link::Dialer;
use crate::shard::state::Shard;
use crate::smtp::Moment;
use crate::smtp::client::Window;
use core::future::Future;
use core::net::SocketAddr;
use futures_lite::future::or;
use rustls::pki_types::ServerName;
use std::borrow::Cow;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// Why nobody serves us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unserved {
    /// One of them said 421 in place of its greeting, or to EHLO, having served another session lately.
    Busy,
    /// There is no route, no connection, no reply in time, or another refusal.
    Refused,
}

/// A way to a primary.
pub(super) struct Way<'a, D: Disk, C: Clock, N> {
    pub(super) shard: &'a Shard<D, C>,
    pub(super) dialer: &'a N,
    pub(super) domain: &'a Domain,
    /// The lane that asks; none: somebody who asks for a reason of his own.
    pub(super) lane: Option<&'a Rc<Lane>>,
    /// Whatever others have found out.
    pub(super) insists: bool,
    /// How many messages are to be in flight.
    pub(super) window: Window,
}

impl<D: Disk, C: Clock, N: Dialer> Way<'_, D, C, N> {
    /// Tries all primaries with all their addresses, within [`DIAL_TIMEOUT`] for connecting; none serves: what that says
    /// of them, and the log has the reasons.
    pub(super) async fn connect(&self) -> Result<Delivery<N::Link, C, D>, Unserved> {
        let clock = &self.shard.clock;
        let hostname = self.shard.snapshot.borrow().config.hostname.clone();
        let route = self.route(&hostname).await?;
        // All that is asked about security may take this long, then the mail waits.
        let security_until = clock.now() + SECURITY_TIMEOUT;
        let policy = self.policy(security_until).await?;
        let mut race = Race::new(self.dialer, clock);
        let mut unserved = Unserved::Refused;
        let mut deadline = clock.now() + DIAL_TIMEOUT;
        let mut rest = route.primaries.iter();
        let mut hosts = Vec::new();
        loop {
            let next = rest.next();
            if let Some(primary) = next {
                let began = clock.now();
                if let Some(terms) = self.terms(primary, &route, policy.as_deref(), security_until).await {
                    // What is asked of name servers is not the others' time.
                    deadline += clock.now() - began;
                    let addresses = self.addresses(primary).await;
                    race.add(addresses.into_iter().map(|address| (address, hosts.len())));
                    hosts.push((primary, terms));
                }
            }
            let mut until = match rest.len() {
                0 => deadline,
                _ => deadline.min(clock.now() + HOST_STAGGER),
            };
            while let Some(((address, host), link)) = race.next(until).await {
                let began = clock.now();
                match self.open(link, address, &hosts[host], &hostname).await {
                    Ok(delivery) => return Ok(delivery),
                    Err(Unserved::Busy) => unserved = Unserved::Busy,
                    Err(Unserved::Refused) => {}
                }
                // One that accepts and says nothing leaves the others their time.
                let spent = clock.now() - began;
                (deadline, until) = (deadline + spent, until + spent);
                if self.shard.is_shutting_down() {
                    return Err(unserved);
                }
            }
            self.failed(race.failed());
            if next.is_none() {
                break;
            }
        }
        self.failed(race.silent());
        Err(unserved)
    }

    async fn route(&self, hostname: &str) -> Result<Route<'_>, Unserved> {
        let domain = &self.domain.name;
        // Mail only: what primaries are asked for other reasons is not for whoever stands in for them.
        if let Some(redirect) = self.lane.and_then(|lane| lane.usage.orders.get().redirect.clone()) {
            return Ok(Route { primaries: Cow::Owned(redirect.to), named: Named::ByConfiguration });
        }
        match route::route(self.domain, hostname, &self.shard.asking()).await {
            Ok(route) => return Ok(route),
            Err(NoRoute::Lookup(error)) => {
                self.note(format!("the mail exchangers cannot be found: {error}"));
                tracing::warn!(%domain, %error, "the domain's mail exchangers cannot be found; its mail waits");
            }
            Err(error) => {
                self.note(error.to_string());
                tracing::error!(%domain, %error, "nobody takes the domain's mail; it waits for another MX record");
            }
        }
        Err(Unserved::Refused)
    }

    /// The domain's MTA-STS policy, where it matters.
    async fn policy(&self, until: Moment) -> Result<Option<Arc<Policy>>, Unserved> {
        if !self.domain.tls.asks_for_policy() {
            return Ok(None);
        }
        self.in_time(until, self.shard.lookup.policy(&self.domain.name)).await.map_err(|error| {
            self.complain(format!("whether the domain has an MTA-STS policy cannot be found out: {error}"));
            Unserved::Refused
        })
    }

    /// What a primary has to show; `None`: it gets no mail now.
    async fn terms(
        &self,
        primary: &Primary,
        route: &Route<'_>,
        policy: Option<&Policy>,
        until: Moment,
    ) -> Option<Terms> {
        let Domain { name, tls, .. } = self.domain;
        let host = &primary.host;
        let tlsa = match host {
            Host::Name(host_name) if security::asks_for_tlsa(*tls, route.named, host) => {
                self.in_time(until, self.shard.lookup.tlsa(host_name, primary.port)).await
            }
            _ => Ok(None),
        };
        let terms = security::terms(*tls, name, host, route.named, policy, tlsa);
        terms.inspect_err(|withheld| self.complain(format!("{primary}: {withheld}"))).ok()
    }

    /// An answer until then.
    async fn in_time<T>(
        &self,
        until: Moment,
        answer: impl Future<Output = Result<T, LookupError>>,
    ) -> Result<T, LookupError> {
        let clock = &self.shard.clock;
        or(answer, async {
            clock.sleep(until.saturating_sub(clock.now())).await;
            Err(LookupError::Temporary("no answer in time".to_owned()))
        })
        .await
    }

    /// Addresses of a primary, without those that others have just asked in vain.
    async fn addresses(&self, primary: &Primary) -> Vec<SocketAddr> {
        match route::addresses(primary, &self.shard.asking()).await {
            Ok(mut addresses) => {
                let now = self.shard.clock.now();
                addresses.retain(|address| self.shard.hosts.may_ask(*address, self.lane, self.insists, now));
                addresses
            }
            Err(error) => {
                self.note(format!("{primary}: {error}"));
                tracing::warn!(domain = %self.domain.name, %primary, %error, "the primary has no address");
                Vec::new()
            }
        }
    }

    async fn open(
        &self,
        link: N::Link,
        address: SocketAddr,
        (primary, terms): &(&Primary, Terms),
        hostname: &str,
    ) -> Result<Delivery<N::Link, C, D>, Unserved> {
        let (domain, shard) = (&self.domain.name, self.shard);
        let opened = match self.greet(link, address, primary, hostname, terms.clone()).await {
            Err(OpenError::Handshake(error)) if terms.requirement == Requirement::Opportunistic => {
                tracing::warn!(%domain, %address, %error, "no TLS with the primary: its handshake fails");
                let plain = Terms { requirement: Requirement::Plain, ..terms.clone() };
                match self.dialer.dial(address).await {
                    Ok(link) => self.greet(link, address, primary, hostname, plain).await,
                    Err(error) => Err(OpenError::Handshake(error)),
                }
            }
            opened => opened,
        };
        let error = match opened {
            Ok(delivery) if delivery.greets_as(hostname) => {
                // RFC 5321 5.1, by whatever name and address it was found.
                self.note(format!("{address} is this server: a loop"));
                tracing::error!(%domain, %address, "the primary is this server: a loop");
                delivery.close().await;
                return Err(Unserved::Refused);
            }
            Ok(delivery) => {
                self.tell_finding(primary, address, delivery.finding());
                shard.hosts.served(address, self.lane, shard.clock.now());
                return Ok(delivery);
            }
            Err(error) => error,
        };
        if terms.requirement.is_encrypted() && error.is_of_tls() {
            let requirement = &terms.requirement;
            // It has greeted: for others it serves.
            shard.hosts.greets(address, self.lane);
            self.complain(format!("{primary} ({address}) has to {requirement}, and does not: {error}"));
            return Err(Unserved::Refused);
        }
        self.note(format!("{address} does not serve us: {error}"));
        tracing::info!(%domain, %address, %error, "the primary does not serve us");
        let now = shard.clock.now();
        if error.is_busy() && is_pacing(shard.hosts.last_served(address), now) {
            return Err(Unserved::Busy);
        }
        // What only this domain asks of it is no failure for others.
        if matches!(error, OpenError::Session(_)) {
            shard.hosts.failed(address, self.lane, now);
        }
        Err(Unserved::Refused)
    }

    async fn greet(
        &self,
        link: N::Link,
        address: SocketAddr,
        primary: &Primary,
        hostname: &str,
        terms: Terms,
    ) -> Result<Delivery<N::Link, C, D>, OpenError> {
        let shard = self.shard;
        let may_have_chunks = shard.hosts.may_have_chunks(address, shard.clock.now());
        let security = self.security(primary, address, terms);
        let (protocol, window) = (primary.protocol, self.window);
        let how = Use { host: address, protocol, window, may_have_chunks, security };
        let interrupt = shard.interrupts.register();
        Delivery::open(link, hostname, shard.clock.clone(), interrupt, how).await
    }

    /// How the terms are kept to.
    fn security(
        &self,
        primary: &Primary,
        address: SocketAddr,
        Terms { requirement, tested }: Terms,
    ) -> Security {
        let tls = Arc::clone(&self.shard.snapshot.borrow().client_tls);
        let observed = Arc::<Observed>::default();
        let config = match &requirement {
            Requirement::Published(published, _) => tls.published(published),
            Requirement::Certificate => tls.named(),
            _ if tested == Tested::Certificate => tls.watched(&observed),
            Requirement::Plain | Requirement::Opportunistic | Requirement::Encrypted => tls.anybody(),
        };
        let name = match &requirement {
            // RFC 7672 8.1.
            Requirement::Published(_, base) => named(base, address),
            _ => server_name(primary, address),
        };
        Security { requirement, config, tested, observed, name }
    }

    /// What went wrong last, for the operator.
    fn note(&self, reason: String) {
        if let Some(lane) = self.lane {
            lane.failure.replace(Some(Failure { at_s: self.shard.wall_s(), reason }));
        }
    }

    /// A host that serves others gets none of the domain's mail. The log has it once, until it does, or says something else.
    fn complain(&self, reason: String) {
        let domain = &self.domain.name;
        if self.is_news(&reason) {
            tracing::warn!(%domain, reason, "the domain's mail waits: its security is not what it has to be");
        } else {
            tracing::debug!(%domain, reason, "the domain's mail waits: its security is still not what it has to be");
        }
        self.note(reason);
    }

    /// A host serves us; what a policy that is only tested has against it.
    fn tell_finding(&self, primary: &Primary, address: SocketAddr, finding: Option<String>) {
        let domain = &self.domain.name;
        let finding = finding.map(|finding| format!("{primary} ({address}): {finding}"));
        if let Some(lane) = self.lane {
            lane.complaints.borrow_mut().retain(|told| finding.as_ref() == Some(told));
        }
        if let Some(reason) = finding.filter(|finding| self.is_news(finding)) {
            tracing::warn!(%domain, reason, "it would get no mail were the domain's MTA-STS policy enforced, which is in testing");
        }
    }

    /// Whether the lane was not told of it yet. Without one nobody is: it is heard of by the lane.
    fn is_news(&self, reason: &str) -> bool {
        let Some(lane) = self.lane else { return false };
        let mut told = lane.complaints.borrow_mut();
        if told.len() >= COMPLAINTS_MAX {
            told.clear();
        }
        told.insert(reason.to_owned())
    }

    fn failed(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let now = self.shard.clock.now();
        for address in addresses {
            self.note(format!("{address}: no connection"));
            self.shard.hosts.failed(address, self.lane, now);
        }
    }
}

/// One more session with a host that serves us; `None`: it does not want one, which says nothing else about it.
pub(super) async fn beside<D: Disk, C: Clock, N: Dialer>(
    shard: &Shard<D, C>,
    dialer: &N,
    how: Use,
) -> Option<Delivery<N::Link, C, D>> {
    let (clock, host) = (&shard.clock, how.host);
    let hostname = shard.snapshot.borrow().config.hostname.clone();
    let dialed = or(dialer.dial(host), async {
        clock.sleep(DIAL_TIMEOUT).await;
        Err(io::ErrorKind::TimedOut.into())
    });
    let interrupt = shard.interrupts.register();
    let opened = match dialed.await {
        Ok(link) => Delivery::open(link, &hostname, clock.clone(), interrupt, how).await,
        Err(error) => {
            tracing::info!(%host, %error, "the primary refuses a further connection");
            return None;
        }
    };
    opened.inspect_err(|error| tracing::info!(%host, %error, "the primary refuses a further session")).ok()
}

/// What TLS calls a primary.
fn server_name(primary: &Primary, address: SocketAddr) -> ServerName<'static> {
    match &primary.host {
        Host::Name(name) => named(name, address),
        Host::Address(_) => ServerName::IpAddress(address.ip().into()),
    }
}

/// By its name, as far as it is one that a certificate can have.
fn named(name: &str, address: SocketAddr) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap_or_else(|_| ServerName::IpAddress(address.ip().into()))
}
