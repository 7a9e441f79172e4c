//! Mail at rest under keys: what is on the disk, who can read it, and how keys are changed (H9).

use super::checker::{entries_of, read_back};
use super::node::*;
use super::upkeep::compact;
use std::rc::Rc;
use std::sync::Arc;
use storage::crypt::{KeyError, Keys};
use storage::disk::{Disk, File};
use storage::error::{OpenError, ReadError};
use storage::format::BLOCK_OCTETS;
use storage::format::segment_header::SegmentHeader;
use storage::inspect::{Directory, Filter};
use storage::position::ShardId;
use storage::reader::Reader;
use storage::sim::{SimClock, SimDisk};
use storage::store::{Opened, StoreOptions, open};

fn keys(ids: &[u32]) -> Arc<Keys> {
    let line = |id: &u32| format!("{id} {}\n", format!("{id:x}").repeat(64));
    let text: String = ids.iter().map(line).collect();
    Arc::new(Keys::parse(&text).unwrap_or_default())
}

fn options(keys: &Arc<Keys>) -> StoreOptions {
    StoreOptions { keys: Arc::clone(keys), ..store_options(1) }
}

fn open_with(disk: &SimDisk, keys: &Arc<Keys>) -> Result<Opened, OpenError> {
    let (clock, disk, options) = (SimClock::default(), disk.clone(), options(keys));
    block_on(&clock.clone(), async move { open(&disk, &clock, &options).await })
}

/// A store with messages of one chunked and one plain kind, written with these keys.
fn store_with(keys: &Arc<Keys>) -> (SimDisk, World) {
    let disk = SimDisk::new(31, DISK_OCTETS);
    let world = World::default();
    live_with(&disk, options(keys), {
        let world = Rc::clone(&world);
        move |node| async move {
            for (size, chunks) in [(1_000, 0), (150_000, 3)] {
                assert!(send(&node.shards[0], &world, &["secret@one.test"], size, chunks).await);
            }
            node.fill(&node.shards[0], &world).await;
        }
    });
    (disk, world)
}

fn check_all(disk: &SimDisk, world: &World, keys: &Arc<Keys>) -> usize {
    let opened = open_with(disk, keys).unwrap();
    let places = entries_of(&opened);
    let reader = Reader::new(disk.clone(), opened.store.store, Arc::clone(keys));
    let world = Rc::clone(world);
    block_on(&SimClock::default(), async move {
        let promises: Vec<_> = world.borrow().acknowledged.values().cloned().collect();
        for promise in &promises {
            let (shard, entry) = places[&promise.stamp];
            let read = read_back(&reader, shard, &entry).await.unwrap();
            assert_eq!((read.recipients, read.data), (promise.recipients.clone(), promise.data.clone()));
        }
        promises.len()
    })
}

fn holds(disk: &SimDisk, needle: &[u8]) -> bool {
    let files = disk.paths().into_iter().filter_map(|path| disk.content(&path));
    files.into_iter().any(|content| content.windows(needle.len()).any(|window| window == needle))
}

#[test]
fn mail_comes_back_and_no_mailbox_stands_on_the_disk() {
    for (ids, plain) in [(&[][..], true), (&[1][..], false)] {
        let keys = keys(ids);
        let (disk, world) = store_with(&keys);
        assert!(check_all(&disk, &world, &keys) > 2);
        // From the scan of the active segment, then by its index.
        assert!(check_all(&disk, &world, &keys) > 2);
        assert_eq!(holds(&disk, b"secret@"), plain);
        let data = world.borrow().acknowledged[&1].data[..64].to_vec();
        assert_eq!(holds(&disk, &data), plain);
    }
}

#[test]
fn a_store_does_not_open_with_a_missing_or_a_wrong_key() {
    let (disk, world) = store_with(&keys(&[1]));
    for (others, error) in [
        (keys(&[]), KeyError::Missing(1)),
        (keys(&[2]), KeyError::Missing(1)),
        (Arc::new(Keys::parse(&format!("1 {}", "f".repeat(64))).unwrap()), KeyError::Wrong(1)),
    ] {
        assert!(
            matches!(open_with(&disk, &others), Err(OpenError::Key { error: found, .. }) if found == error)
        );
    }
    // Nothing was touched by the attempts.
    assert!(check_all(&disk, &world, &keys(&[1])) > 2);
}

#[test]
fn h9_an_octet_that_was_altered_with_its_checksum_is_noticed() {
    let keys_of_it = keys(&[1]);
    let (disk, _) = store_with(&keys_of_it);
    let opened = open_with(&disk, &keys_of_it).unwrap();
    let (shard, entry) = *entries_of(&opened).values().next().unwrap();
    let found = block_on(&SimClock::default(), async move {
        // As a frame of another place: the checksum is made anew, the tag is not.
        let reader = Reader::new(disk.clone(), storage::position::StoreId([9; 16]), keys_of_it);
        reader.read_entry(shard, &entry).await.map(|_| ())
    });
    assert_eq!(found, Err(ReadError::Damaged("does not decrypt")), "the store is part of the subkey");
}

#[test]
fn h9_a_new_key_encrypts_what_comes_and_compaction_brings_the_rest_over() {
    let (disk, world) = store_with(&keys(&[]));
    for ids in [&[1][..], &[1, 2]] {
        let newest = *ids.last().unwrap();
        let keys_now = keys(ids);
        let marks = live_with(&disk, options(&keys_now), {
            let world = Rc::clone(&world);
            move |node| async move {
                let shard = node.shards[0].clone();
                for _ in 0..10 {
                    compact(&node, &shard, &world).await;
                }
                let mut marks = Vec::new();
                let sealed: Vec<_> = shard.shelf.borrow().sealed().collect();
                for (_, segment, facts) in sealed {
                    if facts.unsettled == 0 {
                        continue;
                    }
                    let path = storage::segment::path(
                        ShardId(0),
                        storage::format::segment_header::Purpose::Mail,
                        segment,
                    );
                    let file = node.disk.open(&path).await.unwrap();
                    let header = SegmentHeader::decode(&file.read(0, BLOCK_OCTETS).await.unwrap()).unwrap();
                    marks.push(header.key.map(|key| key.key_id));
                }
                marks
            }
        });
        assert!(marks.len() > 1);
        assert!(marks.iter().all(|mark| *mark == Some(newest)), "{marks:?}");
        assert!(check_all(&disk, &world, &keys_now) > 2);
    }
    // The first key is not needed any more.
    assert!(check_all(&disk, &world, &keys(&[2])) > 2);
}

#[test]
fn without_the_key_an_offline_walk_tells_places_and_no_mail() {
    let (disk, _) = store_with(&keys(&[1]));
    open_with(&disk, &keys(&[1])).unwrap();
    for (ids, locked) in [(&[][..], true), (&[1][..], false)] {
        let (disk, keys) = (disk.clone(), keys(ids));
        let records = block_on(&SimClock::default(), async move {
            let directory = Directory::walk(disk, keys).await.unwrap();
            assert_eq!(directory.verify(), []);
            let mut records = Vec::new();
            directory.records(&Filter::default(), |record| records.push(record.clone())).await.unwrap();
            records
        });
        let messages: Vec<_> = records.iter().filter(|record| record.kind == "message").collect();
        assert!(messages.len() > 2);
        assert!(
            messages
                .iter()
                .all(|record| record.recipients.is_empty() == locked && !record.queue_id.is_empty())
        );
    }
}
