//! The beginning of a session with a primary: greeting, EHLO, and TLS as the domain has it.

use super::super::security::{Requirement, Tested};
use super::Delivery;
use super::wire::Wire;
use crate::bridge::{Fingerprint, Observed, Session, Transport};
use crate::config::Protocol;
use crate::limits::OPEN_TIMEOUT;
use crate::shard::interrupt::Interrupt;
use crate::shard::link::Link;
use crate::smtp::client::{ClientEvent, ClientFailure, ClientSession, Window};
use crate::smtp::reply::ReceivedReply;
use core::net::SocketAddr;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// How a connection is to be used.
pub(in crate::shard) struct Use {
    pub(in crate::shard) host: SocketAddr,
    pub(in crate::shard) protocol: Protocol,
    pub(in crate::shard) window: Window,
    pub(in crate::shard) may_have_chunks: bool,
    pub(in crate::shard) security: Security,
}

/// Whether and how a connection is secured.
#[derive(Clone)]
pub(in crate::shard) struct Security {
    pub(in crate::shard) requirement: Requirement,
    /// What keeps to it is verified by this.
    pub(in crate::shard) config: Arc<ClientConfig>,
    /// What is only looked at, and what is seen.
    pub(in crate::shard) tested: Tested,
    pub(in crate::shard) observed: Arc<Observed>,
    /// What we call the host.
    pub(in crate::shard) name: ServerName<'static>,
}

/// Why no session came of a connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::shard) enum OpenError {
    /// It is of no use without TLS either.
    #[error(transparent)]
    Session(#[from] ClientFailure),
    /// Another connection may do without, if that is allowed.
    #[error("TLS failed: {0}")]
    Handshake(io::Error),
    /// TLS is required.
    #[error("TLS is required, and not offered")]
    NotOffered,
    /// TLS is required.
    #[error("TLS is required, and was refused: {0}")]
    Refused(ReceivedReply),
}

impl OpenError {
    /// It serves others, and does not show us what it has to.
    pub(in crate::shard) const fn is_of_tls(&self) -> bool {
        matches!(self, Self::Handshake(_) | Self::NotOffered | Self::Refused(_))
    }

    /// The server has no time for us now.
    pub(in crate::shard) fn is_busy(&self) -> bool {
        matches!(self, Self::Session(failure) if failure.is_busy())
    }
}

impl<L: Link, C: Clock, D: Disk> Delivery<L, C, D> {
    /// Greets the primary, through TLS as far as `how` wants it.
    ///
    /// # Errors
    /// See [`OpenError`]; the connection is closed then.
    pub(in crate::shard) async fn open(
        link: L,
        hostname: &str,
        clock: C,
        interrupt: Rc<Interrupt>,
        how: Use,
    ) -> Result<Self, OpenError> {
        let Use { host, protocol, window, may_have_chunks, security } = how;
        let now = clock.now();
        let session = match protocol {
            Protocol::Lmtp => ClientSession::lmtp(hostname, now),
            Protocol::Smtp => ClientSession::new(hostname, now),
        };
        let mut delivery = Self {
            wire: Wire::new(link, interrupt),
            session,
            opening: Some(now + OPEN_TIMEOUT),
            patience: None,
            security,
            tls: None,
            shown: Fingerprint::default(),
            clock,
            host,
            protocol,
            window,
            may_have_chunks,
            jobs: VecDeque::new(),
            next_chunk: None,
            is_broken: false,
            had_taken: false,
        };
        match delivery.greet_and_secure().await {
            Ok(()) => {
                delivery.opening = None;
                delivery.shown = delivery.look_at();
                Ok(delivery)
            }
            Err(error) => {
                delivery.close().await;
                Err(error)
            }
        }
    }

    /// How it is secured, for the log.
    pub(in crate::shard) fn tls(&self) -> String {
        let word = self.transport().word();
        self.tls.map_or_else(|| word.to_owned(), |facts| format!("{facts} {word}"))
    }

    /// How what it hands over is counted.
    pub(in crate::shard) const fn transport(&self) -> Transport {
        self.security.requirement.transport(self.tls.is_some())
    }

    /// Who the host is, as far as it showed when the session began.
    pub(in crate::shard) const fn fingerprint(&self) -> &Fingerprint {
        &self.shown
    }

    fn look_at(&self) -> Fingerprint {
        let capabilities = self.session.capabilities();
        Fingerprint::of(&Session {
            greeting: self.session.greeting(),
            hello: &capabilities.name,
            keywords: &capabilities.keywords,
            key: self.wire.peer_key(),
            is_of_many: self.profile().is_of_many(),
        })
    }

    /// What the domain's policy would have against the host, were it enforced; asked once.
    pub(in crate::shard) fn finding(&self) -> Option<String> {
        match self.security.tested {
            Tested::Nothing => None,
            Tested::Unnamed => Some("the policy does not name it".to_owned()),
            Tested::Certificate if self.tls.is_none() => Some("it does not speak TLS".to_owned()),
            Tested::Certificate => self.security.observed.take().map(|error| error.to_string()),
        }
    }

    async fn greet_and_secure(&mut self) -> Result<(), OpenError> {
        self.ready().await?;
        let Security { requirement, config, name, .. } = self.security.clone();
        let is_required = requirement.is_encrypted();
        if requirement == Requirement::Plain {
            return Ok(());
        }
        if !self.session.capabilities().starttls {
            return if is_required { Err(OpenError::NotOffered) } else { Ok(()) };
        }
        self.session.start_tls(self.clock.now());
        // What goes wrong until the handshake is over may go well without TLS.
        let failed = |failure| OpenError::Handshake(io::Error::other(failure));
        match self.next_event().await {
            ClientEvent::StartTls => {}
            ClientEvent::TlsRefused(reply) if is_required => return Err(OpenError::Refused(reply)),
            ClientEvent::TlsRefused(_) => return Ok(()),
            event => return Err(failed(ended(event))),
        }
        self.tls = self.wire.secure(config, name, self.opening).await.map_err(OpenError::Handshake)?;
        self.session.handle_secured(self.clock.now());
        // From here on it speaks TLS, and what it says counts as ever: it may be busy.
        match self.ready().await {
            // A server that does not like our side of it says so behind the handshake, by its end (RFC 8446 4.6).
            Err(ClientFailure::Disconnected) => Err(failed(ClientFailure::Disconnected)),
            result => Ok(result?),
        }
    }

    async fn ready(&mut self) -> Result<(), ClientFailure> {
        match self.next_event().await {
            ClientEvent::Ready => Ok(()),
            event => Err(ended(event)),
        }
    }
}

/// What an event means that nobody waits for.
fn ended(event: ClientEvent) -> ClientFailure {
    match event {
        ClientEvent::Failed(failure) => failure,
        _ => ClientFailure::Disconnected,
    }
}
