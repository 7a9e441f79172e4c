//! Sockets of the real network, and the rings under them: the only place of the shard that touches glommio's streams, and the only
//! one of the program with `unsafe`.
//!
//! glommio makes its rings without `IORING_SETUP_COOP_TASKRUN` (Linux 5.19), and its interface has no place for it: each completion then
//! interrupts the core that would have seen it in its next system call: about a quarter of what a message costs (`benches/README.md`). So the linker puts [`set_up_ring`] where liburing makes the system call (`build.rs`).

// glommio makes a listener of its own with SO_REUSEPORT, but neither SO_REUSEADDR nor IPV6_V6ONLY; ours is made
// by socket2 and handed over by its descriptor, which is an unsafe conversion. Its streams do not lend their
// descriptor, so the look for early talk borrows it by number. Rings are made for C.
#![allow(unsafe_code)]

use super::link::{Dialer, Link, Spawn};
use crate::limits::{DIAL_TIMEOUT, LISTEN_BACKLOG};
use core::ffi::{c_int, c_uint};
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use futures_lite::io::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use rustix::io::Errno;
use rustix::io_uring::{IoringSetupFlags, io_uring_params, io_uring_setup};
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

/// A listening socket of one shard; all shards listen on the same address.
#[derive(Debug)]
pub struct Listener(TcpListener);

/// A TCP connection.
#[derive(Debug)]
pub struct TcpLink(TcpStream);

/// Dials by TCP.
#[derive(Clone, Copy, Debug)]
pub struct TcpDialer;

/// Starts tasks on the executor that it runs on.
#[derive(Clone, Copy, Debug)]
pub struct LocalSpawn;

/// Stands for `__sys_io_uring_setup` of liburing: a descriptor, or -1 and errno.
///
/// # Safety
/// `params` points to parameters that are this call's alone.
#[unsafe(export_name = "__wrap___sys_io_uring_setup")]
unsafe extern "C" fn set_up_ring(entries: c_uint, params: *mut io_uring_params) -> c_int {
    // SAFETY: as the caller promises; the layout is the kernel's.
    let params = unsafe { &mut *params };
    match ring_without_interrupts(entries, params) {
        Ok(ring) => ring.into_raw_fd(),
        Err(error) => {
            // SAFETY: the C library gives the place of this thread's errno.
            unsafe { *__errno_location() = error.raw_os_error() };
            -1
        }
    }
}

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// Work of completions waits for the thread's next system call; as asked for where the kernel is older than that.
fn ring_without_interrupts(entries: u32, params: &mut io_uring_params) -> Result<OwnedFd, Errno> {
    let asked = params.flags;
    params.flags |= IoringSetupFlags::COOP_TASKRUN;
    // SAFETY: the parameters name no memory and no descriptor but the caller's.
    match unsafe { io_uring_setup(entries, params) } {
        Err(Errno::INVAL) => {
            params.flags = asked;
            // SAFETY: as above.
            unsafe { io_uring_setup(entries, params) }
        }
        made => {
            UNINTERRUPTED.fetch_or(made.is_ok(), Ordering::Relaxed);
            made
        }
    }
}

/// A ring of this process was made so that completions do not interrupt.
static UNINTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether completions leave the shards alone; not on a kernel before 5.19.
pub fn is_uninterrupted() -> bool {
    UNINTERRUPTED.load(Ordering::Relaxed)
}

impl Listener {
    /// Listens on `address`, beside the other shards.
    ///
    /// # Errors
    /// The system's: the address is taken, or not ours.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            // `[::]:25` stands beside `0.0.0.0:25`, not instead of it.
            socket.set_only_v6(true)?;
        }
        // Connections of the process before us may linger in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        let descriptor = socket.into_raw_fd();
        // SAFETY: the descriptor is a listening TCP socket that nobody else owns: `into_raw_fd` gave it up.
        Ok(Self(unsafe { TcpListener::from_raw_fd(descriptor) }))
    }

    /// The address, with the port that the system chose where 0 was asked for.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr().map_err(Into::into)
    }

    /// The next connection; those whose client is gone already are passed over.
    ///
    /// # Errors
    /// The system's, out of descriptors for one; the next call may succeed.
    pub async fn accept(&self) -> io::Result<(TcpLink, SocketAddr)> {
        loop {
            let stream = self.0.accept().await?;
            // Replies are written whole; waiting for more would only delay them.
            let set = stream.set_nodelay(true).and_then(|()| stream.peer_addr());
            match set {
                Ok(peer) => return Ok((TcpLink(stream), peer)),
                Err(error) => tracing::debug!(%error, "a client was gone before it was greeted"),
            }
        }
    }
}

impl Link for TcpLink {
    async fn read(&mut self, memory: &mut [u8]) -> io::Result<usize> {
        self.0.read(memory).await
    }

    fn has_unread(&self) -> bool {
        let mut octet = [0; 1];
        // SAFETY: the stream owns the descriptor and is borrowed for as long as this is used.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) };
        matches!(recv(descriptor, &mut octet, RecvFlags::PEEK | RecvFlags::DONTWAIT), Ok((_, count)) if count > 0)
    }

    async fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.write(octets).await
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.0.close().await
    }
}

impl Dialer for TcpDialer {
    type Link = TcpLink;

    async fn dial(&self, address: SocketAddr) -> io::Result<TcpLink> {
        let stream = TcpStream::connect_timeout(address, DIAL_TIMEOUT).await?;
        stream.set_nodelay(true)?;
        Ok(TcpLink(stream))
    }
}

impl Spawn for LocalSpawn {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(task).detach();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_made_here_and_completions_do_not_interrupt() {
        let executor = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound).io_memory(1 << 20);
        let turned = executor.spawn(|| async { is_uninterrupted() }).map(glommio::ExecutorJoinHandle::join);
        assert!(
            turned.expect("io_uring").expect("the executor ends"),
            "the linker puts `set_up_ring` in its place"
        );
    }

    #[test]
    fn an_impossible_ring_says_why() {
        let mut params = io_uring_params::default();
        // SAFETY: the parameters are ours alone.
        assert_eq!(unsafe { set_up_ring(0, &raw mut params) }, -1);
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        assert!(!params.flags.contains(IoringSetupFlags::COOP_TASKRUN), "the second try is the caller's own");
    }
}
