//! NoCloud: a volume labelled CIDATA, FAT or ISO 9660, as clouds and hypervisors attach it.
//!
//! | file | what is taken |
//! |---|---|
//! | `meta-data` | `local-hostname`, for a machine whose server is not configured |
//! | `network-config` | version 1 or 2, of one interface: [`super::network_config`] |
//! | `user-data` | `stratamx.toml`, behind a first line `#stratamx`; anything else is somebody else's, and told |
//!
//! It is taken when it differs from the one that was taken last (its SHA-256 is kept), so what was changed at the console or by the API afterwards stays,
//! as with an instance id. The volume is never written to: what is secret on it stays on it.

use super::super::console::say;
use super::super::revision::{Files, SERVER_FILE, files_of};
use super::super::settings::{Network, Settings};
use super::super::tool::write_durably;
use super::network_config;
use ring::digest::{Context, SHA256};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

/// Where it is mounted, for a moment.
const PLACE: &str = "/run/cidata";
const LABEL: &str = "cidata";
/// In the state's directory: the digest of the one that was taken last.
const TAKEN: &str = "nocloud-taken";
/// The first line of user data for us.
const MARK: &str = "#stratamx";
const META_DATA: &str = "meta-data";
const NETWORK_CONFIG: &str = "network-config";
const USER_DATA: &str = "user-data";
/// ECMA-119 8.4: the primary volume descriptor, and the identifier in it.
const DESCRIPTOR_AT: usize = 16 * 2048;
const IDENTIFIER_AT: usize = DESCRIPTOR_AT + 40;
const IDENTIFIER_OCTETS: usize = 32;

/// What such a volume gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seed {
    pub(super) files: Files,
    pub(super) host_name: Option<String>,
    pub(super) network: Option<Network>,
    pub(super) digest: String,
}

/// The volume that is there, if it is another one than was taken last.
///
/// # Errors
/// A sentence: it cannot be read, or not be used.
pub(super) fn find(state: &Path) -> Result<Option<Seed>, String> {
    let Some((device, kind)) = volume() else { return Ok(None) };
    fs::create_dir_all(PLACE).map_err(|error| error.to_string())?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount(&device, PLACE, kind, flags, None).map_err(|error| format!("{device}: {error}"))?;
    let files = files_of(Path::new(PLACE));
    let _ = unmount(PLACE, UnmountFlags::empty());
    let files = files?;
    let digest = digest(&files);
    if fs::read_to_string(state.join(TAKEN)).is_ok_and(|taken| taken == digest) {
        return Ok(None);
    }
    let (seed, notes) = read(&files, digest)?;
    notes.iter().for_each(|note| say(&format!("the volume CIDATA: {note}")));
    Ok(Some(seed))
}

impl Seed {
    /// It is not taken again.
    pub(super) fn remember(&self, state: &Path) {
        if let Err(error) = write_durably(state, TAKEN, self.digest.as_bytes(), 0o600) {
            say(&format!("the volume CIDATA will be taken again: {error}"));
        }
    }
}

/// The device with it, and its file system.
fn volume() -> Option<(String, &'static str)> {
    let mut names: Vec<_> = fs::read_dir("/sys/class/block").ok()?.flatten().collect();
    names.sort_by_key(fs::DirEntry::file_name);
    names.iter().find_map(|entry| {
        let device = format!("/dev/{}", entry.file_name().to_str()?);
        let mut head = Vec::new();
        let most = (IDENTIFIER_AT + IDENTIFIER_OCTETS) as u64;
        File::open(&device).ok()?.take(most).read_to_end(&mut head).ok()?;
        let (kind, label) = label(&head)?;
        label.eq_ignore_ascii_case(LABEL).then_some((device, kind))
    })
}

/// File system and label of a volume, by its first octets.
fn label(head: &[u8]) -> Option<(&'static str, String)> {
    let text = |at: usize, octets: usize| {
        head.get(at..at + octets).map(|text| String::from_utf8_lossy(text).trim_end().to_owned())
    };
    if head.get(DESCRIPTOR_AT..DESCRIPTOR_AT + 6) == Some(b"\x01CD001") {
        return Some(("iso9660", text(IDENTIFIER_AT, IDENTIFIER_OCTETS)?));
    }
    // Of a boot sector: FAT32, else FAT12 and FAT16, have their label in front of the type.
    let is_fat = head.get(510..512) == Some(&[0x55, 0xaa]);
    match (is_fat, head.get(82..87), head.get(54..57)) {
        (true, Some(b"FAT32"), _) => Some(("vfat", text(71, 11)?)),
        (true, _, Some(b"FAT")) => Some(("vfat", text(43, 11)?)),
        _ => None,
    }
}

