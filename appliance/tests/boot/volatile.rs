//! A disk whose unflushed writes are lost when the power fails: an NBD server (the protocol's specification, "fixed newstyle") on a unix socket.
//!
//! What is written is kept in memory, a version a write for each sector of 512 octets. FLUSH makes the newest of each durable, FUA those of its own
//! write. [`VolatileDisk::cut`] ends it without an answer, and decides by a seed what the medium has of the rest: for each sector, on its own, the
//! durable content or any version since. So writes are reordered, torn between sectors and lost, and never within a sector, as disks promise.
//!
//! A *lying* disk says that it has flushed and has not: the negative control.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

const SECTOR: usize = 512;
const SECTOR_OCTETS: u64 = 512;
/// More than QEMU asks for at once.
const REQUEST_OCTETS_MAX: u32 = 64 << 20;

/// "NBDMAGIC" and "IHAVEOPT".
const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
/// Handshake flags: fixed newstyle, no zeroes.
const HANDSHAKE: u16 = 3;
const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 0x8000_0001;
/// Transmission flags: has flags, FLUSH, FUA.
const TRANSMISSION: u16 = 1 | 1 << 2 | 1 << 3;
const COMMAND_READ: u16 = 0;
const COMMAND_WRITE: u16 = 1;
const COMMAND_DISCONNECT: u16 = 2;
const COMMAND_FLUSH: u16 = 3;
const COMMAND_FUA: u16 = 1;
const EINVAL: u32 = 22;

/// The medium and what is not on it yet.
#[derive(Debug)]
pub(crate) struct Medium {
    file: File,
    /// Versions of a sector since the last flush, oldest first.
    unflushed: BTreeMap<u64, Vec<[u8; SECTOR]>>,
    is_lying: bool,
    is_cut: bool,
    /// Sectors that were written in a range, and when the power fails by that.
    trigger: Option<Trigger>,
}

/// The power fails once so many sectors of a range were written.
#[derive(Clone, Debug)]
pub(crate) struct Trigger {
    pub(crate) sectors: core::ops::Range<u64>,
    pub(crate) left: u64,
    pub(crate) seed: u64,
}

impl Medium {
    pub(crate) fn new(file: File, is_lying: bool) -> Self {
        Self { file, unflushed: BTreeMap::new(), is_lying, is_cut: false, trigger: None }
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)?;
        let first = at / SECTOR_OCTETS;
        for (sector, versions) in self.unflushed.range(first..first + (buffer.len() / SECTOR) as u64) {
            let place = usize::try_from(sector - first).unwrap() * SECTOR;
            buffer[place..place + SECTOR].copy_from_slice(versions.last().unwrap());
        }
        Ok(())
    }

    fn write(&mut self, at: u64, octets: &[u8], is_fua: bool) -> io::Result<()> {
        for (number, sector) in octets.as_chunks::<SECTOR>().0.iter().enumerate() {
            let place = at / SECTOR_OCTETS + number as u64;
            if is_fua && !self.is_lying {
                self.unflushed.remove(&place);
                self.file.write_all_at(sector, place * SECTOR_OCTETS)?;
            } else {
                self.unflushed.entry(place).or_default().push(*sector);
            }
            if let Some(trigger) = &mut self.trigger
                && trigger.sectors.contains(&place)
            {
                trigger.left = trigger.left.saturating_sub(1);
                if trigger.left == 0 {
                    let seed = trigger.seed;
                    return self.cut(seed);
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_lying {
            return Ok(());
        }
        for (sector, versions) in core::mem::take(&mut self.unflushed) {
            self.file.write_all_at(versions.last().unwrap(), sector * SECTOR_OCTETS)?;
        }
        Ok(())
    }

    /// The power fails; what is left is on the medium.
    fn cut(&mut self, seed: u64) -> io::Result<()> {
        let mut random = Random(seed);
        self.is_cut = true;
        for (sector, versions) in core::mem::take(&mut self.unflushed) {
            // 0: what was durable.
            let chosen = usize::try_from(random.below(versions.len() as u64 + 1)).unwrap();
            if let Some(version) = chosen.checked_sub(1) {
                self.file.write_all_at(&versions[version], sector * SECTOR_OCTETS)?;
            }
        }
        Ok(())
    }
}

/// SplitMix64: one seed decides everything.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// The disk, served until it is cut.
#[derive(Debug)]
pub(crate) struct VolatileDisk {
    medium: Arc<Mutex<Medium>>,
    pub(crate) socket: PathBuf,
}

impl VolatileDisk {
    /// Serves a file at a socket beside it.
    pub(crate) fn serve(file: &Path, is_lying: bool) -> Self {
        let socket = file.with_extension("nbd");
        let _ = std::fs::remove_file(&socket);
        let medium = File::options().read(true).write(true).open(file).unwrap();
        let octets = medium.metadata().unwrap().len();
        let medium = Arc::new(Mutex::new(Medium::new(medium, is_lying)));
        let listener = UnixListener::bind(&socket).unwrap();
        let own = Arc::clone(&medium);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let medium = Arc::clone(&own);
                thread::spawn(move || drop(serve(stream, &medium, octets)));
            }
        });
        Self { medium, socket }
    }

    /// The power fails by itself once so much of a range was written.
    pub(crate) fn cut_by(&self, trigger: Trigger) {
        self.lock().trigger = Some(trigger);
    }

    /// The power fails now, if it has not.
    pub(crate) fn cut(&self, seed: u64) {
        let mut medium = self.lock();
        if !medium.is_cut {
            medium.cut(seed).unwrap();
        }
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    fn lock(&self) -> MutexGuard<'_, Medium> {
        self.medium.lock().unwrap()
    }
}

