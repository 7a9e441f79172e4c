//! What goes on top of a message: Authentication-Results, and a seal (RFC 8617) where its domain has a key.
//!
//! The seal is made by the lookup thread, which looks into a chain that came with the message. Whatever keeps it from coming, the message goes without: a
//! seal is a help for the primary's filter, and mail is not held for it. Chains are strangers' words: one that takes too long costs
//! [`SEAL_TIMEOUT`] once in [`SEAL_PAUSE`].

use super::super::delivery::Job;
use super::Task;
use crate::auth::body::{BodyHashing, Hashed};
use crate::bridge::{AuthenticationQuestion, SealKey, SealQuestion};
use crate::limits::{SEAL_PAUSE, SEAL_TIMEOUT};
use crate::message::authentication::Verdict;
use crate::shard::link::{Dialer, Spawn};
use futures_lite::future::{or, yield_now};
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

impl<D: Disk, C: Clock, N: Dialer, S: Spawn> Task<D, C, N, S> {
    /// See the module. One whose chunks cannot be read goes without: it will be found out when its data goes.
    pub(super) async fn dress(&self, job: &mut Job<D>) {
        let bits = self.lane.queue.borrow().authentication(job.place.1.stamp);
        let (hostname, key) = {
            let snapshot = self.shard.snapshot.borrow();
            (snapshot.config.hostname.clone(), snapshot.seal_of(&self.lane.domain).map(Arc::clone))
        };
        let verdict = Verdict::from_bits(bits);
        let first = match job.chunks().first() {
            Some(chunk) => match self.reader.read_chunk(job.place.0, chunk).await {
                Ok(chunk) => Some(chunk.payload().to_vec()),
                Err(_) => return,
            },
            None => None,
        };
        job.tell_origin(&hostname, &verdict, first.as_deref());
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
        first: Option<Vec<u8>>,
        key: Arc<SealKey>,
    ) -> Option<()> {
        let (results, client) = job.results(&hostname, verdict, first.as_deref().unwrap_or(job.tail()))?;
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
        let Some(sealed) = or(async { answered.recv().await.ok() }, late).await else {
            self.seals_from.set(self.shard.clock.now() + SEAL_PAUSE);
            tracing::warn!(domain = %self.lane.domain, pause_s = SEAL_PAUSE.as_secs(), "an ARC seal does not come in time: mail goes without");
            return None;
        };
        job.seal(sealed?);
        Some(())
    }

    /// The header section and the hashes of the body as it goes.
    async fn hashed(&self, job: &Job<D>, first: Option<Vec<u8>>) -> Option<Hashed> {
        let mut hashing = BodyHashing::whole();
        match first {
            None => hashing.write(&job.cut(job.tail())),
            Some(first) => {
                hashing.write(&job.cut(&first));
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
