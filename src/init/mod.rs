//! PID 1 of the appliance: makes a machine out of a kernel, keeps the server running, and ends both in order.
//!
//! It is apart from the server and shares nothing with it but the file: the server runs as a child, as a user of its own, and what it does
//! with strangers' octets cannot end PID 1.
//!
//! # Order of a start
//! kernel file systems -> modules -> limits -> data partition (grown, formatted once, mounted, proven) -> an ordered [`reset`], an ordered [`restore`] -> randomness -> configuration ->
//! the keys of mail ([`at_rest`]) -> network -> clock -> server -> its greeting -> of a new version: its self-test, the blessing.
//!
//! # Promises
//! - **Nothing is served from anything but the data partition** ([`disk`]): looked at before each start of the server.
//! - What ends is started again, after a while that grows up to half a minute ([`program`]).
//! - The power button, SIGTERM and SIGPWR drain the server, then unmount, then switch off; Ctrl-Alt-Del restarts.
//! - A panic here restarts the machine: all that was acknowledged is durable. So does the watchdog when PID 1 hangs.
//! - Whoever stands at a console can see how it is, and mend it ([`menu`]). What cannot serve tries again when the disks are others.
//! - A new version that has not proven itself in time is given up by a restart, wherever it hangs: the loader counts it ([`trial`], [`watchdog`]).
//! - Updates are taken over a socket from the server, which is not trusted ([`update`]).
//!
//! # What it does not do
//! No shell, no login, no write to the running version. `config`, [`crate::update`] and [`crate::limits`] are all that it knows of the rest.
#![expect(
    clippy::disallowed_methods,
    reason = "PID 1 is no shard: it may wait, and its files are the machine's"
)]

pub(crate) mod at_rest;
mod clock;
mod console;
mod disk;
mod events;
mod front;
mod growth;
mod health;
mod intake;
mod locked;
mod machine;
mod menu;
mod network;
mod output;
mod place;
mod program;
mod programs;
mod proving;
mod ready;
mod reaping;
mod refused;
mod reset;
mod restore;
mod restoring;
mod revising;
mod revision;
mod revisions;
mod settings;
mod syslog;
mod tool;
mod trial;
mod update;
mod watchdog;

use crate::config::Config;
use crate::limits::{
    ADDRESS_PATIENCE, DEVICE_PATIENCE, KILL_PATIENCE, STOP_PATIENCE, TRIAL_BOOT_PATIENCE, WATCHDOG_INTERVAL,
};
use at_rest::AtRest;
use console::say;
use core::time::Duration;
use disk::Volume;
use events::Event;
use front::Front;
use health::Health;
use intake::{Configured, Taken};
use program::Program;
use programs::{network_program, server, start_network};
use ready::Ready;
use reaping::reap;
use restore::Restores;
use revisions::Revisions;
use rustix::process::{Signal, getpid};
use rustix::system::{RebootCommand, reboot};
use settings::Settings;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;
use update::{Answering, SelfTest, Updates};
use watchdog::Watchdog;

/// The server's user and group, in the image's /etc/passwd.
const SERVER_USER: u32 = 990;
/// Mail, wherever the configuration says that it is.
const MAIL: &str = "/data/mail";
const CONFIGURATION: &str = "/data/config";
const STATE: &str = "/data/state";
/// That the first administrator's token was told.
const TOKEN_TOLD: &str = "/data/state/token-told";
/// Between two looks for a device or an address.
const LOOK: Duration = Duration::from_millis(100);

/// Runs until the machine ends. Where it is not PID 1 it does nothing.
#[must_use]
pub fn run() -> ExitCode {
    if !getpid().is_init() {
        eprintln!("stratamx init is the first process of the appliance; nobody else starts it");
        return ExitCode::from(2);
    }
    // A thread's panic is told; one of the main thread ends the machine below.
    std::panic::set_hook(Box::new(|panic| say(&panic.to_string())));
    let ending = std::panic::catch_unwind(live).unwrap_or(RebootCommand::Restart);
    rustix::fs::sync();
    let error = reboot(ending);
    say(&format!("the machine does not end: {error:?}"));
    // The kernel panics when PID 1 ends, and restarts by that.
    ExitCode::FAILURE
}

/// The life of the machine. Returns how it ends.
fn live() -> RebootCommand {
    if let Err(error) = machine::mount_kernel() {
        say(&error);
    }
    say(&format!("stratamx {}, {} s after the kernel", env!("CARGO_PKG_VERSION"), machine::uptime()));
    machine::load_modules();
    machine::raise_limits();
    // Ctrl-Alt-Del is told to us, in place of a reset.
    let _ = reboot(RebootCommand::CadOff);
    network::start_loopback();
    let (on_trial, watchdog) = (trial::counted(), Watchdog::idle());
    if on_trial.is_some() {
        watchdog.watch_trial(TRIAL_BOOT_PATIENCE);
    }
    let (tell, events) = match events::start() {
        Ok(both) => both,
        Err(error) => {
            say(&error);
            return RebootCommand::Restart;
        }
    };
    let typed = tell.clone();
    console::listen(move |console, octets| typed.send(Event::Typed { console, octets }).is_ok());
    loop {
        let disks = disk::devices();
        let ended = match Machine::start(tell.clone(), on_trial.clone(), watchdog.clone()) {
            Ok(machine) => Some(machine.run(&events)),
            Err(error) => refused::wait(&error, &events, on_trial.is_some(), &watchdog, &disks),
        };
        if let Some(ending) = ended {
            return ending;
        }
        say("the disks are others now: once more");
    }
}

