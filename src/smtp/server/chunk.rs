//! BDAT (RFC 3030 2): chunks that say their octets, so the session is in step whatever is in them.
//!
//! ```text
//!   Commands(Envelope | Chunking) --BDAT n--> Chunk --n octets--> Commands(Chunking) --BDAT n LAST--> MessagePending
//!   any --BDAT that cannot be taken--> Swallow --n octets--> refused, as if the octets had not come
//! ```
//! RFC 3030 2: a chunk that is refused is read to its end first, and so are those that were pipelined behind it. From the
//! first chunk on only BDAT goes on with the transaction; DATA, MAIL and RCPT are 503. What is wrong with the octets
//! is told at the last chunk; that they are too many, at the chunk that would make them so.

use super::state::{Chunk, Phase, State};
use super::{ServerEvent, ServerSession, Step};
use crate::smtp::chunk::ChunkScanner;
use crate::smtp::reply::{self, Reply};

impl ServerSession {
    pub(super) fn run_bdat(&mut self, phase: Phase, octets: u64, is_last: bool) -> ServerEvent {
        let scanner = match phase {
            Phase::Chunking(scanner) => scanner,
            Phase::Envelope if self.transaction.recipient_count() > 0 => ChunkScanner::default(),
            Phase::Envelope if self.transaction.has_refused() => {
                return self.swallow(phase, octets, reply::NO_VALID_RECIPIENTS_554);
            }
            Phase::Envelope | Phase::Identified | Phase::Unidentified => {
                return self.swallow(phase, octets, reply::BAD_SEQUENCE_503);
            }
        };
        if scanner.octets().saturating_add(octets) > self.profile.max_message_size {
            let event = self.abandon(phase);
            self.swallow(Phase::Identified, octets, reply::MESSAGE_TOO_BIG_552);
            return event;
        }
        if octets == 0 && !is_last {
            return self.end_chunk(scanner, octets);
        }
        self.state = State::Chunk(Chunk { octets, remaining: octets, is_last, scanner });
        ServerEvent::Idle
    }

    /// Octets of a chunk that is taken.
    pub(super) fn step_chunk(&mut self, input: &[u8]) -> Step {
        let State::Chunk(chunk) = &mut self.state else {
            return Step { consumed: 0, event: ServerEvent::Idle };
        };
        if chunk.remaining == 0 {
            // Only the last one gets here: its octets were told by the step before.
            let verdict = chunk.scanner.verdict();
            return Step { consumed: 0, event: self.end_data(verdict) };
        }
        let end =
            usize::try_from(chunk.remaining).map_or(input.len(), |remaining| remaining.min(input.len()));
        if end == 0 {
            return Step { consumed: 0, event: ServerEvent::Idle };
        }
        let is_good = chunk.scanner.scan(&input[..end]);
        chunk.remaining -= end as u64;
        let Chunk { octets, remaining, is_last, scanner } = *chunk;
        if remaining == 0 && !is_last {
            self.end_chunk(scanner, octets);
        }
        let event = if is_good { ServerEvent::Chunk { start: 0, end } } else { ServerEvent::Idle };
        Step { consumed: end, event }
    }

    /// Octets of a chunk that is refused.
    pub(super) fn step_swallow(&mut self, input: &[u8]) -> Step {
        let State::Swallow { remaining, refusal, phase } = &mut self.state else {
            return Step { consumed: 0, event: ServerEvent::Idle };
        };
        let consumed =
            usize::try_from(*remaining).map_or(input.len(), |remaining| remaining.min(input.len()));
        *remaining -= consumed as u64;
        if *remaining > 0 {
            return Step { consumed, event: ServerEvent::Idle };
        }
        let (refusal, phase) = (refusal.clone(), *phase);
        self.state = State::commands(phase);
        Step { consumed, event: self.refuse_command(phase, &refusal) }
    }

    fn swallow(&mut self, phase: Phase, octets: u64, refusal: Reply) -> ServerEvent {
        if octets == 0 {
            return self.refuse_command(phase, &refusal);
        }
        self.state = State::Swallow { remaining: octets, refusal, phase };
        ServerEvent::Idle
    }

    /// A chunk that is not the last is taken: its reply tells its octets.
    fn end_chunk(&mut self, scanner: ChunkScanner, octets: u64) -> ServerEvent {
        self.idle_commands = 0;
        self.state = State::commands(Phase::Chunking(scanner));
        self.answer(&reply::OK_250.with_text(format!("Ok: {octets} octets received")))
    }
}
