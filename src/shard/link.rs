//! A link: a stream of octets to a peer. The shard is generic over it, so sessions also run over the simulator's
//! network, and TLS will be a link over a link.

use core::future::poll_fn;
use core::net::SocketAddr;
use core::pin::pin;
use core::task::Poll;
use std::io;

/// See the module. A task that polled a future of a link is woken for it also when the future was dropped meanwhile.
#[expect(async_fn_in_trait, reason = "each shard is one thread; no future of it needs to be Send")]
pub trait Link: 'static {
    /// Reads at least one octet into `memory`; 0 at the end of the stream. Dropping the future loses nothing.
    async fn read(&mut self, memory: &mut [u8]) -> io::Result<usize>;
    /// Whether the peer has sent something that was not read, by one look without waiting.
    fn has_unread(&self) -> bool;
    /// Writes some of `octets`, at least one. Dropping the future means that none was written, but for what it said it had.
    async fn write(&mut self, octets: &[u8]) -> io::Result<usize>;
    /// Ends our side of the stream.
    async fn shutdown(&mut self) -> io::Result<()>;
}

/// What [`write_or_read`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    /// So many octets were read; 0 at the end of the stream.
    Read(usize),
    /// So many were written.
    Written(usize),
}

/// Writes some of `octets`, or reads while the peer takes none: it may wait for us to read what it has to say. Dropping the
/// future loses nothing.
///
/// # Errors
/// Of the one that was done.
pub async fn write_or_read<L: Link>(link: &mut L, octets: &[u8], memory: &mut [u8]) -> io::Result<Moved> {
    poll_fn(|context| {
        // Made anew at each poll: two at a time would both need the link, and a dropped one loses nothing.
        if let Poll::Ready(written) = pin!(link.write(octets)).poll(context) {
            return Poll::Ready(written.map(Moved::Written));
        }
        pin!(link.read(memory)).poll(context).map(|read| read.map(Moved::Read))
    })
    .await
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
