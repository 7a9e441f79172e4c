//! The contract of `storage::disk` on both disks: one generic body for what can be seen without a power cut, and on
//! the simulated one also what a power cut does. So what the simulator proves about the log holds on the real disk.

use super::node::{DISK_OCTETS, block_on};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use storage::disk::dma::{DirectoryLock, DmaDisk, LockError};
use storage::disk::plain::PlainDisk;
use storage::disk::{ALIGNMENT_OCTETS, Block, Disk, File, read_whole, write_whole};
use storage::error::DiskError;
use storage::sim::disk::{Faults, SECTOR_OCTETS};
use storage::sim::{SimClock, SimDisk};

pub(crate) const SIZE: u64 = 256 * 1024;

/// A block of `octets` that all are `value`.
pub(crate) fn block_of<F: File>(file: &F, octets: usize, value: u8) -> F::Block {
    let mut block = file.allocate(octets + ALIGNMENT_OCTETS);
    block.truncate(octets);
    assert_eq!(block.as_ref().len(), octets, "a block is as long as it was cut");
    block.as_mut().fill(value);
    block
}

/// The body: everything that an implementation must do.
pub(crate) async fn contract<D: Disk>(disk: D) {
    names(&disk).await;
    content(&disk).await;
    whole_files(&disk).await;
    room(&disk).await;
    assert!(disk.free_octets().await.unwrap() > SIZE);
}

async fn names<D: Disk>(disk: &D) {
    assert_eq!(disk.list("d").await, Err(DiskError::NotFound));
    assert_eq!(disk.create("d/one", SIZE).await.err(), Some(DiskError::NotFound), "no directory yet");
    disk.create_directory("d").await.unwrap();
    disk.create_directory("d").await.unwrap();
    disk.sync_directory("").await.unwrap();
    assert_eq!(disk.list("d").await.unwrap(), Vec::<String>::new());
    assert_eq!(disk.open("d/one").await.err(), Some(DiskError::NotFound));
    drop(disk.create("d/one", SIZE).await.unwrap());
    drop(disk.create("d/two", SIZE).await.unwrap());
    assert_eq!(disk.create("d/one", SIZE).await.err(), Some(DiskError::Exists));
    disk.sync_directory("d").await.unwrap();
    let mut names = disk.list("d").await.unwrap();
    names.sort();
    assert_eq!(names, ["one", "two"]);
    assert!(disk.list("").await.unwrap().contains(&"d".to_owned()), "directories are listed");
    disk.remove("d/two").await.unwrap();
    assert_eq!(disk.remove("d/two").await, Err(DiskError::NotFound));
    disk.sync_directory("d").await.unwrap();
    assert_eq!(disk.list("d").await.unwrap(), ["one"]);
    drop(disk.create("d/two", SIZE).await.expect("a removed name is free"));
    disk.remove("d/two").await.unwrap();
}

async fn content<D: Disk>(disk: &D) {
    let file = disk.create("d/content", SIZE).await.unwrap();
    assert_eq!(file.length().await.unwrap(), SIZE);
    let all = usize::try_from(SIZE).unwrap();
    assert!(file.read(0, all).await.unwrap().iter().all(|octet| *octet == 0), "4: zeros");
    // The last block first: a preallocated file has no order.
    for (offset, octets, value) in [(SIZE - 4096, 4096, 3), (8192, 12_288, 1), (12_288, 4096, 2)] {
        file.write(block_of(&file, octets, value), offset).await.unwrap();
    }
    let read = file.read(0, all).await.unwrap();
    assert_eq!(read.len(), all);
    let runs =
        [(0, 8192, 0), (8192, 12_288, 1), (12_288, 16_384, 2), (16_384, 20_480, 1), (all - 4096, all, 3)];
    for (from, to, value) in runs {
        assert!(read[from..to].iter().all(|octet| *octet == value), "1: {from}..{to} is {value}");
    }
    for (offset, octets) in [(8191, 2), (8192, 1), (12_287, 4099), (5, 20_000), (511, 513)] {
        let part = file.read(offset, octets).await.unwrap();
        let from = usize::try_from(offset).unwrap();
        assert_eq!(&part[..], &read[from..from + octets], "reads start and end anywhere");
    }
    let end = file.read(SIZE - 10, 100).await.unwrap();
    assert_eq!(end.len(), 10, "fewer at the end of the file");
    assert_eq!(file.read(SIZE, 100).await.unwrap().len(), 0);
    assert_eq!(file.read(SIZE + 8192, 100).await.unwrap().len(), 0);
    file.sync().await.unwrap();
    file.write(block_of(&file, 4096, 9), 0).await.unwrap();
    let again = disk.open("d/content").await.unwrap();
    assert_eq!(again.read(0, 2).await.unwrap()[..], [9, 9], "1: seen by later reads, also of another handle");
    assert_eq!(again.length().await.unwrap(), SIZE, "writes change no length");
    disk.remove("d/content").await.unwrap();
    assert_eq!(again.read(8192, 1).await.unwrap()[..], [1], "an open file outlives its name");
    file.sync().await.unwrap();
}

