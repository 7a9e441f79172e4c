//! A support bundle: what somebody who helps needs to see, in one file, without any mail.
//!
//! # Promise
//! No mail, no key, no token and no password is in it. Local parts of addresses are replaced by a word of their own, the same one throughout a
//! bundle and another in the next, so that lines about one person can be found and nobody knows who he is ([`mask`]); names of domains and hosts stay.
//!
//! The server makes one of what it knows ([`crate::control::admin`]); where it does not run, the command makes one of what lies there.

pub mod mask;
pub mod system;

use mask::Mask;
use std::collections::BTreeMap;
use std::io;
use tar::{Builder, EntryType, Header};
use zstd::Encoder;

/// Files by name, masked.
#[derive(Debug, Default)]
pub struct Bundle {
    mask: Mask,
    files: BTreeMap<String, Vec<u8>>,
}

/// zstd's own middle.
const LEVEL: i32 = 3;
/// What whoever opens it reads first.
const README: &str = "\
A support bundle of StrataMX. No mail, key, token or password is in it; local parts of addresses are replaced by words
that mean nothing outside of this bundle. Look through it before you hand it on.

about.json          version, machine, and what could not be had
configuration.toml  the configuration in force
*.json, metrics.txt what the admin API tells
log.txt             the end of the log
data-directory.txt  names and sizes of files
system/             what the kernel tells of the machine and of the process
";

impl Bundle {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let mut bundle = Self::default();
        bundle.add("README.txt", README.as_bytes());
        bundle
    }

    /// Adds a file.
    pub fn add(&mut self, name: &str, octets: &[u8]) {
        let masked = self.mask.text(&String::from_utf8_lossy(octets)).into_bytes();
        self.files.insert(name.to_owned(), masked);
    }

    /// The file that is handed on.
    ///
    /// # Errors
    /// Of memory.
    pub fn packed(&self) -> io::Result<Vec<u8>> {
        let mut zstd = Encoder::new(Vec::new(), LEVEL)?;
        zstd.include_checksum(true)?;
        let mut tar = Builder::new(zstd);
        for (name, octets) in &self.files {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o600);
            header.set_size(octets.len() as u64);
            tar.append_data(&mut header, format!("stratamx-support/{name}"), octets.as_slice())?;
        }
        tar.into_inner()?.finish()
    }
}
