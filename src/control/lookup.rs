//! The lookup thread: addresses of named primaries, by hickory-resolver, cached for as long as the records live.
//!
//! One runtime, one resolver. Questions are answered side by side, a bounded number of them; further ones wait
//! in the channel. The thread ends when the last shard has dropped its end of the channel.

use super::authentication;
use super::resolvers::Resolvers;
use crate::bridge::{Asked, LookupError, Question};
use crate::limits::LOOKUPS_AT_A_TIME;
use async_channel::Receiver;
use core::net::{IpAddr, SocketAddr};
use hickory_resolver::TokioResolver;
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
    while let Ok(question) = asked.recv().await {
        let (host, answer) = match question {
            Question::Addresses { host, answer } => (host, answer),
            Question::NameServers(changed) => {
                resolvers.replace(changed);
                continue;
            }
        };
        let Some(resolver) = resolvers.current() else {
            let error = LookupError::Temporary("no name server can be used".to_owned());
            // A shard that has stopped waiting needs no answer, here and below.
            let _ = answer.try_send(Err(error));
            continue;
        };
        let places = Rc::clone(&places);
        places.acquire().await.expect("nobody closes the semaphore").forget();
        spawn_local(async move {
            let _ = answer.try_send(addresses(&resolver, &host).await);
            places.add_permits(1);
        });
    }
}

async fn addresses(resolver: &TokioResolver, host: &str) -> Result<Vec<IpAddr>, LookupError> {
    // A trailing dot: the name is whole, no search list applies.
    let name = format!("{}.", host.trim_end_matches('.'));
    match resolver.lookup_ip(name).await {
        Ok(found) => {
            let addresses: Vec<IpAddr> = found.iter().collect();
            if addresses.is_empty() { Err(LookupError::NoAddress) } else { Ok(addresses) }
        }
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => Err(LookupError::NoAddress),
        Err(error) => Err(LookupError::Temporary(error.to_string())),
    }
}
