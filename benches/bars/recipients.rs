//! A list of a million recipients: what it takes in memory, while it is read and from then on, and what a look costs.
#![expect(
    clippy::disallowed_methods,
    reason = "measures with the machine's clock, and writes the list that is read"
)]

use crate::common::{Scratch, sized};
use crate::{Bar, Bound, MEMORY};
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;
use stratamx::bridge::Recipients;
use stratamx::config::Config;
use stratamx::control::recipients::{Keeper, load};

const MIB: f64 = (1 << 20) as f64;
const DOMAIN: &str = "example.test";

pub(crate) fn bars() -> Vec<Bar> {
    let addresses = sized(1_000_000, 1_000);
    let scratch = Scratch::new("recipients");
    let file = scratch.path().join("recipients.txt");
    let mut text = String::new();
    for number in 0..addresses {
        writeln!(text, "firstname.lastname{number}@{DOMAIN}").expect("memory");
    }
    std::fs::write(&file, &text).expect("room on the disk");
    drop(text);
    let config = format!(
        "[[domain]]\nname = \"{DOMAIN}\"\nprimary = [\"192.0.2.1\"]\nrecipients = \"list\"\nrecipient_list = '{}'\n",
        file.display()
    );
    let config = Config::parse(&config, "bars").expect("a configuration");
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let started = Instant::now();
    let lists = load(&config).expect("a list");
    let read_s = started.elapsed().as_secs_f64();
    let peak = MEMORY.peak_usage() - before;
    let recipients = std::sync::Arc::<Recipients>::default();
    Keeper::new(std::sync::Arc::clone(&recipients), scratch.path()).use_lists(lists);
    let kept = MEMORY.current_usage().saturating_sub(before);
    let list = recipients.domain(DOMAIN).list();
    assert_eq!(list.len(), addresses);
    let names: Vec<String> = (0..addresses).map(|number| format!("firstname.lastname{number}")).collect();
    let started = Instant::now();
    assert!(names.iter().all(|name| black_box(list.contains(name))));
    let look_ns = started.elapsed().as_secs_f64() * 1e9 / addresses as f64;
    assert!(!list.contains("firstname.lastname"));
    vec![
        Bar::new("recipients: a list of 1,000,000, kept", kept as f64 / MIB, "MiB", Bound::Below(100.0)),
        Bar::new("recipients: the same while it is read", peak as f64 / MIB, "MiB", Bound::Below(100.0)),
        Bar::new("recipients: reading it", read_s, "s", Bound::None),
        Bar::new("recipients: a look", look_ns, "ns", Bound::None),
    ]
}
