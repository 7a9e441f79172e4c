//! The raw disk: a GPT with three partitions, two of them FAT, made on plain files.
//!
//! Identifiers are fixed, so the image is reproducible; what has to differ between machines is made at the first start. The data partition is left
//! empty: its file system is made on the machine that it serves.

use crate::architecture::Architecture;
use crate::fail::{At as _, Failure, wrong};
use crate::manifest::Partitions;
use crate::packages::Unpacked;
use crate::tool;
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::partition_types::{BASIC, EFI, LINUX_FS, Type};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
/// The name of the configuration partition in the table; PID 1 and `configure` find it by that.
pub(crate) const CONFIGURATION: &str = "stratamx-cfg";
/// One for the disk, then one a partition: made once, at random.
const GUIDS: [&str; 4] = [
    "5b6f2a1e-7c1d-4d0b-9a54-0f6a7e9d3c10",
    "5b6f2a1e-7c1d-4d0b-9a54-0f6a7e9d3c11",
    "5b6f2a1e-7c1d-4d0b-9a54-0f6a7e9d3c12",
    "5b6f2a1e-7c1d-4d0b-9a54-0f6a7e9d3c13",
];
/// systemd-boot: start at once what sorts first and still has tries.
const LOADER: &str = "timeout 0\neditor no\n";
const README: &str = "StrataMX appliance\r\n\r\nPut stratamx.toml here (and appliance.toml for a static address, and what these name) and start the machine.\r\n\
    It takes them onto its data partition and off this one.\r\n";

/// What goes on the ESP.
pub(crate) struct Contents<'a> {
    pub(crate) architecture: Architecture,
    /// Has systemd-boot.
    pub(crate) unpacked: &'a Unpacked,
    /// The UKI, and its name below EFI/Linux.
    pub(crate) uki: &'a Path,
    pub(crate) uki_name: &'a str,
}

/// Writes the raw image; `work` is for files on the way.
pub(crate) fn make(
    image: &Path,
    partitions: Partitions,
    contents: &Contents,
    work: &Path,
) -> Result<(), Failure> {
    let esp = work.join("esp.fat");
    make_fat(&esp, partitions.esp, "32", "STRATAESP")?;
    let loader_conf = work.join("loader.conf");
    fs::write(&loader_conf, LOADER).at(&loader_conf)?;
    directories(&esp, &["EFI", "EFI/BOOT", "EFI/systemd", "EFI/Linux", "loader"])?;
    let efi = contents.architecture.efi();
    let loader = contents.unpacked.root.join(format!("usr/lib/systemd/boot/efi/systemd-boot{efi}.efi"));
    copy(&esp, &loader, &started_by_firmware(contents.architecture))?;
    copy(&esp, &loader, &format!("EFI/systemd/systemd-boot{efi}.efi"))?;
    copy(&esp, &loader_conf, "loader/loader.conf")?;
    copy(&esp, contents.uki, &format!("EFI/Linux/{}", contents.uki_name))?;
    let configuration = work.join("configuration.fat");
    make_fat(&configuration, partitions.configuration, "16", "STRATAMX")?;
    let readme = work.join("README.TXT");
    fs::write(&readme, README).at(&readme)?;
    copy(&configuration, &readme, "README.TXT")?;
    let starts = make_table(image, partitions)?;
    write_into(image, starts[0], &esp)?;
    write_into(image, starts[1], &configuration)
}

/// What the firmware starts from a disk that it knows nothing else of (UEFI Specification 2.10, 3.5.1.1).
fn started_by_firmware(architecture: Architecture) -> String {
    format!("EFI/BOOT/BOOT{}.EFI", architecture.efi().to_uppercase())
}

fn make_fat(path: &Path, mib: u64, bits: &str, label: &str) -> Result<(), Failure> {
    let file = File::create(path).at(path)?;
    file.set_len(mib * MIB).at(path)?;
    let target = path.display().to_string();
    tool::run("mkfs.vfat", ["--invariant", "-F", bits, "-s", "1", "-n", label, &target]).map(drop)
}

fn directories(fat: &Path, names: &[&str]) -> Result<(), Failure> {
    for name in names {
        tool::run("mmd", ["-i", &fat.display().to_string(), &format!("::/{name}")])?;
    }
    Ok(())
}

/// With the time stamp of every image: mtools takes that of the file.
fn copy(fat: &Path, from: &Path, to: &str) -> Result<(), Failure> {
    let stamped = from.with_extension("stamped");
    fs::copy(from, &stamped).at(from)?;
    let epoch = tool::EPOCH.parse().map(core::time::Duration::from_secs).unwrap_or_default();
    let file = File::options().write(true).open(&stamped).at(&stamped)?;
    file.set_modified(std::time::UNIX_EPOCH + epoch).at(&stamped)?;
    let arguments =
        ["-m", "-o", "-i", &fat.display().to_string(), &stamped.display().to_string(), &format!("::/{to}")];
    let copied = tool::run("mcopy", arguments);
    fs::remove_file(&stamped).at(&stamped)?;
    copied.map(drop)
}