async fn room<D: Disk>(disk: &D) {
    let file = disk.create("d/room", SIZE).await.unwrap();
    file.write(block_of(&file, 4096, 7), 0).await.unwrap();
    for offset in [8192, 4096, SIZE] {
        file.give_back(offset).await.unwrap();
        assert_eq!(file.length().await.unwrap(), SIZE, "5: as long as before");
        let again = disk.open("d/room").await.unwrap();
        let read = again.read(0, usize::try_from(SIZE).unwrap()).await.unwrap();
        assert_eq!(read.len() as u64, SIZE);
        assert!(read[..4096].iter().all(|octet| *octet == 7), "5: what is in front of it stays");
        assert!(read[4096..].iter().all(|octet| *octet == 0), "5: zeros as before");
    }
    file.sync().await.unwrap();
}

async fn whole_files<D: Disk>(disk: &D) {
    let content: Vec<u8> = (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect();
    write_whole(disk, "d", "whole", &content).await.unwrap();
    let read = read_whole(disk, "d/whole").await.unwrap();
    assert_eq!((read.len(), &read[..5000]), (8192, &content[..]));
    assert!(read[5000..].iter().all(|octet| *octet == 0), "padding is zeros");
    assert_eq!(write_whole(disk, "d", "whole", &content).await, Err(DiskError::Exists));
    assert_eq!(read_whole(disk, "d/none").await.err(), Some(DiskError::NotFound));
}

/// A fresh directory below the target directory, which is on a real file system; gone with the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs on one executor with little locked memory, as many machines allow no more.
pub(crate) fn on_glommio<T>(future: impl Future<Output = T>) -> T {
    glommio::LocalExecutorBuilder::default().io_memory(1 << 20).make().unwrap().run(future)
}

#[test]
fn simulated_disk_keeps_the_contract() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed, DISK_OCTETS);
        block_on(&SimClock::default(), contract(disk));
    }
}

#[test]
fn real_disk_keeps_the_contract() {
    let scratch = Scratch::new("contract");
    on_glommio(async { contract(DmaDisk::attach(&scratch.0).await.unwrap()).await });
    let octets = |name: &str| std::fs::metadata(scratch.0.join(name)).unwrap().blocks() * 512;
    assert!(octets("d/room") <= 4096, "5: its room is free");
}

#[test]
fn real_disk_writes_whole_batches_of_every_block_count() {
    let scratch = Scratch::new("batches");
    on_glommio(async {
        let disk = DmaDisk::attach(&scratch.0).await.unwrap();
        let file = disk.create("file", 4 << 20).await.unwrap();
        let mut offset = 0;
        for blocks in [1_usize, 2, 3, 16, 64, 256] {
            let octets = blocks * ALIGNMENT_OCTETS;
            let value = u8::try_from(blocks % 251).unwrap();
            file.write(block_of(&file, octets, value), offset).await.unwrap();
            file.sync().await.unwrap();
            let read = file.read(offset, octets).await.unwrap();
            assert!(read.len() == octets && read.iter().all(|octet| *octet == value));
            offset += octets as u64;
        }
    });
}

