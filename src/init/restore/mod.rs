//! A backup is taken back: the machine becomes what an archive of `stratamx backup` says, or stays what it is.
//!
//! The server hands the archive in ([`crate::update::restore`]); PID 1 trusts nothing of it.
//! 1. *Asked*: the file is moved out of the server's reach ([`mod@archive`]), read to its end by the program as the server's user, its configuration held against the machine, and its
//!    keys of mail are sealed beside those in force ([`super::at_rest`], `taking`). Then the machine starts again.
//! 2. *Ordered*: behind the end of the server it is counted what waits. Two queues cannot be made one, and what was acknowledged until then is nobody's to lose (P2): only with
//!    nothing there the *order* is written, durably. Without one the next start gives the backup up.
//! 3. *Done*: the next start unpacks and audits it beside what is there, checks and makes the revision of the configuration, and writes into the order that it takes its
//!    place ([`swap`]). From there on there is no way back, and up to there none forward: what fails before is given up, and the old machine runs.
//! 4. *Over*: the archive is overwritten, since it holds keys. The data directory before goes when the new server has greeted.
//!
//! # What a power cut leaves, and what the start makes of it
//! | order | `mail` | `mail.before` | `restore/mail` | sealed keys, revision | the start |
//! |---|---|---|---|---|---|
//! | none | old | | anything | old | removes archive and leftovers: the old machine |
//! | prepare | old | | none, half, whole | old, a new one made | begins again with 3; five times, then it is given up |
//! | swap | old | | whole | old | sets `mail` aside |
//! | swap | none | old | whole | old | puts `restore/mail` in its place |
//! | swap | new | old | none | old | puts the keys in force |
//! | swap | new | old | none | new, old | puts the revision in force |
//! | swap | new | old | none | new | writes down that it is done, ends the order |
//! | none | new | old | none | new | the new machine; `mail.before` goes behind its greeting |
//!
//! Each step is one rename, or finds that it was done; each is durable before the next begins. A restart of the machine in the middle is a power cut. Nothing is served while it lasts, and
//! no watchdog is open then: like a format, it takes the time that it takes. On trial a version takes nothing back (H13).
//!
//! # What it does not do
//! The network is the machine's own: `appliance.toml` stays, whatever the archive has. A queue is never merged. A machine whose new server does not start is not made the old one again.

mod archive;
mod record;
mod swap;

use super::at_rest::{AtRest, taking};
use super::console::say;
use super::revision::{CURRENT, SERVER_FILE};
use super::revisions::{Revisions, bounded};
use crate::config::Config;
use crate::limits::RESTORE_SPARE_OCTETS;
use crate::update::restore::{Looked, Of, Outcome, Queue, Refused, State, Status, Told, Wish, has_mail};
pub(super) use archive::count;
use record::{Order, Record};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
pub(super) use swap::Place;

/// See the module; copies are of one.
#[derive(Clone, Debug)]
pub(super) struct Restores(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    place: Place,
    state: State,
    record: Record,
}

/// Where the configuration is.
const CONFIGURATION: &str = "config";

impl Restores {
    /// Of a machine that runs.
    pub(super) fn start(place: Place) -> Self {
        // What the start gave up and could not write down is nobody's wish any more.
        let record = Record { pending: None, ..Record::read(&place.state()) };
        Self(Arc::new(Mutex::new(Inner { place, state: State::Idle, record })))
    }

    /// What is answered; behind [`Told::Ordered`] the machine starts again. `busy`: why it can do nothing else now.
    pub(super) fn answer(
        &self,
        wish: Wish,
        busy: Option<String>,
        (revisions, at_rest): (&Revisions, &AtRest),
    ) -> Told {
        let refused = busy.or_else(|| revisions.unsettled()).or_else(|| at_rest.locked());
        match wish {
            Wish::Status => Told::Status(self.status(refused)),
            Wish::Begin { keep_configuration, caller } => {
                let begun = refused.map_or(Ok(()), |why| Err(Refused::State(why)));
                match begun.and_then(|()| self.begin((keep_configuration, caller), revisions, at_rest)) {
                    Ok(()) => Told::Ordered,
                    Err(refused) => Told::Refused(refused),
                }
            }
        }
    }

    fn status(&self, refused: Option<String>) -> Status {
        let inner = self.lock();
        let refused = refused.or_else(|| inner.busy());
        Status { state: inner.state, refused, last: inner.record.last.clone() }
    }

    /// Why nothing else can be begun, if so.
    pub(super) fn busy(&self) -> Option<String> {
        self.lock().busy()
    }

    fn begin(&self, wanted: (bool, String), revisions: &Revisions, at_rest: &AtRest) -> Result<(), Refused> {
        let place = {
            let mut inner = self.lock();
            if let Some(why) = inner.busy() {
                return Err(Refused::State(why));
            }
            inner.state = State::Looking;
            inner.place.clone()
        };
        // Whatever comes of it, the state is not left as it is.
        let work = || prepare(&place, wanted, revisions, at_rest);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let done = done.unwrap_or_else(|_| {
            Err(Refused::State("PID 1 failed over it; the console tells more".to_owned()))
        });
        let asked = done.and_then(|of| {
            let mut inner = self.lock();
            let record = Record { pending: Some(of), ..inner.record.clone() };
            record.keep(&place.state()).map_err(|error| unwritten(&error))?;
            let of = record.pending.clone().unwrap_or_default();
            (inner.record, inner.state) = (record, State::Restarting);
            Ok(of)
        });
        match asked {
            Ok(Of { caller, hostname, .. }) => {
                say(&format!("{caller} has a backup of {hostname} taken back: the machine starts again"));
                Ok(())
            }
            Err(refused) => {
                say(&format!("a backup was refused: {refused}"));
                at_rest.keep_own();
                // It takes its time to be overwritten, and PID 1 waits for no lock.
                if let Err(error) = place.clear() {
                    say(&format!("what is left of a backup stays until the next start: {error}"));
                }
                self.lock().state = State::Idle;
                Err(refused)
            }
        }
    }