/// Makes the file with its table. Where the partitions begin, in octets.
fn make_table(image: &Path, partitions: Partitions) -> Result<Vec<u64>, Failure> {
    let sizes = [partitions.esp, partitions.configuration, partitions.data];
    // One MiB in front for alignment, one behind for the second table.
    let octets = (sizes.iter().sum::<u64>() + 2) * MIB;
    let mut file =
        File::options().read(true).write(true).create(true).truncate(true).open(image).at(image)?;
    file.set_len(octets).at(image)?;
    let failed = |error: String| wrong(format!("the partition table: {error}"));
    let sectors = u32::try_from(octets / SECTOR - 1).unwrap_or(u32::MAX);
    gpt::mbr::ProtectiveMBR::with_lb_size(sectors)
        .overwrite_lba0(&mut file)
        .map_err(|error| failed(error.to_string()))?;
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table =
        config.create_from_device(file, Some(guid(0)?)).map_err(|error| failed(error.to_string()))?;
    let kinds: [(&str, Type); 3] =
        [("stratamx-esp", EFI), (CONFIGURATION, BASIC), ("stratamx-data", LINUX_FS)];
    let mut all = BTreeMap::new();
    let mut start = MIB;
    let mut starts = Vec::new();
    for (number, ((name, kind), mib)) in (1_u32..).zip(kinds.into_iter().zip(sizes)) {
        let partition = gpt::partition::Partition {
            part_type_guid: kind,
            part_guid: guid(number as usize)?,
            first_lba: start / SECTOR,
            last_lba: (start + mib * MIB) / SECTOR - 1,
            flags: 0,
            name: name.to_owned(),
        };
        all.insert(number, partition);
        starts.push(start);
        start += mib * MIB;
    }
    table.update_partitions(all).map_err(|error| failed(error.to_string()))?;
    table.write().map_err(|error| failed(error.to_string()))?;
    Ok(starts)
}

/// One of ours, in the type of the crate that the table is made by.
fn guid<G: FromStr<Err: core::fmt::Display>>(number: usize) -> Result<G, Failure> {
    GUIDS[number].parse().map_err(|error| wrong(format!("{}: {error}", GUIDS[number])))
}

/// Copies what is not zero, so that the image stays as small as what is on it.
fn write_into(image: &Path, start: u64, part: &Path) -> Result<(), Failure> {
    let mut image_file = File::options().write(true).open(image).at(image)?;
    let octets = fs::read(part).at(part)?;
    let block = usize::try_from(MIB / 16).expect("64 KiB");
    for (number, chunk) in octets.chunks(block).enumerate() {
        if chunk.iter().any(|octet| *octet != 0) {
            image_file.seek(SeekFrom::Start(start + (number * block) as u64)).at(image)?;
            image_file.write_all(chunk).at(image)?;
        }
    }
    image_file.sync_all().at(image)
}

/// One partition of an image, for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Partition {
    pub(crate) name: String,
    pub(crate) start: u64,
    pub(crate) octets: u64,
}

/// The partitions of a raw image.
pub(crate) fn partitions(image: &Path) -> Result<Vec<Partition>, Failure> {
    let failed = |error: String| wrong(format!("{}: {error}", image.display()));
    let block = LogicalBlockSize::Lb512;
    let table =
        GptConfig::new().logical_block_size(block).open(image).map_err(|error| failed(error.to_string()))?;
    let parts = table.partitions().values().map(|partition| {
        let octets = |result: io::Result<u64>| result.map_err(|error| failed(error.to_string()));
        Ok(Partition {
            name: partition.name.clone(),
            start: octets(partition.bytes_start(block))?,
            octets: octets(partition.bytes_len(block))?,
        })
    });
    parts.collect()
}

/// See the command.
pub(crate) fn configure(image: &Path, files: &[PathBuf]) -> Result<(), Failure> {
    let parts = partitions(image)?;
    let part = parts.iter().find(|partition| partition.name == CONFIGURATION);
    let part = part.ok_or_else(|| wrong(format!("{} has no partition {CONFIGURATION}", image.display())))?;
    let fat = format!("{}@@{}", image.display(), part.start);
    for file in files {
        let name =
            file.file_name().and_then(|name| name.to_str()).ok_or_else(|| wrong("a file without a name"))?;
        tool::run("mcopy", ["-o", "-i", &fat, &file.display().to_string(), &format!("::/{name}")])?;
    }
    Ok(())
}

/// The names below EFI/Linux of a raw image.
pub(crate) fn ukis(image: &Path) -> Result<Vec<String>, Failure> {
    list(image, "EFI/Linux")
}

/// The processors that a raw image has a loader for.
pub(crate) fn architectures(image: &Path) -> Result<Vec<Architecture>, Failure> {
    let listed = list(image, "EFI/BOOT")?;
    let is_there = |name: &str| listed.iter().any(|file| name.ends_with(&format!("/{file}")));
    Ok(Architecture::ALL.into_iter().filter(|one| is_there(&started_by_firmware(*one))).collect())
}

/// The names in a directory of a raw image's first partition.
fn list(image: &Path, directory: &str) -> Result<Vec<String>, Failure> {
    let parts = partitions(image)?;
    let Some(esp) = parts.first() else { return Ok(Vec::new()) };
    let fat = format!("{}@@{}", image.display(), esp.start);
    let listed = tool::run("mdir", ["-b", "-i", &fat, &format!("::/{directory}")])?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    Ok(listed.lines().filter_map(|line| line.rsplit('/').next()).map(str::to_owned).collect())
}