#[test]
fn plain_disk_reads_what_the_real_one_wrote_and_changes_nothing() {
    let scratch = Scratch::new("plain");
    on_glommio(async {
        let disk = DmaDisk::attach(&scratch.0).await.unwrap();
        disk.create_directory("d").await.unwrap();
        write_whole(&disk, "d", "file", b"content").await.unwrap();
        let plain = PlainDisk::new(scratch.0.clone());
        assert_eq!(plain.list("d").await.unwrap(), ["file"]);
        assert_eq!(read_whole(&plain, "d/file").await.unwrap()[..7], *b"content");
        let file = plain.open("d/file").await.unwrap();
        assert_eq!((file.length().await.unwrap(), file.read(4094, 9).await.unwrap().len()), (4096, 2));
        let refused = |result: Result<(), DiskError>| assert!(matches!(result, Err(DiskError::Io { .. })));
        refused(file.write(file.allocate(4096), 0).await);
        refused(file.sync().await);
        refused(file.give_back(0).await);
        refused(plain.create("d/more", 4096).await.map(drop));
        refused(plain.remove("d/file").await);
        refused(plain.create_directory("e").await);
        refused(plain.sync_directory("d").await);
        assert_eq!(plain.list("d").await.unwrap(), ["file"]);
    });
}

#[test]
fn one_process_at_a_time_holds_a_directory() {
    let scratch = Scratch::new("lock");
    let root = scratch.0.join("made");
    let held = DirectoryLock::acquire(&root).unwrap();
    assert!(matches!(DirectoryLock::acquire(&root), Err(LockError::Busy(_))));
    drop(held);
    DirectoryLock::acquire(&root).unwrap();
}

/// Runs `before` on a disk, cuts the power, runs `after`; many times, and tells how often `after` said yes.
pub(crate) fn kept<F, G>(seeds: u64, before: impl Fn(SimDisk) -> F, after: impl Fn(SimDisk) -> G) -> u64
where
    F: Future<Output = ()> + 'static,
    G: Future<Output = u64> + 'static,
{
    let clock = SimClock::default();
    let lives = (0..seeds).map(|seed| {
        let disk = SimDisk::new(seed, DISK_OCTETS);
        block_on(&clock, before(disk.clone()));
        block_on(&clock, after(disk.crash()))
    });
    lives.sum()
}

pub(crate) async fn made(disk: &SimDisk) -> <SimDisk as Disk>::File {
    let file = disk.create("file", SIZE).await.unwrap();
    file.sync().await.unwrap();
    disk.sync_directory("").await.unwrap();
    file
}

/// Sectors of the first block that hold `value`.
async fn sectors(disk: &SimDisk, value: u8) -> u64 {
    let read = read_whole(disk, "file").await.unwrap();
    let sectors = read[..ALIGNMENT_OCTETS].chunks(SECTOR_OCTETS);
    let whole = |sector: &&[u8]| {
        let same = sector.iter().filter(|octet| **octet == value).count();
        assert!(same == 0 || same == SECTOR_OCTETS, "sectors are whole");
        same != 0
    };
    sectors.filter(whole).count() as u64
}

pub(crate) const SEEDS: u64 = 100;
const SECTORS: u64 = SEEDS * (ALIGNMENT_OCTETS / SECTOR_OCTETS) as u64;

#[test]
fn unsynced_sectors_are_kept_or_lost_each_by_itself() {
    let write = |disk: SimDisk| async move {
        let file = made(&disk).await;
        file.write(block_of(&file, 4096, 1), 0).await.unwrap();
    };
    let kept = kept(SEEDS, write, |disk| async move { sectors(&disk, 1).await });
    assert!(kept > SECTORS / 3 && kept < SECTORS * 2 / 3, "{kept} of {SECTORS}");
}

#[test]
fn synced_sectors_survive_and_what_is_written_over_them_tears() {
    let write = |disk: SimDisk| async move {
        let file = made(&disk).await;
        file.write(block_of(&file, 4096, 1), 0).await.unwrap();
        file.sync().await.unwrap();
        file.write(block_of(&file, 4096, 2), 0).await.unwrap();
    };
    let either = kept(SEEDS, write, |disk| async move { sectors(&disk, 1).await + sectors(&disk, 2).await });
    assert_eq!(either, SECTORS, "old or new, nothing else");
    let old = kept(SEEDS, write, |disk| async move { sectors(&disk, 1).await });
    assert!(old > SECTORS / 3 && old < SECTORS * 2 / 3);
}

