//! The lookup thread's third part: how hosts are to be secured. Questions are worked on side by side, a bounded number of them.

use super::answers::LastKnown;
use super::dnssec;
use super::mta_sts::{Policies, Web};
use super::resolvers::Resolvers;
use crate::bridge::{LookupError, SecureExchangers, SecurityQuestion, Trust};
use crate::limits::{
    MTA_STS_LOOKS_AT_A_TIME, MTA_STS_REFRESH_INTERVAL, MTA_STS_REFRESHES_AT_A_TIME, SECURITY_AT_A_TIME,
};
use crate::message::mta_sts::Policy;
use async_channel::{Receiver, Sender};
use core::cell::RefCell;
use hickory_resolver::TokioResolver;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_local};

/// Who answers.
struct Answering {
    resolvers: Rc<Resolvers>,
    policies: Arc<Policies>,
    web: RefCell<Rc<Web>>,
    /// Domains whose policies are asked for.
    policies_of: RefCell<Arc<HashSet<String>>>,
    /// Places for who looks for a policy.
    looks: Arc<Semaphore>,
    exchangers: LastKnown<SecureExchangers>,
}

/// Answers until nobody can ask any more; keeps policies fresh meanwhile.
pub(super) async fn answer_all(
    asked: Receiver<SecurityQuestion>,
    resolvers: Rc<Resolvers>,
    trust: Trust,
    policies: Arc<Policies>,
) {
    let web = RefCell::new(Rc::new(Web::new(&trust)));
    let policies_of = RefCell::new(Arc::clone(&trust.policies_of));
    let looks = Arc::new(Semaphore::new(MTA_STS_LOOKS_AT_A_TIME));
    let exchangers = LastKnown::default();
    let answering = Rc::new(Answering { resolvers, policies, web, policies_of, looks, exchangers });
    let places = Arc::new(Semaphore::new(SECURITY_AT_A_TIME));
    let refreshing = Rc::clone(&answering);
    let refreshes = spawn_local(async move {
        loop {
            tokio::time::sleep(MTA_STS_REFRESH_INTERVAL).await;
            refresh(&refreshing).await;
        }
    });
    while let Ok(question) = asked.recv().await {
        if let SecurityQuestion::Trust(trust) = question {
            answering.resolvers.trust(trust.trust_anchor.clone());
            answering.web.replace(Rc::new(Web::new(&trust)));
            answering.policies_of.replace(trust.policies_of);
            continue;
        }
        if let SecurityQuestion::Policy { domain, answer } = question {
            // No more of them than who asks, and one look beside each place.
            let answering = Rc::clone(&answering);
            spawn_local(async move { answering.answer_policy(&domain, &answer).await });
            continue;
        }
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes the semaphore");
        let answering = Rc::clone(&answering);
        spawn_local(async move {
            answering.answer(question).await;
            drop(place);
        });
    }
    refreshes.abort();
}

impl Answering {
    // Who has stopped waiting needs no answer.
    async fn answer(&self, question: SecurityQuestion) {
        match question {
            SecurityQuestion::Exchangers { domain, answer } => {
                let found = async { dnssec::exchangers(&self.validating()?, &domain).await };
                let known = self.exchangers.or_kept(&domain, found.await.map(|found| vec![found]));
                let _ =
                    answer.try_send(known.and_then(|known| known.into_iter().next().ok_or_else(no_server)));
            }
            SecurityQuestion::Tlsa { host, port, answer } => {
                let found = async { dnssec::tlsa(&self.validating()?, &host, port).await };
                let _ = answer.try_send(found.await);
            }
            SecurityQuestion::Policy { .. } | SecurityQuestion::Trust(_) => unreachable!("taken before"),
        }
    }

    fn validating(&self) -> Result<TokioResolver, LookupError> {
        self.resolvers.validating().ok_or_else(no_server)
    }

    /// By what is kept at once; whether there is a newer one is looked at behind that, if there is a place.
    async fn answer_policy(&self, domain: &str, answer: &Sender<Result<Option<Arc<Policy>>, LookupError>>) {
        let place = match self.policies.kept(domain) {
            Some(policy) => {
                let _ = answer.try_send(Ok(Some(policy)));
                let Ok(place) = self.looks.try_acquire() else { return };
                place
            }
            None => self.looks.acquire().await.expect("nobody closes the semaphore"),
        };
        let policy = match self.resolvers.current() {
            Some(resolver) => {
                let web = Rc::clone(&self.web.borrow());
                Ok(self.policies.latest(&resolver, &web, domain).await)
            }
            None => Err(no_server()),
        };
        drop(place);
        // It is full where there was an answer before.
        let _ = answer.try_send(policy);
    }
}

/// Keeps policies fresh: several at a time, as each may wait for its web server.
async fn refresh(answering: &Rc<Answering>) {
    let Some(resolver) = answering.resolvers.current() else { return };
    let web = Rc::clone(&answering.web.borrow());
    let asking = Arc::clone(&answering.policies_of.borrow());
    let places = Arc::new(Semaphore::new(MTA_STS_REFRESHES_AT_A_TIME));
    let mut tasks = JoinSet::new();
    for domain in answering.policies.old(&asking) {
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes the semaphore");
        let (answering, web, resolver) = (Rc::clone(answering), Rc::clone(&web), resolver.clone());
        tasks.spawn_local(async move {
            answering.policies.renew(&resolver, &web, &domain).await;
            drop(place);
        });
    }
    while tasks.join_next().await.is_some() {}
}

fn no_server() -> LookupError {
    LookupError::Temporary("no name server can be used".to_owned())
}
