//! What becomes of a message when its transaction has its answers: acknowledged, rejected, or to be tried again.

use std::sync::atomic::Ordering;

use stratamx_tools::clock::unix_us;
use stratamx_tools::record::{Acknowledged, to_line};

use crate::task::{Done, Stage};
use crate::worker::Worker;

/// Kinds of errors that are told apart.
const KINDS_MAX: usize = 50;

impl Worker<'_> {
    /// Some recipient decides: taken for one, the message is acknowledged; put off for one, it is tried again; else it is rejected.
    pub(crate) fn judge(&mut self, index: usize, done: Done) {
        let now = self.shared.clock.now();
        for (_, reply) in &done.refused {
            self.note_error(answered(reply.code, Stage::Rcpt));
        }
        if let Some((stage, reply)) = done.decided.as_ref().filter(|(_, reply)| !reply.is_positive()) {
            self.note_error(answered(reply.code, *stage));
        }
        let is_put_off =
            done.refused.iter().map(|(_, reply)| reply).chain(done.decided.as_ref().map(|(_, reply)| reply));
        let put_off = is_put_off.clone().find(|reply| !reply.is_permanent() && !reply.is_positive());
        match (&done.decided, put_off) {
            (Some((_, reply)), _) if reply.is_positive() => self.acknowledge(index, done),
            (_, Some(why)) => {
                let why = why.to_string();
                self.set_back(index, done.task, &why, now);
            }
            _ => {
                let why = is_put_off.last().map(ToString::to_string).unwrap_or_default();
                self.reject(index, &done, &why);
            }
        }
    }

    fn acknowledge(&mut self, index: usize, done: Done) {
        let Done { task, refused, decided } = done;
        if self.shared.ledger.is_kept() {
            let is_refused = |place: &usize| refused.iter().any(|(other, _)| other == place);
            let (mut taken, mut left) = (Vec::new(), Vec::new());
            for (place, recipient) in task.message.recipients.iter().enumerate() {
                if is_refused(&place) { &mut left } else { &mut taken }.push(recipient.clone());
            }
            let reply = decided.map(|(_, reply)| reply.text).unwrap_or_default();
            let acknowledged = Acknowledged {
                id: task.message.id.clone(),
                queue_id: queue_id(&reply).to_owned(),
                session: self.session(index),
                mail_unix_us: task.mail_unix_us,
                reply_unix_us: unix_us(),
                reverse_path: task.message.reverse_path.clone(),
                recipients: taken,
                refused: left,
                octets: task.message.octets(),
                crc32: task.message.crc32(),
            };
            self.ledger_lines.extend_from_slice(&to_line(&acknowledged));
        }
        if self.is_slow(index) {
            self.counts.slow_acknowledged += 1;
            return;
        }
        let now = self.shared.clock.now();
        let (octets, service) = (task.message.octets(), now.saturating_sub(task.mail_at));
        let is_open = self.shared.load.pace.is_open();
        let latency = if is_open { now.saturating_sub(task.intended) } else { service };
        self.counts.acknowledged += 1;
        self.counts.answered_at = now;
        self.counts.rejected += u64::from(!refused.is_empty());
        self.counts.octets += octets;
        self.slice.acknowledged += 1;
        self.slice.octets += octets;
        self.slice.record(latency, service);
        self.shared.done.fetch_add(1, Ordering::Relaxed);
    }

    fn reject(&mut self, index: usize, done: &Done, why: &str) {
        self.slice.failed += 1;
        if self.is_slow(index) {
            self.counts.slow_failed += 1;
            return;
        }
        self.counts.rejected += 1;
        self.counts.answered_at = self.shared.clock.now();
        self.shared.done.fetch_add(1, Ordering::Relaxed);
        self.complain(&format!("{}: rejected: {why}", done.task.message.id));
    }

    /// What went wrong, by its kind; a server whose words are never the same does not fill the memory.
    pub(crate) fn note_error(&mut self, what: String) {
        let errors = &mut self.counts.errors;
        let what =
            if errors.len() < KINDS_MAX || errors.contains_key(&what) { what } else { "others".to_owned() };
        *errors.entry(what).or_default() += 1;
    }
}

fn answered(code: u16, stage: Stage) -> String {
    let to = match stage {
        Stage::Mail => "MAIL",
        Stage::Rcpt => "RCPT",
        Stage::Data => "DATA",
        Stage::Content => "the end of data",
    };
    format!("{code} to {to}")
}

/// The last word of `Ok: queued as <id>`; empty if the reply says something else.
fn queue_id(text: &str) -> &str {
    text.split_once("queued as ").map_or("", |(_, id)| id.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_id_is_what_follows_queued_as() {
        assert_eq!(queue_id("Ok: queued as 0-00000001-10"), "0-00000001-10");
        assert_eq!(queue_id("Ok"), "");
    }
}
