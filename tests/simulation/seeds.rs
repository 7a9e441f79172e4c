//! The seeds of the test command, counted: a fault that does not fire proves nothing.

use crate::world::{Story, story};
use std::collections::BTreeMap;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn tell(seed: u64) -> Story {
    let story = story(seed, None);
    if !story.wrong.is_empty() {
        for wrong in &story.wrong {
            println!("seed {seed}: {wrong}");
        }
        println!(
            "repeat: STRATAMX_SEED={seed} cargo test -p stratamx --test simulation seeds::soak -- --nocapture"
        );
    }
    story
}

#[test]
fn soak() {
    let first = number("STRATAMX_SEED").unwrap_or(1);
    let seeds = number("STRATAMX_SEEDS").unwrap_or(1);
    if number("STRATAMX_TRACE").is_some() {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_max_level(tracing::Level::DEBUG)
            .init();
    }
    let mut fired = BTreeMap::new();
    for seed in first..first + seeds {
        let story = tell(seed);
        println!(
            "seed {seed}: {} sent, {} taken, {} steps, {:?}",
            story.history.sent.borrow().len(),
            story.history.taken.borrow().len(),
            story.steps,
            story.simulated
        );
        for (what, times) in story.history.fired.borrow().iter() {
            *fired.entry(*what).or_insert(0) += times;
        }
        if number("STRATAMX_ALL").is_none() {
            assert!(story.wrong.is_empty(), "seed {seed}");
        }
    }
    println!("{fired:?}");
}
