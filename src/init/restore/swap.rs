//! What a start makes of an order: the table of the module above.

use super::super::at_rest::taking;
use super::super::console::say;
use super::super::place;
use super::super::revision::{self, CURRENT, Files, MACHINE_FILE, SERVER_FILE, files_of, is_name};
use super::super::revisions::bounded;
use super::super::tool::{now_s, sync_directory};
use super::archive;
use super::record::{Order, Phase, Record};
use crate::config::Config;
use crate::limits::RESTORE_STARTS_MAX;
use crate::update::configuration::Source;
use crate::update::restore::{FILE, LEFT, Last, Looked, Outcome, Queue};
use base64::Engine as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// Root's, in the root of the data partition: archive, order, and what comes out of it.
const DIRECTORY: &str = "restore";
const ARCHIVE: &str = "archive";
/// What becomes the data directory.
const NEW: &str = "mail";
/// The data directory, and what it was before.
const MAIL: &str = "mail";
const BEFORE: &str = "mail.before";
const STATE: &str = "state";
const CONFIGURATION: &str = "config";

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The root of the data partition.
    pub(super) data: PathBuf,
    /// The server's user.
    pub(super) owner: u32,
    /// Looks at an archive, and unpacks it.
    pub(super) look: fn(&Path, Option<&Path>, u32) -> Result<Looked, String>,
}

/// One step of the swap; done twice it is done once.
type Step = fn(&Place, &Order) -> io::Result<()>;

/// In their order. What a cut between any two of them leaves is what the next one begins with.
pub(super) const STEPS: [Step; 6] = [
    Place::set_aside,
    Place::take_place,
    Place::put_keys,
    Place::put_revision,
    Place::write_down,
    Place::end,
];

impl Place {
    pub(crate) fn new(data: &Path, owner: u32) -> Self {
        Self { data: data.to_owned(), owner, look: archive::look }
    }

    /// Does what was ordered, if anything.
    ///
    /// # Errors
    /// A sentence: neither the old machine nor the new one is whole, so nothing may be served.
    pub(crate) fn act(&self, is_on_trial: bool) -> Result<(), String> {
        let Some(order) = Order::read(&self.directory())? else {
            self.tidy();
            return Ok(());
        };
        let ready = match order.phase {
            Phase::Swap => Ok(order.clone()),
            // H13: the version before, which may come back, has another idea of all this.
            Phase::Prepare if is_on_trial => Err("a new version is on trial".to_owned()),
            Phase::Prepare => self.prepare(&order),
        };
        match ready {
            Ok(order) => {
                for step in STEPS {
                    step(self, &order).map_err(|error| format!("a backup cannot take its place: {error}"))?;
                }
                say(&format!("the backup of {} has taken its place", order.of.hostname));
            }
            Err(why) => {
                // First what may have filled the disk: then there is room for the word about it.
                let _ = archive::erase(&self.archive()).and_then(|()| remove(&self.new_mail()));
                self.give_up(&order, &why);
                Order::end(&self.directory()).map_err(|error| format!("a backup is given up: {error}"))?;
            }
        }
        self.tidy();
        Ok(())
    }

    /// For a factory reset: whatever was begun of it is whole, or gone, keys first. Where all goes anyway nothing of it holds that up.
    ///
    /// # Errors
    /// A sentence: nothing may be served.
    pub(crate) fn drop_all(&self, wipes: bool) -> Result<(), String> {
        // What the server was still taking in.
        for name in [FILE, LEFT] {
            let _ = archive::erase(&self.mail().join(name));
        }
        if wipes {
            let _ = archive::erase(&self.archive());
            return Ok(());
        }
        match Order::read(&self.directory()) {
            Ok(Some(Order { phase: Phase::Swap, .. })) => self.act(false),
            _ => archive::erase(&self.archive()).map_err(|error| format!("a backup: {error}")),
        }
    }

    /// Everything beside what is there, up to the word that it takes its place. What ends the machine each time is not begun for ever.
    fn prepare(&self, order: &Order) -> Result<Order, String> {
        let failed = |error: io::Error| format!("the data partition: {error}");
        if order.starts >= RESTORE_STARTS_MAX {
            return Err(format!("the machine ended {RESTORE_STARTS_MAX} times while it was unpacked"));
        }
        let order = &Order { starts: order.starts + 1, ..order.clone() };
        order.keep(&self.directory()).map_err(failed)?;
        say(&format!("taking back the backup of {}: this may take long", order.of.hostname));
        let new = self.new_mail();
        for left in [&new, &self.before()] {
            remove(left).map_err(failed)?;
        }
        fs::create_dir(&new).map_err(failed)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        chown(&new, Some(self.owner), Some(self.owner)).map_err(failed)?;
        let looked = (self.look)(&self.archive(), Some(&new), self.owner)?;
        if let Some(problem) = looked.queue.as_ref().and_then(|queue| queue.problems.first()) {
            return Err(format!("its queue is damaged: {}", bounded(problem)));
        }
        let root = self.data.join(CONFIGURATION);
        let revision = match order.of.keep_configuration {
            true => None,
            false => Some(self.revision(&root, &looked, &order.of.caller)?),
        };
        let Queue { backlog, held, .. } = looked.queue.clone().unwrap_or_default();
        let is_known = looked.queue.is_some();
        let order = Order {
            phase: Phase::Swap,
            revision,
            backlog: is_known.then_some(backlog),
            held: is_known.then_some(held),
            ..order.clone()
        };
        sync_directory(&new).and_then(|()| order.keep(&self.directory())).map_err(failed)?;
        Ok(order)
    }

