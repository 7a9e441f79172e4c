//! The lookup thread's other half: SPF, DKIM and DMARC of mail that is coming or has come, ARC of what goes (see [`crate::auth`]).
//!
//! Questions are worked on side by side, a bounded number of them; one that panics is dropped and harms no other.

use super::resolvers::Resolvers;
use crate::auth::contained::Contained;
use crate::auth::spf::Identity;
use crate::auth::{arc, spf, verdict};
use crate::bridge::{Authenticated, AuthenticationQuestion, MessageQuestion};
use crate::limits::{AUTHENTICATIONS_AT_A_TIME, SPF_BUDGET};
use crate::message::authentication::Spf;
use async_channel::Receiver;
use hickory_resolver::TokioResolver;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// Answers until nobody can ask any more.
pub(super) async fn answer_all(asked: Receiver<AuthenticationQuestion>, resolvers: Rc<Resolvers>) {
    let places = Arc::new(Semaphore::new(AUTHENTICATIONS_AT_A_TIME));
    while let Ok(question) = asked.recv().await {
        // Without a resolver whoever waits learns that there is no answer.
        let Some(resolver) = resolvers.current() else { continue };
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes the semaphore");
        spawn_local(async move {
            if Contained::new(answer(&resolver, question)).await.is_none() {
                tracing::error!("the authentication of a message failed; it has no verdict");
            }
            drop(place);
        });
    }
}

async fn answer(resolver: &TokioResolver, question: AuthenticationQuestion) {
    match question {
        AuthenticationQuestion::Sender(asked) => {
            let identity = Identity {
                client: asked.client,
                helo: &asked.helo,
                reverse_path: &asked.reverse_path,
                receiver: &asked.receiver,
            };
            let result = timeout(SPF_BUDGET, spf::check(resolver, &identity)).await;
            // A session that has ended needs no answer.
            let _ = asked.answer.try_send(result.unwrap_or(Spf::TempError));
        }
        AuthenticationQuestion::Seal(question) => {
            let sealed = arc::seal(resolver, &question).await;
            // A lane that waits no longer sends it without.
            let _ = question.answer.try_send(sealed);
        }
        AuthenticationQuestion::Message(question) => answer_message(resolver, *question).await,
    }
}

async fn answer_message(resolver: &TokioResolver, question: MessageQuestion) {
    // It was asked before: it is there, or under way within its own budget.
    let spf = timeout(SPF_BUDGET, question.spf.recv()).await;
    let spf = spf.ok().and_then(Result::ok).unwrap_or(Spf::TempError);
    let verdict = verdict::reach(resolver, &question, spf).await;
    let queue_id = question.stored.queue_id;
    // A shard that is behind goes without: its mail is what matters.
    if question.answer.try_send(Authenticated { stored: question.stored, verdict }).is_err() {
        tracing::warn!(queue_id, "a verdict is dropped: the shard is behind");
    }
}
