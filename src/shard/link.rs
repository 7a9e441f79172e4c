//! A link: a stream of octets to a peer. The shard is generic over it, so sessions also run over the simulator's
//! network, and TLS will be a link over a link.

use core::net::SocketAddr;
use std::io;

/// See the module.
#[expect(async_fn_in_trait, reason = "each shard is one thread; no future of it needs to be Send")]
pub trait Link: 'static {
    /// Reads at least one octet into `memory`; 0 at the end of the stream. Dropping the future loses nothing.
    async fn read(&mut self, memory: &mut [u8]) -> io::Result<usize>;
    /// Whether the peer has sent something that was not read, by one look without waiting.
    fn has_unread(&self) -> bool;
    /// Writes some of `octets`, at least one.
    async fn write(&mut self, octets: &[u8]) -> io::Result<usize>;
    /// Ends our side of the stream.
    async fn shutdown(&mut self) -> io::Result<()>;
}

/// Opens links to primaries.
#[expect(async_fn_in_trait, reason = "each shard is one thread; no future of it needs to be Send")]
pub trait Dialer: Clone + 'static {
    /// What it opens.
    type Link: Link;
    /// A link to `address`.
    async fn dial(&self, address: SocketAddr) -> io::Result<Self::Link>;
}

/// Starts tasks of the same shard.
pub trait Spawn: Clone + 'static {
    /// Starts `task`; it runs until it ends or the shard does.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
}
