//! One connection of a sender: a transport, and what is to be read and written on it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use stratamx_tools::transport::Transport;

use crate::dialog::{Dialog, Style};
use crate::outbox::Outbox;

/// A server that has more to say than this without a whole reply is none.
const INPUT_OCTETS_MAX: usize = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) transport: Transport,
    pub(crate) dialog: Dialog,
    pub(crate) input: Vec<u8>,
    pub(crate) is_connected: bool,
    /// Its end, or an error, was told of: that is told once, and found by reading on.
    pub(crate) is_ending: bool,
    /// Transactions that were begun on it.
    pub(crate) begun: u64,
    /// When something last happened on it.
    pub(crate) heard: Duration,
}

/// Begins a connection, from an address of ours if one is given.
pub(crate) fn connect(
    to: SocketAddr,
    from: Option<IpAddr>,
    registry: &Registry,
    token: Token,
) -> io::Result<Transport> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => return Err(error),
        _ => {}
    }
    let mut transport = Transport::new(TcpStream::from_std(socket.into()));
    registry.register(&mut transport, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(transport)
}

/// Why there is no connection, and what helps.
pub(crate) fn explain(error: &io::Error) -> String {
    let help = match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            ": the ports of a source address are used up; name more by --from-address, or end fewer sessions"
        }
        io::ErrorKind::ConnectionRefused => ": nobody listens there",
        _ if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            ": too many open files; raise `ulimit -n` or lower --sessions"
        }
        _ => "",
    };
    format!("no connection: {error}{help}")
}

/// Reads all that is there. False at the end of the stream, which is to be looked for where it `is_ending`.
pub(crate) fn receive(
    transport: &mut Transport,
    scratch: &mut [u8],
    input: &mut Vec<u8>,
    is_ending: bool,
) -> io::Result<bool> {
    loop {
        match transport.read(scratch) {
            Ok(0) => return Ok(false),
            Ok(_) if input.len() > INPUT_OCTETS_MAX => {
                return Err(io::Error::other("the server does not stop talking"));
            }
            Ok(octets) => {
                input.extend_from_slice(&scratch[..octets]);
                // What fits is all there was; anything that comes later is told. An end that came with it was told already.
                if octets < scratch.len() && !transport.is_secured() && !is_ending {
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes what the socket takes, at most `limit`; how much that was.
pub(crate) fn send(transport: &mut Transport, out: &mut Outbox, limit: usize) -> io::Result<usize> {
    transport.flush()?;
    let mut sent = 0;
    while !out.is_empty() && sent < limit {
        match out.write(limit - sent, |slices| transport.write(slices)) {
            Ok(0) => break,
            Ok(octets) => sent += octets,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

impl Link {
    pub(crate) fn new(transport: Transport, style: Style, now: Duration) -> Self {
        Self {
            transport,
            dialog: Dialog::new(style),
            input: Vec::new(),
            is_connected: false,
            is_ending: false,
            begun: 0,
            heard: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};

    /// A reply and the end behind it are told as one change: whoever reads the reply only waits for good.
    #[test]
    fn an_end_that_came_with_a_reply_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for is_ending in [true, false] {
            let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut theirs, _) = listener.accept().unwrap();
            theirs.write_all(b"220 a\r\n").unwrap();
            theirs.shutdown(Shutdown::Write).unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut transport = Transport::new(TcpStream::from_std(ours));
            let mut input = Vec::new();
            let is_open = receive(&mut transport, &mut [0; 64], &mut input, is_ending).unwrap();
            assert_eq!((&input[..], is_open), (&b"220 a\r\n"[..], !is_ending));
        }
    }
}
