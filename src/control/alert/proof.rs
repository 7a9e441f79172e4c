//! What the traces say of an outage that has ended: which messages ended in it, as one hash, and whether their order was kept. The
//! gathering is pure.
//!
//! - **Messages** are those of the domain of which a recipient had a final end from the first failure to the end of the outage, both
//!   seconds included. Their *hash root* is the SHA-256 of their queue ids, each once, in the order of their octets, each followed by a
//!   line feed. So it depends neither on shards nor on the order of the drain, and anybody can make it again:
//!   `stratamx trace --domain D --since BEGAN --until ENDED+1s --json | jq -r 'select(.id != null and any(.recipients[]; .is_final)) | .id' |
//!   LC_ALL=C sort -u | sha256sum`.
//! - **Order** is kept for a recipient where no message is handed over to him behind one that was accepted later. Each that is counts. Said of
//!   none is it of messages that left their place before: which were put off for their own sake, refused for a while, held and released, or
//!   queued once more (P3).
//! - Nothing is said of the order where several shards handed over (the number of cores changed in the outage). Mail that was carried through while its
//!   sender waited is not traced.
//! - It is **whole** when all of the trace could be read, each message by its id, and no fewer units ended by it than by the counts of the store.

use crate::bridge::operator::Traced;
use crate::limits::OUTAGE_MESSAGES_PROVED_MAX;
use core::fmt::Write as _;
use core::hash::BuildHasher as _;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use utoipa::ToSchema;

/// What the traces say of an outage.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = OutageProof)]
pub struct Proof {
    /// Messages that ended in it, for one recipient or more
    pub messages: u64,
    /// Their (message, recipient) units that ended
    pub units: u64,
    /// SHA-256 over the queue ids of these messages: each once, in the order of their octets, each followed by a line feed
    pub root: String,
    /// Units handed over whose order was looked at
    pub deliveries: u64,
    /// Units handed over whose messages had left their place before
    pub excepted: u64,
    /// Units handed over behind one that was accepted later; 0: the order of each recipient was kept
    pub out_of_order: u64,
    /// Whether anything can be said of the order: something was handed over, and one shard did all of it
    #[serde(default)]
    pub order_is_known: bool,
    /// Nothing is known to be missing of the trace
    pub is_whole: bool,
}

/// A queue id, with zeros behind it.
type Id = [u8; 16];

/// See the module.
#[derive(Debug, Default)]
pub struct Gathering {
    ids: Vec<Id>,
    units: u64,
    /// The message handed over last to each recipient, by his name's hash.
    last: HashMap<u64, u64>,
    hasher: RandomState,
    /// Messages that left their place.
    aside: HashSet<u64>,
    deliveries: u64,
    excepted: u64,
    out_of_order: u64,
    is_cut: bool,
    is_full: bool,
    /// Whose rows they are; several: nothing tells their order.
    shards: HashSet<u16>,
}

impl Gathering {
    /// Rows of a shard come.
    pub fn begin(&mut self, shard: u16) {
        self.shards.insert(shard);
    }

    /// Takes a row; they come as they were written.
    pub fn take(&mut self, row: &Traced) {
        let ended = row.recipients.iter().filter(|recipient| recipient.is_final).count();
        self.units += ended as u64;
        if ended > 0 {
            self.note_id(row.id.as_deref());
        }
        let leaves = |what| ["deferred", "refused", "held", "released"].contains(&what);
        if row.aside || row.recipients.iter().any(|recipient| leaves(recipient.what)) {
            if self.aside.len() < OUTAGE_MESSAGES_PROVED_MAX {
                self.aside.insert(row.order);
            } else {
                self.is_cut = true;
            }
        }
        // What was settled behind a notice tells no host: its try did.
        let is_handed_over = |what| row.host.is_some() && ["delivered", "taken"].contains(&what);
        for recipient in row.recipients.iter().filter(|recipient| is_handed_over(recipient.what)) {
            if self.aside.contains(&row.order) {
                self.excepted += 1;
                continue;
            }
            self.deliveries += 1;
            let key = self.hasher.hash_one(recipient.address.to_ascii_lowercase());
            if self.last.len() >= OUTAGE_MESSAGES_PROVED_MAX && !self.last.contains_key(&key) {
                self.is_cut = true;
                continue;
            }
            let last = self.last.entry(key).or_default();
            if row.order < *last {
                self.out_of_order += 1;
            }
            *last = row.order.max(*last);
        }
    }

