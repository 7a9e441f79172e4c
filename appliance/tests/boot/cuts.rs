//! The power fails while an update is written: the machine starts again, serves, and has every message that it acknowledged.
//!
//! `STRATAMX_CUTS` is how often (3), `STRATAMX_SEED` which cuts (1): one seed decides after how many sectors of the EFI system partition the power
//! fails, and what the disk has of what was not flushed.

use crate::machine::{Disk, Machine, Release, needed};
use crate::mail::{self, Sink};
use crate::updates::files;
use crate::volatile::{Random, Trigger};
use std::fs;
use std::time::{Duration, Instant};

/// Between two looks at a machine that is to lose its power.
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait for that.
const PATIENCE: Duration = Duration::from_secs(180);

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |value| value.parse().unwrap())
}

#[test]
fn a_power_cut_while_an_update_is_written_leaves_a_machine_that_has_its_mail() {
    let Some(needed) = needed() else { return };
    let (cuts, mut random) = (number("STRATAMX_CUTS", 3), Random(number("STRATAMX_SEED", 1)));
    let sink_port = mail::free_port();
    let disk = Disk::from(Release::common(&needed), "cuts", 4 << 30);
    disk.configure(&files(sink_port));
    let mut new = Release::of_version(&needed, "9.1");
    let mut taken = Vec::new();
    for cut in 1..=cuts {
        let volatile = disk.volatile();
        let mut machine = Machine::boot_from(&disk, &volatile);
        machine.wait_for("READY, mx2.test takes mail");
        let text = format!("acknowledged before cut {cut}.");
        let reply = mail::send(machine.smtp_port, "one@example.test", &text);
        assert!(reply.starts_with("250 "), "{reply}");
        taken.push(text);
        mail::ask_plainly(machine.admin_port, "/healthz");
        // A new version whose last write survived the cut before proves itself first.
        let running = loop {
            let status = needed.status(&machine);
            if status["state"] == "idle" {
                break status["version"].as_str().unwrap().to_owned();
            }
            machine.wait_for("this version is good");
        };
        if new.uki.to_string_lossy().contains(&format!("_{running}_")) {
            new.remove();
            new = Release::of_version(&needed, &format!("9.{}", cut + 1));
        }
        // In the image, around its end, and behind it, where tables and names are.
        let octets = fs::metadata(&new.uki).unwrap().len() / 512;
        let left = match cut % 3 {
            1 => 1 + random.below(octets),
            2 => octets - 100 + random.below(300),
            _ => octets + 400 + random.below(600),
        };
        let seed = random.below(u64::MAX);
        println!(
            "cut {cut} of {cuts}: {running} runs, after {left} sectors ({octets} of the image), seed {seed}"
        );
        volatile.cut_by(Trigger { sectors: Disk::esp_sectors(), left, seed });
        let mut update = needed.begin_update(&machine, &new);
        let end = Instant::now() + PATIENCE;
        while !volatile.is_cut() && update.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the update neither ends nor is cut");
            std::thread::sleep(LOOK);
        }
        // An update that was through loses its power on the way down.
        volatile.cut(seed);
        machine.pull_the_plug();
        let _ = update.kill();
        update.wait().unwrap();
    }
    let sink = Sink::start(sink_port);
    // The same slot for the disk: the firmware's list of what it starts names that.
    let volatile = disk.volatile();
    let mut machine = Machine::boot_from(&disk, &volatile);
    machine.wait_for("READY, mx2.test takes mail");
    let mut left = taken.clone();
    while !left.is_empty() {
        let message = sink.message();
        left.retain(|text| !message.contains(text.as_str()));
    }
    machine.press_the_button();
    assert!(machine.ended().success());
    println!("{} of {} acknowledged messages came", taken.len(), taken.len());
    new.remove();
    disk.remove();
}
