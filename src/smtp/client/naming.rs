//! Whom the server takes us for: the client whom a message came from is named by XCLIENT or XFORWARD where the server offers
//! that (Postfix, XCLIENT_README and XFORWARD_README).
//!
//! - **XCLIENT** is for a session: the server takes us for that client from there on, greets anew, and EHLO is said again, in the
//!   client's name, since that is what the server goes by and writes down. It leaves in one group with what is in flight,
//!   behind a RSET, so it costs two round trips and not three; what is behind it waits for the EHLO. What the server offers is
//!   what that EHLO says. What is known of refused chunks (H45) stays: it is the same program on the same connection.
//! - **XFORWARD** is for a transaction: it goes in front of each MAIL, and costs no round trip where PIPELINING is offered.
//!
//! XCLIENT is preferred: what the primary decides by its client it decides as if that had come itself. Servers ask for leave by
//! the address that they take us for, so most take one XCLIENT a connection: for another client, or for ourselves, a new
//! connection is needed then ([`Standing::Spent`]). Nothing is ever said in the name of a client that is not its own.
//!
//! What a reply to XCLIENT means:
//! ```text
//!   2xx                       named: EHLO
//!   500 502 503 504 550       nothing has changed: not said again on this connection
//!   501                       nothing has changed: this client cannot be named (an IPv6 address to who has none)
//!   421, the end              the session fails
//!   any other 4xx and 5xx     what the server says to that client when it connects: the answer for its message. So is a
//!                             refused EHLO behind XCLIENT, in the client's name and in ours.
//! ```

use super::{ClientEvent, ClientFailure, ClientSession, Dialect, Open, Prelude, ProtocolError, State};
use crate::limits::CLIENT_COMMAND_TIMEOUT;
use crate::smtp::Moment;
use crate::smtp::reply::ReceivedReply;
use crate::smtp::xclient::TrueClient;
use std::collections::VecDeque;

/// What a message's client is to a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// A transaction may begin: the server takes us for it, or for ourselves and will not be told more than XFORWARD tells.
    Settled,
    /// [`ClientSession::name_client`] comes first.
    Unnamed,
    /// The server takes us for somebody else and cannot be told: another session is needed.
    Spent,
}

/// What was said, and how it was taken.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// XCLIENT was taken; the server takes us for this one.
    client: Option<TrueClient>,
    /// It refused the client, or nobody can tell whom it takes us for.
    is_spent: bool,
    refuses_xclient: bool,
    refuses_xforward: bool,
    /// It cannot be told of this one.
    unnameable: Option<TrueClient>,
    /// EHLO was refused in the client's name.
    greets_as_itself: bool,
    is_told: bool,
}

/// XCLIENT on its way, behind the last flight.
#[derive(Debug)]
pub(super) struct Naming {
    client: TrueClient,
    /// RSET goes first.
    resets: bool,
    /// What waits for the reply of RSET.
    unsent: VecDeque<Vec<u8>>,
}

impl Named {
    /// What EHLO says instead of our name.
    pub(super) fn hello(&self) -> Option<&str> {
        self.client.as_ref().filter(|_| !self.greets_as_itself).and_then(TrueClient::hello)
    }

    pub(super) const fn refuse_xforward(&mut self) {
        self.refuses_xforward = true;
    }

    /// A refusal is told once.
    pub(super) fn tell(&mut self, reply: ReceivedReply) -> ClientEvent {
        if core::mem::replace(&mut self.is_told, true) {
            ClientEvent::Idle
        } else {
            ClientEvent::NamingRefused(reply)
        }
    }
}

impl ClientSession {
    /// What a message of this client needs; `None` for one of ours, and for a client that cannot be named.
    pub fn standing(&self, client: Option<&TrueClient>) -> Standing {
        let named = &self.named;
        let may_name = self.offers_xclient() && !named.refuses_xclient && client != named.unnameable.as_ref();
        match client {
            _ if named.is_spent => Standing::Spent,
            client if client == named.client.as_ref() => Standing::Settled,
            Some(_) if may_name => Standing::Unnamed,
            _ if named.client.is_some() => Standing::Spent,
            _ => Standing::Settled,
        }
    }

    /// XCLIENT is offered, with what tells clients apart, by a server that decides anything by its client: one that only delivers
    /// (LMTP) does not.
    pub fn offers_xclient(&self) -> bool {
        self.dialect == Dialect::Smtp && self.capabilities.xclient.is_some_and(|offered| offered.is_enough())
    }

