//! The faults of the simulated disk: each does what it says, and is counted, so that a test can demand that it fired.

use super::disk_contract::{SEEDS, SIZE, block_of, kept, made};
use super::node::{DISK_OCTETS, block_on};
use std::cell::RefCell;
use storage::disk::{ALIGNMENT_OCTETS, Disk, File, read_whole};
use storage::error::DiskError;
use storage::sim::disk::{Faults, Fired, Operation};
use storage::sim::{SimClock, SimDisk};

/// What fired over all seeds: `before` runs, then the power is cut.
fn fired<F: Future<Output = ()> + 'static>(before: impl Fn(SimDisk) -> F) -> Fired {
    let mut all = Fired::default();
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed, DISK_OCTETS);
        block_on(&SimClock::default(), before(disk.clone()));
        all.add(&disk.crash().fired());
    }
    all
}

#[test]
fn what_a_crash_takes_back_is_counted() {
    let two_writes = |disk: SimDisk| async move {
        let file = made(&disk).await;
        file.write(block_of(&file, 4096, 1), 0).await.unwrap();
        file.write(block_of(&file, 4096, 2), 4096).await.unwrap();
    };
    let counts = fired(two_writes);
    let sectors = SEEDS * 16;
    assert!(counts.lost_sectors > sectors / 3 && counts.lost_sectors < sectors * 2 / 3, "{counts}");
    assert!(counts.torn_writes > SEEDS, "almost every write of 8 sectors is torn: {counts}");
    assert!(counts.reordered_writes > SEEDS * 9 / 10, "the second is there, not all of the first: {counts}");
    assert_eq!((counts.misdirected_writes, counts.lost_directory_entries), (0, 0));
    let synced = |disk: SimDisk| async move {
        let file = made(&disk).await;
        file.write(block_of(&file, 4096, 1), 0).await.unwrap();
        file.sync().await.unwrap();
    };
    assert_eq!(fired(synced), Fired::default(), "nothing happens to what was synced");
    let unnamed = |disk: SimDisk| async move {
        disk.create("one", SIZE).await.unwrap();
        let _ = made(&disk).await;
        disk.create("two", SIZE).await.unwrap();
        disk.remove("file").await.unwrap();
    };
    let counts = fired(unnamed);
    assert!(counts.lost_directory_entries > SEEDS / 2, "a name and a removal: {counts}");
}

/// A file of which blocks 0 to 7 are durable and 8 and 9 are being written, on a disk that misdirects.
async fn misdirecting(disk: SimDisk) {
    let file = made(&disk).await;
    file.write(block_of(&file, 8 * 4096, 1), 0).await.unwrap();
    file.sync().await.unwrap();
    disk.set_faults(Faults { misdirect_one_in: Some(1), ..Faults::default() });
    file.write(block_of(&file, 2 * 4096, 2), 8 * 4096).await.unwrap();
}

/// Blocks of the file that are all `value`.
fn blocks_of(disk: &SimDisk, value: u8) -> Vec<usize> {
    let content = disk.content("file").unwrap();
    let blocks = content.chunks(ALIGNMENT_OCTETS).enumerate();
    blocks.filter(|(_, block)| block.iter().all(|octet| *octet == value)).map(|(number, _)| number).collect()
}

#[test]
fn a_misdirected_write_lands_elsewhere_whole_and_spares_what_is_durable() {
    let counts = fired(misdirecting);
    assert!(counts.misdirected_writes > SEEDS * 9 / 10, "{counts}");
    let places = RefCell::new(std::collections::BTreeSet::new());
    let after = |disk: SimDisk| {
        assert_eq!(blocks_of(&disk, 1), (0..8).collect::<Vec<_>>(), "durable blocks are as they were");
        let places = &places;
        let found = blocks_of(&disk, 2);
        let misdirected = disk.fired().misdirected_writes;
        if misdirected == 1 {
            assert!(found.len() == 2 && found[1] == found[0] + 1 && found[0] >= 8, "{found:?}");
            assert_ne!(found[0], 8, "elsewhere");
            let own = if found[0] == 9 { 1 } else { 2 };
            assert_eq!(
                blocks_of(&disk, 0)[..own],
                [8, 9][..own],
                "where it belongs is what was there before"
            );
            places.borrow_mut().insert(found[0]);
        }
        async move { misdirected }
    };
    let misdirected = kept(SEEDS, misdirecting, after);
    assert_eq!(misdirected, counts.misdirected_writes, "one seed decides everything");
    assert!(places.borrow().len() > 20, "anywhere in the file: {:?}", places.borrow());
}

