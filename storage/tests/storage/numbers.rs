//! H1, for numbers of segments: a number that was used is never used again, whatever cannot be read of those who had it.

use super::checker::check_on;
use super::hazards::deliver_all;
use super::node::*;
use std::rc::Rc;
use std::time::Duration;
use storage::clock::Clock;
use storage::disk::{Block, Disk, File};
use storage::format::BLOCK_OCTETS;
use storage::format::store_file::StoreFile;
use storage::position::{SegmentId, ShardId};
use storage::sim::{SimClock, SimDisk};
use storage::store::StoreOptions;

/// The store file as a program wrote it that knew of no ceiling of numbers.
fn forget_the_ceiling(disk: &SimDisk) {
    let content = disk.content("store").unwrap();
    let disk = disk.clone();
    block_on(&SimClock::default(), async move {
        let file = disk.open("store").await.unwrap();
        for slot in content.chunks(BLOCK_OCTETS) {
            let Some(store) = StoreFile::decode(slot) else { continue };
            let older = StoreFile { number_ceiling: SegmentId(0), ..store };
            let mut block = file.allocate(BLOCK_OCTETS);
            block.truncate(BLOCK_OCTETS);
            block.as_mut().copy_from_slice(&older.encode());
            file.write(block, older.slot()).await.unwrap();
            file.sync().await.unwrap();
        }
    });
}

#[test]
fn h1_mail_that_is_taken_without_a_shard_survives_what_that_shard_tells_of_segments_that_are_gone() {
    for older_program in [false, true] {
        let disk = SimDisk::new(80, DISK_OCTETS);
        let world = World::default();
        // Four cores, then two: what directory 3 held is drained by shard 1, which tallies it in its journal.
        for shards in [4, 2] {
            live_on(&disk, shards, {
                let world = Rc::clone(&world);
                move |node| async move {
                    if shards == 4 {
                        assert!(send(&node.shards[3], &world, &["a@one.test"], 1_000, 0).await);
                        return;
                    }
                    deliver_all(&node, 1, &world).await;
                    let gone = node.reclaim().await;
                    assert!(gone.iter().any(|(shard, _)| *shard == ShardId(3)), "{gone:?}");
                }
            });
        }
        if older_program {
            forget_the_ceiling(&disk);
        }
        // The disk with that journal is away, and nothing else tells of the numbers.
        let unmounted = disk.unmount("shard-01");
        let without = StoreOptions { without: vec![ShardId(1)], ..store_options(4) };
        live_with(&disk, without, {
            let world = Rc::clone(&world);
            move |node| async move {
                assert_eq!(node.opened.findings, []);
                for shard in &node.shards {
                    assert!(send(shard, &world, &["a@one.test"], 1_000, 0).await);
                }
            }
        });
        disk.mount(unmounted);
        for _ in 0..2 {
            assert_eq!(check_on(&disk, 4, &world), Vec::<String>::new(), "older program: {older_program}");
        }
    }
}

#[test]
fn h1_at_the_ceiling_of_numbers_a_log_waits_until_it_is_raised() {
    let disk = SimDisk::new(81, DISK_OCTETS);
    let world = World::default();
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            let (shard, frontier) = (&node.shards[0], &node.opened.frontier);
            let active = shard.mail.active_segment().unwrap();
            // The next one is made ahead, the one behind it has no number.
            frontier.limit_numbers(SegmentId(active.0 + 2));
            while send(shard, &world, &["a@one.test"], 20_000, 0).await {}
            assert_eq!(shard.mail.active_segment(), Some(SegmentId(active.0 + 1)));
            assert!(
                node.troubles.borrow().iter().any(|trouble| trouble.contains("ceiling")),
                "{:?}",
                node.troubles
            );
            let wanted = frontier.ceilings_wanted().expect("there is none left");
            let raised = StoreFile {
                sequence: node.opened.store.sequence + 1,
                number_ceiling: wanted.number,
                ..node.opened.store
            };
            storage::save_identity(&node.disk, &raised).await.unwrap();
            frontier.ceilings_raised(&wanted);
            node.clock.sleep(Duration::from_secs(10)).await;
            assert!(send(shard, &world, &["a@one.test"], 20_000, 0).await, "it goes on by itself");
        }
    });
    assert_eq!(check_on(&disk.crash(), 1, &world), Vec::<String>::new());
}
