//! The unified kernel image: one file that the firmware or systemd-boot starts (UAPI.5).

use crate::architecture::Architecture;
use crate::fail::{At as _, Failure, wrong};
use crate::manifest::Recipe;
use crate::packages::Unpacked;
use crate::pe::{self, Section};
use std::fs;

/// systemd-boot's stub, of its package.
fn stub(architecture: Architecture) -> String {
    format!("usr/lib/systemd/boot/efi/linux{}.efi.stub", architecture.efi())
}

/// What the loader shows, and sorts by.
pub(crate) fn os_release(version: &str, variant: &str) -> String {
    format!(
        "ID=stratamx\nNAME=\"StrataMX appliance\"\nPRETTY_NAME=\"StrataMX appliance {version}\"\nVERSION_ID={version}\n\
         IMAGE_VERSION={version}\nVARIANT_ID={variant}\n"
    )
}

/// The file.
pub(crate) fn make(
    recipe: &Recipe,
    unpacked: &Unpacked,
    os_release: &str,
    initramfs: Vec<u8>,
) -> Result<Vec<u8>, Failure> {
    let stub = unpacked.root.join(stub(recipe.architecture));
    let kernel = unpacked.root.join("boot").join(format!("vmlinuz-{}", unpacked.kernel));
    // The stub hands it to the firmware as a program of its own: Debian's kernels are such, and not compressed around it.
    let kernel_octets = fs::read(&kernel).at(&kernel)?;
    let of =
        pe::architecture(&kernel_octets).map_err(|error| wrong(format!("{}: {error}", kernel.display())))?;
    if of != recipe.architecture {
        return Err(wrong(format!("{} is for {}", kernel.display(), of.name())));
    }
    let section = |name: &str, octets: Vec<u8>| Section { name: name.to_owned(), octets };
    let sections = [
        section(".osrel", os_release.into()),
        section(".cmdline", recipe.cmdline().into()),
        section(".uname", unpacked.kernel.clone().into_bytes()),
        section(".initrd", initramfs),
        // Last: the kernel's own size in memory is larger than its file.
        section(".linux", kernel_octets),
    ];
    pe::append(&fs::read(&stub).at(&stub)?, &sections)
}
