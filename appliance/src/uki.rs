//! The unified kernel image: one file that the firmware or systemd-boot starts (UAPI.5).

use crate::fail::{At as _, Failure};
use crate::packages::Unpacked;
use crate::pe::{self, Section};
use std::fs;

/// systemd-boot's stub, of the package.
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// What the loader shows, and sorts by.
pub(crate) fn os_release(version: &str, variant: &str) -> String {
    format!(
        "ID=stratamx\nNAME=\"StrataMX appliance\"\nPRETTY_NAME=\"StrataMX appliance {version}\"\nVERSION_ID={version}\n\
         IMAGE_VERSION={version}\nVARIANT_ID={variant}\n"
    )
}

/// The file.
pub(crate) fn make(
    unpacked: &Unpacked,
    cmdline: &str,
    os_release: &str,
    initramfs: Vec<u8>,
) -> Result<Vec<u8>, Failure> {
    let stub = unpacked.root.join(STUB);
    let kernel = unpacked.root.join("boot").join(format!("vmlinuz-{}", unpacked.kernel));
    let section = |name: &str, octets: Vec<u8>| Section { name: name.to_owned(), octets };
    let sections = [
        section(".osrel", os_release.into()),
        section(".cmdline", cmdline.into()),
        section(".uname", unpacked.kernel.clone().into_bytes()),
        section(".initrd", initramfs),
        // Last: the kernel's own size in memory is larger than its file.
        section(".linux", fs::read(&kernel).at(&kernel)?),
    ];
    pe::append(&fs::read(&stub).at(&stub)?, &sections)
}
