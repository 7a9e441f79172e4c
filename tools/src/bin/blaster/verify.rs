//! The checker: a sender's ledger against a primary's record. Pure; shown to fail by planted breaches.
//!
//! For each acknowledged (message, recipient):
//! - *lost*: the primary never accepted it;
//! - *altered*: what it accepted has other octets from the id field on, more than trace fields above, another
//!   reverse-path, or a recipient that it was not meant for;
//! - *inverted* (P3): A's 250 was there before B's MAIL left, and the primary was offered B before A for a
//!   recipient that they share. What counts is the first MAIL of each on the wire to the primary;
//! - a *duplicate* is counted and no error: at least once is the promise.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use stratamx_tools::record::{Acknowledged, Arrival};

/// Fields that servers on the way may put above what was submitted.
const TRACE_FIELDS: [&str; 5] =
    ["authentication-results", "received", "return-path", "delivered-to", "x-original-to"];

/// What the checker found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Acknowledged (message, recipient) units.
    pub(crate) units: u64,
    /// Units that the primary accepted.
    pub(crate) delivered: u64,
    pub(crate) lost: Vec<Lost>,
    pub(crate) altered: Vec<Altered>,
    pub(crate) inverted: Vec<Inverted>,
    /// Units that the primary accepted again, once for each time.
    pub(crate) duplicates: u64,
    /// Accepted transactions that no ledger knows: sent, but not acknowledged to the sender.
    pub(crate) unacknowledged: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) id: String,
    pub(crate) recipient: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Altered {
    pub(crate) id: String,
    pub(crate) sequence: u64,
    pub(crate) what: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inverted {
    /// Acknowledged before the other began, offered after it.
    pub(crate) earlier: String,
    pub(crate) later: String,
    pub(crate) recipient: String,
}

impl Findings {
    /// Nothing lost, altered or inverted.
    pub(crate) fn is_sound(&self) -> bool {
        self.lost.is_empty() && self.altered.is_empty() && self.inverted.is_empty()
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "lost: {} for {}", self.id, self.recipient)
    }
}

impl fmt::Display for Altered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "altered: {} (arrival {}): {}", self.id, self.sequence, self.what)
    }
}

impl fmt::Display for Inverted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { earlier, later, recipient } = self;
        write!(
            formatter,
            "inverted: {earlier} was acknowledged before {later} began, and came after it for {recipient}"
        )
    }
}

/// Checks all arrivals against all that was acknowledged.
pub(crate) fn verify(ledger: &[Acknowledged], arrivals: &[Arrival]) -> Findings {
    let known: HashMap<&str, &Acknowledged> =
        ledger.iter().map(|message| (message.id.as_str(), message)).collect();
    let by_reverse_path = unique_reverse_paths(ledger);
    let mut findings = Findings::default();
    // (id, recipient) -> how often accepted, and the first MAIL.
    let mut accepted: HashMap<(&str, &str), u64> = HashMap::new();
    let mut offered: HashMap<(&str, &str), u64> = HashMap::new();
    for arrival in arrivals {
        // Without data only the reverse-path can tell which message was offered.
        let message = match &arrival.id {
            Some(id) => known.get(id.as_str()).copied(),
            None => by_reverse_path.get(arrival.reverse_path.as_str()).copied().flatten(),
        };
        let Some(message) = message else {
            findings.unacknowledged += u64::from(arrival.accepted);
            continue;
        };
        for recipient in arrival.recipients.iter().chain(&arrival.refused) {
            let first = offered.entry((&message.id, recipient)).or_insert(arrival.mail_sequence);
            *first = arrival.mail_sequence.min(*first);
        }
        if !arrival.accepted {
            continue;
        }
        if let Some(what) = alteration(message, arrival) {
            findings.altered.push(Altered { id: message.id.clone(), sequence: arrival.sequence, what });
        }
        for recipient in &arrival.recipients {
            *accepted.entry((&message.id, recipient)).or_default() += 1;
        }
    }
    for (message, recipient) in units(ledger) {
        findings.units += 1;
        match accepted.get(&(message.id.as_str(), recipient)) {
            Some(count) => {
                findings.delivered += 1;
                findings.duplicates += count - 1;
            }
            None => findings.lost.push(Lost { id: message.id.clone(), recipient: recipient.to_owned() }),
        }
    }
    findings.inverted = inversions(ledger, &offered);
    findings
}

/// Messages by their reverse-path; `None` where several share it.
fn unique_reverse_paths(ledger: &[Acknowledged]) -> HashMap<&str, Option<&Acknowledged>> {
    let mut paths: HashMap<&str, Option<&Acknowledged>> = HashMap::new();
    for message in ledger {
        paths.entry(&message.reverse_path).and_modify(|other| *other = None).or_insert(Some(message));
    }
    paths
}

