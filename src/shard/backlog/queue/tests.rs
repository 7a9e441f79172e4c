//! What waits where, and comes out in which order.

use super::*;
use storage::position::{Offset, SegmentId};

const SHARD: ShardId = ShardId(0);
const MINUTE: Duration = Duration::from_secs(60);
const ALL: Stamp = Stamp(u64::MAX);

pub(super) fn queue_of(stamps: std::ops::RangeInclusive<u64>) -> Queue {
    let mut queue = Queue::default();
    for stamp in stamps {
        let mut entry = IndexEntry::new(Stamp(stamp), SegmentId(1), Offset(4096 + 64 * stamp), 64);
        entry.count = 2;
        queue.arrive(SHARD, entry, &[]);
    }
    queue
}

pub(super) fn next(queue: &mut Queue, now: Moment) -> Place {
    queue.next(Stamp(u64::MAX), now).expect("something is queued")
}

#[test]
fn h2_what_is_held_back_is_not_due() {
    let mut queue = queue_of(1..=3);
    assert_eq!(queue.due(MINUTE, Stamp(1)), Due::Now);
    let first = next(&mut queue, MINUTE);
    assert!(queue.has_untried(ALL) && !queue.has_untried(Stamp(1)));
    assert_eq!(queue.due(MINUTE, Stamp(1)), Due::Nothing);
    queue.step_aside(first, MINUTE, MINUTE);
    assert_eq!(queue.due(MINUTE, Stamp(1)), Due::At(2 * MINUTE));
}

#[test]
fn one_message_that_is_put_off_steps_aside_when_the_next_gets_through() {
    let mut queue = queue_of(1..=2);
    let first = next(&mut queue, Moment::ZERO);
    assert!(!queue.put_off(first, &["a"], Moment::ZERO, MINUTE));
    let second = next(&mut queue, Moment::ZERO);
    queue.finish(&second.1);
    queue.got_through(Moment::ZERO, 5 * MINUTE);
    assert_eq!(queue.due(Moment::ZERO, ALL), Due::At(5 * MINUTE));
    assert_eq!(next(&mut queue, 5 * MINUTE).1.stamp, Stamp(1));
}

#[test]
fn a_primary_that_puts_everybody_off_is_impaired_and_order_stays() {
    let mut queue = queue_of(1..=9);
    for (tried, recipient) in ["a", "b", "c"].iter().enumerate() {
        let place = next(&mut queue, Moment::ZERO);
        assert_eq!(queue.put_off(place, &[recipient], Moment::ZERO, MINUTE), tried == 2);
    }
    assert_eq!(next(&mut queue, Moment::ZERO).1.stamp, Stamp(1), "nothing stepped aside");
}

#[test]
fn full_mailboxes_at_the_head_do_not_stop_the_rest_for_ever() {
    let mut queue = queue_of(1..=9);
    let mut pauses = 0;
    let mut at_head = 0;
    while pauses < 2 {
        let place = next(&mut queue, Moment::ZERO);
        at_head = place.1.stamp.0;
        pauses += usize::from(queue.put_off(place, &[&format!("{at_head}@full")], Moment::ZERO, MINUTE));
    }
    assert_eq!(at_head, 6, "the second run looked twice as far");
    let seventh = {
        for _ in 1..=6 {
            let place = next(&mut queue, Moment::ZERO);
            assert!(!queue.put_off(place, &[&format!("{}@full", place.1.stamp.0)], Moment::ZERO, MINUTE));
        }
        next(&mut queue, Moment::ZERO)
    };
    queue.finish(&seventh.1);
    queue.got_through(Moment::ZERO, MINUTE);
    assert_eq!(next(&mut queue, Moment::ZERO).1.stamp, Stamp(8));
}

#[test]
fn one_mailbox_that_is_full_does_not_look_like_an_outage() {
    let mut queue = queue_of(1..=9);
    for _ in 1..=9 {
        let place = next(&mut queue, Moment::ZERO);
        assert!(!queue.put_off(place, &["one@full"], Moment::ZERO, MINUTE));
    }
    queue.suspects_step_aside(Moment::ZERO, MINUTE);
    assert_eq!(queue.due(Moment::ZERO, ALL), Due::At(MINUTE));
}

#[test]
fn h43_a_decided_unit_is_never_offered_again() {
    let mut queue = queue_of(1..=1);
    let (shard, entry) = next(&mut queue, Moment::ZERO);
    assert_eq!(queue.open_units(&entry), [0, 1]);
    queue.decide(&entry, 0);
    assert!(!queue.bring_back((shard, entry), Moment::ZERO, MINUTE));
    let (_, again) = next(&mut queue, Moment::ZERO);
    assert_eq!(queue.open_units(&again), [1]);
}

#[test]
fn a_message_that_breaks_sessions_steps_aside_at_the_third() {
    let mut queue = queue_of(1..=2);
    for times in 1..=POISON_TRIES {
        let place = next(&mut queue, Moment::ZERO);
        assert_eq!(place.1.stamp, Stamp(1), "it stays first while it is tried");
        assert_eq!(queue.bring_back(place, Moment::ZERO, MINUTE), times == POISON_TRIES);
    }
    assert_eq!(next(&mut queue, Moment::ZERO).1.stamp, Stamp(2), "it blocks nobody");
}

