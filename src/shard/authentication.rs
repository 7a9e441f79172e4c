//! The origin of mail, as a shard has it looked into: asked at RCPT and after the commit, told to the journal and the owners
//! when the verdict comes.
//!
//! Promise: no session and no message waits for any of it. Questions are put where there is room, body hashes are made
//! while the record is on its way to the disk, and the verdict is an annotation that comes after the 250. A lookup thread
//! that is stuck, a full channel, a crash before the journal has it: the message has no verdict, so it is not proven
//! (P5). The owners are told before the journal: what rests on a verdict that a crash takes along was right.

use super::measured;
use super::mesh::{Note, Said, owner};
use super::state::Shard;
use crate::auth::body::BodyHashing;
use crate::bridge::{Authenticated, AuthenticationQuestion, MessageQuestion, SenderQuestion, Stored};
use crate::limits::{VERDICT_PAUSE, VERDICTS_A_WRITE};
use crate::message::authentication::Spf;
use crate::smtp::server::ServerSession;
use async_channel::Receiver;
use core::net::IpAddr;
use futures_lite::future::or;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::format::journal_entry::Authentication;
use storage::format::message::domain_of;
use storage::position::{QueueId, ShardId, Stamp};

/// A message that is ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    pub(super) queue_id: QueueId,
    pub(super) stamp: Stamp,
}

/// One transaction's part.
#[derive(Debug, Default)]
pub(super) struct Inquiry(Option<Asked>);

/// There is a recipient whose domain wants it.
#[derive(Debug)]
struct Asked {
    /// The answer about the sender, once it comes.
    spf: Receiver<Spf>,
    hashing: BodyHashing,
}

impl Inquiry {
    /// A recipient was accepted: asks about the sender, unless that was done or nobody wants it, and waits for nothing. Not at
    /// MAIL: who names no recipient of ours would have our name servers asked for nothing.
    pub(super) fn take_recipient<D: Disk, C: Clock>(
        &mut self,
        shard: &Shard<D, C>,
        client: IpAddr,
        session: &ServerSession,
    ) {
        let snapshot = shard.snapshot.borrow();
        let newest = session.transaction().recipients().last().map(domain_of);
        let wants = |domain| snapshot.domain(domain).is_some_and(|domain| domain.authenticate);
        if self.0.is_some() || !newest.is_some_and(wants) {
            return;
        }
        let (answer, spf) = async_channel::bounded(1);
        let question = SenderQuestion {
            client,
            helo: session.greeted_as().to_owned(),
            reverse_path: session.transaction().reverse_path().to_owned(),
            receiver: snapshot.config.hostname.clone(),
            answer,
        };
        // Without room the answer's other end is gone, which reads as no answer.
        let _ = shard.lookup.authenticator().ask(AuthenticationQuestion::Sender(question));
        self.0 = Some(Asked { spf, hashing: BodyHashing::default() });
    }

    /// The next octets of mail data, as they are stored.
    pub(super) fn take(&mut self, stored: &[u8]) {
        if let Some(asked) = &mut self.0 {
            asked.hashing.write(stored);
        }
    }

    /// The message is ours: asks about it, and waits for nothing.
    pub(super) fn ask<D: Disk, C: Clock>(
        self,
        shard: &Shard<D, C>,
        session: &ServerSession,
        accepted: Accepted,
    ) {
        let Some(Asked { spf, hashing }) = self.0 else { return };
        let hashed = hashing.finish();
        let snapshot = shard.snapshot.borrow();
        let transaction = session.transaction();
        let wants = |domain: &&str| snapshot.domain(domain).is_some_and(|domain| domain.authenticate);
        let mut domains: Vec<&str> = transaction.recipients().map(domain_of).filter(wants).collect();
        domains.sort_unstable();
        domains.dedup();
        let stored = Stored {
            queue_id: accepted.queue_id.0,
            stamp: accepted.stamp.0,
            domains: domains.into_iter().map(Arc::from).collect(),
        };
        let question = MessageQuestion {
            stored,
            reverse_path: transaction.reverse_path().to_owned(),
            helo: session.greeted_as().to_owned(),
            header: hashed.header,
            bodies: hashed.bodies,
            spf,
            answer: shard.verdicts.answer.clone(),
        };
        if !shard.lookup.authenticator().ask(AuthenticationQuestion::Message(Box::new(question))) {
            shard.counters.unauthenticated.add(1);
            tracing::debug!(queue_id = %accepted.queue_id, "no verdict: the lookup thread is behind");
        }
    }
}