    /// Whether somebody waits for the order.
    pub(super) fn is_asked(&self) -> bool {
        self.lock().record.pending.is_some()
    }

    /// The server has ended, and this waits in its store: orders it, or gives it up.
    pub(super) fn order(&self, counted: Result<Queue, String>) {
        let mut inner = self.lock();
        let Some(of) = inner.record.pending.take() else { return };
        if inner.state != State::Restarting {
            return;
        }
        let order = Order::new(of);
        let refused = match counted {
            Ok(Queue { problems, .. }) if !problems.is_empty() => {
                Some(format!("what waits here is damaged, and cannot be counted: {}", bounded(&problems[0])))
            }
            Ok(Queue { backlog, held, .. }) => {
                has_mail(backlog, held).map(|why| format!("mail came meanwhile: {why}"))
            }
            Err(error) => Some(format!("what waits here could not be counted: {error}")),
        };
        let ordered = refused.map_or(Ok(()), Err).and_then(|()| {
            order.keep(&inner.place.directory()).map_err(|error| format!("it cannot be ordered: {error}"))
        });
        match ordered {
            Ok(()) => say(&format!("the next start takes back the backup of {}", order.of.hostname)),
            Err(why) => inner.place.give_up(&order, &why),
        }
    }

    /// The server greets: what was there before the backup is of no use any more.
    pub(super) fn greeted(&self) {
        let inner = self.lock();
        if !inner.place.before().exists() {
            return;
        }
        let place = inner.place.clone();
        let last = inner.record.last.as_ref().filter(|last| last.outcome == Outcome::Restored);
        if let Some(last) = last {
            say(&format!("the backup of {} is in force", last.of.hostname));
        }
        let remove = move || {
            if let Err(error) = place.remove_before() {
                say(&format!("the data directory before the backup stays: {error}"));
            }
        };
        // Without a thread it goes behind the next greeting.
        let _ = Builder::new().name("before".to_owned()).spawn(remove);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn busy(&self) -> Option<String> {
        match self.state {
            State::Idle => None,
            State::Looking => Some("another backup is being looked at".to_owned()),
            State::Restarting => Some("a backup is taken back, and the machine starts again".to_owned()),
        }
    }
}

/// Everything that can be done while the server runs: from the archive in its directory to keys that are sealed.
fn prepare(
    place: &Place,
    (keep_configuration, caller): (bool, String),
    revisions: &Revisions,
    at_rest: &AtRest,
) -> Result<Of, Refused> {
    // What one before has left.
    place.clear().and_then(|()| place.remove_before()).map_err(|error| unwritten(&error))?;
    place.make_directory().map_err(|error| unwritten(&error))?;
    archive::take(&place.mail(), &place.archive()).map_err(Refused::Invalid)?;
    let looked = (place.look)(&place.archive(), None, place.owner).map_err(Refused::Invalid)?;
    let root = place.data.join(CONFIGURATION);
    let config = Config::load(&root.join(CURRENT).join(SERVER_FILE)).ok();
    let spare = config.map_or(0, |config| config.storage.min_free_space_bytes).max(RESTORE_SPARE_OCTETS);
    has_room(&place.directory(), looked.octets, spare)?;
    if !keep_configuration {
        let files = swap::files(&root, &looked).map_err(Refused::Invalid)?;
        revisions.fits(&files).map_err(Refused::Invalid)?;
    }
    keys(&root, &looked, keep_configuration, at_rest)?;
    let Looked { hostname, made_at_s, .. } = looked;
    Ok(Of { hostname: bounded(&hostname), made_at_s, keep_configuration, caller: bounded(&caller) })
}

/// Has the keys that the backup's mail is encrypted with opened by the machine, where its configuration does not bring them along.
fn keys(root: &Path, looked: &Looked, keeps: bool, at_rest: &AtRest) -> Result<(), Refused> {
    let Some(theirs) = &looked.keys else { return Ok(()) };
    if looked.has_key_file && !keeps {
        return Ok(());
    }
    if keeps && let Some(own) = own_keys(root) {
        let is_held = taking::holds(&own, &theirs.0).map_err(Refused::Invalid)?;
        return if is_held { Ok(()) } else { Err(Refused::State(OTHER_KEYS.to_owned())) };
    }
    at_rest.take_over(&theirs.0).map_err(Refused::State)
}

const OTHER_KEYS: &str = "mail in the backup is encrypted with other keys than those of storage.key_file here: add them to that file first, or take the \
     configuration of the backup too";

/// The text of the key file that the configuration in force names.
fn own_keys(root: &Path) -> Option<String> {
    let current = root.join(CURRENT);
    let config = Config::load(&current.join(SERVER_FILE)).ok()?;
    std::fs::read_to_string(current.join(config.storage.key_file?)).ok()
}

/// Mail is taken meanwhile: `spare` stays free.
fn has_room(directory: &Path, octets: u64, spare: u64) -> Result<(), Refused> {
    let status = rustix::fs::statvfs(directory).map_err(|error| unwritten(&error.into()))?;
    let free = status.f_bavail.saturating_mul(status.f_frsize).saturating_sub(spare);
    if free < octets {
        return Err(Refused::NoRoom(format!(
            "the disk has no room: {octets} octets come out of the backup, and {free} are free"
        )));
    }
    Ok(())
}

fn unwritten(error: &std::io::Error) -> Refused {
    Refused::NoRoom(format!("the data partition does not take it: {error}"))
}
