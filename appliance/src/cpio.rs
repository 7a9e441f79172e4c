//! The archive that the kernel unpacks into memory: cpio, format "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Everything that could differ between two builds is fixed: owner root, time zero, inode numbers by order, entries sorted by path.

use std::collections::BTreeMap;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Directory,
    File { mode: u32, octets: Vec<u8> },
}

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";
const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
/// Header, name and content each begin at a multiple of this.
const ALIGNMENT: usize = 4;

/// The tree of an archive: paths without a leading slash.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// Adds a file, and the directories on the way to it.
    pub(crate) fn add(&mut self, path: &str, mode: u32, octets: Vec<u8>) {
        let path = path.trim_start_matches('/');
        self.add_directories(path);
        self.entries.insert(path.to_owned(), Entry::File { mode, octets });
    }

    /// Adds an empty directory.
    pub(crate) fn add_directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        self.add_directories(path);
        self.entries.insert(path.to_owned(), Entry::Directory);
    }

    fn add_directories(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.entries.entry(path[..at].to_owned()).or_insert(Entry::Directory);
        }
    }

    /// The archive. A directory sorts before what is in it, so the kernel finds each one made.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (path, entry)) in (1_u32..).zip(&self.entries) {
            match entry {
                Entry::Directory => write(&mut out, number, path, DIRECTORY, 2, b""),
                Entry::File { mode, octets } => write(&mut out, number, path, REGULAR | mode, 1, octets),
            }
        }
        write(&mut out, 0, TRAILER, 0, 1, b"");
        out
    }
}

fn write(out: &mut Vec<u8>, inode: u32, path: &str, mode: u32, links: u32, octets: &[u8]) {
    let size = u32::try_from(octets.len()).expect("no file of an image has 4 GiB");
    let name_size = u32::try_from(path.len() + 1).expect("no path is that long");
    out.extend(MAGIC.bytes());
    // inode, mode, owner, group, links, time, size, device (2), special device (2), size of the name, checksum
    for number in [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
        out.extend(format!("{number:08X}").bytes());
    }
    out.extend(path.bytes());
    out.push(0);
    pad(out);
    out.extend(octets);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.add("/b/c/file", 0o755, b"12345".to_vec());
        archive.add_directory("/a/");
        let octets = archive.encode();
        let text = String::from_utf8_lossy(&octets);
        let places: Vec<usize> = ["070701", "b/c\0", "b/c/file\0", "12345", TRAILER]
            .iter()
            .map(|part| text.find(part).unwrap_or(usize::MAX))
            .collect();
        assert!(places[1] < places[2] && places[2] < places[3] && places[3] < places[4], "{places:?}");
        assert!(text.starts_with("07070100000001000041ED0000000000000000000000020000000000000000"));
        assert!(octets.len().is_multiple_of(ALIGNMENT));
        assert_eq!(
            octets.windows(6).filter(|part| part == b"070701").count(),
            5,
            "a, b, b/c, the file, the end"
        );
    }
}
