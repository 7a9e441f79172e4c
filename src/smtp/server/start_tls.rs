//! STARTTLS (RFC 3207) in the server machine.
//!
//! ```text
//!   Commands(Identified) --STARTTLS--> StartTlsPending --no: 454--> Commands(Identified)
//!                                            `--yes: 220--> Handshake --secured--> Commands(Unidentified)
//! ```
//! The handshake itself is the host's: the machine says when (`StartTls`), reads nothing while it lasts, and is
//! told that it is done ([`ServerSession::handle_secured`]). From there all that the client said before is
//! forgotten (RFC 3207 4.2), and STARTTLS is neither offered nor taken again.
//!
//! Injection (P6): STARTTLS ends a group (RFC 2920 3.1), so octets behind it were sent in plain text by somebody
//! who did not wait for the 220. They close the session; none of them is ever run as a command inside TLS.

use super::state::{Phase, State};
use super::{Peer, ServerEvent, ServerSession};
use crate::limits::{SERVER_COMMAND_TIMEOUT, TLS_HANDSHAKE_TIMEOUT};
use crate::smtp::Moment;
use crate::smtp::reply::{self, Reply};

impl ServerSession {
    /// Answers [`ServerEvent::StartTls`]: with `Ok` the 220 is in the output, and once that is sent the host
    /// begins the handshake. All octets that were received before it are to be dropped.
    ///
    /// # Panics
    /// When no STARTTLS awaits its answer; a session that closed meanwhile ignores it.
    pub fn handle_start_tls(&mut self, verdict: Result<(), Reply>, now: Moment) {
        if self.is_closing() {
            return;
        }
        assert!(matches!(self.state, State::StartTlsPending), "a StartTls event awaits its answer");
        self.progress.note_verdict(now);
        match verdict {
            Ok(()) => {
                self.deadline = now + TLS_HANDSHAKE_TIMEOUT;
                self.queue(&reply::READY_FOR_TLS_220);
                self.state = State::Handshake;
            }
            Err(refusal) => {
                self.deadline = now + SERVER_COMMAND_TIMEOUT;
                self.state = State::commands(Phase::Identified);
                // A client that asks again and again is bounded like any that errs.
                self.refuse_command(Phase::Identified, &refusal);
            }
        }
    }

    /// The handshake is done: from here everything goes through TLS.
    ///
    /// # Panics
    /// When there is none; a session that closed meanwhile ignores it.
    pub fn handle_secured(&mut self, now: Moment) {
        if self.is_closing() {
            return;
        }
        assert!(matches!(self.state, State::Handshake), "a 220 to STARTTLS went before");
        self.deadline = now + SERVER_COMMAND_TIMEOUT;
        // RFC 3207 4.2: what was learned from the client before is discarded, its name among it. Who may say XCLIENT
        // may so still, and what he said by it is his word, not the client's.
        self.peer = Peer { is_secured: true, ..Peer::default() };
        self.state = State::commands(Phase::Unidentified);
    }

    /// The 220 to STARTTLS was said: the host sends the output, then has the handshake within [`Self::poll_timeout`].
    pub fn wants_handshake(&self) -> bool {
        matches!(self.state, State::Handshake)
    }

    /// The session goes through TLS.
    pub fn is_secured(&self) -> bool {
        self.peer.is_secured
    }

    /// `is_early`: octets behind the command line are there already.
    pub(super) fn run_start_tls(&mut self, phase: Phase, is_early: bool) -> ServerEvent {
        if !self.profile.starttls && !self.is_secured() {
            return self.refuse_command(phase, &reply::NOT_IMPLEMENTED_502);
        }
        // RFC 3207 4.2: not again inside TLS; 4: it is an extension, so EHLO goes before it.
        if phase != Phase::Identified || !self.is_extended() || self.is_secured() {
            return self.refuse_command(phase, &reply::BAD_SEQUENCE_503);
        }
        if is_early {
            // Commands, or a handshake that somebody did not wait for: a matter of timing, so neither.
            let event = self.abandon(phase);
            self.close_with(&reply::EARLY_TALKER_554);
            return event;
        }
        self.state = State::StartTlsPending;
        ServerEvent::StartTls
    }
}