/// Takes verdicts as they come, until the shard shuts down.
pub(super) async fn run<D: Disk, C: Clock>(shard: Rc<Shard<D, C>>) {
    while !shard.is_shutting_down() {
        let shutdown = shard.shutdown.wait();
        let first = async { shard.verdicts.answered.recv().await.ok() };
        let ended = async {
            shutdown.await;
            None
        };
        let Some(first) = or(first, ended).await else { return };
        let _telling = shard.telling.guard();
        let mut all = vec![first];
        gather(&shard, &mut all);
        tell_owners(&shard, &all).await;
        // A block of the journal serves many.
        let shutdown = shard.shutdown.wait();
        or(shard.clock.sleep(VERDICT_PAUSE), shutdown).await;
        let told = all.len();
        gather(&shard, &mut all);
        tell_owners(&shard, &all[told..]).await;
        let rows: Vec<Authentication> = all.iter().map(authentication).collect();
        let written = match shard.journal.append_authentications(None, &rows).await {
            Ok(ticket) => ticket.await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(%error, verdicts = rows.len(), "verdicts cannot be journalled; the next start has none");
        }
    }
}

/// Takes those that are there.
fn gather<D: Disk, C: Clock>(shard: &Shard<D, C>, all: &mut Vec<Authenticated>) {
    while all.len() < VERDICTS_A_WRITE {
        let Ok(next) = shard.verdicts.answered.try_recv() else { return };
        all.push(next);
    }
}

fn authentication(answer: &Authenticated) -> Authentication {
    Authentication { stamp: Stamp(answer.stored.stamp), bits: answer.verdict.bits() }
}

async fn tell_owners<D: Disk, C: Clock>(shard: &Shard<D, C>, all: &[Authenticated]) {
    let mut by_owner: BTreeMap<ShardId, Vec<Said>> = BTreeMap::new();
    for answer in all {
        measured::verdict(&shard.counters, &answer.verdict);
        let queue_id = QueueId(answer.stored.queue_id);
        tracing::info!(%queue_id, verdict = %answer.verdict, "authenticated");
        let mut owners: BTreeMap<ShardId, Vec<Arc<str>>> = BTreeMap::new();
        for domain in &answer.stored.domains {
            owners.entry(owner(domain, shard.shards)).or_default().push(Arc::clone(domain));
        }
        for (owner, domains) in owners {
            let said = Said { domains, authentication: authentication(answer) };
            by_owner.entry(owner).or_default().push(said);
        }
    }
    for (owner, said) in by_owner {
        if owner == shard.id {
            shard.lanes.annotate(&said);
        } else if shard.mesh.senders[usize::from(owner.0)].send(Note::Authenticated(said)).await.is_err() {
            tracing::debug!(%owner, "the owner has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::authentication::Verdict;

    #[test]
    fn the_journal_says_what_the_log_says() {
        // Each field at each of its values, beside others.
        for at in 0..u32::BITS {
            for value in 0..8_u32 {
                let verdict = Verdict::from_bits(value.rotate_left(at) | 1 << 10);
                let authentication = Authentication { stamp: Stamp(1), bits: verdict.bits() };
                assert_eq!(authentication.to_string(), verdict.to_string());
            }
        }
    }
}
