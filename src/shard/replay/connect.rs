//! A session with whichever primary of a domain serves us first, in the configured order.

use super::delivery::Delivery;
use super::route::{self, NoRoute};
use crate::config::Domain;
use crate::shard::link::Dialer;
use crate::shard::state::Shard;
use storage::clock::Clock;
use storage::disk::Disk;

/// Tries all primaries with all their addresses; none serves: `None`, and the log says why.
pub(super) async fn connect<D: Disk, C: Clock, N: Dialer>(
    shard: &Shard<D, C>,
    dialer: &N,
    domain: &Domain,
) -> Option<Delivery<N::Link, C>> {
    let note = |what: &dyn core::fmt::Display| {
        shard.lanes.note_trouble(&domain.name, shard.wall_s(), what.to_string());
    };
    let hostname = shard.snapshot.borrow().config.hostname.clone();
    let primaries = match route::primaries(&domain.name, &domain.primaries, &hostname, &shard.lookup).await {
        Ok(primaries) => primaries,
        Err(NoRoute::Lookup(error)) => {
            note(&format_args!("the mail exchangers cannot be found: {error}"));
            tracing::warn!(domain = %domain.name, %error, "the domain's mail exchangers cannot be found; its mail waits");
            return None;
        }
        Err(error) => {
            note(&error);
            tracing::error!(domain = %domain.name, %error, "nobody takes the domain's mail; it waits for another MX record");
            return None;
        }
    };
    for primary in primaries.iter() {
        let addresses = match route::addresses(primary, &shard.lookup).await {
            Ok(addresses) => addresses,
            Err(error) => {
                note(&format_args!("{primary}: {error}"));
                tracing::warn!(domain = %domain.name, %primary, %error, "the primary has no address");
                continue;
            }
        };
        for address in addresses {
            if shard.is_shutting_down() {
                return None;
            }
            let link = match dialer.dial(address).await {
                Ok(link) => link,
                Err(error) => {
                    note(&format_args!("{address}: no connection: {error}"));
                    tracing::debug!(domain = %domain.name, %address, %error, "no connection");
                    continue;
                }
            };
            let interrupt = shard.interrupts.register();
            match Delivery::open(link, &hostname, shard.clock.clone(), interrupt).await {
                Ok(delivery) if delivery.greets_as(&hostname) => {
                    // RFC 5321 5.1, by whatever name and address it was found.
                    note(&format_args!("{address} is this server: a loop"));
                    tracing::error!(domain = %domain.name, %primary, %address, "the primary is this server: a loop");
                    delivery.close().await;
                }
                Ok(delivery) => return Some(delivery),
                Err(failure) => {
                    note(&format_args!("{address} does not serve us: {failure}"));
                    tracing::info!(domain = %domain.name, %address, %failure, "the primary does not serve us");
                }
            }
        }
    }
    None
}
