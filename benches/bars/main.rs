//! The bars that the storage engine and the receiving side are held to, as ratios within one run on one disk or in memory: `make bars`. Prints a line of key=value a
//! figure and a table; exit status 1 when a bar is missed.
//!
//! Under the test command everything runs once, small, for its answer; no time is judged then.

#[path = "../common/mod.rs"]
mod common;
mod draining;
mod measured;
mod operating;
mod queue;
mod receiving;
mod recipients;
mod scanner;
mod writers;

use common::is_small;
use peak_alloc::PeakAlloc;
use std::process::ExitCode;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A figure and what it is held to.
pub(crate) struct Bar {
    name: String,
    value: f64,
    unit: &'static str,
    bound: Bound,
}

/// What a figure must be.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    Below(f64),
    /// Told, not judged.
    None,
}

impl Bar {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str, bound: Bound) -> Self {
        Self { name: name.into(), value, unit, bound }
    }

    fn holds(&self) -> bool {
        match self.bound {
            Bound::AtLeast(least) => self.value >= least,
            Bound::Below(most) => self.value < most,
            Bound::None => true,
        }
    }

    fn verdict(&self) -> String {
        match self.bound {
            _ if is_small() => "not judged: small".to_owned(),
            Bound::None => String::new(),
            Bound::AtLeast(least) => format!("{} (at least {least})", self.word()),
            Bound::Below(most) => format!("{} (below {most})", self.word()),
        }
    }

    fn word(&self) -> &'static str {
        if self.holds() { "held" } else { "MISSED" }
    }
}

fn main() -> ExitCode {
    // As a test runner asks for the tests of a program without a harness.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_said = |word: &str| arguments.iter().any(|argument| argument == word);
    if is_said("--list") {
        if !is_said("--ignored") {
            println!("bars: test");
        }
        return ExitCode::SUCCESS;
    }
    // By name: `cargo bench --bench bars -- receiving`.
    let chosen = |name: &str| {
        let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
        names.is_empty() || names.iter().any(|wanted| *wanted == name || *wanted == "bars")
    };
    let mut bars = Vec::new();
    for (name, measure) in [
        ("scanner", scanner::bars as fn() -> Vec<Bar>),
        ("receiving", receiving::bars),
        ("measured", measured::bars),
        ("operating", operating::bars),
        ("draining", draining::bars),
        ("recipients", recipients::bars),
        ("writers", writers::bars),
        ("queue", queue::bars),
    ] {
        if chosen(name) {
            bars.append(&mut measure());
        }
    }
    println!();
    for bar in &bars {
        println!("{:<58} {:>12.3} {:<10} {}", bar.name, bar.value, bar.unit, bar.verdict());
    }
    let held = bars.iter().all(Bar::holds);
    if held || is_small() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The middle one.
pub(crate) fn median<T: PartialOrd + Copy>(values: &[T]) -> T {
    assert!(!values.is_empty());
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    sorted[sorted.len() / 2]
}
