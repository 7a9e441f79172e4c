//! Our own certificate from an authority (ACME, RFC 8555): senders that enforce MTA-STS refuse a self-signed one.
//!
//! ```text
//!              none is kept, other names, or two thirds of its time are over
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
//! Failure answers: what is shown stays; the operator is told in the log, and by an alert ([`Standing`]). A process that ends in the middle orders again,
//! with the same account. An account that the authority does not know any more is made anew.

mod answers;
mod kept;
mod order;
mod visit;
mod web;

pub use answers::{ALPN, Answers, asks};
pub use kept::files;
pub use visit::bind;

use super::certificate::Watch;
use super::store::now_s;
use crate::auth::contained::Contained;
use crate::bridge::Current;
use crate::config::{Acme, Challenge, Config};
use crate::limits::{ACME_LOOK_INTERVAL, ACME_ORDER_TIMEOUT, ACME_PAUSE_FIRST, ACME_PAUSE_MAX};
use core::time::Duration;
use kept::Kept;
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
    /// How it stands.
    pub standing: Arc<Standing>,
}

/// Why there is no new certificate, if one is due.
#[derive(Debug, Default)]
pub struct Standing(Mutex<Option<String>>);

impl Standing {
    /// The reason.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, failure: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = failure;
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

#[derive(Debug, Default)]
struct Tries {
    wanted: Option<Wanted>,
    failures: u32,
    not_before: Option<Instant>,
}

/// Looks, orders and answers, as long as the thread runs.
pub(super) async fn run(current: Arc<Current>, parts: Parts) {
    let Parts { watches, answers, listeners, standing } = parts;
    let challenge = current.get().config.acme.as_ref().map(|acme| acme.challenge);
    for listener in listeners {
        let answers = Arc::clone(&answers);
        match challenge {
            Some(Challenge::TlsAlpn01) => drop(tokio::spawn(visit::handshakes(listener, answers))),
            _ => drop(tokio::spawn(visit::pages(listener, answers))),
        }
    }
    let mut tries = Tries::default();
    loop {
        look(&current, &watches, &answers, (&standing, &mut tries)).await;
        sleep(ACME_LOOK_INTERVAL).await;
    }
}

async fn look(
    current: &Current,
    watches: &[Arc<Watch>],
    answers: &Arc<Answers>,
    (standing, tries): (&Standing, &mut Tries),
) {
    let wanted = Wanted::of(&current.get().config);
    if wanted != tries.wanted {
        *tries = Tries { wanted: wanted.clone(), ..Tries::default() };
        standing.set(None);
    }
    let Some(wanted) = wanted else { return };
    let directory = wanted.data_dir.clone();
    let kept = spawn_blocking(move || Kept::read(&directory)).await.ok().flatten();
    if let Some(kept) = &kept {
        show(watches, kept);
    }
    if !is_due(kept.as_ref(), &wanted.names, now_s()) {
        return standing.set(None);
    }
    if tries.not_before.is_some_and(|instant| Instant::now() < instant) {
        return;
    }
    tracing::info!(authority = wanted.acme.directory, names = ?wanted.names, "a certificate is ordered");
    let ordered = timeout(ACME_ORDER_TIMEOUT, Contained::new(order::order(&wanted, answers))).await;
    match ordered.unwrap_or_else(|_| Some(Err("it took too long".to_owned()))) {
        Some(Ok(kept)) => {
            show(watches, &kept);
            // One that is old when it is issued is not ordered again and again.
            (tries.failures, tries.not_before) = (0, Some(Instant::now() + ACME_PAUSE_FIRST));
            standing.set(None);
            tracing::info!(names = ?wanted.names, until_s = kept.ends_s, "a certificate was issued, and is shown");
        }
        failed => {
            let error = failed.and_then(Result::err).unwrap_or_else(|| "the order ended badly".to_owned());
            let pause = pause(tries.failures);
            (tries.failures, tries.not_before) = (tries.failures + 1, Some(Instant::now() + pause));
            let (authority, again_s) = (&wanted.acme.directory, pause.as_secs());
            tracing::error!(error, authority, again_s, "no certificate was issued; the one in force stays");
            standing.set(Some(error));
        }
    }
}

fn show(watches: &[Arc<Watch>], kept: &Kept) {
    for watch in watches {
        if let Err(error) = watch.show_own(&kept.files) {
            tracing::error!(error, "the certificate of the authority cannot be shown");
        }
    }
}

/// Pure: whether a certificate is to be ordered.
fn is_due(kept: Option<&Kept>, names: &[String], now_s: i64) -> bool {
    kept.is_none_or(|kept| {
        let renewed_s = kept.begins_s.saturating_add(kept.ends_s.saturating_sub(kept.begins_s) / 3 * 2);
        now_s >= renewed_s || !names.iter().all(|name| kept.is_for(name))
    })
}

/// Pure: between two tries, behind so many failures before the last one.
fn pause(failures: u32) -> Duration {
    ACME_PAUSE_FIRST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(ACME_PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_when_there_is_none_or_for_others_or_two_thirds_are_over() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(is_due(None, &names(&["mx2.test"]), 0));
        let kept = Kept::made(&["mx2.test", "mx3.test"], 1_000, 91_000);
        assert!(!is_due(Some(&kept), &names(&["mx2.test"]), 60_999));
        assert!(!is_due(Some(&kept), &names(&["MX3.test", "mx2.test"]), 60_999));
        assert!(is_due(Some(&kept), &names(&["mx2.test"]), 61_000));
        assert!(is_due(Some(&kept), &names(&["mx2.test", "mx4.test"]), 5_000));
    }

    #[test]
    fn failures_are_ever_more_rare() {
        let minutes: Vec<u64> = (0..7).map(|failures| pause(failures).as_secs() / 60).collect();
        assert_eq!(minutes, [15, 30, 60, 120, 240, 360, 360]);
        assert_eq!(pause(99), ACME_PAUSE_MAX);
    }
}
