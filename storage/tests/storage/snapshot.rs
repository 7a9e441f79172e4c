//! A copy of a store that is worked on: at whatever places of a node's life it is made, it opens, nothing in it is damaged, and
//! what was queued before it began and is queued when it is made is queued in it, octet by octet.

use super::checker::{entries_of, is_damage, read_back};
use super::node::*;
use super::steps::{Machine, Order, Step, nobody, small};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use storage::disk::{Disk, File, write_padded};
use storage::error::DiskError;
use storage::inspect::Directory;
use storage::position::Stamp;
use storage::reader::Reader;
use storage::sim::disk::{SimBlock, SimFile};
use storage::sim::executor::yield_now;
use storage::sim::{Random, SimClock, SimDisk};
use storage::snapshot::{Snapshot, SnapshotError, is_member, take};
use storage::store::open;

/// The disk as somebody sees it whose every call takes a while.
#[derive(Clone)]
struct Slow(SimDisk);

struct SlowFile(SimFile);

impl Disk for Slow {
    type File = SlowFile;

    async fn create(&self, _: &str, _: u64) -> Result<SlowFile, DiskError> {
        unreachable!("it only reads")
    }

    async fn open(&self, path: &str) -> Result<SlowFile, DiskError> {
        yield_now().await;
        self.0.open(path).await.map(SlowFile)
    }

    async fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        yield_now().await;
        self.0.list(directory).await
    }

    async fn create_directory(&self, _: &str) -> Result<(), DiskError> {
        unreachable!("it only reads")
    }

    async fn sync_directory(&self, _: &str) -> Result<(), DiskError> {
        unreachable!("it only reads")
    }

    async fn remove(&self, _: &str) -> Result<(), DiskError> {
        unreachable!("it only reads")
    }

    async fn free_octets(&self) -> Result<u64, DiskError> {
        unreachable!("it only reads")
    }
}

impl File for SlowFile {
    type Block = SimBlock;
    type Octets = Vec<u8>;

    fn allocate(&self, _: usize) -> SimBlock {
        unreachable!("it only reads")
    }

    async fn write(&self, _: SimBlock, _: u64) -> Result<(), DiskError> {
        unreachable!("it only reads")
    }

    async fn read(&self, offset: u64, octets: usize) -> Result<Vec<u8>, DiskError> {
        yield_now().await;
        self.0.read(offset, octets).await
    }

    async fn sync(&self) -> Result<(), DiskError> {
        unreachable!("it only reads")
    }

    async fn give_back(&self, _: u64) -> Result<(), DiskError> {
        unreachable!("it only reads")
    }

    async fn length(&self) -> Result<u64, DiskError> {
        self.0.length().await
    }
}

type Taken = Result<Snapshot<SlowFile>, SnapshotError>;

/// One that is being made beside the steps of a node.
struct Making {
    future: Pin<Box<dyn Future<Output = Taken>>>,
    /// Open units before it began.
    before: BTreeSet<(Stamp, u16)>,
    /// What it is, and the open units when it was.
    made: Option<(Taken, BTreeSet<(Stamp, u16)>)>,
}

/// Units that are promised, and that nobody has begun to end.
fn open_units(world: &World) -> BTreeSet<(Stamp, u16)> {
    let world = world.borrow();
    let units = world
        .acknowledged
        .values()
        .flat_map(|promise| (0..).zip(&promise.recipients).map(|(ordinal, _)| (promise.stamp, ordinal)));
    units.filter(|unit| !world.settling.contains(unit)).collect()
}

impl Making {
    fn begin(disk: &SimDisk, world: &World) -> Self {
        let disk = Slow(disk.clone());
        let future = Box::pin(async move { take(&disk).await });
        Self { future, before: open_units(world), made: None }
    }

    fn go_on(&mut self, world: &World) {
        if self.made.is_none()
            && let Poll::Ready(taken) = self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            self.made = Some((taken, open_units(world)));
        }
    }
}

/// A disk with these files and nothing else.
async fn copied(snapshot: &Snapshot<SlowFile>) -> SimDisk {
    let disk = SimDisk::new(2, DISK_OCTETS);
    for member in &snapshot.members {
        assert!(is_member(&member.path), "{}", member.path);
        if let Some((directory, _)) = member.path.split_once('/') {
            disk.create_directory(directory).await.unwrap();
        }
        let file = disk.create(&member.path, member.octets).await.unwrap();
        let octets = usize::try_from(member.octets).unwrap();
        let mut content = Vec::new();
        while content.len() < octets {
            content.extend(member.read(content.len() as u64, 10_000).await.unwrap());
        }
        write_padded(&file, 0, &content).await.unwrap();
        file.sync().await.unwrap();
    }
    disk
}

