//! The lookup thread: mail exchangers of domains and addresses of named primaries, by hickory-resolver, cached for as long as the
//! records live, and used for longer while no name server answers.
//!
//! One runtime, one resolver. Questions are answered side by side, a bounded number of them; further ones wait
//! in the channel. The thread ends when the last shard has dropped its end of the channel.

use super::answers::{LastKnown, absolute, found_exchangers, implicit, judge, text_of};
use super::authentication;
use super::mta_sts::Policies;
use super::resolvers::Resolvers;
use super::security;
use crate::bridge::{Asked, Exchanger, LookupError, Question, RecordKind, Trust};
use crate::limits::LOOKUPS_AT_A_TIME;
use async_channel::Receiver;
use core::net::{IpAddr, SocketAddr};
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{Name, RecordType};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};

/// Starts the thread. `nameservers` empty: those of /etc/resolv.conf, read when the first question comes. `policies` are those that
/// are known already.
///
/// # Errors
/// The system's, if no thread can be had.
pub fn start(
    nameservers: Vec<SocketAddr>,
    trust: Trust,
    policies: Arc<Policies>,
    asked: Asked,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name("lookup".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the lookup thread has no runtime; named primaries cannot be found");
                return;
            }
        };
        LocalSet::new().block_on(&runtime, async {
            let resolvers = Rc::new(Resolvers::new(nameservers, trust.trust_anchor.clone()));
            let security = security::answer_all(asked.security, Rc::clone(&resolvers), trust, policies);
            spawn_local(security);
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
                Question::Records { kind, name, answer } => {
                    let found = async { find_records(&resolver?, kind, &name).await };
                    let _ = answer.try_send(found.await);
                }
                Question::NameServers(_) => unreachable!("taken above"),
            }
            places.add_permits(1);
        });
    }
}

async fn find_addresses(resolver: &TokioResolver, host: &str) -> Result<Vec<IpAddr>, LookupError> {
    let found = resolver.lookup_ip(absolute(host)).await.map_err(|error| judge(&error))?;
    let addresses: Vec<IpAddr> = found.iter().collect();
    if addresses.is_empty() { Err(LookupError::NoAddress) } else { Ok(addresses) }
}

async fn find_records(
    resolver: &TokioResolver,
    kind: RecordKind,
    name: &str,
) -> Result<Vec<String>, LookupError> {
    let of_name = || Name::from_utf8(absolute(name));
    let (asked, record_type) = match kind {
        RecordKind::Alias => (of_name(), RecordType::CNAME),
        RecordKind::Names => {
            let address: Result<IpAddr, _> = name.parse();
            (address.map_or_else(|_| of_name(), |address| Ok(Name::from(address))), RecordType::PTR)
        }
        RecordKind::Texts => (of_name(), RecordType::TXT),
    };
    let asked = asked.map_err(|_| LookupError::NoAddress)?;
    let found = resolver.lookup(asked, record_type).await.map_err(|error| judge(&error))?;
    Ok(found.answers().iter().filter_map(|record| text_of(&record.data)).collect())
}

/// RFC 5321 5.1: a domain that exists and names no exchanger is its own.
async fn find_exchangers(resolver: &TokioResolver, domain: &str) -> Result<Vec<Exchanger>, LookupError> {
    match resolver.mx_lookup(absolute(domain)).await {
        Ok(found) => Ok(found_exchangers(found.answers(), domain)),
        Err(error) if error.is_no_records_found() && !error.is_nx_domain() => Ok(implicit(domain)),
        Err(error) => Err(judge(&error)),
    }
}