fn digest(files: &Files) -> String {
    let mut context = Context::new(&SHA256);
    for (name, octets) in files {
        context.update(&(name.len() as u64).to_be_bytes());
        context.update(name.as_bytes());
        context.update(&(octets.len() as u64).to_be_bytes());
        context.update(octets);
    }
    context.finish().as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

/// What its files say, and what of it is not for us.
fn read(files: &Files, digest: String) -> Result<(Seed, Vec<String>), String> {
    let mut seed = Seed { digest, ..Seed::default() };
    let mut notes = Vec::new();
    let text = |name: &str| {
        let octets = files.get(name).map_or(&[][..], Vec::as_slice);
        let text = core::str::from_utf8(octets).map_err(|error| format!("{name}: {error}"))?;
        Ok::<_, String>(Some(text).filter(|text| !text.trim().is_empty()))
    };
    if let Some(text) = text(META_DATA)? {
        seed.host_name = network_config::host_name(text).map_err(|error| format!("{META_DATA}: {error}"))?;
    }
    if let Some(text) = text(NETWORK_CONFIG)? {
        let (network, unused) =
            network_config::read(text).map_err(|error| format!("{NETWORK_CONFIG}: {error}"))?;
        let settings = Settings { network: network.clone(), ..Settings::default() };
        let settings = toml::to_string(&settings).map_err(|error| error.to_string())?;
        Settings::parse(&settings).map_err(|error| format!("{NETWORK_CONFIG}: {error}"))?;
        seed.network = Some(network);
        notes.extend(unused.into_iter().map(|key| format!("{NETWORK_CONFIG}: {key} is not used")));
    }
    if let Some(text) = text(USER_DATA)? {
        let first = text.lines().next().unwrap_or_default().trim_end();
        if first == MARK {
            seed.files.insert(SERVER_FILE.to_owned(), text.as_bytes().to_vec());
        } else {
            let first: String = first.chars().filter(|c| !c.is_control()).take(40).collect();
            notes.push(format!("{USER_DATA} is not for us: it begins with {first:?}, not with {MARK}"));
        }
    }
    Ok((seed, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Files {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn volumes_are_told_by_their_labels() {
        let mut iso = vec![0; DESCRIPTOR_AT + 2048];
        iso[DESCRIPTOR_AT..DESCRIPTOR_AT + 6].copy_from_slice(b"\x01CD001");
        iso[IDENTIFIER_AT..IDENTIFIER_AT + IDENTIFIER_OCTETS]
            .copy_from_slice(b"cidata                          ");
        assert_eq!(label(&iso), Some(("iso9660", "cidata".to_owned())));
        let fat = |type_at: usize, kind: &[u8], label_at: usize| {
            let mut head = vec![0; 512];
            head[510..].copy_from_slice(&[0x55, 0xaa]);
            head[type_at..type_at + kind.len()].copy_from_slice(kind);
            head[label_at..label_at + 11].copy_from_slice(b"CIDATA     ");
            head
        };
        let found = Some(("vfat", "CIDATA".to_owned()));
        assert_eq!(label(&fat(54, b"FAT12   ", 43)), found);
        assert_eq!(label(&fat(54, b"FAT16   ", 43)), found);
        assert_eq!(label(&fat(82, b"FAT32   ", 71)), found);
        assert_eq!(label(&vec![0; DESCRIPTOR_AT + 2048]), None);
        assert_eq!(label(&[]), None);
        assert_eq!(label(&iso[..IDENTIFIER_AT + 3]), None, "a volume that ends early");
    }

    #[test]
    fn a_volume_gives_name_network_and_configuration() {
        let configuration = "#stratamx\nhostname = \"mx2.test\"\ndomain = []\n";
        let given = files(&[
            (META_DATA, "instance-id: i-1\nlocal-hostname: mx7.test\n"),
            (
                NETWORK_CONFIG,
                "version: 2\nethernets:\n  eth0:\n    addresses: [192.0.2.5/24]\n    mtu: 1400\n",
            ),
            (USER_DATA, configuration),
        ]);
        let (seed, notes) = read(&given, "digest".to_owned()).unwrap();
        assert_eq!(seed.host_name.as_deref(), Some("mx7.test"));
        assert_eq!(seed.network.unwrap().address, ["192.0.2.5/24"]);
        assert_eq!(seed.files, files(&[(SERVER_FILE, configuration)]));
        assert_eq!(notes, ["network-config: ethernets.eth0.mtu is not used"]);
    }

    #[test]
    fn what_is_for_others_is_left_and_told() {
        for user_data in ["#cloud-config\nusers: []\n", "#!/bin/sh\nrm -rf /\n", "hostname = \"x.test\"\n"] {
            let (seed, notes) =
                read(&files(&[(USER_DATA, user_data), (META_DATA, "")]), String::new()).unwrap();
            assert_eq!(seed, Seed::default());
            assert!(notes[0].contains("user-data is not for us"), "{notes:?}");
        }
        let (seed, notes) = read(&files(&[("vendor-data", "x"), (USER_DATA, "\n")]), String::new()).unwrap();
        assert_eq!((seed, notes.len()), (Seed::default(), 0));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (name, text, expected) in [
            (NETWORK_CONFIG, "version: 3\n", "network-config: version"),
            (NETWORK_CONFIG, "version: 2\nethernets: {e: {addresses: [192.0.2.5]}}\n", "network.address"),
            (META_DATA, "local-hostname: a b\n", "meta-data: local-hostname"),
            (META_DATA, "{", "meta-data: "),
            (USER_DATA, "\u{0}", ""),
        ] {
            match read(&files(&[(name, text)]), String::new()) {
                Err(error) => assert!(error.contains(expected) && !expected.is_empty(), "{error}"),
                Ok((seed, _)) => assert!(expected.is_empty() && seed == Seed::default(), "{text}"),
            }
        }
        let binary = Files::from([(USER_DATA.to_owned(), vec![0x1f, 0x8b, 0xff])]);
        assert!(read(&binary, String::new()).unwrap_err().starts_with("user-data: "));
    }

    #[test]
    fn another_volume_is_told_from_the_one_that_was_taken() {
        let one = files(&[(META_DATA, "instance-id: 1"), (USER_DATA, "x")]);
        assert_eq!(digest(&one), digest(&one.clone()));
        for other in [
            files(&[(META_DATA, "instance-id: 2"), (USER_DATA, "x")]),
            files(&[(META_DATA, "instance-id: 1x"), (USER_DATA, "")]),
            files(&[(META_DATA, "instance-id: 1")]),
        ] {
            assert_ne!(digest(&one), digest(&other));
        }
    }
}
