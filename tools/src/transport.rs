//! A non-blocking connection, plain or through TLS, as both tools use it under their event loops.
//!
//! What [`Transport::write`] took is on its way: octets that rustls made of it and the socket did not take leave with the next
//! [`Transport::flush`], which is to be called whenever the socket is writable. Reading goes on to [`io::ErrorKind::WouldBlock`], since
//! the loops are told of changes only (edges).
//!
//! An end of the stream without close_notify is an end like any other: SMTP says by itself where a message ends.

use std::io::{self, IoSlice, Read, Write};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::Connection;

/// See the module.
#[derive(Debug)]
pub struct Transport {
    stream: TcpStream,
    tls: Option<Box<Connection>>,
}

impl Transport {
    /// A connection without TLS.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, tls: None }
    }

    /// From here on everything goes through `tls`; a client's side begins the handshake with the next flush.
    pub fn secure(&mut self, tls: Connection) {
        self.tls = Some(Box::new(tls));
    }

    /// The handshake is not done yet.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Everything goes through TLS.
    pub fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the connection that was begun is there.
    ///
    /// # Errors
    /// Why it will never be. [`io::ErrorKind::NotConnected`]: not yet.
    pub fn check(&self) -> io::Result<()> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        self.stream.peer_addr().map(drop)
    }

    /// Reads what is there. 0: the end of the stream.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: nothing more is there; else the connection is of no more use.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            if tls.read_tls(&mut self.stream)? == 0 {
                return Ok(0);
            }
            let processed = tls.process_new_packets();
            // The peer is told why, as far as its socket takes it.
            let written = flush(tls, &mut self.stream);
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            written?;
        }
    }

    /// Writes as much as is taken now.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: nothing is taken now; else the connection is of no more use.
    pub fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.write_vectored(pieces) };
        flush(tls, &mut self.stream)?;
        if tls.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = tls.writer().write_vectored(pieces)?;
        flush(tls, &mut self.stream)?;
        Ok(taken)
    }

    /// Sends what TLS still holds, as far as the socket takes it.
    ///
    /// # Errors
    /// The socket's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| flush(tls, &mut self.stream))
    }

    /// Whether TLS holds octets that the socket did not take.
    pub fn is_pending(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }
}

fn flush(tls: &mut Connection, stream: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(stream) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Source for Transport {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.stream.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.stream.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.stream.deregister(registry)
    }
}