/// One client, from the handshake to its end.
fn serve(mut stream: UnixStream, medium: &Mutex<Medium>, octets: u64) -> io::Result<()> {
    stream.write_all(&MAGIC.to_be_bytes())?;
    stream.write_all(&OPTION_MAGIC.to_be_bytes())?;
    stream.write_all(&HANDSHAKE.to_be_bytes())?;
    take::<4>(&mut stream)?;
    while !negotiated(&mut stream, octets)? {}
    loop {
        if u32::from_be_bytes(take(&mut stream)?) != REQUEST_MAGIC {
            return Err(io::Error::other("no request"));
        }
        let (flags, command) =
            (u16::from_be_bytes(take(&mut stream)?), u16::from_be_bytes(take(&mut stream)?));
        let cookie: [u8; 8] = take(&mut stream)?;
        let (at, length) = (u64::from_be_bytes(take(&mut stream)?), u32::from_be_bytes(take(&mut stream)?));
        if length > REQUEST_OCTETS_MAX {
            return Err(io::Error::other("too large a request"));
        }
        let mut buffer = vec![0; length as usize];
        if command == COMMAND_WRITE {
            stream.read_exact(&mut buffer)?;
        }
        let mut medium = medium.lock().unwrap();
        let is_sound = at.is_multiple_of(SECTOR_OCTETS)
            && buffer.len().is_multiple_of(SECTOR)
            && at + u64::from(length) <= octets;
        let error = match command {
            _ if medium.is_cut => return Err(io::Error::other("the power has failed")),
            COMMAND_DISCONNECT => return Ok(()),
            COMMAND_FLUSH => medium.flush().map(|()| 0),
            COMMAND_READ if is_sound => medium.read(at, &mut buffer).map(|()| 0),
            COMMAND_WRITE if is_sound => medium.write(at, &buffer, flags & COMMAND_FUA != 0).map(|()| 0),
            _ => Ok(EINVAL),
        }?;
        // What made the power fail is not answered either.
        if medium.is_cut {
            return Err(io::Error::other("the power has failed"));
        }
        drop(medium);
        let mut reply = REPLY_MAGIC.to_be_bytes().to_vec();
        reply.extend(error.to_be_bytes());
        reply.extend(cookie);
        if command == COMMAND_READ && error == 0 {
            reply.extend(buffer);
        }
        stream.write_all(&reply)?;
    }
}

