//! The image for arm64: what is another is the kernel, the loader, the firmware, and each instruction of the server.

use crate::machine::{Needed, Release, needed_for};
use crate::platform::ARM64;
use std::fs;
use std::process::Command;

#[test]
fn two_builds_for_arm64_are_one() {
    let Some(needed) = needed_for(&ARM64) else { return };
    crate::builds_are_one(&needed);
    let release = Release::common(&needed);
    // Its kernel is not compressed; two versions and a spare MiB have to be on the EFI system partition.
    let size = fs::metadata(&release.uki).unwrap().len();
    assert!(size <= 56 << 20, "two of it are larger than 128 MiB: {size}");
    for file in [&release.uki, &release.raw] {
        let told = Command::new(Needed::builder()).arg("inspect").arg(file).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        assert!(told.contains("processor  aarch64\n"), "{told}");
    }
}

#[test]
fn mail_outlives_the_machine_on_arm64() {
    let Some(needed) = needed_for(&ARM64) else { return };
    crate::outlives(&needed, "mail-arm64");
}