/// A machine that serves.
struct Machine {
    volume: Volume,
    /// Where the server works, and that its mail goes to.
    data_dir: PathBuf,
    /// The configuration in force, and where the server works.
    directory: PathBuf,
    config: Config,
    settings: Settings,
    at_rest: AtRest,
    configured: Configured,
    /// Files that the hypervisor gives at each start.
    fixed: Vec<String>,
    front: Front,
    /// The server first.
    programs: Vec<Program>,
    /// The counted file, until the version has proven itself.
    on_trial: Option<PathBuf>,
    self_test: Option<SelfTest>,
    /// It has, and the loader may not know yet.
    is_proven: bool,
    updates: Updates,
    revisions: Revisions,
    restores: Restores,
    health: Health,
    watchdog: Watchdog,
    tell: Sender<Event>,
    /// What names were asked of when the server started.
    resolvers: String,
    /// Since when it could take mail.
    started: Instant,
    is_greeted: bool,
    /// The server that runs has greeted: it listens to signals.
    is_hearing: bool,
    /// Somebody waits for that.
    awaited: Option<Arc<()>>,
    /// The keys of mail at rest were not open when the server started, and it runs without mail.
    is_locked: bool,
    /// While they are not: it was told how the machine is reached.
    is_invited: bool,
}

impl Machine {
    /// Makes everything ready. The server is due, and not started.
    fn start(tell: Sender<Event>, on_trial: Option<PathBuf>, watchdog: Watchdog) -> Result<Self, String> {
        let started = Instant::now();
        wait_until(DEVICE_PATIENCE, disk::data_is_there);
        disk::settle();
        let was_formatted = intake::was_formatted();
        let volume = disk::open_data(was_formatted)?;
        if was_formatted == Some(false) {
            intake::tell_formatted();
        }
        let ready = match Ready::make(on_trial.is_some(), &tell) {
            Ok(ready) => ready,
            Err(error) => {
                volume.close();
                return Err(error);
            }
        };
        let Ready { data_dir, taken, settings, config, at_rest, probation } = ready;
        let Taken { directory, configured, fixed } = taken;
        machine::name(&config.hostname);
        let programs = [
            vec![server(&directory, at_rest.key_file())],
            start_network(&settings.network).map(network_program).into_iter().collect(),
        ];
        clock::start(settings.clock.servers.clone());
        syslog::start(settings.syslog.clone(), config.hostname.clone(), console::show);
        watchdog.open();
        let updates = Updates::start(Path::new(STATE), on_trial.is_some());
        let self_test = on_trial.as_ref().map(|_| SelfTest::prepare()).transpose()?;
        let (mail, root) = (Path::new(MAIL), Path::new(CONFIGURATION));
        let revisions = Revisions::start(root, (mail, &data_dir), SERVER_USER, fixed.clone(), probation);
        let image = mail.join(crate::update::FILE);
        let restores = Restores::start(restore::Place::new(Path::new(disk::DATA), SERVER_USER));
        let health = Health::start();
        let answering = Answering {
            revisions: revisions.clone(),
            at_rest: at_rest.clone(),
            health: health.clone(),
            restores: restores.clone(),
        };
        if let Err(error) = updates.listen(image, SERVER_USER, answering, tell.clone()) {
            say(&format!("no updates are taken: {error}"));
        }
        let is_locked = at_rest.locked().is_some();
        Ok(Self {
            volume,
            data_dir,
            directory,
            config,
            settings,
            at_rest,
            configured,
            fixed,
            front: Front::default(),
            programs: programs.into_iter().flatten().collect(),
            on_trial,
            self_test,
            is_proven: false,
            updates,
            revisions,
            restores,
            health,
            watchdog,
            tell,
            resolvers: String::new(),
            started,
            is_greeted: false,
            is_hearing: false,
            awaited: None,
            is_locked,
            is_invited: false,
        })
    }

