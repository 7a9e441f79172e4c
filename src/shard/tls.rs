//! TLS with a sender or a primary: a link over a link, by rustls without a socket of its own.
//!
//! Octets of the peer land in `incoming`, plain text comes out of rustls; what rustls wants sent gathers in
//! `outgoing`. Memory is bounded: `incoming` holds a record at most, rustls one record of plain text and one of a
//! handshake message, `outgoing` what one write made. Idle, all that is left is rustls's state and 4 KiB.
//!
//! Like every link, dropping a future loses nothing: octets are taken over at once, and waiting comes after that.
//! So [`TlsLink::write`] takes plain text when the octets before it are on their way, and what it made leaves with
//! the next write, the next read or the end.
//!
//! An end of the stream without close_notify is an end like any other: SMTP says by itself where a message ends.

use super::link::{Link, Moved, write_or_read};
use crate::bridge::key_digest;
use crate::limits::{TLS_INCOMING_OCTETS_MAX, TLS_INCOMING_OCTETS_MIN, TLS_PLAIN_OCTETS_A_WRITE};
use crate::message::tls::TlsFacts;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct TlsLink<L> {
    link: L,
    tls: Connection,
    /// Octets of the peer; those before `taken` are rustls's, those behind `filled` are nobody's.
    incoming: Vec<u8>,
    taken: usize,
    filled: usize,
    /// Octets for the peer; those before `sent` are on their way.
    outgoing: Vec<u8>,
    sent: usize,
}

/// The link of a session that may change to TLS in its middle.
#[derive(Debug)]
pub(super) enum SessionLink<L> {
    /// As it came.
    Plain(L),
    /// Through TLS.
    Secured(Box<TlsLink<L>>),
    /// A handshake has it, or has ended it.
    Away,
}

impl<L: Link> TlsLink<L> {
    /// Has the server's side of a handshake over `link`.
    ///
    /// # Errors
    /// The link's, or what rustls has against the peer, who is told by an alert. The link is closed then.
    pub(super) async fn accept(link: L, config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = ServerConnection::new(config).map_err(io::Error::other)?;
        Self::shake_hands(link, tls.into()).await
    }

    /// Has the client's side of a handshake over `link` with a server that we call `name`.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub(super) async fn connect(
        link: L,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Self::shake_hands(link, tls.into()).await
    }

    async fn shake_hands(link: L, tls: Connection) -> io::Result<Self> {
        let mut this =
            Self { link, tls, incoming: Vec::new(), taken: 0, filled: 0, outgoing: Vec::new(), sent: 0 };
        // A client speaks first.
        this.gather()?;
        while this.tls.is_handshaking() {
            if !this.receive().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        this.flush().await?;
        Ok(this)
    }

    /// Version and cipher suite; known from the end of the handshake on.
    pub(super) fn facts(&self) -> Option<TlsFacts> {
        let version = u16::from(self.tls.protocol_version()?);
        let cipher_suite = u16::from(self.tls.negotiated_cipher_suite()?.suite());
        Some(TlsFacts { version, cipher_suite })
    }

    /// SHA-256 of the public key of a server's certificate.
    fn peer_key(&self) -> Option<[u8; 32]> {
        key_digest(self.tls.peer_certificates()?.first()?)
    }

    /// Gives rustls something of the peer; false at the end of the stream.
    async fn receive(&mut self) -> io::Result<bool> {
        if self.taken == self.filled {
            self.fit_incoming();
            (self.taken, self.filled) = (0, 0);
            self.filled = self.read_beside_writing().await?;
            if self.filled == 0 {
                return Ok(false);
            }
        }
        let mut unread = &self.incoming[self.taken..self.filled];
        self.tls.read_tls(&mut unread)?;
        self.taken = self.filled - unread.len();
        if let Err(error) = self.tls.process_new_packets() {
            self.gather()?;
            // The peer is told why, as far as its socket takes it.
            let _ = self.flush().await;
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        self.gather()?;
        Ok(true)
    }

    /// Takes over what rustls wants sent.
    fn gather(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.outgoing)?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.outgoing.len() {
            self.sent += self.link.write(&self.outgoing[self.sent..]).await?;
        }
        // Not kept: an idle session costs nothing here.
        self.outgoing = Vec::new();
        self.sent = 0;
        Ok(())
    }

    /// Reads, having sent what there is to send, unless the peer takes nothing before it was heard.
    async fn read_beside_writing(&mut self) -> io::Result<usize> {
        while self.sent < self.outgoing.len() {
            let unsent = &self.outgoing[self.sent..];
            match write_or_read(&mut self.link, unsent, &mut self.incoming).await? {
                Moved::Read(octets) => return Ok(octets),
                Moved::Written(octets) => self.sent += octets,
            }
        }
        self.flush().await?;
        self.link.read(&mut self.incoming).await
    }

    /// A buffer that was filled becomes as large as a record, one that was not small again.
    fn fit_incoming(&mut self) {
        let was_full = self.filled == self.incoming.len() && self.filled > 0;
        let octets = if was_full { TLS_INCOMING_OCTETS_MAX } else { TLS_INCOMING_OCTETS_MIN };
        if octets != self.incoming.len() {
            self.incoming = vec![0; octets];
        }
    }
}

