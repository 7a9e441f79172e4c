//! `build`: from packages and the static server to files that can be flashed, uploaded and checked.

use crate::architecture::Architecture;
use crate::disk::{self, Contents};
use crate::fail::{At as _, Failure, wrong};
use crate::{initramfs, manifest, packages, release, sign, tool, uki};
use clap::Args;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// See the command.
#[derive(Args)]
pub(crate) struct Build {
    /// The static server, of this processor: target/x86_64-unknown-linux-gnu/release/stratamx
    #[arg(long)]
    server: PathBuf,
    /// Which of the manifest's variants: cloud or generic
    #[arg(long, default_value = "cloud")]
    variant: String,
    /// The processor
    #[arg(long, default_value = "amd64")]
    architecture: Architecture,
    /// Where the files are written
    #[arg(long, default_value = "target/appliance/image")]
    out: PathBuf,
    /// Where downloaded packages are kept
    #[arg(long, default_value = "target/appliance/cache")]
    cache: PathBuf,
    /// The directory with manifest.toml and rootfs
    #[arg(long, default_value = "appliance")]
    source: PathBuf,
    /// The version, in names and for the loader; else this program's
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    image_version: String,
    /// The public key that the image takes updates by, as `stratamx-appliance key` makes it; without one it takes none
    #[arg(long)]
    update_key: Option<PathBuf>,
    /// Only the UKI and the raw image, and compressed less: what a test needs
    #[arg(long)]
    quick: bool,
}

/// Formats of qemu-img: suffix, name, options. The first three octets of a raw image say nothing to a hypervisor; these do.
const FORMATS: [(&str, &str, &[&str]); 3] = [
    ("qcow2", "qcow2", &["-c"]),
    ("vmdk", "vmdk", &["-o", "subformat=streamOptimized"]),
    ("vhdx", "vhdx", &["-o", "subformat=dynamic"]),
];
/// What an update leaves free on the EFI system partition, the tables of its file system included.
const SPARE_OCTETS: u64 = 4 << 20;
/// PID 1 takes no longer one: it becomes a part of a file's name.
const VERSION_OCTETS_MAX: usize = 32;
/// Small beats fast: it is made once and read at each start, from a slow disk.
const INITRAMFS_COMPRESSION: i32 = 19;
const QUICK_COMPRESSION: i32 = 3;
/// For a file of which nearly all is compressed already.
const COMPRESSION: i32 = 9;

/// See the command.
pub(crate) fn build(build: &Build) -> Result<(), Failure> {
    let manifest = manifest::read(&build.source.join("manifest.toml"))?;
    let recipe = manifest.recipe(build.architecture, &build.variant)?;
    let is_version = |version: &str| version.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    let is_short = (1..=VERSION_OCTETS_MAX).contains(&build.image_version.len());
    if !is_short || !is_version(&build.image_version) || build.image_version.starts_with(['.', '-']) {
        return Err(wrong(format!(
            "{} is no version: up to {VERSION_OCTETS_MAX} letters, digits, dots and hyphens",
            build.image_version
        )));
    }
    let os_release = uki::os_release(&build.image_version, &build.variant);
    let mut own = vec![("/etc/os-release", os_release.clone().into_bytes())];
    if let Some(key) = &build.update_key {
        own.push(("/etc/stratamx/update.pub", sign::public_key(key)?));
    }
    fs::create_dir_all(&build.out).at(&build.out)?;
    let work = build.out.join("work");
    fs::create_dir_all(&work).at(&work)?;
    let cache = build.cache.join(format!("{}{}", build.variant, build.architecture.suffix()));
    let unpacked = packages::unpack(&recipe, &cache)?;
    let archive = initramfs::make(&recipe, &unpacked, (&build.source.join("rootfs"), own), &build.server)?;
    let compression = if build.quick { QUICK_COMPRESSION } else { INITRAMFS_COMPRESSION };
    let initramfs =
        zstd::encode_all(archive.as_slice(), compression).map_err(|error| wrong(format!("zstd: {error}")))?;
    let kernel_image = uki::make(&recipe, &unpacked, &os_release, initramfs)?;
    check_room(kernel_image.len(), manifest.partitions.esp)?;
    let stem = recipe.stem(&build.image_version);
    let uki_file = build.out.join(format!("{stem}.efi"));
    fs::write(&uki_file, &kernel_image).at(&uki_file)?;
    let raw = build.out.join(format!("{stem}.raw"));
    let uki_name = format!("stratamx_{}.efi", build.image_version);
    let contents = Contents {
        architecture: build.architecture,
        unpacked: &unpacked,
        uki: &uki_file,
        uki_name: &uki_name,
    };
    disk::make(&raw, manifest.partitions, &contents, &work)?;
    fs::remove_dir_all(&work).at(&work)?;
    let mut files = vec![uki_file];
    if !build.quick {
        files.extend(convert(&raw, &stem, &build.out)?);
        let workspace =
            build.source.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        release::write(&build.out, workspace, (&build.image_version, &recipe), &unpacked, &files)?;
    }
    for file in files.iter().chain([&raw]) {
        println!("{:>11} {}", fs::metadata(file).at(file)?.len(), file.display());
    }
    Ok(())
}

/// An update is written beside the running version: two have to fit.
fn check_room(octets: usize, esp_mib: u64) -> Result<(), Failure> {
    let needed = (octets as u64).saturating_mul(2).saturating_add(SPARE_OCTETS);
    if needed <= esp_mib << 20 {
        return Ok(());
    }
    Err(wrong(format!(
        "two versions of {octets} octets do not fit on an EFI system partition of {esp_mib} MiB"
    )))
}

fn convert(raw: &Path, stem: &str, out: &Path) -> Result<Vec<PathBuf>, Failure> {
    let packed = out.join(format!("{stem}.raw.zst"));
    let target = File::create(&packed).at(&packed)?;
    let source = File::open(raw).at(raw)?;
    zstd::stream::copy_encode(source, target, COMPRESSION).at(&packed)?;
    let mut files = vec![packed];
    for (suffix, format, options) in FORMATS {
        let file = out.join(format!("{stem}.{suffix}"));
        let (from, to) = (raw.display().to_string(), file.display().to_string());
        let arguments =
            [&["convert", "-f", "raw", "-O", format][..], options, &[from.as_str(), to.as_str()]].concat();
        tool::run("qemu-img", arguments)?;
        files.push(file);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_versions_fit_on_the_partition_that_they_are_started_from() {
        assert!(check_room(62 << 20, 128).is_ok());
        assert!(check_room((62 << 20) + 1, 128).unwrap_err().to_string().contains("do not fit"));
        assert!(check_room(usize::MAX, 128).is_err());
    }
}
