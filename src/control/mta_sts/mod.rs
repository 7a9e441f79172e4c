//! MTA-STS policies of domains (RFC 8461): looked for, fetched, kept, and used until their time is over.
//!
//! - A domain without a record has none. One whose record has an `id` that is not the one at hand has its policy fetched; whoever
//!   asked waits for that, 60 s at most, and so does who asks while it is under way. Where one is kept it is used at once, and what
//!   is newer by who asks next.
//! - What cannot be fetched leaves the policy before in force, as long as its `max_age` says; so does a record that is gone, and a
//!   name server that does not answer: whoever could hinder us must not so take a policy back (RFC 8461 3.3, 5.1, 10.2). Without one
//!   before there is none. It is tried again 5 minutes later at the earliest.
//! - Each policy of a domain that asks is fetched again once a day, and at half of a shorter `max_age`, so that this begins anew before
//!   it is over. Those of other domains are forgotten. A policy that there is no room to keep is used, and fetched by each who asks.
//! - All of that outlives the process: the thread of files writes it into the data directory ([`Policies::keep`]).

mod fetch;
mod kept;

use super::file;
use crate::config;
use crate::limits::{MTA_STS_FETCH_PAUSE, MTA_STS_FETCH_TIMEOUT, MTA_STS_POLICIES_MAX, MTA_STS_REFRESH_AGE};
use crate::message::mta_sts::{Policy, record_id};
pub(super) use fetch::Web;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use rustls::pki_types::UnixTime;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::{Instant, timeout};

/// The file of the policies that are kept, in the data directory.
const FILE: &str = "mta-sts.json";

/// See the module.
#[derive(Debug)]
pub struct Policies {
    data_dir: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    policies: HashMap<String, Entry>,
    /// When a policy could not be fetched, by domain.
    tried: HashMap<String, Instant>,
    /// Domains whose policy is being fetched; whoever asks meanwhile waits for the lock.
    under_way: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
    /// Something is not in the file.
    is_news: bool,
}

/// A policy that is kept.
#[derive(Clone, Debug)]
struct Entry {
    /// Of the record that it was fetched by.
    id: String,
    /// As it came.
    text: String,
    policy: Arc<Policy>,
    /// Seconds since 1970.
    fetched_s: u64,
}

/// What the domain's record says.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Recorded {
    Id(String),
    /// There is none, or it is not known.
    Nothing,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The policy is fetched; if that fails, it is as with [`Self::Use`].
    Fetch,
    /// What is kept, if that is anything that still holds.
    Use,
}

/// Pure: `kept` is the id of the policy that still holds.
fn step(kept: Option<&str>, recorded: &Recorded, was_tried: bool) -> Step {
    match recorded {
        Recorded::Id(id) if kept != Some(id) && !was_tried => Step::Fetch,
        Recorded::Id(_) | Recorded::Nothing => Step::Use,
    }
}

impl Entry {
    fn holds(&self, now_s: u64) -> bool {
        now_s < self.fetched_s.saturating_add(self.policy.max_age_s.into())
    }

    fn is_old(&self, now_s: u64) -> bool {
        let age_s = MTA_STS_REFRESH_AGE.as_secs().min(u64::from(self.policy.max_age_s) / 2);
        now_s >= self.fetched_s.saturating_add(age_s)
    }
}

impl Policies {
    /// Those that are kept in this directory, which is ours.
    #[must_use]
    pub fn restored(data_dir: &Path) -> Arc<Self> {
        let policies = Self { data_dir: data_dir.to_owned(), known: Mutex::default() };
        policies.restore();
        Arc::new(policies)
    }

