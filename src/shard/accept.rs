//! Taking connections: a place under the caps, a greeting, or `421 4.7.0` and the door.

use super::caps::Caps;
use super::connection;
use super::link::{Link, Spawn};
use super::socket::{Listener, TcpLink};
use super::state::Shard;
use crate::limits::DISK_RETRY_PAUSE;
use crate::smtp::reply::TOO_MANY_CONNECTIONS_421;
use futures_lite::future::or;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// Takes connections from `listener` until the shard shuts down.
pub(super) async fn run<D: Disk, C: Clock, S: Spawn>(
    shard: Rc<Shard<D, C>>,
    listener: Listener,
    caps: Arc<Caps>,
    spawn: S,
) {
    loop {
        let shutdown = shard.shutdown.wait();
        if shard.is_shutting_down() {
            return;
        }
        let accepted = or(async { Some(listener.accept().await) }, async {
            shutdown.await;
            None
        });
        let (mut link, peer) = match accepted.await {
            None => return,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                // Out of descriptors, or a client that was gone at once: neither ends the service.
                tracing::warn!(%error, "a connection could not be taken");
                shard.clock.sleep(DISK_RETRY_PAUSE / 10).await;
                continue;
            }
        };
        let (total, each) = {
            let snapshot = shard.snapshot.borrow();
            (snapshot.config.smtp.max_connections, snapshot.config.smtp.max_connections_per_ip)
        };
        let Some(place) = caps.enter(peer.ip().to_canonical(), total, each) else {
            shard.counters.refused.add(1);
            tracing::info!(client = %peer.ip(), "refused: too many connections");
            refuse(&mut link).await;
            continue;
        };
        shard.counters.connections.add(1);
        let serving = connection::serve(Rc::clone(&shard), link, peer);
        spawn.spawn(async move {
            serving.await;
            drop(place);
        });
    }
}

/// Says no, as far as the socket's own buffer takes it: a client that does not read must not hold up others.
async fn refuse(link: &mut TcpLink) {
    let reply = format!("{TOO_MANY_CONNECTIONS_421}\r\n");
    let _ = link.write(reply.as_bytes()).await;
    let _ = link.shutdown().await;
}
