//! A session with whichever primary of a domain serves us first, in the configured order.

use super::delivery::Delivery;
use super::route::{self, NoRoute};
use crate::config::Domain;
use crate::shard::link::Dialer;
use crate::shard::state::Shard;
use storage::clock::Clock;
use storage::disk::Disk;

/// Why nobody serves us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unserved {
    /// One of them said 421 in place of its greeting, or to EHLO.
    Busy,
    /// There is no route, no connection, no reply in time, or another refusal.
    Refused,
}

/// Tries all primaries with all their addresses; none serves: what that says of them, and the log has the reasons.
pub(super) async fn connect<D: Disk, C: Clock, N: Dialer>(
    shard: &Shard<D, C>,
    dialer: &N,
    domain: &Domain,
) -> Result<Delivery<N::Link, C>, Unserved> {
    let mut unserved = Unserved::Refused;
    let hostname = shard.snapshot.borrow().config.hostname.clone();
    let primaries = match route::primaries(&domain.name, &domain.primaries, &hostname, &shard.lookup).await {
        Ok(primaries) => primaries,
        Err(NoRoute::Lookup(error)) => {
            tracing::warn!(domain = %domain.name, %error, "the domain's mail exchangers cannot be found; its mail waits");
            return Err(Unserved::Refused);
        }
        Err(error) => {
            tracing::error!(domain = %domain.name, %error, "nobody takes the domain's mail; it waits for another MX record");
            return Err(Unserved::Refused);
        }
    };
    for primary in primaries.iter() {
        let addresses = match route::addresses(primary, &shard.lookup).await {
            Ok(addresses) => addresses,
            Err(error) => {
                tracing::warn!(domain = %domain.name, %primary, %error, "the primary has no address");
                continue;
            }
        };
        for address in addresses {
            if shard.is_shutting_down() {
                return Err(Unserved::Refused);
            }
            let link = match dialer.dial(address).await {
                Ok(link) => link,
                Err(error) => {
                    tracing::debug!(domain = %domain.name, %address, %error, "no connection");
                    continue;
                }
            };
            let interrupt = shard.interrupts.register();
            match Delivery::open(link, &hostname, shard.clock.clone(), interrupt).await {
                Ok(delivery) if delivery.greets_as(&hostname) => {
                    // RFC 5321 5.1, by whatever name and address it was found.
                    tracing::error!(domain = %domain.name, %primary, %address, "the primary is this server: a loop");
                    delivery.close().await;
                }
                Ok(delivery) => return Ok(delivery),
                Err(failure) => {
                    if failure.is_busy() {
                        unserved = Unserved::Busy;
                    }
                    tracing::info!(domain = %domain.name, %address, %failure, "the primary does not serve us");
                }
            }
        }
    }
    Err(unserved)
}
