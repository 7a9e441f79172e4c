//! The health of the disk that mail lies on: asked by a thread of its own, so that a disk that hangs keeps nobody else waiting.
//!
//! # What is looked at
//! - every half hour, and soon after the kernel complains: what the disk says of itself ([`smart`]), by smartctl;
//! - as it is said: what the kernel complains of ([`kernel`]);
//! - when somebody asks: how full the data partition is, and whether it can be written.
//!
//! [`mod@verdict`] makes a state of it. One that gets worse is said on the console and in the log; the server tells it over its API, as metrics and as an alert.
//!
//! # Failure answers
//! A disk that does not answer smartctl in [`crate::limits::DISK_ANSWER_PATIENCE`] is failing; one that told before and does not any more is degraded. A disk that never said anything (virtio)
//! and a kernel's log that cannot be read are no failure: the state is what the rest tells, and it is said what is missing. What is [remembered](memory) lies on the same disk: where it cannot be
//! written it is forgotten at the next start.

mod kernel;
mod memory;
mod smart;
mod verdict;

use super::STATE;
use super::console::say;
use super::disk;
use super::tool::now_s;
use crate::limits::{DISK_LOOK_INTERVAL, DISK_LOOK_PAUSE, DISK_REPORT_OCTETS_MAX};
use crate::update::Running;
use crate::update::machine::{Disk, Figures, Machine, Partition, State};
use kernel::Complaints;
use memory::Memory;
use rustix::fs::{StatVfsMountFlags, statvfs};
use smart::Smart;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use verdict::{Known, judge};

const SMARTCTL: &str = "/sbin/smartctl";
const SMARTCTL_ARGUMENTS: [&str; 6] =
    ["--json=c", "--info", "--health", "--attributes", "--log=error", "--log=ssd"];

/// See the module; copies are of one.
#[derive(Clone, Debug)]
pub(super) struct Health(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Of the disk, and of the data partition, below /dev.
    names: Option<(String, String)>,
    smart: Option<Smart>,
    unasked: Option<String>,
    looked_s: Option<u64>,
    complaints: Complaints,
    memory: Memory,
    asked: Option<Instant>,
    said: State,
}

impl Health {
    /// Begins to look.
    pub(super) fn start() -> Self {
        let names = disk::names();
        let unasked = names.is_none().then(|| "sysfs does not tell which disk it is".to_owned());
        let inner = Inner {
            names: names.clone(),
            smart: None,
            unasked,
            looked_s: None,
            complaints: Complaints::default(),
            memory: Memory::read(Path::new(STATE)),
            asked: None,
            said: State::Silent,
        };
        let own = Self(Arc::new(Mutex::new(inner)));
        let Some((disk, partition)) = names else { return own };
        let (hurry, hurried) = sync_channel(1);
        own.listen(&disk, &partition, hurry);
        let looking = own.clone();
        let look = move || {
            loop {
                looking.look(&disk);
                match hurried.recv_timeout(DISK_LOOK_INTERVAL) {
                    Ok(()) => {
                        // One error is seldom alone.
                        std::thread::sleep(DISK_LOOK_PAUSE);
                        while hurried.try_recv().is_ok() {}
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    // Nobody listens to the kernel.
                    Err(RecvTimeoutError::Disconnected) => std::thread::sleep(DISK_LOOK_INTERVAL),
                }
            }
        };
        own.thread("disk", look);
        // One that hangs is told too.
        let telling = own.clone();
        let tell = move || {
            loop {
                std::thread::sleep(DISK_LOOK_PAUSE);
                telling.tell();
            }
        };
        own.thread("disk-watch", tell);
        own
    }

    /// Counts what the kernel complains of.
    fn listen(&self, disk: &str, partition: &str, hurry: SyncSender<()>) {
        let (own, disk, partition) = (self.clone(), disk.to_owned(), partition.to_owned());
        let listen = move || {
            let heard = |record: &str| {
                let is_it = own.lock().complaints.take(record, &disk, &partition);
                if is_it {
                    own.lock().memory.complained_s = Some(now_s());
                    own.tell();
                    // Full: it hurries already.
                    let _ = hurry.try_send(());
                }
            };
            if let Err(error) = kernel::follow(heard) {
                say(&format!(
                    "the kernel's log cannot be read, failed reads and writes are not counted: {error}"
                ));
            }
        };
        self.thread("kernel-log", listen);
    }

    fn thread(&self, name: &str, work: impl FnOnce() + Send + 'static) {
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            self.lock().unasked = Some(format!("its health is not looked at: {error}"));
        }
    }