    /// Keeps everything running until the machine is to end.
    fn run(mut self, events: &Receiver<Event>) -> RebootCommand {
        if self.programs.len() > 1 {
            // Whoever is named by a static address, and name servers, are there when the server looks.
            self.start_due(|program| program.name != SERVER);
            self.watchdog.feed();
            wait_until(ADDRESS_PATIENCE, || !network::addresses().is_empty());
        }
        self.introduce();
        self.await_unlock();
        loop {
            self.watchdog.feed();
            self.start_due(|_| true);
            self.follow_resolvers();
            if let Some(ending) = self.look_at_revision() {
                return self.end(ending, events);
            }
            let is_late = self.started.elapsed() > TRIAL_BOOT_PATIENCE && !self.is_locked && !self.is_proven;
            if self.on_trial.is_some() && is_late {
                return self.give_up("it did not take mail in time", events);
            }
            match events.recv_timeout(self.pause()) {
                Ok(Event::ChildEnded) => self.reap(),
                Ok(Event::Greeted) => self.greeted(),
                Ok(Event::Proven(Ok(()))) => self.proven(),
                Ok(Event::Proven(Err(error))) if self.on_trial.is_some() => {
                    return self.give_up(&error, events);
                }
                Ok(Event::Proven(Err(_))) => {}
                Ok(Event::PowerOff) => return self.end(RebootCommand::PowerOff, events),
                Ok(Event::Restart) => return self.end(RebootCommand::Restart, events),
                Ok(Event::Unlocked) => self.unlocked(),
                Ok(Event::Revised(effect)) => {
                    if let Some(ending) = self.revised(effect) {
                        return self.end(ending, events);
                    }
                }
                Ok(Event::Typed { console, octets }) => {
                    if let Some(ending) = self.typed(&console, &octets) {
                        return self.end(ending, events);
                    }
                }
                // What ended while a thread waited for a process of its own.
                Err(_) => self.reap(),
            }
            self.invite_unlocking();
        }
    }

    /// Until something is due.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        let dues =
            self.programs.iter().filter_map(Program::due).map(|due| due.saturating_duration_since(now));
        dues.min().unwrap_or(WATCHDOG_INTERVAL).min(WATCHDOG_INTERVAL)
    }

    fn start_due(&mut self, which: impl Fn(&Program) -> bool) {
        let now = Instant::now();
        for program in self.programs.iter_mut().filter(|program| which(program)) {
            program.hurry();
            if program.due().is_none_or(|due| due > now) {
                continue;
            }
            if program.name == SERVER {
                // Whatever happened since the last start: not on anything else.
                if let Err(error) = self.volume.prove(&self.data_dir) {
                    program.put_off(&format!("is REFUSED: {error}"));
                    continue;
                }
                self.resolvers = fs::read_to_string(network::RESOLVERS).unwrap_or_default();
                (self.is_hearing, self.awaited) = (false, None);
            }
            program.start();
        }
        if !self.is_hearing
            && self.awaited.is_none()
            && let Some(address) = self.config.smtp.listen.first()
        {
            self.awaited = Some(events::tell_when_greeted(*address, self.tell.clone()));
        }
    }

    fn reap(&mut self) {
        let programs = &mut self.programs;
        reap(|pid, how| {
            let _ = programs.iter_mut().any(|program| program.has_ended(pid, how));
        });
    }

    /// Name servers that came later are told to the server; not before it listens: the signal would end it.
    fn follow_resolvers(&mut self) {
        if !self.is_hearing {
            return;
        }
        let now = fs::read_to_string(network::RESOLVERS).unwrap_or_default();
        if now != self.resolvers {
            self.resolvers = now;
            self.server().for_each(|server| server.signal(Signal::HUP));
        }
    }

    fn greeted(&mut self) {
        self.awaited = None;
        self.is_hearing = true;
        // What is being looked at for somebody may take long.
        let revisions = self.revisions.clone();
        let _ = std::thread::Builder::new().name("greeted".to_owned()).spawn(move || revisions.greeted());
        self.restores.greeted();
        if self.is_greeted {
            return say("the server takes mail again");
        }
        self.is_greeted = true;
        let (name, uptime) = (&self.config.hostname, machine::uptime());
        say(&format!("READY, {name} takes mail, {uptime} s after the kernel"));
        if let (Some(test), Some(listen)) = (self.self_test.take(), self.config.smtp.listen.first()) {
            let (address, tell) = (events::reachable(*listen), self.tell.clone());
            let run = move || drop(tell.send(Event::Proven(test.run(address))));
            // Without a thread the trial ends by its deadline.
            let _ = std::thread::Builder::new().name("self-test".to_owned()).spawn(run);
        }
        self.invite();
    }

    fn server(&self) -> impl Iterator<Item = &Program> {
        self.programs.iter().filter(|program| program.name == SERVER)
    }

    /// Drains, unmounts, and hands over how the machine ends.
    fn end(mut self, ending: RebootCommand, events: &Receiver<Event>) -> RebootCommand {
        say("stopping");
        self.programs.iter_mut().for_each(Program::end);
        self.await_ends(STOP_PATIENCE, events);
        self.programs.iter().for_each(|program| program.signal(Signal::KILL));
        // Who is killed holds his files until he is gone.
        self.await_ends(KILL_PATIENCE, events);
        self.order_restore(events);
        self.revisions.close();
        self.volume.close();
        say("stopped");
        self.watchdog.close();
        ending
    }
}

impl Machine {
    fn await_ends(&mut self, patience: Duration, events: &Receiver<Event>) {
        let deadline = Instant::now() + patience;
        while self.programs.iter().any(Program::is_running) && Instant::now() < deadline {
            self.watchdog.feed();
            let _ = events.recv_timeout(LOOK);
            self.reap();
        }
    }
}

const SERVER: &str = "server";

fn wait_until(patience: Duration, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + patience;
    while !is_so() && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
}