impl<L: Link> Link for TlsLink<L> {
    async fn read(&mut self, memory: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(memory) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            if !self.receive().await? {
                return Ok(0);
            }
        }
    }

    fn has_unread(&self) -> bool {
        self.taken < self.filled || self.link.has_unread()
    }

    async fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.flush().await?;
        let count = self.tls.writer().write(&octets[..octets.len().min(TLS_PLAIN_OCTETS_A_WRITE)])?;
        self.gather()?;
        Ok(count)
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        self.gather()?;
        self.flush().await?;
        self.link.shutdown().await
    }
}

impl<L: Link> SessionLink<L> {
    /// Changes to TLS.
    ///
    /// # Errors
    /// As [`TlsLink::accept`]; the link is gone then, and every further use of it fails.
    pub(super) async fn secure(&mut self, config: Arc<ServerConfig>) -> io::Result<Option<TlsFacts>> {
        let Self::Plain(link) = core::mem::replace(self, Self::Away) else { return Err(away()) };
        Ok(self.is_secured(TlsLink::accept(link, config).await?))
    }

    /// Changes to TLS as the client of a server that we call `name`.
    ///
    /// # Errors
    /// As [`Self::secure`].
    pub(super) async fn secure_as_client(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Option<TlsFacts>> {
        let Self::Plain(link) = core::mem::replace(self, Self::Away) else { return Err(away()) };
        Ok(self.is_secured(TlsLink::connect(link, config, name).await?))
    }

    /// SHA-256 of the public key of a server's certificate; none without TLS.
    pub(super) fn peer_key(&self) -> Option<[u8; 32]> {
        let Self::Secured(link) = self else { return None };
        link.peer_key()
    }

    fn is_secured(&mut self, secured: TlsLink<L>) -> Option<TlsFacts> {
        let facts = secured.facts();
        *self = Self::Secured(Box::new(secured));
        facts
    }
}

impl<L: Link> Link for SessionLink<L> {
    async fn read(&mut self, memory: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(link) => link.read(memory).await,
            Self::Secured(link) => link.read(memory).await,
            Self::Away => Err(away()),
        }
    }

    fn has_unread(&self) -> bool {
        match self {
            Self::Plain(link) => link.has_unread(),
            Self::Secured(link) => link.has_unread(),
            Self::Away => false,
        }
    }

    async fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(link) => link.write(octets).await,
            Self::Secured(link) => link.write(octets).await,
            Self::Away => Err(away()),
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(link) => link.shutdown().await,
            Self::Secured(link) => link.shutdown().await,
            Self::Away => Ok(()),
        }
    }
}