    fn note_id(&mut self, id: Option<&str>) {
        let mut octets = Id::default();
        match id.and_then(|id| Some((octets.get_mut(..id.len())?, id))) {
            Some((place, id)) => place.copy_from_slice(id.as_bytes()),
            // The record could not be read.
            None => {
                self.is_cut = true;
                return;
            }
        }
        if self.is_full {
            return;
        }
        if self.ids.len() >= 2 * OUTAGE_MESSAGES_PROVED_MAX {
            self.tidy();
            // Half of it is free again, or it is not sorted for each that comes.
            self.is_full = self.ids.len() >= OUTAGE_MESSAGES_PROVED_MAX;
            self.is_cut |= self.is_full;
        }
        if !self.is_full {
            self.ids.push(octets);
        }
    }

    fn tidy(&mut self) {
        self.ids.sort_unstable();
        self.ids.dedup();
    }

    /// All rows were taken: by the counts of the store so many units ended, and so many files could not be read.
    #[must_use]
    pub fn finish(mut self, ended: u64, unreadable: u64) -> Proof {
        self.tidy();
        let is_whole = !self.is_cut && unreadable == 0 && self.units >= ended;
        Proof {
            messages: self.ids.len() as u64,
            units: self.units,
            root: root(&self.ids),
            deliveries: self.deliveries,
            excepted: self.excepted,
            out_of_order: self.out_of_order,
            order_is_known: self.shards.len() <= 1 && self.deliveries > 0,
            is_whole,
        }
    }
}

/// Of ids in order.
fn root(ids: &[Id]) -> String {
    let mut context = Context::new(&SHA256);
    for id in ids {
        let octets = id.split(|octet| *octet == 0).next().unwrap_or_default();
        context.update(octets);
        context.update(b"\n");
    }
    let mut text = String::new();
    for octet in context.finish().as_ref() {
        write!(text, "{octet:02x}").expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::operator::TracedRecipient;

    fn row(order: u64, what: &'static str, recipients: &[&str]) -> Traced {
        let recipient = |address: &&str| TracedRecipient {
            address: (*address).to_owned(),
            what,
            is_final: what == "delivered",
            code: 250,
            text: String::new(),
        };
        Traced {
            at_ms: 0,
            id: Some(format!("{order:013}")),
            domain: "a.test".to_owned(),
            order,
            reverse_path: String::new(),
            host: Some("192.0.2.1:25".to_owned()),
            redirected: false,
            aside: false,
            accepted: None,
            recipients: recipients.iter().map(recipient).collect(),
        }
    }

    fn proof(rows: &[Traced]) -> Proof {
        let mut gathering = Gathering::default();
        rows.iter().for_each(|row| gathering.take(row));
        gathering.finish(3, 0)
    }

    #[test]
    fn the_root_is_that_of_the_sorted_ids_whatever_their_order() {
        let all = [3, 1, 2].map(|order| row(order, "delivered", &["x@a.test"]));
        // printf '%013d\n' 1 2 3 | sha256sum
        let expected = "ffb425f77d4917f7002d840ffb0ceb8c07a461546cd83d1b72510f370c3113da";
        let mut other = all.to_vec();
        other.sort_by_key(|row| row.order);
        other.push(row(2, "delivered", &["y@a.test"]));
        let (one, other) = (proof(&all), proof(&other));
        assert_eq!((one.root.as_str(), other.root.as_str()), (expected, expected));
        assert_eq!((one.messages, other.messages, other.units), (3, 3, 4));
        assert!(one.is_whole && one.out_of_order == 2, "1 and 2 behind 3");
        assert!(other.out_of_order == 0, "what is for another recipient is no matter");
    }

    #[test]
    fn what_left_its_place_is_excepted_and_what_is_missing_is_told() {
        let rows = [
            row(1, "deferred", &["x@a.test"]),
            row(2, "delivered", &["x@a.test"]),
            row(1, "delivered", &["X@a.test"]),
            Traced { aside: true, ..row(0, "delivered", &["x@a.test"]) },
            // Settled behind a notice, whose try was told in its turn.
            Traced { host: None, ..row(1, "delivered", &["x@a.test"]) },
        ];
        let proof = proof(&rows);
        assert_eq!((proof.out_of_order, proof.deliveries, proof.excepted), (0, 1, 2));
        let few = super::tests::proof(&rows[..2]);
        assert!(!few.is_whole, "the store counted three ends: {few:?}");
        let broken = [row(5, "taken", &["x@a.test", "y@a.test"]), row(4, "delivered", &["y@A.test"])];
        assert_eq!(super::tests::proof(&broken).out_of_order, 1);
    }
}
