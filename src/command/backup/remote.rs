//! The archive of a server elsewhere, over its admin API.

use super::super::Exit;
use super::super::client::{Client, Remote, fail};
use super::{Made, Target, Wanted};
use std::io::{self, Write};

/// Fetches it.
pub(super) fn fetch(remote: Remote, wanted: &Wanted) -> Result<Made, Exit> {
    let client = Client::open(remote)?;
    let path = if wanted.without_queue { "/api/v1/backup?queue=false" } else { "/api/v1/backup" };
    let fetched = Target::open(&wanted.file).and_then(|target| {
        let mut counted = Counted { target, octets: 0 };
        client.copy(path, &mut counted)?;
        let Counted { target, octets } = counted;
        target.finish().map(|()| Made { written: octets, ..Made::default() })
    });
    fetched.map_err(|error| fail(&error))
}

struct Counted {
    target: Target,
    octets: u64,
}

impl Write for Counted {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.target.write(octets)?;
        self.octets += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}