#[test]
fn file_lost_without_dir_sync() {
    let make = |disk: SimDisk| async move {
        let file = disk.create("file", SIZE).await.unwrap();
        file.write(block_of(&file, 4096, 1), 0).await.unwrap();
        file.sync().await.unwrap();
    };
    let there = |disk: SimDisk| async move { u64::from(disk.open("file").await.is_ok()) };
    let lost = SEEDS - kept(SEEDS, make, there);
    assert!(lost > SEEDS / 3 && lost < SEEDS * 2 / 3, "{lost}");
    let durable = |disk: SimDisk| async move { drop(made(&disk).await) };
    assert_eq!(kept(SEEDS, durable, there), SEEDS);
}

#[test]
fn removal_undone_without_dir_sync() {
    let there = |disk: SimDisk| async move { u64::from(disk.open("file").await.is_ok()) };
    let remove = |disk: SimDisk| async move {
        drop(made(&disk).await);
        disk.remove("file").await.unwrap();
    };
    let back = kept(SEEDS, remove, there);
    assert!(back > SEEDS / 3 && back < SEEDS * 2 / 3, "{back}");
    let durable = |disk: SimDisk| async move {
        drop(made(&disk).await);
        disk.remove("file").await.unwrap();
        disk.sync_directory("").await.unwrap();
    };
    assert_eq!(kept(SEEDS, durable, there), 0);
}

#[test]
fn directory_lost_without_sync_of_its_parent() {
    let make = |disk: SimDisk| async move {
        disk.create_directory("d").await.unwrap();
        let file = disk.create("d/file", SIZE).await.unwrap();
        file.sync().await.unwrap();
        disk.sync_directory("d").await.unwrap();
    };
    let there = |disk: SimDisk| async move { u64::from(disk.open("d/file").await.is_ok()) };
    assert_eq!(kept(SEEDS, make, there), 0);
}

#[test]
fn a_sync_after_a_failed_one_saves_nothing_and_is_counted() {
    let fail = |disk: SimDisk| async move {
        let file = made(&disk).await;
        file.write(block_of(&file, 4096, 1), 0).await.unwrap();
        disk.set_faults(Faults { fail_call: Some(1), ..Faults::default() });
        assert!(file.sync().await.is_err());
        assert_eq!(disk.syncs_after_failure(), 0);
        file.sync().await.unwrap();
        assert_eq!(disk.syncs_after_failure(), 1);
    };
    let there = kept(SEEDS, fail, |disk| async move { sectors(&disk, 1).await });
    assert!(there > SECTORS / 3 && there < SECTORS * 2 / 3, "3: it says nothing: {there}");
}

#[test]
fn a_failed_write_may_have_arrived_in_part() {
    let fail = |disk: SimDisk| async move {
        let file = made(&disk).await;
        disk.set_faults(Faults { fail_call: Some(1), ..Faults::default() });
        assert!(file.write(block_of(&file, 4096, 1), 0).await.is_err());
    };
    let there = kept(SEEDS, fail, |disk| async move { sectors(&disk, 1).await });
    assert!(there > 0 && there < SECTORS, "{there}");
    let again = |disk: SimDisk| async move {
        let file = made(&disk).await;
        disk.set_faults(Faults { fail_call: Some(1), ..Faults::default() });
        assert!(file.write(block_of(&file, 4096, 1), 0).await.is_err());
        file.write(block_of(&file, 4096, 2), 0).await.unwrap();
        file.sync().await.unwrap();
        assert_eq!(disk.syncs_after_failure(), 0, "all of it was written anew");
    };
    assert_eq!(kept(SEEDS, again, |disk| async move { sectors(&disk, 2).await }), SECTORS);
}

#[test]
fn space_ends_at_create_and_returns_with_a_removal() {
    let disk = SimDisk::new(1, SIZE);
    block_on(&SimClock::default(), async move {
        let file = disk.create("one", SIZE).await.unwrap();
        assert_eq!(disk.create("two", SIZE).await.err(), Some(DiskError::NoSpace));
        file.write(block_of(&file, 4096, 1), 0).await.expect("4: what is preallocated can be written");
        disk.remove("one").await.unwrap();
        assert_eq!(disk.free_octets().await, Ok(SIZE));
        assert!(disk.create("two", SIZE).await.is_ok());
    });
}
