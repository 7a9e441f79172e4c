//! Questions without data.

use super::Delivery;
use crate::limits::PROBE_TIMEOUT;
use crate::shard::link::Link;
use crate::smtp::client::{ClientEvent, Envelope, Extensions, RecipientOutcome};
use storage::clock::Clock;
use storage::disk::Disk;

impl<L: Link, C: Clock, D: Disk> Delivery<L, C, D> {
    /// Asks by MAIL FROM:<> and RCPT, without data, in as many transactions as the host's LIMITS make of it (RFC 9422). An outcome is
    /// `NotTried` for who was accepted. There is one for each who was asked for, in their order: not for the last ones where the session
    /// takes no further MAIL. None at all if the session broke, or cannot say what is asked.
    pub(in super::super) async fn probe(&mut self, recipients: &[&str]) -> Option<Vec<RecipientOutcome>> {
        if !self.is_alive() || !self.speaks_for_us() {
            return None;
        }
        let is_sayable = recipients.iter().all(|mailbox| mailbox.is_ascii());
        if !is_sayable && !self.session.capabilities().smtputf8 {
            return None;
        }
        // Whoever is asked whether he is well has not the time of RFC 5321 4.5.3.2 (H49), in however many parts.
        self.opening = Some(self.clock.now() + PROBE_TIMEOUT);
        let outcomes = self.ask_in_parts(recipients).await;
        self.opening = None;
        outcomes
    }

    async fn ask_in_parts(&mut self, recipients: &[&str]) -> Option<Vec<RecipientOutcome>> {
        let most = self.session.capabilities().recipients_max.map_or(usize::MAX, |most| most as usize);
        let mut outcomes = Vec::with_capacity(recipients.len());
        for recipients in recipients.chunks(most.max(1)) {
            if !outcomes.is_empty() && self.session.is_used_up() {
                break;
            }
            let envelope = Envelope {
                reverse_path: "",
                recipients,
                octets: 0,
                has_8bit: false,
                extensions: Extensions::default(),
            };
            self.session.probe(&envelope, self.clock.now());
            let ClientEvent::TransactionDone(outcome) = self.next_event().await else { return None };
            if !self.is_alive() {
                return None;
            }
            outcomes.extend(outcome.recipients);
        }
        Some(outcomes)
    }
}
