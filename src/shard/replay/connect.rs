//! A session with whichever primary of a domain serves us first, in the configured order.

use super::delivery::{Delivery, OpenError, Security, Use};
use super::race::Race;
use super::route::{self, NoRoute};
use crate::bridge::operator::Failure;
use crate::config::{Domain, Host, Primary, PrimaryTls};
use crate::limits::{DIAL_TIMEOUT, HOST_STAGGER};
use crate::shard::backlog::{Lane, is_pacing};
use crate::shard::link::Dialer;
use crate::shard::state::Shard;
use crate::smtp::client::Window;
use core::net::SocketAddr;
use futures_lite::future::or;
use rustls::pki_types::ServerName;
use std::borrow::Cow;
use std::collections::HashMap;
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
        let primaries = self.primaries(&hostname).await?;
        let mut race = Race::new(self.dialer, clock);
        let mut unserved = Unserved::Refused;
        let mut deadline = clock.now() + DIAL_TIMEOUT;
        let mut rest = primaries.iter();
        let mut names = HashMap::new();
        loop {
            let next = rest.next();
            if let Some(primary) = next {
                let addresses = self.addresses(primary).await;
                names.extend(addresses.iter().map(|address| (*address, primary)));
                race.add(addresses);
            }
            let mut until = match rest.len() {
                0 => deadline,
                _ => deadline.min(clock.now() + HOST_STAGGER),
            };
            while let Some((address, link)) = race.next(until).await {
                let began = clock.now();
                match self.open(link, address, names[&address], &hostname).await {
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

    async fn primaries(&self, hostname: &str) -> Result<Cow<'_, [Primary]>, Unserved> {
        let (domain, lookup) = (&self.domain.name, &self.shard.lookup);
        // Mail only: what primaries are asked for other reasons is not for whoever stands in for them.
        if let Some(redirect) = self.lane.and_then(|lane| lane.usage.orders.get().redirect.clone()) {
            return Ok(Cow::Owned(redirect.to));
        }
        match route::primaries(domain, &self.domain.primaries, hostname, lookup).await {
            Ok(primaries) => return Ok(primaries),
            Err(NoRoute::Lookup(error)) => {
                self.note(format_args!("the mail exchangers cannot be found: {error}"));
                tracing::warn!(%domain, %error, "the domain's mail exchangers cannot be found; its mail waits");
            }
            Err(error) => {
                self.note(format_args!("{error}"));
                tracing::error!(%domain, %error, "nobody takes the domain's mail; it waits for another MX record");
            }
        }
        Err(Unserved::Refused)
    }

    /// Addresses of a primary, without those that others have just asked in vain.
    async fn addresses(&self, primary: &Primary) -> Vec<SocketAddr> {
        match route::addresses(primary, &self.shard.lookup).await {
            Ok(mut addresses) => {
                let now = self.shard.clock.now();
                addresses.retain(|address| self.shard.hosts.may_ask(*address, self.lane, self.insists, now));
                addresses
            }
            Err(error) => {
                self.note(format_args!("{primary}: {error}"));
                tracing::warn!(domain = %self.domain.name, %primary, %error, "the primary has no address");
                Vec::new()
            }
        }
    }

    async fn open(
        &self,
        link: N::Link,
        address: SocketAddr,
        primary: &Primary,
        hostname: &str,
    ) -> Result<Delivery<N::Link, C, D>, Unserved> {
        let (domain, shard) = (&self.domain.name, self.shard);
        let policy = self.domain.tls;
        let opened = match self.greet(link, address, primary, hostname, policy).await {
            Err(OpenError::Handshake(error)) if policy == PrimaryTls::Opportunistic => {
                tracing::warn!(%domain, %address, %error, "no TLS with the primary: its handshake fails");
                match self.dialer.dial(address).await {
                    Ok(link) => self.greet(link, address, primary, hostname, PrimaryTls::None).await,
                    Err(error) => Err(OpenError::Handshake(error)),
                }
            }
            opened => opened,
        };
        let error = match opened {
            Ok(delivery) if delivery.greets_as(hostname) => {
                // RFC 5321 5.1, by whatever name and address it was found.
                self.note(format_args!("{address} is this server: a loop"));
                tracing::error!(%domain, %address, "the primary is this server: a loop");
                delivery.close().await;
                return Err(Unserved::Refused);
            }
            Ok(delivery) => {
                shard.hosts.served(address, self.lane, shard.clock.now());
                return Ok(delivery);
            }
            Err(error) => error,
        };
        self.note(format_args!("{address} does not serve us: {error}"));
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
        policy: PrimaryTls,
    ) -> Result<Delivery<N::Link, C, D>, OpenError> {
        let shard = self.shard;
        let may_have_chunks = shard.hosts.may_have_chunks(address, shard.clock.now());
        let config = Arc::clone(&shard.snapshot.borrow().client_tls);
        let security = Security { policy, config, name: server_name(primary, address) };
        let how = Use { host: address, window: self.window, may_have_chunks, security };
        let interrupt = shard.interrupts.register();
        Delivery::open(link, hostname, shard.clock.clone(), interrupt, how).await
    }

    /// What went wrong last, for the operator.
    fn note(&self, reason: core::fmt::Arguments<'_>) {
        if let Some(lane) = self.lane {
            lane.failure.replace(Some(Failure { at_s: self.shard.wall_s(), reason: reason.to_string() }));
        }
    }

    fn failed(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let now = self.shard.clock.now();
        for address in addresses {
            self.note(format_args!("{address}: no connection"));
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

/// What TLS calls a primary: by its name, as far as it is one that a certificate can have.
fn server_name(primary: &Primary, address: SocketAddr) -> ServerName<'static> {
    let named = match &primary.host {
        Host::Name(name) => ServerName::try_from(name.clone()).ok(),
        Host::Address(_) => None,
    };
    named.unwrap_or_else(|| ServerName::IpAddress(address.ip().into()))
}
