//! What a lane does at the word of its guard: weigh answers, ask for recipients, let parked units be judged.

use super::delivery::Delivery;
use crate::bridge::{DomainRecipients, Instants, folded};
use crate::config::Domain;
use crate::limits::{PROBED_RECIPIENTS_MAX, RECIPIENT_ACCEPTED_AGE};
use crate::shard::backlog::{Answer, Evidence, Guard, KNOWN_GOOD_MIN, Lane, Probed, Ruling};
use crate::shard::link::Link;
use crate::smtp::client::{RecipientOutcome, Stage, TransactionOutcome};
use crate::smtp::reply::EnhancedCode;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// Whose recipients they are, and what is known of them now.
pub(super) struct Watched<'a> {
    pub(super) domain: &'a Domain,
    pub(super) known: &'a Arc<DomainRecipients>,
    pub(super) at: Instants,
}

impl Watched<'_> {
    /// One ruling a recipient of the message; it counts for those that were refused.
    pub(super) fn weigh(
        &self,
        guard: &mut Guard,
        mailboxes: &[String],
        outcome: &TransactionOutcome,
        is_proven: bool,
    ) -> Vec<Ruling> {
        let known_good = if guard.is_watching() { self.known_good(0, KNOWN_GOOD_MIN).len() } else { 0 };
        let weighed = |(mailbox, outcome): (&String, &RecipientOutcome)| {
            let Some(answer) = answer(outcome) else { return Ruling::Settle };
            // A refusal of DATA says nothing of the recipient, and a probe, which ends before DATA, nothing against it.
            let is_known_good = self.is_known_good(mailbox) || refuses_data(outcome);
            guard.weigh(&Evidence { mailbox, answer, is_known_good, known_good, is_proven }, self.at.now)
        };
        mailboxes.iter().zip(&outcome.recipients).map(weighed).collect()
    }

    /// How many recipients the primary took before the outage, as far as that matters.
    pub(super) fn known_good_count(&self) -> usize {
        self.known_good(0, KNOWN_GOOD_MIN).len()
    }

    /// Asks for recipients that the primary should take.
    pub(super) async fn probe<L: Link, C: Clock, D: Disk>(
        &self,
        lane: &Lane,
        delivery: &mut Delivery<L, C, D>,
    ) -> Probed {
        let asked = {
            let mut guard = lane.guard.borrow_mut();
            let known_good = self.known_good(guard.probes() * PROBED_RECIPIENTS_MAX, PROBED_RECIPIENTS_MAX);
            guard.candidates(known_good)
        };
        if asked.is_empty() {
            return Probed::Undecided;
        }
        let mailboxes: Vec<&str> = asked.iter().map(String::as_str).collect();
        let Some(outcomes) = delivery.probe(&mailboxes).await else { return Probed::Undecided };
        let answers = |wanted| outcomes.iter().filter(|outcome| probed(outcome) == Some(wanted)).count();
        let (taken, refused) = (answers(Answer::Taken), answers(Answer::Refused));
        let asked = outcomes.len();
        let found = lane.guard.borrow_mut().probed(taken, refused, asked, self.at.now);
        tracing::info!(domain = %lane.domain, taken, refused, asked, ?found, "recipients were asked for");
        found
    }

    /// Whether it takes some whom the primary took before, and who were not asked for by a guard.
    pub(super) async fn takes_known_good<L: Link, C: Clock, D: Disk>(
        &self,
        delivery: &mut Delivery<L, C, D>,
    ) -> bool {
        let asked = self.known_good(0, PROBED_RECIPIENTS_MAX);
        if asked.len() < KNOWN_GOOD_MIN {
            return false;
        }
        let mailboxes: Vec<&str> = asked.iter().map(String::as_str).collect();
        let outcomes = delivery.probe(&mailboxes).await.unwrap_or_default();
        outcomes.len() >= KNOWN_GOOD_MIN
            && outcomes.iter().all(|outcome| probed(outcome) == Some(Answer::Taken))
    }

    fn known_good(&self, skipped: usize, most: usize) -> Vec<String> {
        let names = self.known.accepted(self.at, RECIPIENT_ACCEPTED_AGE, skipped, most);
        names.iter().map(|name| format!("{name}@{}", self.domain.name)).collect()
    }

    fn is_known_good(&self, mailbox: &str) -> bool {
        let name = folded(mailbox.rsplit_once('@').map_or("", |(local_part, _)| local_part));
        let delimiter = self.domain.recipients.subaddress_delimiter;
        self.known.is_accepted(&name, delimiter, self.at, RECIPIENT_ACCEPTED_AGE)
    }
}

/// Whether it refuses the command DATA, which is about the primary itself.
fn refuses_data(outcome: &RecipientOutcome) -> bool {
    matches!(outcome, RecipientOutcome::Rejected { stage: Stage::DataStart, .. })
}

/// `NotTried` is what a probe has for a recipient that was accepted. A refused MAIL FROM:<> is a refusal too.
fn probed(outcome: &RecipientOutcome) -> Option<Answer> {
    match outcome {
        RecipientOutcome::NotTried => Some(Answer::Taken),
        other => answer(other),
    }
}

/// What an outcome says of a recipient, if it says something: not that of the data, nor what we refuse in the primary's place.
fn answer(outcome: &RecipientOutcome) -> Option<Answer> {
    match outcome {
        RecipientOutcome::Delivered(_) => Some(Answer::Taken),
        RecipientOutcome::Rejected { stage: Stage::DataEnd, .. } => None,
        RecipientOutcome::Rejected { reply, .. }
            if reply.enhanced == Some(EnhancedCode { class: 5, subject: 6, detail: 7 }) =>
        {
            None
        }
        RecipientOutcome::Rejected { .. } => Some(Answer::Refused),
        RecipientOutcome::Deferred { .. } | RecipientOutcome::NotTried | RecipientOutcome::Unknown => None,
    }
}
