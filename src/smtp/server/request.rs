//! What only some may ask for: ETRN (RFC 1985), which the host decides, and XCLIENT (Postfix, XCLIENT_README), which the host
//! allowed when the session began. Neither goes inside of a transaction.

use super::state::{Phase, State};
use super::{ServerEvent, ServerSession};
use crate::limits::SERVER_COMMAND_TIMEOUT;
use crate::smtp::Moment;
use crate::smtp::command::EtrnNode;
use crate::smtp::reply::{self, Reply};

impl ServerSession {
    /// Whose mail ETRN asks for.
    ///
    /// # Panics
    /// Unless an `Etrn` event awaits its answer.
    pub fn etrn_node(&self) -> EtrnNode<'_> {
        let State::EtrnPending { node, .. } = &self.state else {
            unreachable!("an Etrn event awaits its answer")
        };
        EtrnNode::parse(node.as_bytes()).expect("it was parsed before it was kept")
    }

    /// Answers [`ServerEvent::Etrn`]: 250, 251, 252, 253, 458 or 459 (RFC 1985 5.3).
    ///
    /// # Panics
    /// When no ETRN awaits its answer; a session that closed meanwhile ignores it.
    pub fn handle_etrn(&mut self, answer: &Reply, now: Moment) {
        if self.is_closing() {
            return;
        }
        let State::EtrnPending { phase, .. } = self.state else {
            unreachable!("an Etrn event awaits its answer")
        };
        self.progress.note_verdict(now);
        self.deadline = now + SERVER_COMMAND_TIMEOUT;
        self.state = State::commands(phase);
        self.queue(answer);
    }

    pub(super) fn run_etrn(&mut self, phase: Phase, node: EtrnNode<'_>) -> ServerEvent {
        if phase != Phase::Identified {
            return self.refuse_command(phase, &reply::BAD_SEQUENCE_503);
        }
        let mark = match node {
            EtrnNode::Domain(_) => "",
            EtrnNode::DomainAndBelow(_) => "@",
            EtrnNode::Queue(_) => "#",
        };
        self.state = State::EtrnPending { node: format!("{mark}{}", node.name()), phase };
        ServerEvent::Etrn
    }

    /// The session is as it was before HELO, but for what XCLIENT tells: with a HELO name a transaction may begin.
    pub(super) fn run_xclient(&mut self, phase: Phase, arguments: &str) -> ServerEvent {
        if !self.may_xclient {
            return self.refuse_command(phase, &reply::XCLIENT_REFUSED_550);
        }
        if phase.is_transaction() {
            return self.refuse_command(phase, &reply::BAD_SEQUENCE_503);
        }
        let Some(client) = self.client.after(arguments) else {
            return self.refuse_command(phase, &reply::BAD_ARGUMENT_501);
        };
        self.peer.name.clear();
        self.peer.name.push_str(client.helo.as_deref().unwrap_or_default());
        let next = if client.helo.is_some() { Phase::Identified } else { Phase::Unidentified };
        self.client = client;
        self.state = State::commands(next);
        self.greet();
        ServerEvent::Client
    }
}
