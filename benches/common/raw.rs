//! A plain sequential writer with O_DIRECT: what the disk gives to somebody who keeps nothing but octets.

use glommio::io::{DmaBuffer, DmaFile, OpenOptions};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use storage::clock::{Clock, SystemClock};

/// A file that is preallocated as a segment is.
pub(crate) struct RawFile {
    file: DmaFile,
    path: PathBuf,
    offset: u64,
    buffers: HashMap<u32, Rc<DmaBuffer>>,
    clock: SystemClock,
}

const HEADER_OCTETS: u32 = 4096;

impl RawFile {
    /// Room for `octets`, behind a block that is written as a segment's header is.
    pub(crate) async fn create(directory: &Path, octets: u64) -> Self {
        let path = directory.join("raw");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).dma_open(&path).await.expect("a raw file");
        file.pre_allocate(octets + u64::from(HEADER_OCTETS), false).await.expect("room for the raw file");
        let mut raw = Self { file, path, offset: 0, buffers: HashMap::new(), clock: SystemClock::start() };
        raw.write_and_sync(&[HEADER_OCTETS]).await;
        raw
    }

    /// Writes and syncs each of `sizes`, one behind the other. The memory is at hand before the clock runs.
    pub(crate) async fn write_and_sync(&mut self, sizes: &[u32]) -> Duration {
        for size in sizes {
            self.buffers.entry(*size).or_insert_with(|| buffer(&self.file, *size));
        }
        let start = self.clock.now();
        for size in sizes {
            let buffer = Rc::clone(&self.buffers[size]);
            let written = self.file.write_rc_at(buffer, self.offset).await.expect("a raw write");
            assert_eq!(written, *size as usize, "whole");
            self.file.fdatasync().await.expect("a raw sync");
            self.offset += u64::from(*size);
        }
        self.clock.now() - start
    }

    /// Takes the file away.
    pub(crate) async fn remove(self) {
        self.file.close().await.expect("close");
        glommio::io::remove(&self.path).await.expect("remove");
    }
}

fn buffer(file: &DmaFile, octets: u32) -> Rc<DmaBuffer> {
    let octets = octets as usize;
    let mut buffer = file.alloc_dma_buffer(octets);
    buffer.trim_to_size(octets);
    buffer.as_bytes_mut().fill(b'x');
    Rc::new(buffer)
}