/// One option; whether the transmission begins.
fn negotiated(stream: &mut UnixStream, octets: u64) -> io::Result<bool> {
    if u64::from_be_bytes(take(stream)?) != OPTION_MAGIC {
        return Err(io::Error::other("no option"));
    }
    let (option, length) = (u32::from_be_bytes(take(stream)?), u32::from_be_bytes(take(stream)?));
    let mut data = vec![0; length.min(REQUEST_OCTETS_MAX) as usize];
    stream.read_exact(&mut data)?;
    let mut reply = |kind: u32, data: &[u8]| {
        let mut reply = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
        for word in [option, kind, u32::try_from(data.len()).unwrap()] {
            reply.extend(word.to_be_bytes());
        }
        reply.extend(data);
        stream.write_all(&reply)
    };
    // The one kind of information that is not optional: size and flags.
    let export = [&0_u16.to_be_bytes()[..], &octets.to_be_bytes(), &TRANSMISSION.to_be_bytes()].concat();
    match option {
        OPTION_EXPORT_NAME => stream.write_all(&export[2..]).map(|()| true),
        OPTION_GO | OPTION_INFO => {
            reply(REPLY_INFO, &export)?;
            reply(REPLY_ACK, &[]).map(|()| option == OPTION_GO)
        }
        OPTION_ABORT => reply(REPLY_ACK, &[]).and(Err(io::Error::other("the client has gone"))),
        _ => reply(REPLY_UNSUPPORTED, &[]).map(|()| false),
    }
}

fn take<const COUNT: usize>(stream: &mut UnixStream) -> io::Result<[u8; COUNT]> {
    let mut octets = [0; COUNT];
    stream.read_exact(&mut octets).map(|()| octets)
}

/// A disk of some sectors, and its file.
fn disk(test: &str, is_lying: bool) -> (PathBuf, Medium) {
    let path = std::env::temp_dir().join(format!("stratamx-volatile-{test}-{}", std::process::id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.set_len(64 * SECTOR_OCTETS).unwrap();
    (path, Medium::new(file, is_lying))
}

fn sectors(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap().chunks(SECTOR).map(|sector| sector[0]).collect()
}

/// Flushed is durable, FUA is durable for itself alone, and what was read back is the newest in any case.
#[test]
fn what_was_flushed_survives_a_cut_and_what_was_not_may_be_gone() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let (path, mut medium) = disk("flush", false);
        medium.write(0, &[1; 4 * SECTOR], false).unwrap();
        medium.flush().unwrap();
        medium.write(0, &[2; 2 * SECTOR], false).unwrap();
        medium.write(0, &[3; 2 * SECTOR], false).unwrap();
        medium.write(3 * SECTOR_OCTETS, &[4; SECTOR], true).unwrap();
        let mut read = [0; 5 * SECTOR];
        medium.read(0, &mut read).unwrap();
        let read: Vec<u8> = read.chunks(SECTOR).map(|sector| sector[0]).collect();
        assert_eq!(read, [3, 3, 1, 4, 0]);
        medium.cut(seed).unwrap();
        let left = sectors(&path);
        assert_eq!(left[2..5], [1, 4, 0]);
        seen.insert((left[0], left[1]));
        std::fs::remove_file(path).unwrap();
    }
    // Each version of each, on its own: lost, torn between sectors, reordered.
    assert_eq!(seen.len(), 9, "{seen:?}");
}

/// The negative control: a disk that lies loses what it said it had.
#[test]
fn a_lying_disk_loses_what_was_flushed() {
    let mut lost = 0;
    for seed in 0..20 {
        let (path, mut medium) = disk("lie", true);
        medium.write(0, &[1; 4 * SECTOR], true).unwrap();
        medium.flush().unwrap();
        medium.cut(seed).unwrap();
        lost += usize::from(sectors(&path)[..4] != [1; 4]);
        std::fs::remove_file(path).unwrap();
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn one_seed_is_one_cut_and_the_trigger_is_it() {
    let left = |seed| {
        let (path, mut medium) = disk("trigger", false);
        medium.trigger = Some(Trigger { sectors: 8..16, left: 3, seed });
        for at in [0_u64, 8, 20, 9] {
            medium.write(at * SECTOR_OCTETS, &[7; SECTOR], false).unwrap();
            assert!(!medium.is_cut);
        }
        medium.write(10 * SECTOR_OCTETS, &[7; 4 * SECTOR], false).unwrap();
        assert!(medium.is_cut, "the third sector in the range");
        let left = sectors(&path);
        assert_eq!(left[11..14], [0; 3], "what came behind it");
        std::fs::remove_file(path).unwrap();
        left
    };
    assert_eq!(left(5), left(5));
    assert!((0..10).any(|seed| left(seed) != left(5)));
}
