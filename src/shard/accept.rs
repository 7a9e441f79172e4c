//! Taking connections: a place under the caps, a greeting, or `421` and the door.
//!
//! Who a connection counts for is its client: the peer, or whom a trusted load balancer names in a PROXY header. The
//! header is awaited by the connection's own task, so that a balancer that says nothing holds up nobody; the place in
//! the total is taken before that.

use super::caps::{Most, Place, Refusal};
use super::connection;
use super::interrupt::Interrupt;
use super::link::{Link, Spawn};
use super::proxy_header::{self, BadHeader, ProxyHeader};
use super::socket::Listener;
use super::state::Shard;
use crate::limits::{DISK_RETRY_PAUSE, PROXY_HEADER_OCTETS_MAX, PROXY_HEADER_TIMEOUT};
use crate::metrics::Admission;
use crate::smtp::reply::{CONNECTION_RATE_421, MEMORY_PRESSURE_421, Reply, TOO_MANY_CONNECTIONS_421};
use core::net::SocketAddr;
use futures_lite::future::or;
use std::io;
use std::rc::Rc;
use storage::clock::Clock;
use storage::disk::Disk;

/// Why a balancer's connection is closed before it has a client.
#[derive(Debug, thiserror::Error)]
enum NoClient {
    #[error(transparent)]
    Header(#[from] BadHeader),
    #[error(transparent)]
    Link(#[from] io::Error),
    #[error("the connection ended before its PROXY header did")]
    Closed,
    #[error("no PROXY header in time")]
    Late,
}

/// Takes connections from `listener` until the shard shuts down.
pub(super) async fn run<D: Disk, C: Clock, S: Spawn>(shard: Rc<Shard<D, C>>, listener: Listener, spawn: S) {
    loop {
        let shutdown = shard.shutdown.wait();
        if shard.is_shutting_down() {
            return;
        }
        let accepted = or(async { Some(listener.accept().await) }, async {
            shutdown.await;
            None
        });
        match accepted.await {
            None => return,
            Some(Ok((link, peer))) => admit(&shard, link, peer, &spawn).await,
            Some(Err(error)) => {
                // Out of descriptors, or a client that was gone at once: neither ends the service.
                tracing::warn!(%error, "a connection could not be taken");
                shard.clock.sleep(DISK_RETRY_PAUSE / 10).await;
            }
        }
    }
}

/// Serves a connection in a task of its own, or turns it away.
pub(super) async fn admit<L: Link, D: Disk, C: Clock, S: Spawn>(
    shard: &Rc<Shard<D, C>>,
    mut link: L,
    peer: SocketAddr,
    spawn: &S,
) {
    let (most, is_balancer) = {
        let snapshot = shard.snapshot.borrow();
        let smtp = &snapshot.config.smtp;
        let most = Most {
            total: smtp.max_connections,
            each: smtp.max_connections_per_ip,
            connections_a_minute: smtp.rate.connections_per_minute_per_ip,
        };
        (most, smtp.proxy_from.iter().any(|network| network.contains(peer.ip())))
    };
    let place = match shard.receiving.caps.enter(most.total) {
        None => return refuse(shard, &mut link, peer, Admission::Limit).await,
        Some(_) if shard.receiving.memory.is_short() => {
            return refuse(shard, &mut link, peer, Admission::Memory).await;
        }
        Some(place) => place,
    };
    if is_balancer {
        let balanced = balanced(Rc::clone(shard), link, peer, place, most);
        return spawn.spawn(balanced);
    }
    match place.assign(peer.ip(), &most, shard.clock.now()) {
        Err(refusal) => refuse(shard, &mut link, peer, told(refusal)).await,
        Ok(place) => {
            shard.counters.connections.of(Admission::Accepted).add(1);
            let serving = connection::serve(Rc::clone(shard), link, peer);
            spawn.spawn(async move {
                serving.await;
                drop(place);
            });
        }
    }
}

/// A connection from a load balancer: who is it for?
async fn balanced<L: Link, D: Disk, C: Clock>(
    shard: Rc<Shard<D, C>>,
    mut link: L,
    balancer: SocketAddr,
    place: Place,
    most: Most,
) {
    let interrupt = shard.interrupts.register();
    let deadline = shard.clock.now() + PROXY_HEADER_TIMEOUT;
    let header = interrupt.guard(Some(deadline), read_header(&mut link)).await;
    let client = match header.unwrap_or(Err(NoClient::Late)) {
        Ok(client) => client.unwrap_or(balancer),
        Err(error) => {
            shard.counters.connections.of(Admission::BadHeader).add(1);
            // No reply: nobody knows what it speaks, or to whom.
            tracing::info!(client = %balancer.ip(), %error, "closed: a trusted load balancer sends no usable header");
            return;
        }
    };
    drop::<Rc<Interrupt>>(interrupt);
    match place.assign(client.ip(), &most, shard.clock.now()) {
        Err(refusal) => refuse(&shard, &mut link, client, told(refusal)).await,
        Ok(_place) => {
            shard.counters.connections.of(Admission::Accepted).add(1);
            connection::serve(shard, link, client).await;
        }
    }
}

/// Reads a PROXY header and not an octet more, so that what follows is still seen as early talk.
async fn read_header<L: Link>(link: &mut L) -> Result<Option<SocketAddr>, NoClient> {
    let mut memory = vec![0; PROXY_HEADER_OCTETS_MAX];
    let mut filled = 0;
    loop {
        match proxy_header::parse(&memory[..filled])? {
            ProxyHeader::Complete { client, .. } => return Ok(client),
            ProxyHeader::Incomplete => {}
        }
        let wanted = proxy_header::octets_wanted(&memory[..filled]);
        filled += match link.read(&mut memory[filled..wanted]).await? {
            0 => return Err(NoClient::Closed),
            count => count,
        };
    }
}

const fn told(refusal: Refusal) -> Admission {
    match refusal {
        Refusal::Many => Admission::Limit,
        Refusal::Fast => Admission::Rate,
    }
}

/// Says no, as far as the socket's own buffer takes it: a client that does not read must not hold up others.
async fn refuse<L: Link, D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    link: &mut L,
    client: SocketAddr,
    admission: Admission,
) {
    shard.counters.connections.of(admission).add(1);
    let reply: Reply = match admission {
        Admission::Memory => MEMORY_PRESSURE_421,
        Admission::Rate => CONNECTION_RATE_421,
        Admission::Accepted | Admission::BadHeader | Admission::Limit => TOO_MANY_CONNECTIONS_421,
    };
    tracing::info!(client = %client.ip(), %reply, "refused");
    let reply = format!("{reply}\r\n");
    let _ = link.write(reply.as_bytes()).await;
    let _ = link.shutdown().await;
}
