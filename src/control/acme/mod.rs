//! Our own certificate from an authority (ACME, RFC 8555): senders that enforce MTA-STS refuse a self-signed one.
//!
//! ```text
//!     none is kept, another authority or other names, or two thirds of its time are over
//!   holds ────────────────────────────────────────────────────────────────────> due ── order ──> kept, shown: holds
//!     the one before is shown meanwhile, else the self-signed one                ^                  │ fails
//!                                                                                └── 15 min … 6 h ──┘
//! ```
//! - One task of the admin thread looks every few seconds; one order at a time, bounded in time.
//! - What an order gives is used only if it is a certificate for our names with its key, and then written whole (chain and key in one file of the
//!   data directory, for us alone) before it is shown, from the next handshake on. An account at the authority is kept beside it.
//! - That a name is ours is shown by a page (HTTP-01) or a handshake (TLS-ALPN-01, RFC 8737), on listeners of their own or the admin API's, which say
//!   nothing else ([`visit`]).
//!
//! - A renewal keeps the key, so that a TLSA record for it (RFC 7672, `3 1 1`) stays true.
//!
//! Failure answers: what is shown stays; the operator is told in the log, and by an alert ([`Standing`]). A process that ends in the middle orders again,
//! with the same account, a few times an hour at most ([`tries`]). An account that the authority does not take any more is made anew. What was issued
//! and cannot be written is not ordered again while the process runs. Without a place to listen nothing is ordered; mail never waits for any of it.

mod answers;
mod kept;
mod order;
mod tries;
mod visit;
mod web;

pub use answers::{ALPN, Answers, asks};
pub use kept::files;
pub use visit::bind;

use super::certificate::Watch;
use super::file::Look;
use super::store::now_s;
use crate::auth::contained::Contained;
use crate::bridge::Current;
use crate::config::{Acme, Challenge, Config};
use crate::limits::{ACME_LOOK_INTERVAL, ACME_ORDER_TIMEOUT, ACME_ORDERS_AN_HOUR};
use futures_lite::future::or;
use kept::{Issued, Kept, Unkept};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

/// What orders, and what answers the authority.
#[derive(Debug, Default)]
pub struct Parts {
    /// What shows certificates; those that show our own are told of a new one.
    pub watches: Vec<Arc<Watch>>,
    /// What the authority finds.
    pub answers: Arc<Answers>,
    /// Where it looks.
    pub listeners: Vec<TcpListener>,
    /// Why it looks there in vain.
    pub deaf: Option<String>,
    /// How it stands.
    pub standing: Arc<Standing>,
}

/// How it stands with the certificate.
#[derive(Debug, Default)]
pub struct Standing(Mutex<Stands>);

/// See [`Standing`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stands {
    /// It was not looked at yet, or a first order is under way.
    #[default]
    Unknown,
    /// None is due.
    Well,
    /// None is issued, for this reason.
    Failed(String),
}

impl Standing {
    /// How it stands now.
    #[must_use]
    pub fn now(&self) -> Stands {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, stands: Stands) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stands;
    }
}

/// Whether the files that are named can be used.
///
/// # Errors
/// A sentence for the operator that names the key and the file.
pub fn check(config: &Config) -> Result<(), String> {
    let Some(acme) = &config.acme else { return Ok(()) };
    order::external_account(acme)?;
    acme.roots.as_ref().map_or(Ok(()), |_| order::roots(acme).map(drop))
}

/// What is wanted of whom.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wanted {
    acme: Acme,
    names: Vec<String>,
    data_dir: PathBuf,
}

impl Wanted {
    fn of(config: &Config) -> Option<Self> {
        let acme = config.acme.clone()?;
        let names = acme.names(&config.hostname).into_iter().map(str::to_owned).collect();
        Some(Self { acme, names, data_dir: config.data_dir.clone() })
    }
}

