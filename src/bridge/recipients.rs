//! Who the recipients of a domain are, as far as it is known: what its list says, and what its primary said. One
//! table for the life of the process, as that of usage: a reload keeps it.
//!
//! A list is replaced as a whole; a session that looks at the one before goes on with it. Locks are taken for a look or
//! a replacement, never while a file is read or a primary is asked.
//!
//! Whether the primary is up is what the lane of the domain knows: from its first failed try, or a start that found mail
//! waiting, until everything due was handed over, there is an *outage*. What a primary says meanwhile is neither asked
//! for nor learned: half restored, it may refuse everybody or take anybody (H22, H26).

mod known;
mod list;
mod local_part;

use crate::limits::{CALLOUT_PAUSE, CATCH_ALL_AGE};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use known::Known;
pub use known::{Evidence, Instants, Source};
pub use list::{ListError, RecipientList, RecipientListBuilder};
pub use local_part::{folded, without_detail};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// See the module.
#[derive(Debug, Default)]
pub struct Recipients {
    domains: Mutex<HashMap<Arc<str>, Arc<DomainRecipients>>>,
    remembered: Arc<AtomicUsize>,
    changed: Arc<AtomicBool>,
}

/// The recipients of one domain.
#[derive(Debug, Default)]
pub struct DomainRecipients {
    list: RwLock<Arc<RecipientList>>,
    outage: AtomicBool,
    primary: Mutex<Primary>,
    changed: Arc<AtomicBool>,
}

/// What callouts and deliveries found out.
#[derive(Debug, Default)]
struct Primary {
    known: Known,
    /// A callout reached nobody.
    unreachable: Option<Duration>,
    /// Whether it accepts a recipient that does not exist, and when that was tried.
    accepts_all: Option<(bool, Duration)>,
}

/// What a file keeps: the domain, whether it was refused, the local part, what was said.
pub type Remembered = (Arc<str>, Vec<(bool, Box<str>, Evidence)>);

impl Recipients {
    /// Those of a domain, by its name in lower case.
    #[must_use]
    pub fn domain(&self, name: &str) -> Arc<DomainRecipients> {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(domain) = domains.get(name) {
            return Arc::clone(domain);
        }
        let known = Known::new(Arc::clone(&self.remembered));
        let primary = Mutex::new(Primary { known, ..Primary::default() });
        let changed = Arc::clone(&self.changed);
        let domain = Arc::new(DomainRecipients { primary, changed, ..DomainRecipients::default() });
        domains.insert(name.into(), Arc::clone(&domain));
        domain
    }

    /// Everything that primaries said, if anything was added since the last time.
    #[must_use]
    pub fn news(&self) -> Option<Vec<Remembered>> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return None;
        }
        let domains: Vec<_> = {
            let domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
            domains.iter().map(|(name, domain)| (Arc::clone(name), Arc::clone(domain))).collect()
        };
        Some(domains.into_iter().map(|(name, domain)| (name, domain.primary().known.all())).collect())
    }

    /// It could not be kept: it is news again.
    pub fn not_kept(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }
}

impl DomainRecipients {
    /// The list in force; empty where none was read.
    #[must_use]
    pub fn list(&self) -> Arc<RecipientList> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another list is in force.
    pub fn use_list(&self, list: Arc<RecipientList>) {
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = list;
    }

    /// The lane says whether there is an outage. One that begins ends what is believed of the primary as a whole: after
    /// it the primary has to accept somebody again before its refusals say something.
    pub fn set_outage(&self, outage: bool) {
        if outage && !self.outage.swap(true, Ordering::Relaxed) {
            let mut primary = self.primary();
            primary.accepts_all = primary.accepts_all.filter(|(accepts, _)| *accepts);
            primary.known.nobody_accepted();
        }
        self.outage.store(outage, Ordering::Relaxed);
    }