fn units(ledger: &[Acknowledged]) -> impl Iterator<Item = (&Acknowledged, &str)> {
    ledger
        .iter()
        .flat_map(|message| message.recipients.iter().map(move |recipient| (message, recipient.as_str())))
}

/// What differs between what was submitted and what arrived.
fn alteration(message: &Acknowledged, arrival: &Arrival) -> Option<String> {
    if arrival.id.is_none() {
        return Some("the id field is gone".to_owned());
    }
    if arrival.crc32 != message.crc32 {
        return Some(format!("CRC32 {:08x}, submitted {:08x}", arrival.crc32, message.crc32));
    }
    if let Some(field) =
        arrival.above.iter().find(|field| !TRACE_FIELDS.contains(&field.to_lowercase().as_str()))
    {
        return Some(format!("field {field} was added"));
    }
    if arrival.reverse_path != message.reverse_path {
        return Some(format!(
            "reverse-path <{}>, submitted <{}>",
            arrival.reverse_path, message.reverse_path
        ));
    }
    let meant: HashSet<&String> = message.recipients.iter().chain(&message.refused).collect();
    let stranger = arrival.recipients.iter().find(|recipient| !meant.contains(recipient));
    stranger.map(|recipient| format!("it was not meant for {recipient}"))
}

/// Sweeps each recipient's messages by the time of their MAIL; every message that was acknowledged before must
/// have been offered before. The latest offered of those is enough to compare with.
fn inversions(ledger: &[Acknowledged], offered: &HashMap<(&str, &str), u64>) -> Vec<Inverted> {
    let mut lanes: BTreeMap<&str, Vec<(&Acknowledged, u64)>> = BTreeMap::new();
    for (message, recipient) in units(ledger) {
        // What was never offered is lost, and reported as that.
        if let Some(sequence) = offered.get(&(message.id.as_str(), recipient)) {
            lanes.entry(recipient).or_default().push((message, *sequence));
        }
    }
    let mut inverted = Vec::new();
    for (recipient, lane) in &mut lanes {
        let mut by_reply = lane.clone();
        by_reply.sort_by_key(|(message, _)| message.reply_unix_us);
        lane.sort_by_key(|(message, _)| message.mail_unix_us);
        let mut acknowledged = by_reply.iter().peekable();
        let mut latest: Option<&(&Acknowledged, u64)> = None;
        for (later, sequence) in lane.iter() {
            while let Some(earlier) =
                acknowledged.next_if(|(earlier, _)| earlier.reply_unix_us < later.mail_unix_us)
            {
                if latest.is_none_or(|latest| latest.1 < earlier.1) {
                    latest = Some(earlier);
                }
            }
            if let Some((earlier, _)) = latest.filter(|latest| latest.1 > *sequence) {
                inverted.push(Inverted {
                    earlier: earlier.id.clone(),
                    later: later.id.clone(),
                    recipient: (*recipient).to_owned(),
                });
            }
        }
    }
    inverted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` messages, one after the other, for two recipients in turn and every fourth for both.
    fn ledger(count: u64) -> Vec<Acknowledged> {
        let recipients = |number: u64| match number % 4 {
            0 => vec!["a@x".to_owned(), "b@x".to_owned()],
            1 | 3 => vec!["a@x".to_owned()],
            _ => vec!["b@x".to_owned()],
        };
        let message = |number| Acknowledged {
            id: format!("run-{number}"),
            mail_unix_us: number * 10,
            reply_unix_us: number * 10 + 5,
            reverse_path: format!("run-{number}@y"),
            recipients: recipients(number),
            octets: 100,
            crc32: 7,
            ..Acknowledged::default()
        };
        (1..=count).map(message).collect()
    }

    /// They arrive in order.
    fn arrivals(ledger: &[Acknowledged]) -> Vec<Arrival> {
        let arrival = |(sequence, message): (u64, &Acknowledged)| Arrival {
            sequence,
            mail_sequence: sequence,
            mail_unix_us: 100_000 + sequence,
            reverse_path: message.reverse_path.clone(),
            recipients: message.recipients.clone(),
            octets: 150,
            id: Some(message.id.clone()),
            above: vec!["Received".to_owned()],
            crc32: 7,
            accepted: true,
            reply: Some("250 2.0.0 Ok".to_owned()),
            ..Arrival::default()
        };
        (1..).zip(ledger).map(arrival).collect()
    }

    #[test]
    fn a_sound_record_has_no_findings() {
        let ledger = ledger(40);
        let findings = verify(&ledger, &arrivals(&ledger));
        assert!(findings.is_sound());
        assert_eq!((findings.units, findings.delivered, findings.duplicates), (50, 50, 0));
    }

    #[test]
    fn a_planted_loss_is_found() {
        let ledger = ledger(40);
        for at in 0..40 {
            let mut arrivals = arrivals(&ledger);
            let gone = arrivals.remove(at);
            let findings = verify(&ledger, &arrivals);
            assert_eq!(findings.lost.len(), gone.recipients.len());
            assert_eq!(findings.lost[0].id, gone.id.unwrap());
        }
        let mut arrivals = arrivals(&ledger);
        arrivals[3].recipients.pop();
        arrivals[6].accepted = false;
        let lost: Vec<String> = verify(&ledger, &arrivals).lost.iter().map(ToString::to_string).collect();
        assert_eq!(lost, ["lost: run-4 for b@x", "lost: run-7 for a@x"]);
    }

    #[test]
    fn a_planted_alteration_is_found() {
        let ledger = ledger(8);
        type Alter = fn(&mut Arrival);
        let plant: [(&str, Alter); 5] = [
            ("CRC32 00000008, submitted 00000007", |arrival| arrival.crc32 ^= 15),
            ("field Subject was added", |arrival| arrival.above.push("Subject".to_owned())),
            ("reverse-path <>, submitted <run-3@y>", |arrival| arrival.reverse_path.clear()),
            ("it was not meant for c@x", |arrival| arrival.recipients.push("c@x".to_owned())),
            ("the id field is gone", |arrival| arrival.id = None),
        ];
        for (expected, alter) in plant {
            let mut arrivals = arrivals(&ledger);
            alter(&mut arrivals[2]);
            let findings = verify(&ledger, &arrivals);
            let altered: Vec<(&str, u64)> =
                findings.altered.iter().map(|altered| (altered.what.as_str(), altered.sequence)).collect();
            assert_eq!(altered, [(expected, 3)]);
        }
    }

    #[test]
    fn a_planted_inversion_is_found() {
        let ledger = ledger(40);
        let mut arrivals = arrivals(&ledger);
        // run-9 and run-11 are for the same recipient; run-10 is for the other one.
        arrivals[8].mail_sequence = 11;
        arrivals[10].mail_sequence = 9;
        let findings = verify(&ledger, &arrivals);
        let inverted = Inverted { earlier: "run-9".into(), later: "run-11".into(), recipient: "a@x".into() };
        assert_eq!(findings.inverted, [inverted]);
        assert!(!findings.is_sound());
    }

    #[test]
    fn messages_that_overlapped_or_share_no_recipient_have_no_order() {
        let mut ledger = ledger(12);
        let mut arrivals = arrivals(&ledger);
        arrivals[8].mail_sequence = 10;
        arrivals[9].mail_sequence = 9;
        assert!(verify(&ledger, &arrivals).is_sound(), "other recipients");
        arrivals[8].mail_sequence = 11;
        arrivals[9].mail_sequence = 10;
        arrivals[10].mail_sequence = 9;
        ledger[8].reply_unix_us = ledger[10].mail_unix_us;
        assert!(verify(&ledger, &arrivals).is_sound(), "run-9 had no answer yet when run-11 began");
    }

    #[test]
    fn order_is_that_of_the_first_offer() {
        let ledger = ledger(12);
        let mut arrivals = arrivals(&ledger);
        // run-3 was offered in its turn, deferred before its data, and came again at the end.
        let mut first = arrivals[2].clone();
        (first.accepted, first.id, first.sequence) = (false, None, 90);
        arrivals[2].mail_sequence = 91;
        arrivals[2].sequence = 91;
        assert!(!verify(&ledger, &arrivals).is_sound());
        arrivals.push(first);
        assert!(verify(&ledger, &arrivals).is_sound());
    }

    #[test]
    fn a_planted_duplicate_is_counted_and_no_error() {
        let ledger = ledger(12);
        let mut arrivals = arrivals(&ledger);
        let mut again = arrivals[3].clone();
        (again.sequence, again.mail_sequence) = (13, 13);
        arrivals.push(again);
        let findings = verify(&ledger, &arrivals);
        assert!(findings.is_sound());
        assert_eq!((findings.delivered, findings.duplicates), (15, 2));
    }

    #[test]
    fn what_was_never_acknowledged_may_come() {
        let ledger = ledger(12);
        let mut arrivals = arrivals(&ledger);
        let stranger =
            Arrival { id: Some("other-1".to_owned()), reverse_path: "z@z".to_owned(), ..arrivals[0].clone() };
        arrivals.push(stranger);
        let findings = verify(&ledger, &arrivals);
        assert!(findings.is_sound());
        assert_eq!(findings.unacknowledged, 1);
    }
}
