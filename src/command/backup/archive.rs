//! The archive as it is written: tar under zstd, with the sum of each entry.

use super::Made;
use super::manifest::SUMS;
use core::fmt::Write as _;
use ring::digest::{Context, SHA256};
use std::io::{self, Read, Write};
use tar::{Builder, EntryType, Header};
use zstd::Encoder;

/// See the module.
pub(super) struct Archive<'a> {
    tar: Builder<Encoder<'static, Counted<'a>>>,
    sums: String,
    files: u64,
    octets: u64,
}

/// zstd's own middle: a tenth of a second of CPU for 64 MiB of mail.
const LEVEL: i32 = 3;

/// Octets that go through.
struct Counted<'a> {
    out: &'a mut dyn Write,
    octets: u64,
}

/// What goes through, summed up.
struct Summed<R> {
    from: R,
    sum: Context,
}

impl<'a> Archive<'a> {
    /// # Errors
    /// A sentence, as of all others.
    pub(super) fn begin(out: &'a mut dyn Write) -> Result<Self, String> {
        let mut zstd = Encoder::new(Counted { out, octets: 0 }, LEVEL).map_err(|error| error.to_string())?;
        zstd.include_checksum(true).map_err(|error| error.to_string())?;
        Ok(Self { tar: Builder::new(zstd), sums: String::new(), files: 0, octets: 0 })
    }

    /// Adds what is read, which has exactly so many octets.
    pub(super) fn add(&mut self, name: &str, octets: u64, from: impl Read) -> Result<(), String> {
        let failed = |error: &dyn core::fmt::Display| format!("{name}: {error}");
        let mut summed = Summed { from: from.take(octets), sum: Context::new(&SHA256) };
        self.append(name, octets, &mut summed).map_err(|error| failed(&error))?;
        if summed.from.limit() > 0 {
            return Err(failed(&"became shorter while it was read"));
        }
        let _ = writeln!(self.sums, "{}  {name}", hexadecimal(summed.sum.finish().as_ref()));
        self.files += 1;
        self.octets += octets;
        Ok(())
    }

    /// The same from memory.
    pub(super) fn add_octets(&mut self, name: &str, octets: &[u8]) -> Result<(), String> {
        self.add(name, octets.len() as u64, octets)
    }

    /// What was added leaves.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        self.tar.get_mut().flush().map_err(|error| format!("cannot write: {error}"))
    }

    fn append(&mut self, name: &str, octets: u64, from: impl Read) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(octets);
        header.set_mtime(0);
        self.tar.append_data(&mut header, name, from)
    }

    /// Adds the sums, and ends it.
    pub(super) fn finish(mut self) -> Result<Made, String> {
        let sums = core::mem::take(&mut self.sums);
        let ended =
            self.append(SUMS, sums.len() as u64, sums.as_bytes()).and_then(|()| self.tar.into_inner());
        let counted = ended.and_then(Encoder::finish).and_then(|mut counted| {
            counted.flush()?;
            Ok(counted)
        });
        let counted = counted.map_err(|error| format!("cannot write: {error}"))?;
        Ok(Made { files: Some(self.files), octets: Some(self.octets), written: counted.octets })
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.out.write(octets)?;
        self.octets += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(octets)?;
        self.sum.update(&octets[..read]);
        Ok(read)
    }
}

/// Lower-case digits.
pub(in crate::command) fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
