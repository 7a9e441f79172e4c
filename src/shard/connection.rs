//! One connection of a sender: octets from the link into the machine, replies back, verdicts between.
//!
//! No protocol is decided here and nothing of a message is kept here: the machine says what happened, the
//! verdict says what is welcome, the ingest makes it durable.

use super::etrn;
use super::ingest::Ingest;
use super::interrupt::{Interrupt, Reason};
use super::link::Link;
use super::receive_buffer::ReceiveBuffer;
use super::state::Shard;
use super::verdict;
use crate::smtp::reply::EARLY_TALKER_554;
use crate::smtp::server::{ServerEvent, ServerSession};
use core::net::{IpAddr, SocketAddr};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// Why a connection is over before its session closed it.
#[derive(Debug, thiserror::Error)]
enum Gone {
    #[error("the client closed the connection")]
    Closed,
    #[error(transparent)]
    Link(#[from] io::Error),
    #[error("the client does not read its replies")]
    NotReading,
}

struct Connection<L, D: Disk, C: Clock> {
    shard: Rc<Shard<D, C>>,
    link: L,
    session: ServerSession,
    /// At the other end of the link.
    client: IpAddr,
    buffer: ReceiveBuffer,
    ingest: Ingest<D, C>,
    interrupt: Rc<Interrupt>,
}

/// Serves one connection to its end.
pub(super) async fn serve<L: Link, D: Disk, C: Clock>(shard: Rc<Shard<D, C>>, link: L, peer: SocketAddr) {
    let profile = Arc::clone(&shard.snapshot.borrow().profile);
    let client = peer.ip().to_canonical();
    let mut session = ServerSession::new(profile, shard.clock.now());
    if shard.snapshot.borrow().config.smtp.xclient_from.iter().any(|network| network.contains(client)) {
        session.allow_xclient();
    }
    let mut connection = Connection {
        session,
        client,
        buffer: ReceiveBuffer::default(),
        ingest: Ingest::new(Rc::clone(&shard), client),
        interrupt: shard.interrupts.register(),
        shard,
        link,
    };
    match connection.run().await {
        Ok(()) => tracing::debug!(%client, "session ended"),
        Err(gone) => tracing::debug!(%client, reason = %gone, "session ended"),
    }
}

impl<L: Link, D: Disk, C: Clock> Connection<L, D, C> {
    async fn run(&mut self) -> Result<(), Gone> {
        // RFC 5321 3.1 has the client wait for the greeting (P6). One look, no pause: that would cost every
        // honest sender.
        if self.link.has_unread() {
            self.link.read(self.buffer.space()).await?;
            let refusal = format!("{EARLY_TALKER_554}\r\n");
            self.link.write(refusal.as_bytes()).await?;
            return Ok(self.link.shutdown().await?);
        }
        loop {
            self.work().await;
            self.send_replies().await?;
            if self.session.is_closing() {
                return Ok(self.link.shutdown().await?);
            }
            if Ingest::<D, C>::wants_spill(self.buffer.kept().len()) {
                self.ingest.spill(self.buffer.kept()).await;
                self.buffer.drop_kept();
            }
            self.receive().await?;
        }
    }

    /// Runs the machine over what is there.
    async fn work(&mut self) {
        while self.session.wants_input() {
            let step = self.session.handle_input(self.buffer.unfed(), self.shard.clock.now());
            match step.event {
                ServerEvent::Idle if step.consumed == 0 => return,
                ServerEvent::Data { start, end } => self.buffer.keep(start, end),
                ServerEvent::Chunk { start, end } => {
                    self.ingest.take_chunk(&self.buffer.unfed()[start..end]).await;
                }
                _ => {}
            }
            self.buffer.feed(step.consumed);
            match step.event {
                ServerEvent::Abandoned => {
                    self.buffer.drop_kept();
                    self.ingest.abandon();
                }
                ServerEvent::Data { .. } | ServerEvent::Chunk { .. } | ServerEvent::Idle => {}
                ServerEvent::Client => self.log_client(),
                ServerEvent::Etrn => {
                    let client = self.session.client().address.unwrap_or(self.client);
                    let answer = etrn::run(&self.shard, client, self.session.etrn_node()).await;
                    self.session.handle_etrn(&answer, self.shard.clock.now());
                }
                ServerEvent::MessageEnds(summary) => {
                    let tail = self.buffer.kept();
                    let result = self.ingest.finish(&self.session, &summary, tail).await;
                    self.buffer.drop_kept();
                    let now = self.shard.clock.now();
                    match &result {
                        Ok(queue_id) => self.session.handle_message(Ok(queue_id), now),
                        Err(reply) => self.session.handle_message(Err(reply.clone()), now),
                    }
                }
                ServerEvent::Recipient => {
                    let free = self.shard.free_octets().await;
                    let snapshot = self.shard.snapshot.borrow().clone();
                    let candidate = self.session.transaction().candidate();
                    let verdict = verdict::recipient(candidate, free, &snapshot);
                    self.session.handle_recipient(verdict, self.shard.clock.now());
                }
                ServerEvent::Sender => {
                    let free = self.shard.free_octets().await;
                    let snapshot = self.shard.snapshot.borrow().clone();
                    let verdict = verdict::sender(free, &snapshot);
                    self.session.handle_sender(verdict, self.shard.clock.now());
                }
            }
        }
    }

    /// XCLIENT: whose word the session goes by now.
    fn log_client(&self) {
        let told = self.session.client();
        let (client, name, helo) = (told.address, told.name.as_deref(), told.helo.as_deref());
        tracing::info!(by = %self.client, ?client, name, port = told.port, helo, "XCLIENT");
    }

    async fn send_replies(&mut self) -> Result<(), Gone> {
        while !self.session.output().is_empty() {
            let deadline = self.session.poll_timeout();
            let write = self.link.write(self.session.output());
            match self.interrupt.guard(Some(deadline), write).await {
                Ok(written) => self.session.output_sent(written?),
                Err(Reason::Shutdown) => self.session.handle_shutdown(),
                Err(Reason::Deadline) => return Err(Gone::NotReading),
            }
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), Gone> {
        let deadline = self.session.poll_timeout();
        let read = self.link.read(self.buffer.space());
        match self.interrupt.guard(Some(deadline), read).await {
            Ok(Ok(0)) => return Err(Gone::Closed),
            Ok(octets) => self.buffer.fill(octets?),
            Err(Reason::Shutdown) => self.session.handle_shutdown(),
            Err(Reason::Deadline) => self.session.handle_timeout(self.shard.clock.now()),
        }
        Ok(())
    }
}