    /// Asks the disk, and keeps what is to be remembered.
    fn look(&self, disk: &str) {
        self.lock().asked = Some(Instant::now());
        let asked = ask(disk);
        let (before, after) = {
            let mut inner = self.lock();
            let before = inner.memory.clone();
            inner.asked = None;
            match asked {
                Ok(smart) if smart.tells() => {
                    inner.memory.told(&smart, now_s());
                    inner.smart = Some(smart);
                    inner.looked_s = Some(now_s());
                    inner.unasked = None;
                }
                // What it told before is what is known of it.
                Ok(smart) => {
                    let error = smart.error.clone();
                    inner.unasked = Some(error.unwrap_or_else(|| "smartctl finds nothing".to_owned()));
                    inner.smart.get_or_insert(smart);
                }
                Err(error) => inner.unasked = Some(error),
            }
            (before, inner.memory.clone())
        };
        self.tell();
        if after != before
            || after.complained_s.is_some_and(|at_s| now_s() < at_s + DISK_LOOK_PAUSE.as_secs() * 2)
        {
            // A disk that takes no writes is told otherwise.
            let _ = after.keep(Path::new(STATE));
        }
    }

    /// Says what became worse, or is well again.
    fn tell(&self) {
        let now = self.disk();
        let before = core::mem::replace(&mut self.lock().said, now.state);
        if now.state == before {
            return;
        }
        match now.state {
            State::Degraded | State::Failing => {
                say(&format!("the disk {} is {}: {}", now.device, now.state.word(), now.findings.join("; ")));
            }
            State::Healthy | State::Silent if before >= State::Degraded => {
                say(&format!("the disk {} is {} again", now.device, now.state.word()));
            }
            State::Healthy | State::Silent => {}
        }
    }

    /// How it is now.
    pub(super) fn disk(&self) -> Disk {
        let is_read_only = partition().is_read_only;
        let inner = self.lock();
        let known = Known {
            smart: inner.smart.clone(),
            unasked: inner.unasked.clone(),
            complaints: inner.complaints,
            memory: inner.memory.clone(),
            now_s: now_s(),
            is_read_only,
            waited: inner.asked.map(|asked| asked.elapsed()),
        };
        let (state, findings) = judge(&known);
        let smart = known.smart.unwrap_or_default();
        let figures = Figures {
            temperature_c: smart.temperature_c,
            used_percent: smart.used_percent,
            spare_percent: smart.spare_percent,
            media_errors: smart.media_errors,
            reallocated: smart.reallocated,
            unsafe_shutdowns: smart.unsafe_shutdowns,
            hours: smart.hours,
            io_errors: inner.complaints.io,
            file_system_errors: inner.complaints.file_system,
        };
        Disk {
            device: inner.names.as_ref().map(|(disk, _)| disk.clone()).unwrap_or_default(),
            model: smart.model,
            serial: smart.serial,
            firmware: smart.firmware,
            state,
            findings,
            figures,
            looked_s: inner.looked_s,
        }
    }

    /// The machine, of the image that runs.
    pub(super) fn machine(&self, running: &Running) -> Machine {
        let uptime = super::machine::uptime();
        Machine {
            version: running.version.clone(),
            variant: running.variant.clone(),
            uptime_s: uptime.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0),
            data: partition(),
            disk: self.disk(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The data partition; all zeros where nothing can be told.
pub(super) fn partition() -> Partition {
    let Ok(status) = statvfs(disk::DATA) else { return Partition::default() };
    Partition {
        size_octets: status.f_blocks.saturating_mul(status.f_frsize),
        free_octets: status.f_bavail.saturating_mul(status.f_frsize),
        is_read_only: status.f_flag.contains(StatVfsMountFlags::RDONLY),
    }
}

/// Has smartctl ask it. Its exit status is not waited for: PID 1 takes in every process that ends, and a disk that hangs must not hold it up.
fn ask(disk: &str) -> Result<Smart, String> {
    let device = format!("/dev/{disk}");
    let mut command = Command::new(SMARTCTL);
    command.args(SMARTCTL_ARGUMENTS).arg(&device).stdin(Stdio::null()).stderr(Stdio::null());
    let child = command.stdout(Stdio::piped()).spawn();
    let child = child.map_err(|error| format!("{SMARTCTL}: {error}"))?;
    let mut report = Vec::new();
    let stdout = child.stdout.ok_or("smartctl says nothing")?;
    stdout
        .take(DISK_REPORT_OCTETS_MAX)
        .read_to_end(&mut report)
        .map_err(|error| format!("smartctl: {error}"))?;
    Smart::parse(&report)
        .map_err(|error| format!("what smartctl says of {device} is not understood: {error}"))
}
