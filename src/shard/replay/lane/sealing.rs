//! What goes on top of a message: Authentication-Results, and a seal (RFC 8617) where its domain has a key.
//!
//! The seal is made by the lookup thread, which looks into a chain that came with the message. Whatever keeps it from coming, the message goes without: a
//! seal is a help for the primary's filter, and mail is not held for it. Chains are strangers' words, and ask for DNS: behind one that got no seal, for
//! whatever reason, mail with a chain goes without for [`SEAL_PAUSE`], and so does all mail when the thread is behind.

use super::super::delivery::Job;
use super::Task;
use crate::auth::body::{BodyHashing, Hashed};
use crate::bridge::{AuthenticationQuestion, SealKey, SealQuestion};
use crate::limits::{SEAL_PAUSE, SEAL_TIMEOUT, SEALED_OCTETS_MAX};
use crate::message::authentication::Verdict;
use crate::message::received::has_field;
use crate::shard::link::{Dialer, Spawn};
use futures_lite::future::{or, yield_now};
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

impl<D: Disk, C: Clock, N: Dialer, S: Spawn> Task<D, C, N, S> {
    /// See the module. One whose chunks cannot be read goes as it is: it will be found out when its data goes.
    pub(super) async fn dress(&self, job: &mut Job<D>) {
        let bits = self.lane.queue.borrow().authentication(job.place.1.stamp);
        let (hostname, key) = {
            let snapshot = self.shard.snapshot.borrow();
            (snapshot.config.hostname.clone(), snapshot.seal_of(&self.lane.domain).map(Arc::clone))
        };
        let verdict = Verdict::from_bits(bits);
        let first = match job.chunks().first() {
            Some(chunk) => match self.reader.read_chunk(job.place.0, chunk).await {
                Ok(chunk) => Some(chunk),
                Err(_) => return,
            },
            None => None,
        };
        let first = first.as_ref().map(|chunk| chunk.payload());
        job.tell_origin(&hostname, &verdict, first);
        if let Some(key) = key.filter(|_| self.shard.clock.now() >= self.seals_from.get()) {
            let _ = self.seal(job, hostname, &verdict, first, key).await;
        }
    }

    /// `None`: it goes without.
    async fn seal(
        &self,
        job: &mut Job<D>,
        hostname: String,
        verdict: &Verdict,
        first: Option<&[u8]>,
        key: Arc<SealKey>,
    ) -> Option<()> {
        let header = first.unwrap_or(job.tail());
        let has_chain = has_field(header, "ARC-Seal");
        let is_large = job.place.1.stored_octets() > SEALED_OCTETS_MAX;
        if is_large || (has_chain && self.shard.clock.now() < self.chains_from.get()) {
            return None;
        }
        let (results, client) = job.results(&hostname, verdict, header)?;
        let Hashed { header, bodies } = self.hashed(job, first).await?;
        let (answer, answered) = async_channel::bounded(1);
        let question = SealQuestion { header: header?, bodies, hostname, results, client, key, answer };
        if !self.shard.lookup.authenticator().ask(AuthenticationQuestion::Seal(Box::new(question))) {
            return None;
        }
        let late = async {
            self.shard.clock.sleep(SEAL_TIMEOUT).await;
            None
        };
        let answer = or(async { answered.recv().await.ok() }, late).await;
        let later = self.shard.clock.now() + SEAL_PAUSE;
        match answer {
            Some(Some(seal)) => job.seal(seal),
            _ if has_chain => self.chains_from.set(later),
            _ => {
                self.seals_from.set(later);
                tracing::warn!(domain = %self.lane.domain, pause_s = SEAL_PAUSE.as_secs(), "no ARC seal comes: mail goes without");
            }
        }
        Some(())
    }

    /// The header section and the hashes of the body as it goes.
    async fn hashed(&self, job: &Job<D>, first: Option<&[u8]>) -> Option<Hashed> {
        let mut hashing = BodyHashing::relaxed();
        match first {
            None => hashing.write(&job.cut(job.tail())),
            Some(first) => {
                hashing.write(&job.cut(first));
                for chunk in job.chunks().iter().skip(1) {
                    let chunk = self.reader.read_chunk(job.place.0, chunk).await.ok()?;
                    hashing.write(chunk.payload());
                    yield_now().await;
                }
                hashing.write(job.tail());
            }
        }
        Some(hashing.finish())
    }
}