    /// Whether it has accepted anybody lately.
    #[must_use]
    pub fn accepts_anybody(&self, at: Instants) -> bool {
        self.primary().known.accepts_anybody(at.wall_s)
    }

    /// Whether there is an outage, as far as the lane knows.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        self.outage.load(Ordering::Relaxed)
    }

    /// Whether the primary can be asked: there is no outage, and no callout has just reached nobody.
    #[must_use]
    pub fn can_be_asked(&self, now: Duration) -> bool {
        let is_over = |since| now >= since + CALLOUT_PAUSE;
        !self.is_outage() && self.primary().unreachable.is_none_or(is_over)
    }

    /// Whether a callout reached somebody.
    pub fn set_reached(&self, reached: bool, now: Duration) {
        self.primary().unreachable = (!reached).then_some(now);
    }

    /// Whether it accepts whatever it is asked for; none: to be tried, also again after a day. In an outage, when nothing
    /// can be tried, one that did still does.
    #[must_use]
    pub fn accepts_all(&self, now: Duration) -> Option<bool> {
        let (accepts, tried) = self.primary().accepts_all?;
        (now < tried + CATCH_ALL_AGE || (accepts && self.is_outage())).then_some(accepts)
    }

    /// It was tried. Gives whether that is news.
    pub fn set_accepts_all(&self, accepts: bool, now: Duration) -> bool {
        let before = self.primary().accepts_all.replace((accepts, now));
        before.map(|(accepts, _)| accepts) != Some(accepts)
    }

    /// A recipient was accepted. Local parts are [`folded`], here and below.
    pub fn accept(&self, name: &str, delimiter: Option<char>, source: Source, at: Instants) {
        if self.primary().known.accept(name, delimiter, source, at) {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// Somebody was accepted of whom nothing is remembered.
    pub fn anybody_accepted(&self, at: Instants) {
        self.primary().known.anybody_accepted(at);
    }

    /// A recipient was refused as unknown; gives whether that says something.
    pub fn refuse(&self, name: &str, source: Source, at: Instants) -> bool {
        let says_something = self.primary().known.refuse(name, source, at);
        if says_something {
            self.changed.store(true, Ordering::Relaxed);
        }
        says_something
    }

    /// Whether it was accepted within `age`.
    #[must_use]
    pub fn is_accepted(&self, name: &str, delimiter: Option<char>, at: Instants, age: Duration) -> bool {
        self.primary().known.is_accepted(name, delimiter, at.wall_s, age)
    }

    /// Some that were accepted within `age`, at most `most`, as a mailbox can be written without quoting: from the `skipped`-th on,
    /// in no order, but in the same one while nothing is added.
    #[must_use]
    pub fn accepted(&self, at: Instants, age: Duration, skipped: usize, most: usize) -> Vec<String> {
        self.primary().known.accepted(at.wall_s, age, skipped, most)
    }

    /// Whether a callout was told within `age` that it is unknown, and nothing else since.
    #[must_use]
    pub fn was_refused_when_asked(&self, name: &str, at: Instants, age: Duration) -> bool {
        self.primary().known.was_refused_when_asked(name, at.wall_s, age)
    }

    /// Whether it was refused within `age`.
    #[must_use]
    #[cfg(test)]
    pub fn is_refused(&self, name: &str, at: Instants, age: Duration) -> bool {
        self.primary().known.is_refused(name, at.wall_s, age)
    }

    /// Whether it was refused twice, a day apart (H26).
    #[must_use]
    pub fn is_learned_refused(&self, name: &str, at: Instants) -> bool {
        self.primary().known.is_learned_refused(name, at)
    }

    /// What a file says.
    pub fn restore(&self, refused: bool, name: &str, evidence: Evidence) {
        self.primary().known.restore(refused, name, evidence);
    }

    fn primary(&self) -> MutexGuard<'_, Primary> {
        // Whole after each operation, whatever panicked elsewhere.
        self.primary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
