//! The recipients of one domain, as listed: immutable, shared by all shards.
//!
//! Local parts lie end to end in one arena, each behind a length octet, and a hash table of offsets finds them: 4 to 8
//! octets a recipient beside its text, so a million of them take some 30 MB.

use super::local_part::folded;
use crate::config::canonical_domain;
use crate::limits::{RECIPIENT_LIST_ADDRESSES_MAX, RECIPIENT_LIST_OCTETS_MAX};
use crate::smtp::path::Mailbox;
use core::hash::BuildHasher;
use std::hash::RandomState;

/// See the module.
#[derive(Debug, Default)]
pub struct RecipientList {
    arena: Vec<u8>,
    /// Offsets into the arena, each one more than it is; 0: free. As many as a power of two.
    slots: Vec<u32>,
    hasher: RandomState,
    addresses: usize,
    /// `@domain`: whoever it is.
    everybody: bool,
}

/// A list that is being read.
#[derive(Debug, Default)]
pub struct RecipientListBuilder {
    arena: Vec<u8>,
    addresses: usize,
    everybody: bool,
}

/// What does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListError {
    /// No mailbox, or one that is too long.
    #[error("is not a mail address")]
    NotAnAddress,
    /// It is not in the domain of the list.
    #[error("is in another domain")]
    OtherDomain,
    /// More addresses than a list may have.
    #[error("is one address too many")]
    TooMany,
}

impl RecipientListBuilder {
    /// Adds a mailbox of `domain`, which is as A-labels in lower case, in any way to write it; `@domain` stands for
    /// everybody there.
    ///
    /// # Errors
    /// See [`ListError`].
    pub fn add(&mut self, address: &str, domain: &str) -> Result<(), ListError> {
        let (local_part, at) = match address.strip_prefix('@') {
            Some(at) => (None, at),
            None => {
                let mailbox = Mailbox::parse(address).map_err(|_| ListError::NotAnAddress)?;
                (Some(mailbox.local_part()), mailbox.domain())
            }
        };
        if canonical_domain(at).as_deref() != Some(domain) {
            return Err(ListError::OtherDomain);
        }
        let Some(local_part) = local_part else {
            self.everybody = true;
            return Ok(());
        };
        let folded = folded(local_part);
        let octets = u8::try_from(folded.len()).map_err(|_| ListError::NotAnAddress)?;
        if self.addresses >= RECIPIENT_LIST_ADDRESSES_MAX {
            return Err(ListError::TooMany);
        }
        self.arena.push(octets);
        self.arena.extend_from_slice(folded.as_bytes());
        self.addresses += 1;
        Ok(())
    }

    /// Whether nothing was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.addresses == 0 && !self.everybody
    }

    /// The list; what was added twice counts once.
    #[must_use]
    pub fn finish(mut self) -> RecipientList {
        self.arena.shrink_to_fit();
        let slots = if self.addresses == 0 { 0 } else { (self.addresses * 4 / 3 + 1).next_power_of_two() };
        let mut list = RecipientList {
            arena: self.arena,
            slots: vec![0; slots],
            hasher: RandomState::new(),
            addresses: 0,
            everybody: self.everybody,
        };
        let mut offset = 0;
        while offset < list.arena.len() {
            let name = list.at(offset);
            let (octets, place) = (name.len(), list.place(name));
            if list.slots[place] == 0 {
                list.slots[place] = u32::try_from(offset + 1).expect("the arena is bounded");
                list.addresses += 1;
            }
            offset += 1 + octets;
        }
        list
    }
}

// Every local part with its length octet, at the longest, has an offset in 32 bits; the text is bounded as well.
const _: () = assert!(RECIPIENT_LIST_OCTETS_MAX < u32::MAX as u64 / 4);

impl RecipientList {
    /// Whether a local part, as [`folded`], is on the list.
    #[must_use]
    pub fn contains(&self, folded: &str) -> bool {
        self.everybody || (!self.slots.is_empty() && self.slots[self.place(folded.as_bytes())] != 0)
    }

    /// How many mailboxes are named.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.addresses
    }

    /// Whether nobody is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.addresses == 0 && !self.everybody
    }

    /// The slot of a name, or the free one where it would be. A quarter of the slots at least is free.
    fn place(&self, name: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let hash = self.hasher.hash_one(name).to_ne_bytes();
        let mut place = usize::from_ne_bytes(hash) & mask;
        while self.slots[place] != 0 && self.at(self.slots[place] as usize - 1) != name {
            place = (place + 1) & mask;
        }
        place
    }

    fn at(&self, offset: usize) -> &[u8] {
        let octets = usize::from(self.arena[offset]);
        &self.arena[offset + 1..offset + 1 + octets]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> RecipientList {
        let mut builder = RecipientListBuilder::default();
        names.iter().for_each(|name| builder.add(&format!("{name}@b.test"), "b.test").expect("it fits"));
        builder.finish()
    }

    #[test]
    fn a_list_knows_whom_it_names_and_nobody_else() {
        let known = list(&["a", "B", "b", "\"C c\"", "Jürgen"]);
        assert_eq!(known.len(), 4);
        for name in ["a", "b", "c c", "jürgen"] {
            assert!(known.contains(name), "{name}");
        }
        for name in ["", "ab", "c", "jurgen", "a\0b"] {
            assert!(!known.contains(name), "{name}");
        }
        assert!(!list(&[]).contains("a") && list(&[]).is_empty());
    }

    #[test]
    fn many_names_are_all_found() {
        let names: Vec<String> = (0..10_000).map(|number| format!("user{number}")).collect();
        let known = list(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(names.iter().all(|name| known.contains(name)));
        assert!(!(10_000..20_000).any(|number| known.contains(&format!("user{number}"))));
    }

    #[test]
    fn a_whole_domain_is_everybody() {
        let mut builder = RecipientListBuilder::default();
        assert!(builder.is_empty());
        builder.add("@B.test", "b.test").expect("the domain");
        assert!(!builder.is_empty() && builder.finish().contains("anybody"));
        let mut builder = RecipientListBuilder::default();
        let long = format!("{}@b.test", "x".repeat(256));
        assert_eq!(builder.add(&long, "b.test"), Err(ListError::NotAnAddress));
        assert_eq!(builder.add("a@c.test", "b.test"), Err(ListError::OtherDomain));
    }
}
