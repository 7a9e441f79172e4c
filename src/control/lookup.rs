//! The lookup thread: mail exchangers of domains and addresses of named primaries, by hickory-resolver, cached for as long as the
//! records live, and used for longer while no name server answers.
//!
//! One runtime, one resolver. Questions are answered side by side, a bounded number of them; further ones wait
//! in the channel. The thread ends when the last shard has dropped its end of the channel.

use super::authentication;
use super::resolvers::Resolvers;
use crate::bridge::{Asked, Exchanger, LookupError, Question};
use crate::limits::{LAST_KNOWN_NAMES_MAX, LOOKUPS_AT_A_TIME};
use async_channel::Receiver;
use core::cell::RefCell;
use core::net::{IpAddr, SocketAddr};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::thread::{Builder, JoinHandle};
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};

/// Starts the thread. `nameservers` empty: those of /etc/resolv.conf, read when the first question comes.
///
/// # Errors
/// The system's, if no thread can be had.
pub fn start(nameservers: Vec<SocketAddr>, asked: Asked) -> io::Result<JoinHandle<()>> {
    Builder::new().name("lookup".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the lookup thread has no runtime; named primaries cannot be found");
                return;
            }
        };
        LocalSet::new().block_on(&runtime, async {
            let resolvers = Rc::new(Resolvers::new(nameservers));
            spawn_local(authentication::answer_all(asked.authentications, Rc::clone(&resolvers)));
            answer_all(asked.questions, &resolvers).await;
        });
    })
}

async fn answer_all(asked: Receiver<Question>, resolvers: &Resolvers) {
    let places = Rc::new(Semaphore::new(LOOKUPS_AT_A_TIME));
    let (addresses, exchangers) = (Rc::<LastKnown<IpAddr>>::default(), Rc::<LastKnown<Exchanger>>::default());
    while let Ok(question) = asked.recv().await {
        if let Question::NameServers(changed) = question {
            resolvers.replace(changed);
            continue;
        }
        let resolver = resolvers.current();
        let places = Rc::clone(&places);
        places.acquire().await.expect("nobody closes the semaphore").forget();
        let (addresses, exchangers) = (Rc::clone(&addresses), Rc::clone(&exchangers));
        spawn_local(async move {
            let resolver =
                resolver.ok_or_else(|| LookupError::Temporary("no name server can be used".to_owned()));
            // A shard that has stopped waiting needs no answer.
            match question {
                Question::Addresses { host, answer } => {
                    let found = async { find_addresses(&resolver?, &host).await };
                    let _ = answer.try_send(addresses.or_kept(&host, found.await));
                }
                Question::Exchangers { domain, answer } => {
                    let found = async { find_exchangers(&resolver?, &domain).await };
                    let _ = answer.try_send(exchangers.or_kept(&domain, found.await));
                }
                Question::NameServers(_) => unreachable!("taken above"),
            }
            places.add_permits(1);
        });
    }
}

/// What was found last, by name: while name servers are down, mail goes where it went. Bounded: what has no room is not kept.
#[derive(Debug)]
struct LastKnown<T>(RefCell<HashMap<String, Vec<T>>>);

impl<T> Default for LastKnown<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T: Clone + PartialEq> LastKnown<T> {
    /// The answer, or what the last one said where there is none now.
    fn or_kept(&self, name: &str, found: Result<Vec<T>, LookupError>) -> Result<Vec<T>, LookupError> {
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

async fn find_addresses(resolver: &TokioResolver, host: &str) -> Result<Vec<IpAddr>, LookupError> {
    let found = resolver.lookup_ip(absolute(host)).await.map_err(|error| judge(&error))?;
    let addresses: Vec<IpAddr> = found.iter().collect();
    if addresses.is_empty() { Err(LookupError::NoAddress) } else { Ok(addresses) }
}

/// RFC 5321 5.1: a domain that exists and names no exchanger is its own.
async fn find_exchangers(resolver: &TokioResolver, domain: &str) -> Result<Vec<Exchanger>, LookupError> {
    let implicit = || vec![Exchanger { preference: 0, host: domain.to_owned() }];
    let found = match resolver.mx_lookup(absolute(domain)).await {
        Ok(found) => found,
        Err(error) if error.is_no_records_found() && !error.is_nx_domain() => return Ok(implicit()),
        Err(error) => return Err(judge(&error)),
    };
    let exchanger = |preference, host: String| Exchanger {
        preference,
        host: host.trim_end_matches('.').to_ascii_lowercase(),
    };
    let exchangers: Vec<Exchanger> = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::MX(mx) => Some(exchanger(mx.preference, mx.exchange.to_ascii())),
            _ => None,
        })
        .collect();
    Ok(if exchangers.is_empty() { implicit() } else { exchangers })
}

/// A trailing dot: the name is whole, no search list applies.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn judge(error: &NetError) -> LookupError {
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
