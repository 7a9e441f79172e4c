//! What goes wrong while the node lives: hosts change their mood, connections break, the disk fails, fills up or is slow, the clock
//! jumps by a month.

use crate::disk::SlowDisk;
use crate::history::History;
use crate::plan::Rescue;
use crate::primary::{Host, Mood, Outside, Stage};
use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;
use storage::clock::Clock;
use storage::position::UnixMillis;
use storage::sim::disk::Faults;
use storage::sim::{Random, SimDisk};

/// Wall time at the beginning of the world.
pub const START_MS: u64 = 1_800_000_000_000;
/// A disk that is large enough.
pub const DISK_OCTETS: u64 = 512 << 20;
const MONTH_MS: u64 = 31 * 86_400_000;

/// Everything that can go wrong in a life, until it is calm.
#[derive(Clone)]
pub struct Weather {
    pub outside: Outside,
    pub disk: SlowDisk<SimDisk>,
    pub raw: SimDisk,
    pub reading_fails: bool,
    pub is_calm: Rc<Cell<bool>>,
    /// The clock is a month ahead: an operator who reloads now would say that it is right (H5).
    pub is_ahead: Rc<Cell<bool>>,
}

fn mood(random: &mut Random) -> Mood {
    match random.below(18) {
        0 | 1 => Mood::Refusing,
        2 => Mood::Swallowing,
        3 => Mood::Hanging,
        4 => Mood::HalfRestored,
        5 => Mood::Greylisting,
        6 => Mood::Pacing(1 + u32::try_from(random.below(4)).expect("few")),
        7 => Mood::Slow(Duration::from_millis(200 + random.below(100_000))),
        8 => Mood::Dripping(Duration::from_millis(5 + random.below(100))),
        9 => Mood::Deaf,
        10 => {
            use Stage::{DataEnd, DataStart, Greeting, Hello, Recipient, Sender};
            let stages = [Greeting, Hello, Sender, Recipient, DataStart, DataEnd];
            Mood::ClosesAt(stages[usize::try_from(random.below(6)).expect("few")])
        }
        11 => Mood::PuttingOff,
        12 => Mood::Rambling,
        13 => Mood::Another,
        _ => Mood::Well,
    }
}

impl Weather {
    /// Starts all of it.
    pub fn start(&self, random: &mut Random) {
        for host in self.outside.hosts.iter() {
            let task = self.clone().of_host(Rc::clone(host), Random::new(random.next()));
            self.outside.spawner.spawn(task);
        }
        self.outside.spawner.spawn(self.clone().of_disk(Random::new(random.next())));
        self.outside.spawner.spawn(self.clone().of_clock(Random::new(random.next())));
    }

    /// Other machines come and go as a plan says.
    pub async fn of_machines(self, rescue: Rescue) {
        loop {
            let mood = rescue.mood(self.outside.history.time(self.outside.clock.now()));
            for host in self.outside.hosts.iter().filter(|host| !host.is_smarthost) {
                if host.mood.replace(mood) != mood {
                    host.machine.set(host.machine.get() + 1);
                }
            }
            self.outside.clock.sleep(Duration::from_secs(1)).await;
            if self.is_calm.get() {
                return;
            }
        }
    }

    /// From now on nothing goes wrong any more.
    pub fn calm(&self) {
        self.is_calm.set(true);
        for host in self.outside.hosts.iter() {
            host.mood.set(Mood::Well);
            host.is_healed.set(true);
            host.partitioned.set(false);
        }
        self.outside.breaking.set(0);
        self.raw.set_faults(Faults::default());
        self.raw.set_free(DISK_OCTETS);
        self.disk.sync_time.set(Duration::ZERO);
        self.set_wall(0);
    }

    async fn of_host(self, host: Rc<Host>, mut random: Random) {
        loop {
            // What it begins with is left from the life before.
            self.outside.clock.sleep(Duration::from_secs(10 + random.below(400))).await;
            if self.is_calm.get() {
                return;
            }
            let next = mood(&mut random);
            host.mood.set(if host.is_smarthost && !next.is_down() { Mood::Well } else { next });
            host.partitioned.set(random.one_in(12));
            self.outside.breaking.set([0, 0, 40, 10][usize::try_from(random.below(4)).expect("few")]);
        }
    }

    async fn of_disk(self, mut random: Random) {
        loop {
            self.outside.clock.sleep(Duration::from_secs(5 + random.below(60))).await;
            if self.is_calm.get() {
                return;
            }
            let call = Some(1 + random.below(40));
            let faults = match random.below(8) {
                0 => Faults { fail_call: call, ..Faults::default() },
                1 => Faults { no_space_call: call, ..Faults::default() },
                2 if self.reading_fails => Faults { fail_reading: call, ..Faults::default() },
                3 => {
                    self.raw.set_free(random.below(2 << 20));
                    self.outside.history.count("disk is full");
                    Faults::default()
                }
                4 => {
                    self.disk.sync_time.set(Duration::from_millis(random.below(3_000)));
                    self.outside.history.count("syncs are slow");
                    Faults::default()
                }
                _ => Faults::default(),
            };
            self.raw.set_faults(Faults { misdirect_one_in: Some(4), shear_one_in: Some(4), ..faults });
            self.outside.clock.sleep(Duration::from_secs(5 + random.below(30))).await;
            if !self.is_calm.get() {
                self.raw.set_free(DISK_OCTETS);
                self.disk.sync_time.set(Duration::ZERO);
            }
        }
    }

    async fn of_clock(self, mut random: Random) {
        loop {
            self.outside.clock.sleep(Duration::from_secs(60 + random.below(500))).await;
            if self.is_calm.get() {
                return;
            }
            let is_ahead = random.one_in(2);
            self.set_wall(if is_ahead { MONTH_MS } else { 0 });
            if is_ahead {
                self.outside.history.count("clock jumps a month");
            }
        }
    }

    fn set_wall(&self, ahead_ms: u64) {
        let history: &History = &self.outside.history;
        let elapsed = u64::try_from(history.time(self.outside.clock.now()).as_millis()).expect("small");
        self.is_ahead.set(ahead_ms > 0);
        self.outside.clock.set_wall(UnixMillis(START_MS + elapsed + ahead_ms));
    }
}
