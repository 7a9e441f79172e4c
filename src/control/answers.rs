//! What name servers say, as the control plane hands it on: judged, and remembered for the time that they are silent.

use crate::bridge::{Exchanger, LookupError};
use crate::limits::LAST_KNOWN_NAMES_MAX;
use core::cell::RefCell;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{Name, RData, Record};
use std::collections::HashMap;

/// What was found last, by name: while name servers are down, mail goes where it went. Bounded: what has no room is not kept.
#[derive(Debug)]
pub(super) struct LastKnown<T>(RefCell<HashMap<String, Vec<T>>>);

impl<T> Default for LastKnown<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T: Clone + PartialEq> LastKnown<T> {
    /// The answer, or what the last one said where there is none now.
    pub(super) fn or_kept(
        &self,
        name: &str,
        found: Result<Vec<T>, LookupError>,
    ) -> Result<Vec<T>, LookupError> {
        let mut kept = self.0.borrow_mut();
        match found {
            Ok(found) => {
                if kept.get(name).is_some_and(|known| *known == found) {
                    return Ok(found);
                }
                if kept.len() < LAST_KNOWN_NAMES_MAX || kept.contains_key(name) {
                    kept.insert(name.to_owned(), found.clone());
                }
                Ok(found)
            }
            Err(LookupError::NoAddress) => {
                kept.remove(name);
                Err(LookupError::NoAddress)
            }
            Err(LookupError::Temporary(error)) => match kept.get(name) {
                Some(known) => {
                    tracing::info!(name, error, "name servers do not answer: what they said last is used");
                    Ok(known.clone())
                }
                None => Err(LookupError::Temporary(error)),
            },
        }
    }
}

/// The exchanger of a domain that names none.
pub(super) fn implicit(domain: &str) -> Vec<Exchanger> {
    vec![Exchanger { preference: 0, host: domain.to_owned() }]
}

/// A record for people; none: another one than is told about.
pub(super) fn text_of(data: &RData) -> Option<String> {
    let host = |name: &Name| name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    match data {
        RData::CNAME(alias) => Some(host(&alias.0)),
        RData::PTR(name) => Some(host(&name.0)),
        RData::TXT(text) => Some(text.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect()),
        _ => None,
    }
}

/// Those that the records of a domain name.
pub(super) fn found_exchangers(records: &[Record], domain: &str) -> Vec<Exchanger> {
    let exchanger = |preference, host: String| Exchanger {
        preference,
        host: host.trim_end_matches('.').to_ascii_lowercase(),
    };
    let exchangers: Vec<Exchanger> = records
        .iter()
        .filter_map(|record| match &record.data {
            RData::MX(mx) => Some(exchanger(mx.preference, mx.exchange.to_ascii())),
            _ => None,
        })
        .collect();
    if exchangers.is_empty() { implicit(domain) } else { exchangers }
}

/// A trailing dot: the name is whole, no search list applies.
pub(super) fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

pub(super) fn judge(error: &NetError) -> LookupError {
    if error.is_nx_domain() || error.is_no_records_found() {
        LookupError::NoAddress
    } else {
        LookupError::Temporary(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_last_serves_while_nobody_answers() {
        let known = LastKnown::default();
        let down = || Err(LookupError::Temporary("timeout".to_owned()));
        assert_eq!(known.or_kept("a", down()), down());
        assert_eq!(known.or_kept("a", Ok(vec![1])), Ok(vec![1]));
        assert_eq!(known.or_kept("a", down()), Ok(vec![1]));
        assert_eq!(known.or_kept("b", down()), down());
        assert_eq!(known.or_kept("a", Ok(vec![2])), Ok(vec![2]));
        assert_eq!(known.or_kept("a", down()), Ok(vec![2]));
        // That there is none is an answer.
        assert_eq!(known.or_kept("a", Err(LookupError::NoAddress)), Err(LookupError::NoAddress));
        assert_eq!(known.or_kept("a", down()), down());
    }

    #[test]
    fn p7_no_more_names_are_kept_than_there_is_room_for() {
        let known = LastKnown::default();
        for number in 0..LAST_KNOWN_NAMES_MAX {
            known.or_kept(&number.to_string(), Ok(vec![1])).expect("an answer");
        }
        assert_eq!(known.or_kept("more", Ok(vec![1])), Ok(vec![1]));
        assert_eq!(known.0.borrow().len(), LAST_KNOWN_NAMES_MAX);
        assert_eq!(known.or_kept("0", Ok(vec![2])), Ok(vec![2]), "who has a place keeps it");
        assert_eq!(known.0.borrow()["0"], [2]);
    }
}
