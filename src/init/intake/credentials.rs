//! Files that the hypervisor hands over: strings of SMBIOS structures of type 11, `io.systemd.credential:NAME=TEXT`, or
//! `io.systemd.credential.binary:NAME=` with Base64. Pure but for reading sysfs.

use super::super::revision::{Files, is_name};
use base64::Engine as _;
use std::fs;
use std::path::Path;

const TEXT: &str = "io.systemd.credential:";
const BASE64: &str = "io.systemd.credential.binary:";
/// The header of an SMBIOS structure of type 11; its strings come behind.
const STRINGS_AT: usize = 5;

/// Those of these entries that are for us.
pub(super) fn read(entries: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(entries).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("11-") {
            continue;
        }
        let raw = fs::read(entry.path().join("raw")).unwrap_or_default();
        for text in raw.get(STRINGS_AT..).unwrap_or_default().split(|octet| *octet == 0) {
            if let Some((name, octets)) = credential(text) {
                files.insert(name, octets);
            }
        }
    }
    files
}

pub(super) fn credential(text: &[u8]) -> Option<(String, Vec<u8>)> {
    let text = core::str::from_utf8(text).ok()?;
    let (name, octets) = if let Some(rest) = text.strip_prefix(BASE64) {
        let (name, value) = rest.split_once('=')?;
        (name, base64::engine::general_purpose::STANDARD.decode(value.trim()).ok()?)
    } else {
        let (name, value) = text.strip_prefix(TEXT)?.split_once('=')?;
        (name, value.as_bytes().to_vec())
    };
    is_name(name).then(|| (name.to_owned(), octets))
}