/// What is known between two looks.
#[derive(Debug, Default)]
struct Known {
    wanted: Option<Wanted>,
    failures: u32,
    not_before: Option<Instant>,
    /// The file as it was seen last, and what was in it.
    seen: Option<Look>,
    kept: Option<Arc<Kept>>,
    /// What was issued and could not be kept.
    issued: Option<Issued>,
}

/// What looks, orders and shows.
struct Task {
    current: Arc<Current>,
    watches: Vec<Arc<Watch>>,
    answers: Arc<Answers>,
    deaf: Option<String>,
    standing: Arc<Standing>,
}

/// Looks, orders and answers, as long as the thread runs.
pub(super) async fn run(current: Arc<Current>, parts: Parts) {
    let Parts { watches, answers, listeners, deaf, standing } = parts;
    let challenge = current.get().config.acme.as_ref().map(|acme| acme.challenge);
    for listener in listeners {
        let answers = Arc::clone(&answers);
        match challenge {
            Some(Challenge::TlsAlpn01) => drop(tokio::spawn(visit::handshakes(listener, answers))),
            _ => drop(tokio::spawn(visit::pages(listener, answers))),
        }
    }
    let task = Task { current, watches, answers, deaf, standing };
    let mut known = Known::default();
    loop {
        task.look(&mut known).await;
        sleep(ACME_LOOK_INTERVAL).await;
    }
}

impl Task {
    async fn look(&self, known: &mut Known) {
        let wanted = Wanted::of(&self.current.get().config);
        if wanted != known.wanted {
            *known = Known { wanted: wanted.clone(), ..Known::default() };
        }
        let Some(wanted) = wanted else { return self.standing.set(Stands::Well) };
        self.read(&wanted, known).await;
        if let Some(kept) = &known.kept {
            self.show(&wanted, kept);
        }
        if !is_due(known.kept.as_deref(), &wanted, now_s()) {
            return self.standing.set(Stands::Well);
        }
        if let Some(deaf) = &self.deaf {
            return self.standing.set(Stands::Failed(deaf.clone()));
        }
        if known.not_before.is_some_and(|instant| Instant::now() < instant) {
            return;
        }
        match self.have(&wanted, known).await {
            // It is another wish by now.
            None => {}
            Some(Ok(())) => {
                (known.failures, known.not_before) = (0, None);
                self.standing.set(Stands::Well);
            }
            Some(Err(error)) => {
                let pause = tries::pause(known.failures);
                (known.failures, known.not_before) = (known.failures + 1, Some(Instant::now() + pause));
                let (authority, again_s) = (&wanted.acme.directory, pause.as_secs());
                tracing::error!(
                    error,
                    authority,
                    again_s,
                    "no certificate was issued; the one in force stays"
                );
                self.standing.set(Stands::Failed(error));
            }
        }
    }

    /// Reads the file again, if it is another than before.
    async fn read(&self, wanted: &Wanted, known: &mut Known) {
        let directory = wanted.data_dir.clone();
        let before = known.seen;
        let read = spawn_blocking(move || {
            let seen = kept::look_at(&directory);
            (before != Some(seen)).then(|| (seen, Kept::read(&directory)))
        });
        if let Ok(Some((seen, kept))) = read.await {
            (known.seen, known.kept) = (Some(seen), kept.map(Arc::new));
        }
    }

    /// Orders, keeps and shows. `None`: something else is wanted meanwhile.
    async fn have(&self, wanted: &Wanted, known: &mut Known) -> Option<Result<(), String>> {
        let issued = match known.issued.take() {
            Some(issued) => issued,
            None => match self.ordered(wanted, known.kept.clone()).await? {
                Ok(issued) => issued,
                Err(error) => return Some(Err(error)),
            },
        };
        let (data_dir, wish, keeping) = (wanted.data_dir.clone(), wanted.clone(), issued.clone());
        let kept = spawn_blocking(move || Kept::keep(&data_dir, &wish, &keeping)).await;
        let kept = match kept.unwrap_or_else(|error| Err(Unkept::Disk(error.to_string()))) {
            Ok(kept) => kept,
            Err(Unkept::Unusable(error)) => return Some(Err(error)),
            Err(Unkept::Disk(error)) => {
                // It is issued: only the disk is tried again.
                known.issued = Some(issued);
                return Some(Err(error));
            }
        };
        self.show(wanted, &kept);
        tracing::info!(names = ?wanted.names, until_s = kept.ends_s, "a certificate was issued, and is shown");
        let is_old = is_due(Some(&kept), wanted, now_s());
        known.kept = Some(Arc::new(kept));
        if is_old {
            let error = "what is issued is old already: is the clock right, here and there?";
            return Some(Err(error.to_owned()));
        }
        Some(Ok(()))
    }

