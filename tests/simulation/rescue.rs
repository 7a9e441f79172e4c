//! A rescue system in a primary's place (H41): the primary is well, then nobody is there, then another machine takes whatever comes, then the
//! primary is back. The power fails twice on the way, and once a day later nothing is left but what is kept for a day.

use crate::canary::Bug;
use crate::plan::Plan;
use crate::world::tell;
use std::rc::Rc;

const SEEDS: u64 = 12;

#[test]
fn h41_what_another_machine_took_has_a_copy_for_a_day() {
    let mut copies = 0;
    for seed in 1..=SEEDS {
        let story = tell(&Rc::new(Plan::of_rescue(seed)), None);
        assert_eq!(story.wrong, [] as [String; 0], "seed {seed}");
        copies += story.copies;
    }
    println!("{copies} copies were looked for in {SEEDS} seeds");
    assert!(copies > 500, "a test in which little is taken by another machine proves little: {copies}");
}

/// The node forgets at each start who its primaries are, and so nobody is another.
#[test]
fn canaries_of_copies_are_found_out() {
    let caught = (1..=SEEDS).find_map(|seed| {
        let wrong = tell(&Rc::new(Plan::of_rescue(seed)), Some(Bug::ForgottenPrimaries)).wrong;
        wrong.into_iter().find(|wrong| wrong.contains("there is no copy")).map(|wrong| (seed, wrong))
    });
    println!("{caught:?}");
    assert!(caught.is_some(), "nobody misses the copies in {SEEDS} seeds");
}
