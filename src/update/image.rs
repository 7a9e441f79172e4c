//! A unified kernel image, as far as an update has to know it: for which processor it is, and what it says of itself.
//!
//! It is a PE file (Microsoft PE and COFF specification, sections 3 and 4), whose section `.osrel` is the text of os-release(5). Only headers and that
//! section are read, within bounds; the octets may be anybody's.

use super::version::is_version;
use std::io::{self, Read, Seek, SeekFrom};

/// What an image says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its version.
    pub version: String,
    /// Its variant.
    pub variant: String,
    /// Its processor, as Rust names it.
    pub processor: &'static str,
}

/// Why a file is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be read.
    #[error("{0}")]
    File(#[from] io::Error),
    /// It is no program of UEFI.
    #[error("it is not a PE file")]
    NotPe,
    /// It does not say what it is.
    #[error("it has no section .osrel with ID=stratamx, IMAGE_VERSION and VARIANT_ID")]
    Unnamed,
}

/// Where the DOS header says where the PE signature is.
const SIGNATURE_AT: u64 = 0x3c;
/// Signature and COFF header.
const COFF_OCTETS: usize = 24;
const SECTION_HEADER_OCTETS: usize = 40;
/// The loader of Windows takes no more.
const SECTIONS_MAX: usize = 96;
const OS_RELEASE_OCTETS_MAX: usize = 4096;
/// COFF machines of UEFI, and what follows the variant in the names of their images: nothing, of the first one that there were images for.
const PROCESSORS: [(u16, &str, &str); 2] = [(0x8664, "x86_64", ""), (0xaa64, "aarch64", "_arm64")];

impl Image {
    /// Reads the headers.
    ///
    /// # Errors
    /// Why it is no image.
    pub fn read<F: Read + Seek>(file: &mut F) -> Result<Self, ImageError> {
        let mut place = [0; 4];
        at(file, SIGNATURE_AT, &mut place)?;
        let start = u64::from(u32::from_le_bytes(place));
        let mut coff = [0; COFF_OCTETS];
        at(file, start, &mut coff)?;
        let half = |at: usize| u16::from_le_bytes([coff[at], coff[at + 1]]);
        if !coff.starts_with(b"PE\0\0") {
            return Err(ImageError::NotPe);
        }
        let processor =
            PROCESSORS.iter().find(|(machine, ..)| *machine == half(4)).ok_or(ImageError::NotPe)?.1;
        let (count, optional) = (usize::from(half(6)), u64::from(half(20)));
        let mut headers = vec![0; count.min(SECTIONS_MAX) * SECTION_HEADER_OCTETS];
        at(file, start + COFF_OCTETS as u64 + optional, &mut headers)?;
        let header =
            headers.chunks_exact(SECTION_HEADER_OCTETS).find(|header| header.starts_with(b".osrel\0\0"));
        let header = header.ok_or(ImageError::Unnamed)?;
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let octets = usize::try_from(word(8).min(word(16))).unwrap_or(usize::MAX);
        let mut text = vec![0; octets.min(OS_RELEASE_OCTETS_MAX)];
        at(file, word(20).into(), &mut text)?;
        Self::named(&String::from_utf8_lossy(&text), processor).ok_or(ImageError::Unnamed)
    }

    fn named(os_release: &str, processor: &'static str) -> Option<Self> {
        let version = value(os_release, "IMAGE_VERSION").filter(|version| is_version(version))?;
        let variant = value(os_release, "VARIANT_ID").filter(|variant| is_version(variant))?;
        (value(os_release, "ID")? == "stratamx").then_some(Self { version, variant, processor })
    }

    /// What it is called where it is signed.
    #[must_use]
    pub fn file_name(&self) -> String {
        let suffix =
            PROCESSORS.iter().find(|(_, processor, _)| *processor == self.processor).map_or("", |row| row.2);
        format!("stratamx_{}_{}{suffix}.efi", self.version, self.variant)
    }
}

/// Fills the buffer with what is at a place; a file that ends before is no image.
fn at<F: Read + Seek>(file: &mut F, place: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
    file.seek(SeekFrom::Start(place))?;
    file.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ImageError::NotPe,
        _ => ImageError::File(error),
    })
}

/// The value of a key of os-release(5), without its quotation marks.
pub(super) fn value(os_release: &str, key: &str) -> Option<String> {
    let mut values = os_release.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    Some(values.next()?.trim_matches('"').to_owned())
}