    /// One order, in bounded time; `None`: something else is wanted meanwhile.
    async fn ordered(&self, wanted: &Wanted, kept: Option<Arc<Kept>>) -> Option<Result<Issued, String>> {
        let data_dir = wanted.data_dir.clone();
        if !spawn_blocking(move || tries::may_order(&data_dir, now_s())).await.unwrap_or(true) {
            let error = format!(
                "{ACME_ORDERS_AN_HOUR} orders were made within the hour; authorities lock out who makes more"
            );
            return Some(Err(error));
        }
        tracing::info!(authority = wanted.acme.directory, names = ?wanted.names, "a certificate is ordered");
        let ordering = async {
            let order = Contained::new(order::order(wanted, kept, &self.answers));
            match timeout(ACME_ORDER_TIMEOUT, order).await {
                Ok(Some(ordered)) => Some(ordered),
                Ok(None) => Some(Err("the order ended badly".to_owned())),
                Err(_) => Some(Err("it took too long".to_owned())),
            }
        };
        let changing = async {
            while self.is_wanted(wanted) {
                sleep(ACME_LOOK_INTERVAL).await;
            }
            None
        };
        or(ordering, changing).await
    }

    fn is_wanted(&self, wanted: &Wanted) -> bool {
        Wanted::of(&self.current.get().config).as_ref() == Some(wanted)
    }

    fn show(&self, wanted: &Wanted, kept: &Kept) {
        if !self.is_wanted(wanted) {
            return;
        }
        for watch in &self.watches {
            if let Err(error) = watch.show_own(&kept.files) {
                tracing::error!(error, "the certificate of the authority cannot be shown");
            }
        }
    }
}

/// Pure: whether a certificate is to be ordered.
fn is_due(kept: Option<&Kept>, wanted: &Wanted, now_s: i64) -> bool {
    kept.is_none_or(|kept| {
        let renewed_s = kept.begins_s.saturating_add(kept.ends_s.saturating_sub(kept.begins_s) / 3 * 2);
        let is_of_another = kept.directory.as_deref() != Some(wanted.acme.directory.as_str());
        now_s >= renewed_s || is_of_another || !wanted.names.iter().all(|name| kept.is_for(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[&str], directory: &str) -> Wanted {
        let text = format!(
            "hostname = \"mx2.test\"\ndomain = []\n[acme]\nagree_to_terms = true\ndirectory = \"{directory}\"\nnames = {names:?}\n"
        );
        Wanted::of(&Config::parse(&text, "t").expect("good")).expect("a wish")
    }

    #[test]
    fn it_is_due_when_there_is_none_or_of_or_for_others_or_two_thirds_are_over() {
        let url = "https://ca.test/";
        let one = wanted(&["mx2.test"], url);
        assert!(is_due(None, &one, 0));
        let kept = Kept::made(&["mx2.test", "mx3.test"], url, 1_000, 91_000);
        assert!(!is_due(Some(&kept), &one, 60_999));
        assert!(!is_due(Some(&kept), &wanted(&["mx3.test", "mx2.test"], url), 60_999));
        assert!(is_due(Some(&kept), &one, 61_000));
        assert!(is_due(Some(&kept), &wanted(&["mx2.test", "mx4.test"], url), 5_000));
        assert!(is_due(Some(&kept), &wanted(&["mx2.test"], "https://staging.ca.test/"), 5_000), "a trial's");
    }
}