#[test]
fn a_full_file_has_no_place_to_misdirect_to() {
    let full = |disk: SimDisk| async move {
        let file = made(&disk).await;
        let octets = usize::try_from(SIZE).unwrap();
        file.write(block_of(&file, octets, 1), 0).await.unwrap();
        file.sync().await.unwrap();
        disk.set_faults(Faults { misdirect_one_in: Some(1), ..Faults::default() });
        file.write(block_of(&file, 4096, 2), 0).await.unwrap();
    };
    assert_eq!(fired(full).misdirected_writes, 0);
}

/// Every call once, with its result.
async fn every_call(disk: &SimDisk) -> Vec<(Operation, Result<(), DiskError>)> {
    let mut results = Vec::new();
    let file = made(disk).await;
    let before = disk.fired();
    assert_eq!(before, Fired::default());
    results.push((Operation::Create, disk.create("d/new", SIZE).await.map(drop)));
    results.push((Operation::CreateDirectory, disk.create_directory("e").await));
    results.push((Operation::Write, file.write(block_of(&file, 4096, 1), 0).await));
    results.push((Operation::Sync, file.sync().await));
    results.push((Operation::GiveBack, file.give_back(4096).await));
    results.push((Operation::SyncDirectory, disk.sync_directory("").await));
    results.push((Operation::Remove, disk.remove("file").await));
    results.push((Operation::Open, disk.open("d/old").await.map(drop)));
    results.push((Operation::List, disk.list("d").await.map(drop)));
    results.push((Operation::Read, file.read(0, 4096).await.map(drop)));
    results
}

/// Runs [`every_call`] with faults that count from its first call on; tells which failed.
fn failed(faults: Faults) -> (Vec<(Operation, DiskError)>, Fired) {
    block_on(&SimClock::default(), async move {
        let disk = SimDisk::new(1, DISK_OCTETS);
        disk.create_directory("d").await.unwrap();
        drop(disk.create("d/old", SIZE).await.unwrap());
        let shift = |call: Option<u64>| call.map(|call| call + 3);
        // `made` makes three calls that change something and none that reads.
        let faults = Faults {
            fail_call: shift(faults.fail_call),
            no_space_call: shift(faults.no_space_call),
            ..faults
        };
        disk.set_faults(faults);
        let results = every_call(&disk).await;
        let failed = results.into_iter().filter_map(|(operation, result)| Some((operation, result.err()?)));
        (failed.collect(), disk.fired())
    })
}

#[test]
fn eio_strikes_the_call_that_is_named_and_is_counted_by_kind() {
    use Operation::{
        Create, CreateDirectory, GiveBack, List, Open, Read, Remove, Sync, SyncDirectory, Write,
    };
    let changing = [Create, CreateDirectory, Write, Sync, GiveBack, SyncDirectory, Remove];
    let reading = [Open, List, Read];
    for (call, operation) in (1..).zip(changing) {
        let (results, fired) = failed(Faults { fail_call: Some(call), ..Faults::default() });
        assert!(
            matches!(&results[..], [(found, DiskError::Io { .. })] if *found == operation),
            "{results:?}"
        );
        assert_eq!(fired.eio.into_iter().collect::<Vec<_>>(), [(operation, 1)]);
    }
    for (call, operation) in (1..).zip(reading) {
        let (results, fired) = failed(Faults { fail_reading: Some(call), ..Faults::default() });
        assert!(
            matches!(&results[..], [(found, DiskError::Io { .. })] if *found == operation),
            "{results:?}"
        );
        assert_eq!(fired.eio.into_iter().collect::<Vec<_>>(), [(operation, 1)]);
    }
}

#[test]
fn enospc_strikes_whatever_takes_room() {
    for call in 1..=7 {
        let (results, fired) = failed(Faults { no_space_call: Some(call), ..Faults::default() });
        if call == 7 {
            assert_eq!((results.len(), fired.no_space), (0, 0), "a removal takes none");
        } else {
            assert!(matches!(&results[..], [(_, DiskError::NoSpace)]), "{results:?}");
            assert_eq!(fired.no_space, 1);
        }
    }
}

#[test]
fn a_short_read_gives_half_of_what_is_there() {
    block_on(&SimClock::default(), async {
        let disk = SimDisk::new(1, DISK_OCTETS);
        let file = made(&disk).await;
        disk.set_faults(Faults { short_reading: Some(2), ..Faults::default() });
        for expected in [4096, 2048, 4096] {
            assert_eq!(file.read(0, 4096).await.unwrap().len(), expected);
        }
        assert_eq!((disk.fired().short_reads, disk.readings()), (1, 3));
        disk.set_faults(Faults { short_reading: Some(2), ..Faults::default() });
        assert!(matches!(read_whole(&disk, "file").await, Err(DiskError::Io { .. })), "half is not whole");
        disk.rot("file", 10, &[1, 2, 3]);
        assert_eq!(disk.fired().rotten_octets, 3);
    });
}
