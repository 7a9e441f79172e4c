//! The lookup thread's third part: how hosts are to be secured. Questions are worked on side by side, a bounded number of them.

use super::answers::LastKnown;
use super::dnssec;
use super::mta_sts::{Policies, Web};
use super::resolvers::Resolvers;
use crate::bridge::{LookupError, SecureExchangers, SecurityQuestion, Trust};
use crate::limits::{MTA_STS_REFRESH_INTERVAL, SECURITY_AT_A_TIME};
use async_channel::Receiver;
use core::cell::RefCell;
use hickory_resolver::TokioResolver;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

/// Who answers.
struct Answering {
    resolvers: Rc<Resolvers>,
    policies: Arc<Policies>,
    web: RefCell<Rc<Web>>,
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
    let answering = Rc::new(Answering { resolvers, policies, web, exchangers: LastKnown::default() });
    let places = Arc::new(Semaphore::new(SECURITY_AT_A_TIME));
    let refreshing = Rc::clone(&answering);
    let refresh = spawn_local(async move {
        loop {
            tokio::time::sleep(MTA_STS_REFRESH_INTERVAL).await;
            refreshing.refresh().await;
        }
    });
    while let Ok(question) = asked.recv().await {
        if let SecurityQuestion::Trust(trust) = question {
            answering.resolvers.trust(trust.trust_anchor.clone());
            answering.web.replace(Rc::new(Web::new(&trust)));
            continue;
        }
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes the semaphore");
        let answering = Rc::clone(&answering);
        spawn_local(async move {
            answering.answer(question).await;
            drop(place);
        });
    }
    refresh.abort();
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
            SecurityQuestion::Policy { domain, answer } => {
                let policy = match self.resolvers.current() {
                    Some(resolver) => {
                        let web = Rc::clone(&self.web.borrow());
                        Ok(self.policies.policy(&resolver, &web, &domain).await)
                    }
                    None => Err(no_server()),
                };
                let _ = answer.try_send(policy);
            }
            SecurityQuestion::Tlsa { host, port, answer } => {
                let found = async { dnssec::tlsa(&self.validating()?, &host, port).await };
                let _ = answer.try_send(found.await);
            }
            SecurityQuestion::Trust(_) => unreachable!("taken before"),
        }
    }

    fn validating(&self) -> Result<TokioResolver, LookupError> {
        self.resolvers.validating().ok_or_else(no_server)
    }

    async fn refresh(&self) {
        let Some(resolver) = self.resolvers.current() else { return };
        let web = Rc::clone(&self.web.borrow());
        self.policies.refresh(&resolver, &web).await;
    }
}

fn no_server() -> LookupError {
    LookupError::Temporary("no name server can be used".to_owned())
}