    /// Takes those that were known when the process before ended, as far as they still hold.
    fn restore(&self) {
        let path = self.data_dir.join(FILE);
        let file = path.display();
        let octets = match config::read_kept(&path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::error!(%file, %error, "the MTA-STS policies cannot be read; they are fetched anew");
                return;
            }
        };
        match kept::decode(&octets) {
            Some(mut policies) => {
                policies.retain(|_, entry| entry.holds(now_s()));
                tracing::info!(%file, policies = policies.len(), "MTA-STS policies were read");
                self.known().policies = policies;
            }
            None => tracing::error!(%file, "the MTA-STS policies are damaged: they are fetched anew"),
        }
    }

    /// Writes them down, if there is anything new.
    pub fn keep(&self) {
        let octets = {
            let mut known = self.known();
            if !core::mem::take(&mut known.is_news) {
                return;
            }
            kept::encode(&known.policies)
        };
        if let Err(error) = file::keep(&self.data_dir, FILE, &octets) {
            self.known().is_news = true;
            tracing::error!(%error, "the MTA-STS policies cannot be written; it is tried again");
        }
    }

    /// The policy of a domain that is in force, as far as one is kept.
    pub(super) fn kept(&self, domain: &str) -> Option<Arc<Policy>> {
        self.in_force(domain).map(|entry| entry.policy)
    }

    /// The policy of a domain that is in force, the latest; whoever asks may wait for a web server.
    pub(super) async fn latest(
        &self,
        resolver: &TokioResolver,
        web: &Web,
        domain: &str,
    ) -> Option<Arc<Policy>> {
        let recorded = recorded(resolver, domain).await;
        let fetch = async |id| self.fetch(resolver, web, domain, id).await;
        self.take_step(domain, recorded, fetch).await
    }

    async fn take_step(
        &self,
        domain: &str,
        recorded: Recorded,
        fetch: impl AsyncFnOnce(String) -> Option<Arc<Policy>>,
    ) -> Option<Arc<Policy>> {
        let next = || {
            let kept = self.in_force(domain).map(|entry| entry.id);
            step(kept.as_deref(), &recorded, self.was_tried(domain))
        };
        if next() == Step::Use {
            return self.kept(domain);
        }
        let alone = self.alone(domain);
        let turn = alone.lock().await;
        // Whoever was before us may have done it.
        let fetched = match (next(), &recorded) {
            (Step::Fetch, Recorded::Id(id)) => fetch(id.clone()).await,
            _ => None,
        };
        drop(turn);
        self.known().forget_lock(domain, alone);
        fetched.or_else(|| self.kept(domain))
    }

    /// Forgets those that are over, and of domains that do not ask; gives the domains whose policy is to be fetched again.
    pub(super) fn old(&self, asking: &HashSet<String>) -> Vec<String> {
        let now_s = now_s();
        let mut known = self.known();
        let before = known.policies.len();
        known.policies.retain(|domain, entry| entry.holds(now_s) && asking.contains(domain));
        known.is_news |= known.policies.len() != before;
        let old = known.policies.iter().filter(|(_, entry)| entry.is_old(now_s));
        old.map(|(domain, _)| domain.clone()).collect()
    }

    /// Fetches one again.
    pub(super) async fn renew(&self, resolver: &TokioResolver, web: &Web, domain: &str) {
        let Recorded::Id(id) = recorded(resolver, domain).await else { return };
        let alone = self.alone(domain);
        let turn = alone.lock().await;
        let is_old = self.in_force(domain).is_some_and(|entry| entry.is_old(now_s()));
        if is_old && !self.was_tried(domain) {
            self.fetch(resolver, web, domain, id).await;
        }
        drop(turn);
        self.known().forget_lock(domain, alone);
    }

    fn alone(&self, domain: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.known().under_way.entry(domain.to_owned()).or_default())
    }

    async fn fetch(
        &self,
        resolver: &TokioResolver,
        web: &Web,
        domain: &str,
        id: String,
    ) -> Option<Arc<Policy>> {
        let fetched = timeout(MTA_STS_FETCH_TIMEOUT, fetch::fetch(resolver, web, domain)).await;
        let fetched = fetched.unwrap_or_else(|_| Err("the web server takes too long".to_owned()));
        let parsed = fetched.and_then(|text| match Policy::parse(&text) {
            Ok(policy) => Ok((text, policy)),
            Err(error) => Err(format!("what it sends is no policy: {error}")),
        });
        match parsed {
            Ok((text, policy)) => {
                let (mode, max_age_s) = (policy.mode, policy.max_age_s);
                tracing::info!(domain, id, ?mode, max_age_s, mx = ?policy.mx, "an MTA-STS policy was fetched");
                let policy = Arc::new(policy);
                let entry = Entry { id, text, policy: Arc::clone(&policy), fetched_s: now_s() };
                self.known().take(domain, entry);
                Some(policy).filter(|policy| policy.max_age_s > 0)
            }
            Err(reason) => {
                self.known().note_try(domain);
                let has_one = self.in_force(domain).is_some();
                tracing::warn!(
                    domain,
                    id,
                    reason,
                    "the domain's MTA-STS policy cannot be fetched; {}",
                    if has_one { "the one before stays in force" } else { "none is in force" }
                );
                None
            }
        }
    }

    fn in_force(&self, domain: &str) -> Option<Entry> {
        let now_s = now_s();
        self.known().policies.get(domain).filter(|entry| entry.holds(now_s)).cloned()
    }

    fn was_tried(&self, domain: &str) -> bool {
        self.known().tried.get(domain).is_some_and(|at| at.elapsed() < MTA_STS_FETCH_PAUSE)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // It is whole after each operation, whatever panicked elsewhere.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn note_try(&mut self, domain: &str) {
        if self.tried.len() >= MTA_STS_POLICIES_MAX {
            self.tried.retain(|_, at| at.elapsed() < MTA_STS_FETCH_PAUSE);
        }
        if self.tried.len() < MTA_STS_POLICIES_MAX {
            self.tried.insert(domain.to_owned(), Instant::now());
        }
    }

    /// Gives a lock back.
    fn forget_lock(&mut self, domain: &str, lock: Arc<tokio::sync::Mutex<()>>) {
        drop(lock);
        if self.under_way.get(domain).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            self.under_way.remove(domain);
        }
    }

    fn take(&mut self, domain: &str, entry: Entry) {
        self.tried.remove(domain);
        if self.policies.len() < MTA_STS_POLICIES_MAX || self.policies.contains_key(domain) {
            self.policies.insert(domain.to_owned(), entry);
            self.is_news = true;
        }
    }
}