#[test]
fn deferred_mail_goes_by_turns_and_is_no_evidence() {
    let mut queue = queue_of(1..=9);
    for stamp in 1..=3 {
        let place = next(&mut queue, Moment::ZERO);
        assert_eq!(place.1.stamp, Stamp(stamp));
        queue.step_aside(place, Moment::ZERO, MINUTE);
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        let place = next(&mut queue, MINUTE);
        order.push(place.1.stamp.0);
        if place.1.stamp.0 <= 3 {
            assert!(!queue.put_off(place, &[&format!("{}@full", place.1.stamp.0)], MINUTE, MINUTE));
        }
    }
    order.sort_unstable();
    assert_eq!(order, [1, 2, 3, 4, 5, 6], "untried mail goes on beside three full mailboxes");
}

#[test]
fn a_session_that_ends_before_the_data_is_nobodys_fault() {
    let mut queue = queue_of(1..=2);
    for _ in 0..10 {
        let place = next(&mut queue, Moment::ZERO);
        assert_eq!(place.1.stamp, Stamp(1));
        queue.put_back(place);
    }
}
#[test]
fn a_deferred_message_that_was_not_tried_is_next_again() {
    let mut queue = queue_of(1..=1);
    let place = next(&mut queue, Moment::ZERO);
    queue.step_aside(place, Moment::ZERO, MINUTE);
    let place = next(&mut queue, MINUTE);
    queue.put_back(place);
    assert_eq!(queue.due(MINUTE, ALL), Due::Now);
    let place = next(&mut queue, MINUTE);
    queue.step_aside(place, MINUTE, MINUTE);
    assert_eq!(queue.due(MINUTE, ALL), Due::At(3 * MINUTE), "it stepped aside twice, its gap doubled");
}

#[test]
fn what_was_moved_is_found_at_its_new_place_wherever_it_waits() {
    let mut queue = queue_of(1..=5);
    let [deferred, suspect, out] = [1, 2, 3].map(|_| next(&mut queue, Moment::ZERO));
    queue.step_aside(deferred, Moment::ZERO, MINUTE);
    queue.put_off(suspect, &["a"], Moment::ZERO, MINUTE);
    queue.decide(&out.1, 1);
    let moved = |stamp: u64| {
        let mut entry = IndexEntry::new(Stamp(stamp), SegmentId(9), Offset(8 * stamp), 64);
        (entry.count, entry.unit_base) = (2, 77);
        entry
    };
    for stamp in 1..=5 {
        assert!(queue.relocate(ShardId(2), moved(stamp)), "{stamp}");
    }
    // Its caller knows the old place only.
    queue.hold(out, &[1], 7);
    assert!(!queue.relocate(ShardId(2), moved(6)), "nobody knows it");
    let mut other = moved(5);
    other.first = 1;
    assert!(!queue.relocate(ShardId(2), other), "units of another domain");
    queue.put_back(out);
    queue.restore_suspects();
    let mut found = Vec::new();
    for _ in 1..=5 {
        let place = next(&mut queue, MINUTE);
        assert_eq!(place, (ShardId(2), moved(place.1.stamp.0)));
        found.push(place.1.stamp.0);
        assert_eq!(queue.open_units(&place.1), if place.1.stamp.0 == 3 { vec![0] } else { vec![0, 1] });
    }
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3, 4, 5]);
    assert_eq!(queue.held.first().map(Waiting::place), Some((ShardId(2), moved(3))));
}

/// Its sender was to be told of its end, and cannot be: it is held where the rewrite put it, not where it was when that was decided.
#[test]
fn what_was_moved_while_somebody_decided_is_held_at_its_new_place() {
    let mut queue = queue_of(1..=1);
    let old = next(&mut queue, Moment::ZERO);
    queue.decide(&old.1, 0);
    queue.decide(&old.1, 1);
    assert!(queue.finish(&old.1), "the queue has let go of it");
    let mut entry = IndexEntry::new(Stamp(1), SegmentId(9), Offset(8), 64);
    (entry.count, entry.unit_base) = (2, 77);
    assert!(!queue.relocate(ShardId(2), entry));
    queue.hold(old, &[1], 7);
    assert_eq!(queue.held.first().map(Waiting::place), Some((ShardId(2), entry)));
}

#[test]
fn a_message_is_gone_when_nothing_of_it_is_queued_or_held() {
    let mut queue = queue_of(1..=2);
    let first = next(&mut queue, Moment::ZERO);
    queue.decide(&first.1, 0);
    queue.decide(&first.1, 1);
    queue.hold(first, &[1], 7);
    assert!(!queue.finish(&first.1), "a unit is held");
    assert!(queue.knows(Stamp(1)));
    let second = next(&mut queue, Moment::ZERO);
    assert!(queue.knows(Stamp(2)), "it is out");
    assert!(queue.finish(&second.1));
    assert!(!queue.knows(Stamp(2)));
}