/// What is wrong with a copy; how many units are queued in it.
fn look(making: Making, world: &World, shards: u16) -> (Vec<String>, usize) {
    let Making { before, made, .. } = making;
    let (taken, after) = made.expect("it was waited for");
    let promises = world.borrow().clone();
    block_on(&SimClock::default(), async move {
        let disk = copied(&taken.expect("a snapshot of a store that works")).await;
        let walked = Directory::walk(disk.clone(), Default::default()).await.unwrap();
        let audit = walked.audit();
        let mut wrong: Vec<String> = Vec::new();
        if !audit.balances() {
            wrong.push("its ledger does not balance".to_owned());
        }
        let opened = open(&disk, &SimClock::default(), &small(shards).store).await.unwrap();
        wrong.extend(opened.findings.iter().filter(|finding| is_damage(finding)).map(|f| format!("{f:?}")));
        let mut queued = BTreeSet::new();
        for message in opened.backlogs.iter().flat_map(|backlog| backlog.clone().into_queued()) {
            let stamp = message.entry.stamp;
            queued.extend(message.open_units().into_iter().map(|ordinal| (stamp, ordinal)));
            queued.extend(message.held_units().map(|known| (stamp, known.fact.ordinal)));
        }
        let lost = before.intersection(&after).filter(|unit| !queued.contains(unit));
        wrong.extend(lost.map(|unit| format!("{unit:?} is lost")));
        let reader = Reader::new(disk.clone(), opened.store.store, Default::default());
        let expected: BTreeMap<Stamp, _> =
            promises.acknowledged.values().map(|promise| (promise.stamp, Rc::clone(promise))).collect();
        for (stamp, (shard, entry)) in entries_of(&opened) {
            match (expected.get(&stamp), read_back(&reader, shard, &entry).await) {
                (Some(promise), Ok(read)) if read.data == promise.data => {}
                (Some(_), read) => wrong.push(format!("{stamp:?} is other mail: {}", read.is_ok())),
                // It was on its way, and nobody had been told.
                (None, _) => {}
            }
        }
        (wrong, queued.len())
    })
}

/// A life with several copies; how many there were, and whether files had come and gone meanwhile.
fn live(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let (world, shards) = (World::default(), 1 + (seed % 3) as u16);
    let disk = SimDisk::new(seed, DISK_OCTETS);
    let mut machine = Machine::start(&disk, &small(shards), &world, &mut nobody).unwrap();
    let mut queued = 0;
    for round in 0..3 {
        for _ in 0..6 {
            machine = machine.take(order(&mut random), &mut nobody).unwrap();
        }
        let mut making = Making::begin(&disk, &world);
        // From a call behind each change of the disk to one in eight.
        let one_in = 1 + random.below(8);
        let mut step = |_: &SimDisk, world: &World| {
            if random.below(one_in) == 0 {
                making.go_on(world);
            }
            ControlFlow::Continue(())
        };
        let mut orders = Random::new(seed ^ round);
        for _ in 0..8 {
            machine = machine.take(order(&mut orders), &mut step).unwrap();
        }
        while making.made.is_none() {
            making.go_on(&world);
        }
        // Its files stay as they were, whatever becomes of theirs.
        for shard in 0..3 {
            for step in [Step::Append, Step::Roll, Step::Tidy, Step::Compact, Step::Unlink] {
                machine = machine.take(Order { step, shard, pick: 0 }, &mut nobody).unwrap();
            }
        }
        let (wrong, units) = look(making, &world, shards);
        assert!(wrong.is_empty(), "seed {seed}, round {round}: {wrong:?}");
        queued += units;
    }
    queued
}

/// Much that makes files come and go. No failing write: what is in doubt behind one has no promise to be held to.
fn order(random: &mut Random) -> Order {
    let steps = [
        Step::Abandon,
        Step::Append,
        Step::Checkpoint,
        Step::Compact,
        Step::Compact,
        Step::Expire,
        Step::Hold,
        Step::LargeAppend,
        Step::Roll,
        Step::Settle,
        Step::Settle,
        Step::Tidy,
        Step::Unlink,
        Step::Straddle,
    ];
    let among = |bound: usize, random: &mut Random| usize::try_from(random.below(bound as u64)).unwrap();
    Order { step: steps[among(steps.len(), random)], shard: among(3, random), pick: among(8, random) }
}

#[test]
fn p2_a_copy_of_a_store_that_is_worked_on_has_all_that_was_queued() {
    let queued: usize = (0..150).map(live).sum();
    assert!(queued > 1_000, "the lives are too quiet: {queued} units in all copies");
}

#[test]
fn what_is_no_store_or_lacks_a_shard_is_not_copied() {
    let world = World::default();
    let disk = SimDisk::new(1, DISK_OCTETS);
    let taken = |disk: &SimDisk| {
        let disk = disk.clone();
        block_on(&SimClock::default(), async move { take(&disk).await.map(|taken| taken.members.len()) })
    };
    assert_eq!(taken(&disk), Err(SnapshotError::Nothing));
    drop(Machine::start(&disk, &small(2), &world, &mut nobody).unwrap());
    assert!(taken(&disk).unwrap() >= 5);
    disk.unmount("shard-01");
    assert!(matches!(taken(&disk), Err(SnapshotError::MissingShard(shard)) if shard.0 == 1));
}

#[test]
fn nothing_but_a_store_has_names_of_members() {
    for name in [
        "store",
        "shard-00/segment-00000001.log",
        "shard-00/segment-00000001.index",
        "shard-12/journal-000000ff.log",
        "shard-00/trace-20780-00000001.log",
    ] {
        assert!(is_member(name), "{name}");
    }
    for name in [
        "",
        "lock",
        "control.sqlite",
        "../store",
        "shard-00",
        "shard-00/../store",
        "shard-00/trace-../../x.log",
        "shard-0/segment-00000001.log",
        "shard-00/segment-1.log",
        "/shard-00/segment-00000001.log",
        "shard-00/shard-00/segment-00000001.log",
    ] {
        assert!(!is_member(name), "{name}");
    }
}