async fn recorded(resolver: &TokioResolver, domain: &str) -> Recorded {
    let found = match resolver.txt_lookup(format!("_mta-sts.{domain}.")).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(domain, %error, "no MTA-STS record");
            return Recorded::Nothing;
        }
    };
    let texts = found.answers().iter().filter_map(|record| match &record.data {
        RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
        _ => None,
    });
    let texts: Vec<String> = texts.collect();
    let id = record_id(texts.iter().map(String::as_str));
    id.map_or(Recorded::Nothing, |id| Recorded::Id(id.to_owned()))
}

/// Seconds since 1970, by the clock that certificates are verified by.
fn now_s() -> u64 {
    UnixTime::now().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn a_policy_is_fetched_when_its_record_names_another() {
        let id = |id: &str| Recorded::Id(id.to_owned());
        for (kept, recorded, was_tried, expected) in [
            (None, Recorded::Nothing, false, Step::Use),
            (None, id("a"), false, Step::Fetch),
            (None, id("a"), true, Step::Use),
            (Some("a"), id("a"), false, Step::Use),
            (Some("a"), id("b"), false, Step::Fetch),
            (Some("a"), id("b"), true, Step::Use),
            // Whoever hides the record takes nothing back.
            (Some("a"), Recorded::Nothing, false, Step::Use),
        ] {
            assert_eq!(step(kept, &recorded, was_tried), expected, "{kept:?} {recorded:?} {was_tried}");
        }
    }

    #[test]
    fn a_policy_holds_for_as_long_as_it_says_and_is_old_after_a_day_or_half_of_that() {
        let entry = |max_age_s: u32| entry("a", max_age_s, 1_000_000);
        let long = entry(200_000);
        assert!(long.holds(1_199_999) && !long.holds(1_200_000));
        assert!(long.is_old(1_086_400) && !long.is_old(1_086_399));
        let day = entry(86_400);
        assert!(day.is_old(1_043_200) && !day.is_old(1_043_199), "while it still holds");
    }

    fn entry(id: &str, max_age_s: u32, fetched_s: u64) -> Entry {
        let text = format!("version: STSv1\nmode: none\nmax_age: {max_age_s}\n");
        let policy = Arc::new(Policy::parse(&text).expect("a policy"));
        Entry { id: id.to_owned(), text, policy, fetched_s }
    }

    #[test]
    fn who_asks_while_a_policy_is_fetched_waits_for_it() {
        let policies = Policies { data_dir: PathBuf::new(), known: Mutex::default() };
        let (go, gone) = async_channel::bounded::<()>(1);
        let fetches = core::cell::Cell::new(0);
        let ask = async || {
            let fetch = async |id: String| {
                fetches.set(fetches.get() + 1);
                let _ = gone.recv().await;
                let entry = entry(&id, 86_400, now_s());
                let policy = Arc::clone(&entry.policy);
                policies.known().take("a.test", entry);
                Some(policy)
            };
            policies.take_step("a.test", Recorded::Id("1".to_owned()), fetch).await
        };
        let (mut first, mut second) = (Box::pin(ask()), Box::pin(ask()));
        let poll = |asker: &mut _| block_on(poll_once(asker));
        assert!(poll(&mut first).is_none() && poll(&mut second).is_none(), "both wait");
        go.try_send(()).expect("room");
        assert!(poll(&mut first).is_some_and(|policy| policy.is_some()));
        assert!(poll(&mut second).is_some_and(|policy| policy.is_some()), "as in force as for the first");
        assert_eq!(fetches.get(), 1);
        assert!(policies.known().under_way.is_empty());
    }

    #[test]
    fn policies_of_domains_that_do_not_ask_are_forgotten() {
        let policies = Policies { data_dir: PathBuf::new(), known: Mutex::default() };
        for (domain, age_s) in
            [("new.test", 0), ("old.test", 50_000), ("left.test", 50_000), ("over.test", 90_000)]
        {
            policies.known().take(domain, entry("1", 86_400, now_s() - age_s));
        }
        let asking = ["new.test", "old.test", "over.test"].map(str::to_owned).into();
        assert_eq!(policies.old(&asking), ["old.test"]);
        let mut kept: Vec<_> = policies.known().policies.keys().cloned().collect();
        kept.sort();
        assert_eq!(kept, ["new.test", "old.test"]);
    }
}
