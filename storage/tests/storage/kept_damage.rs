//! A rewrite of a segment in which a record is damaged: it waits for whoever owes a unit of it, and leaves behind what is only kept.

use super::hazards::promise_of;
use super::node::*;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::compaction::rewrite::{RewriteError, Target, Workshop};
use storage::format::index_file::IndexEntry;
use storage::format::segment_header::Purpose;
use storage::segment;
use storage::shelf::Matters;
use storage::sim::SimDisk;
use storage::sim::executor::yield_now;

#[test]
fn a_damaged_record_that_is_only_kept_is_left_behind_and_counted() {
    let (disk, world) = (SimDisk::new(7, DISK_OCTETS), World::default());
    let on_disk = disk.clone();
    live_on(&disk, 1, {
        let world = Rc::clone(&world);
        move |node| async move {
            let shard = &node.shards[0];
            node.fill(shard, &world).await;
            let store = node.opened.store.store;
            let first = *world.borrow().acknowledged.keys().next().unwrap();
            let source = promise_of(&world, first).place.segment;
            let index = segment::index_of(&node.disk, store, &node.keys, shard.id, source).await.unwrap();
            let entries = index.domains.iter().flat_map(|(_, entries)| entries);
            let by_unit: BTreeMap<u32, IndexEntry> = entries.map(|entry| (entry.unit_base, *entry)).collect();
            let messages: Vec<IndexEntry> = by_unit.into_values().collect();
            let at = usize::try_from(messages[0].offset().0).unwrap();
            on_disk.rot(&segment::path(shard.id, Purpose::Mail, source), at + 200, &[0xEE; 8]);
            let workshop = Workshop { disk: node.disk.clone(), store, keys: Arc::clone(&node.keys) };
            let rewrite = async |of_first: Matters, of_others: Matters| {
                let number = shard.mail.next_number().unwrap();
                let target = Target { shard: shard.id, number: number.clone(), created: node.clock.wall() };
                let matters =
                    |_, unit| if messages[0].units().contains(&unit) { of_first } else { of_others };
                let copied = workshop.rewrite(target, &[source], matters, async |_| yield_now().await).await;
                shard.mail.not_made(number);
                copied
            };
            let copy = rewrite(Matters::Kept, Matters::Owed).await.expect("it goes on");
            assert_eq!((copy.moves.len(), copy.damaged), (messages.len() - 1, 1));
            assert!(copy.moves.iter().all(|(_, moved)| moved.from_base != messages[0].unit_base));
            let owed = rewrite(Matters::Owed, Matters::Kept).await;
            assert!(
                matches!(owed, Err(RewriteError::Unreadable { .. })),
                "whoever delivers it settles it: {owed:?}"
            );
            let alone = rewrite(Matters::Kept, Matters::Not).await;
            assert!(matches!(alone, Err(RewriteError::Nothing)), "{alone:?}");
        }
    });
}
