//! A session with whichever primary of a domain serves us first, in the configured order.

use super::delivery::Delivery;
use super::route;
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
    for primary in &domain.primaries {
        let addresses = match route::addresses(primary, &shard.lookup).await {
            Ok(addresses) => addresses,
            Err(error) => {
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
                    tracing::debug!(domain = %domain.name, %address, %error, "no connection");
                    continue;
                }
            };
            let hostname = shard.snapshot.borrow().config.hostname.clone();
            let interrupt = shard.interrupts.register();
            match Delivery::open(link, &hostname, shard.clock.clone(), interrupt).await {
                Ok(delivery) => return Some(delivery),
                Err(failure) => {
                    tracing::info!(domain = %domain.name, %address, %failure, "the primary does not serve us");
                }
            }
        }
    }
    None
}