    /// A new revision, which is not in force yet. Its number.
    fn revision(&self, root: &Path, looked: &Looked, caller: &str) -> Result<u64, String> {
        let files = files(root, looked)?;
        let text = files.get(SERVER_FILE).map(|text| String::from_utf8_lossy(text)).unwrap_or_default();
        let config = Config::parse(&text, SERVER_FILE).map_err(|error| error.to_string())?;
        place::place(&root.join("new"), &config.data_dir)?;
        revision::check(root, &files, self.owner)?;
        let kept: Vec<u64> = revision::in_force(root).into_iter().collect();
        for number in revision::superfluous(root, &kept) {
            revision::remove(&root.join(number.to_string()));
        }
        let mut origin = revision::origin([Source::Restore]);
        origin.caller = Some(caller.to_owned()).filter(|caller| !caller.is_empty());
        let made = revision::make(root, &files, (self.owner, &origin));
        made.map_err(|error| format!("{}: {error}", root.display()))
    }

    fn set_aside(&self, _: &Order) -> io::Result<()> {
        // What cannot be looked at is not gone.
        let (new, mail) = (self.new_mail().try_exists()?, self.mail().try_exists()?);
        if new && mail && !self.before().try_exists()? {
            fs::rename(self.mail(), self.before())?;
        }
        sync_directory(&self.data)
    }

    fn take_place(&self, _: &Order) -> io::Result<()> {
        if self.new_mail().try_exists()? && !self.mail().try_exists()? {
            fs::rename(self.new_mail(), self.mail())?;
        }
        sync_directory(&self.data)?;
        sync_directory(&self.directory())
    }

    fn put_keys(&self, _: &Order) -> io::Result<()> {
        if self.new_mail().try_exists()? || !self.mail().try_exists()? {
            return Err(io::Error::other("what came out of it is not where mail is"));
        }
        taking::put_in_force(&self.state())
    }

    fn put_revision(&self, order: &Order) -> io::Result<()> {
        let root = self.data.join(CONFIGURATION);
        order.revision.map_or(Ok(()), |number| revision::put_in_force(&root, number))
    }

    fn write_down(&self, order: &Order) -> io::Result<()> {
        let last = Last {
            of: order.of.clone(),
            outcome: Outcome::Restored,
            error: None,
            backlog: order.backlog,
            held: order.held,
            at_s: now_s(),
        };
        Record { pending: None, last: Some(last) }.keep(&self.state())
    }

    fn end(&self, _: &Order) -> io::Result<()> {
        Order::end(&self.directory())
    }

    /// Writes down why, and tells it.
    pub(super) fn give_up(&self, order: &Order, why: &str) {
        say(&format!("the backup of {} is not taken back, and all is as it was: {why}", order.of.hostname));
        let last = Last {
            of: order.of.clone(),
            outcome: Outcome::GivenUp,
            error: Some(why.to_owned()),
            backlog: None,
            held: None,
            at_s: now_s(),
        };
        if let Err(error) = (Record { pending: None, last: Some(last) }).keep(&self.state()) {
            say(&format!("what became of the backup is not written down: {error}"));
        }
    }

    /// What no order speaks of goes; what cannot go now goes at another start.
    fn tidy(&self) {
        if let Some(of) = Record::read(&self.state()).pending {
            self.give_up(&Order::new(of), "the machine was switched off before it was its turn");
        }
        if let Err(error) = self.clear() {
            say(&format!("what is left of a backup stays: {error}"));
        }
    }

    /// Removes the archive and what came out of it.
    pub(super) fn clear(&self) -> io::Result<()> {
        taking::forget(&self.state())?;
        let directory = self.directory();
        if !directory.exists() {
            return Ok(());
        }
        archive::erase(&self.archive())?;
        remove(&directory)?;
        sync_directory(&self.data)
    }

    /// A directory of root's, which the server's user goes through and makes nothing in.
    pub(super) fn make_directory(&self) -> io::Result<()> {
        fs::create_dir_all(self.directory())?;
        fs::set_permissions(self.directory(), fs::Permissions::from_mode(0o711))?;
        sync_directory(&self.data)
    }

    /// The data directory before goes: nobody wants it any more.
    pub(super) fn remove_before(&self) -> io::Result<()> {
        remove(&self.before())
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.data.join(DIRECTORY)
    }

    pub(super) fn archive(&self) -> PathBuf {
        self.directory().join(ARCHIVE)
    }

    fn new_mail(&self) -> PathBuf {
        self.directory().join(NEW)
    }

    pub(super) fn mail(&self) -> PathBuf {
        self.data.join(MAIL)
    }

    pub(super) fn before(&self) -> PathBuf {
        self.data.join(BEFORE)
    }

    pub(super) fn state(&self) -> PathBuf {
        self.data.join(STATE)
    }
}

/// The files of a revision: those of the archive, and the machine's own settings as they are.
///
/// # Errors
/// A sentence.
pub(super) fn files(root: &Path, looked: &Looked) -> Result<Files, String> {
    if let Some(why) = looked.unfit() {
        return Err(why);
    }
    let mut files = Files::new();
    for (name, octets) in &looked.files {
        if !is_name(name) {
            return Err(format!("{name} cannot be the name of a file of an appliance's configuration"));
        }
        let octets = base64::engine::general_purpose::STANDARD.decode(&octets.0);
        files.insert(name.clone(), octets.map_err(|error| format!("{name}: {error}"))?);
    }
    files.remove(MACHINE_FILE);
    if let Some((name, octets)) = files_of(&root.join(CURRENT))?.remove_entry(MACHINE_FILE) {
        files.insert(name, octets);
    }
    Ok(files)
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests;