    /// The server takes us for this client.
    pub fn names(&self, client: &TrueClient) -> bool {
        self.named.client.as_ref() == Some(client) && !self.named.is_spent
    }

    /// Says XCLIENT, alone or behind others. What follows is [`ClientEvent::Ready`] when a transaction may begin,
    /// [`ClientEvent::NamingRefused`] when the server did not take it (told once; then [`Self::standing`] has another
    /// answer), or [`ClientEvent::ClientRefused`].
    ///
    /// # Panics
    /// Unless [`Self::may_send`] and the client is [`Standing::Unnamed`].
    pub fn name_client(&mut self, client: &TrueClient, now: Moment) {
        assert!(self.may_send(), "XCLIENT goes between transactions");
        assert!(self.standing(Some(client)) == Standing::Unnamed, "XCLIENT goes where it is offered");
        let offered = self.capabilities.xclient.unwrap_or_default();
        let State::Open(open) = &mut self.state else { unreachable!("it may send") };
        let resets = !open.flights.is_empty() || open.prelude != Prelude::Nothing;
        let mut unsent = VecDeque::from([client.line("XCLIENT", offered)]);
        if resets {
            unsent.push_front(b"RSET\r\n".to_vec());
        }
        while let Some(line) = unsent.pop_front() {
            self.output.tail().extend_from_slice(&line);
            if !self.capabilities.pipelining {
                break;
            }
        }
        if open.flights.is_empty() {
            self.deadline = Some(now + CLIENT_COMMAND_TIMEOUT);
        }
        open.naming = Some(Naming { client: client.clone(), resets, unsent });
    }

    /// XFORWARD for a transaction of this client; `None` where it is not said.
    pub(super) fn forward_line(&self, client: Option<&TrueClient>) -> Option<Vec<u8>> {
        let offered = self.capabilities.xforward.filter(|offered| offered.is_enough())?;
        let is_wanted =
            self.dialect == Dialect::Smtp && self.named.client.is_none() && !self.named.refuses_xforward;
        client.filter(|_| is_wanted).map(|client| client.line("XFORWARD", offered))
    }

    /// The reply to RSET or XCLIENT, when everything in front of it is over.
    pub(super) fn take_naming_reply(
        &mut self,
        mut open: Open,
        mut naming: Naming,
        reply: ReceivedReply,
        now: Moment,
    ) -> ClientEvent {
        let is_odd = reply.code / 100 == 3 || (naming.resets && !reply.is_positive());
        if reply.code == 421 {
            return self.failed(ClientFailure::ServiceClosing(reply));
        }
        if is_odd {
            return self.failed(ProtocolError::OutOfTurn.into());
        }
        if naming.resets {
            naming.resets = false;
            self.output.tail().extend(naming.unsent.pop_front().unwrap_or_default());
            self.deadline = Some(now + CLIENT_COMMAND_TIMEOUT);
            open.naming = Some(naming);
            self.state = State::Open(open);
            return ClientEvent::Idle;
        }
        if reply.is_positive() {
            self.named.client = Some(naming.client);
            self.named.greets_as_itself = false;
            self.capabilities = super::Capabilities::default();
            return self.say_hello("EHLO", State::Hello, now);
        }
        let event = match reply.code {
            500 | 502 | 503 | 504 | 550 => {
                self.named.refuses_xclient = true;
                self.named.tell(reply)
            }
            501 => {
                self.named.unnameable = Some(naming.client);
                self.named.tell(reply)
            }
            _ => {
                self.named.is_spent = true;
                ClientEvent::ClientRefused(reply)
            }
        };
        self.rest();
        event
    }

    /// EHLO behind XCLIENT was refused; `None`: there was no XCLIENT.
    pub(super) fn take_refused_hello(&mut self, reply: &ReceivedReply, now: Moment) -> Option<ClientEvent> {
        if reply.code == 421 || self.named.client.is_none() {
            return None;
        }
        if self.named.hello().is_some() {
            self.named.greets_as_itself = true;
            return Some(self.say_hello("EHLO", State::Hello, now));
        }
        self.named.is_spent = true;
        self.rest();
        Some(ClientEvent::ClientRefused(reply.clone()))
    }

    /// Nothing is in flight, and the server remembers no envelope.
    pub(super) fn rest(&mut self) {
        self.deadline = None;
        self.state = State::Open(Open { flights: VecDeque::new(), prelude: Prelude::Nothing, naming: None });
    }
}
