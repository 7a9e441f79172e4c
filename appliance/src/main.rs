//! `stratamx-appliance`: makes a disk image that boots into the server and nothing else, without root, loop devices or mounts.
//!
//! # What an image is
//! One signed file, a *unified kernel image*: Debian's kernel, and an initramfs with the static server (also PID 1, `stratamx init`), the kernel
//! modules in the order in which they are loaded, busybox (addresses, DHCP), mkfs.xfs and xfs_growfs. It is unpacked into memory; nothing is read from
//! the disk later. Around it: an EFI system partition with systemd-boot, which counts the tries of a new version; a small FAT partition for
//! `stratamx.toml`; and the data partition, which is empty until the first start formats it.
//!
//! # Promises
//! - **Reproducible**: the same packages, the same server and the same manifest give the same octets, image included: every time stamp,
//!   identifier and order is fixed. `tests/boot.rs` builds twice.
//! - What is in it is told: versions and hashes of all packages (`manifest.json`), an SBOM (CycloneDX), checksums.
//! - Nothing is installed on the machine that builds: packages are downloaded into a directory of their own and unpacked there.
#![expect(clippy::disallowed_methods, reason = "files are what this program makes")]

mod architecture;
mod cpio;
mod disk;
mod fail;
mod image;
mod initramfs;
mod inspect;
mod manifest;
mod modules;
mod packages;
mod pe;
mod release;
mod sbom;
mod sign;
mod tool;
mod uki;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Builds, signs and checks the disk image of StrataMX.
#[derive(Parser)]
#[command(name = "stratamx-appliance", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an image: raw, qcow2, vmdk and vhdx, with manifest, SBOM, checksums and release notes
    Build(image::Build),
    /// Put files on the configuration partition of a raw image: stratamx.toml, appliance.toml, and what they name
    Configure {
        /// The raw image
        image: PathBuf,
        /// The files; they keep their names
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Show what a UKI or a raw image is made of, and whether its signature holds
    Inspect(inspect::Inspect),
    /// Make a pair of keys for signatures: FILE, to be kept, and FILE.pub
    Key {
        /// Where the secret key is written; it is not there yet
        file: PathBuf,
    },
    /// Sign files in minisign's format: beside each FILE a FILE.minisig
    Sign {
        /// The secret key, as `stratamx-appliance key` or `minisign -G -W` makes it
        #[arg(long)]
        key: PathBuf,
        /// What is signed
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Check the signature of files, and the checksums that SHA256SUMS has of others
    Verify {
        /// The public key
        #[arg(long)]
        key: PathBuf,
        /// What was signed
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Build(build) => image::build(&build),
        Command::Configure { image, files } => disk::configure(&image, &files),
        Command::Inspect(inspect) => inspect::run(&inspect),
        Command::Key { file } => sign::make_keys(&file),
        Command::Sign { key, files } => sign::sign(&key, &files),
        Command::Verify { key, files } => sign::verify(&key, &files),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stratamx-appliance: {error}");
            ExitCode::FAILURE
        }
    }
}