fn away() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{Certificates, server_config};
    use core::task::Poll;
    use futures_lite::future::{block_on, poll_fn, poll_once};
    use rustls::client::Resumption;
    use rustls::crypto::ring;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::sign::CertifiedKey;
    use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedProtocolVersion};

    /// The network and a client at its other end, in `chunk` octets at a time; each operation waits once.
    struct Peer {
        client: ClientConnection,
        chunk: usize,
        to_server: Vec<u8>,
        /// What the client reads as plain text.
        received: Vec<u8>,
        /// What the server sent, as it came.
        wire: Vec<u8>,
        /// Whether a read, and a write, has waited.
        waited: [bool; 2],
        is_closed: bool,
        /// It says no more than it has said.
        is_gone: bool,
    }

    impl Peer {
        fn new(config: &Arc<ClientConfig>, chunk: usize) -> Self {
            let name = ServerName::try_from("mx2.example.net").unwrap();
            let client = ClientConnection::new(Arc::clone(config), name).unwrap();
            let (to_server, received, wire) = Default::default();
            Self {
                client,
                chunk,
                to_server,
                received,
                wire,
                waited: [false; 2],
                is_closed: false,
                is_gone: false,
            }
        }

        async fn wait(&mut self, operation: usize) {
            poll_fn(|context| {
                let waited = &mut self.waited[operation];
                *waited = !*waited;
                context.waker().wake_by_ref();
                if *waited { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
        }
    }

    impl Link for Peer {
        async fn read(&mut self, memory: &mut [u8]) -> io::Result<usize> {
            self.wait(0).await;
            // A read waits until there is something.
            while self.to_server.is_empty() && !self.is_gone {
                if self.client.wants_write() {
                    self.client.write_tls(&mut self.to_server)?;
                } else {
                    self.wait(0).await;
                }
            }
            let count = self.chunk.min(memory.len()).min(self.to_server.len());
            memory[..count].copy_from_slice(&self.to_server[..count]);
            self.to_server.drain(..count);
            Ok(count)
        }

        fn has_unread(&self) -> bool {
            !self.to_server.is_empty()
        }

        async fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.wait(1).await;
            let mut taken = &octets[..self.chunk.min(octets.len())];
            let count = taken.len();
            self.wire.extend_from_slice(taken);
            while !taken.is_empty() {
                self.client.read_tls(&mut taken)?;
                let state = self.client.process_new_packets().map_err(io::Error::other)?;
                let start = self.received.len();
                self.received.resize(start + state.plaintext_bytes_to_read(), 0);
                self.client.reader().read_exact(&mut self.received[start..])?;
                self.is_closed |= state.peer_has_closed();
            }
            Ok(count)
        }

        async fn shutdown(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn configs(versions: &[&'static SupportedProtocolVersion]) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let made = rcgen::generate_simple_self_signed(vec!["mx2.example.net".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = ring::default_provider();
        let certificate = CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider).unwrap();
        let server = server_config(Certificates::new(vec![Arc::new(certificate)])).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::in_memory_sessions(8);
        (server, Arc::new(client))
    }

    const BOTH: [(&SupportedProtocolVersion, u16); 2] =
        [(&rustls::version::TLS12, 0x0303), (&rustls::version::TLS13, 0x0304)];

    #[test]
    fn octets_pass_both_ways_in_any_pieces() {
        for ((version, number), chunk) in
            BOTH.into_iter().flat_map(|both| [1, 7, 4096, 40_000].map(|c| (both, c)))
        {
            let (server, client) = configs(&[version]);
            block_on(async {
                let mut link = TlsLink::accept(Peer::new(&client, chunk), server).await.unwrap();
                let facts = link.facts().unwrap();
                assert_eq!(facts.version, number);
                assert!(!facts.to_string().contains(" 0x"), "a name is known: {facts}");
                let data: Vec<u8> = (0..100_000_u32).map(|i| i.to_le_bytes()[1]).collect();
                link.link.client.set_buffer_limit(None);
                link.link.client.writer().write_all(&data).unwrap();
                let (mut seen, mut memory) = (Vec::new(), [0; 5000]);
                while seen.len() < data.len() {
                    let count = link.read(&mut memory).await.unwrap();
                    seen.extend_from_slice(&memory[..count]);
                }
                assert_eq!(seen, data);
                let mut rest = data.as_slice();
                while !rest.is_empty() {
                    // A wait that is given up loses nothing and repeats nothing.
                    if poll_once(link.read(&mut memory)).await.is_some() {
                        panic!("nothing is there to be read");
                    }
                    let count = link.write(rest).await.unwrap();
                    rest = &rest[count..];
                }
                link.shutdown().await.unwrap();
                assert_eq!(link.link.received, data);
                assert!(link.link.is_closed, "close_notify was sent");
                assert_eq!(
                    (link.outgoing.capacity(), link.incoming.len() <= TLS_INCOMING_OCTETS_MAX),
                    (0, true)
                );
            });
        }
    }

    #[test]
    fn a_session_is_resumed_by_its_ticket() {
        for (version, _) in BOTH {
            let (server, client) = configs(&[version]);
            let kinds = [HandshakeKind::Full, HandshakeKind::Resumed].map(|_| {
                block_on(async {
                    let peer = Peer::new(&client, 4096);
                    let link = TlsLink::accept(peer, Arc::clone(&server)).await.unwrap();
                    link.tls.handshake_kind().unwrap()
                })
            });
            assert_eq!(kinds[1], HandshakeKind::Resumed, "{version:?} {kinds:?}");
        }
    }

    #[test]
    fn what_is_no_handshake_is_told_so_by_an_alert() {
        let (server, client) = configs(&[&rustls::version::TLS13]);
        let mut peer = Peer::new(&client, 4096);
        peer.client.write_tls(&mut io::sink()).unwrap();
        peer.to_server = b"EHLO client.example\r\nMAIL FROM:<a@example.org>\r\n".to_vec();
        let mut link = SessionLink::Plain(peer);
        let error = block_on(link.secure(server)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(matches!(link, SessionLink::Away), "no session goes on in plain text behind it");
        assert!(block_on(link.write(b"220 ")).is_err());
    }

    #[test]
    fn a_peer_that_vanishes_ends_the_handshake() {
        let (server, client) = configs(&[&rustls::version::TLS13]);
        let mut peer = Peer::new(&client, 4096);
        let mut hello = Vec::new();
        peer.client.write_tls(&mut hello).unwrap();
        peer.to_server = hello[..hello.len() / 2].to_vec();
        peer.is_gone = true;
        let error = block_on(TlsLink::accept(peer, server)).map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
