//! Sections of a PE file: read, and appended (Microsoft PE and COFF specification, sections 3 and 4).
//!
//! A unified kernel image is systemd-boot's stub, a PE program, with sections behind its own that hold kernel, initramfs and command line. The
//! stub finds them by name. Appending needs free room behind the section headers, which the stub is made with.

use crate::architecture::Architecture;
use crate::fail::{Failure, wrong};

/// One section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) name: String,
    /// Its octets; without the padding to the file's alignment.
    pub(crate) octets: Vec<u8>,
}

const SIGNATURE: &[u8] = b"PE\0\0";
/// Where the DOS header says where the signature is.
const SIGNATURE_AT: usize = 0x3c;
/// The COFF header behind the signature.
const COFF_OCTETS: usize = 20;
const SECTION_HEADER_OCTETS: usize = 40;
const NAME_OCTETS: usize = 8;
/// IMAGE_SCN_CNT_INITIALIZED_DATA and IMAGE_SCN_MEM_READ.
const READ_ONLY_DATA: u32 = 0x4000_0040;
/// What stands in free room: nothing, or the instruction of AArch64 that does nothing (NOP), which its linker fills up with.
const FILLERS: [[u8; 4]; 2] = [[0; 4], [0x1f, 0x20, 0x03, 0xd5]];
/// PE32+.
const MAGIC: u16 = 0x20b;

/// Places in the file, from its headers.
struct Layout {
    coff: usize,
    optional: usize,
    headers: usize,
    count: usize,
    section_alignment: u32,
    file_alignment: u32,
    headers_octets: usize,
}

impl Layout {
    fn read(file: &[u8]) -> Result<Self, Failure> {
        let not_pe = || wrong("is not a PE program for 64-bit machines");
        let signature = word(file, SIGNATURE_AT).ok_or_else(not_pe)? as usize;
        if file.get(signature..signature + SIGNATURE.len()) != Some(SIGNATURE) {
            return Err(not_pe());
        }
        let coff = signature + SIGNATURE.len();
        let optional = coff + COFF_OCTETS;
        let half = |at: usize| half(file, at);
        if half(optional) != Some(MAGIC) {
            return Err(not_pe());
        }
        let optional_octets = usize::from(half(coff + 16).ok_or_else(not_pe)?);
        let layout = Self {
            coff,
            optional,
            headers: optional + optional_octets,
            count: usize::from(half(coff + 2).ok_or_else(not_pe)?),
            section_alignment: word(file, optional + 32).ok_or_else(not_pe)?,
            file_alignment: word(file, optional + 36).ok_or_else(not_pe)?,
            headers_octets: word(file, optional + 60).ok_or_else(not_pe)? as usize,
        };
        let is_sound = layout.section_alignment.is_power_of_two() && layout.file_alignment.is_power_of_two();
        if is_sound { Ok(layout) } else { Err(not_pe()) }
    }

    fn header(&self, number: usize) -> usize {
        self.headers + number * SECTION_HEADER_OCTETS
    }
}

/// The processor that it is for.
pub(crate) fn architecture(file: &[u8]) -> Result<Architecture, Failure> {
    let layout = Layout::read(file)?;
    let architecture = half(file, layout.coff).and_then(Architecture::of_pe);
    architecture.ok_or_else(|| wrong("is a PE program for another processor"))
}

/// All sections, in their order.
pub(crate) fn sections(file: &[u8]) -> Result<Vec<Section>, Failure> {
    let layout = Layout::read(file)?;
    let cut_off = || wrong("its sections are cut off");
    let mut sections = Vec::new();
    for number in 0..layout.count {
        let header = layout.header(number);
        let name = file.get(header..header + NAME_OCTETS).ok_or_else(cut_off)?;
        let name = name.split(|octet| *octet == 0).next().unwrap_or_default();
        let number_at = |at: usize| word(file, header + at).map(|word| word as usize).ok_or_else(cut_off);
        let (size, stored, at) = (number_at(8)?, number_at(16)?, number_at(20)?);
        let octets = file.get(at..at + size.min(stored)).ok_or_else(cut_off)?.to_vec();
        sections.push(Section { name: String::from_utf8_lossy(name).into_owned(), octets });
    }
    Ok(sections)
}

/// Appends sections. The time stamp becomes zero and the checksum is made anew, so the same parts give the same file.
pub(crate) fn append(stub: &[u8], new: &[Section]) -> Result<Vec<u8>, Failure> {
    let layout = Layout::read(stub)?;
    let first = layout.header(layout.count);
    if layout.header(layout.count + new.len()) > layout.headers_octets
        || stub.get(first..layout.headers_octets).is_none_or(|room| !is_free(room))
    {
        return Err(wrong("the stub has no room for the headers of further sections"));
    }
    let mut file = stub.to_vec();
    let mut address = end_of_memory(stub, &layout)?;
    for (number, section) in new.iter().enumerate() {
        let too_large = |_| wrong(format!("{} is too large", section.name));
        file.resize(file.len().next_multiple_of(layout.file_alignment as usize), 0);
        let at = u32::try_from(file.len()).map_err(too_large)?;
        let size = u32::try_from(section.octets.len()).map_err(too_large)?;
        file.extend(&section.octets);
        file.resize(file.len().next_multiple_of(layout.file_alignment as usize), 0);
        let stored = u32::try_from(file.len()).map_err(too_large)? - at;
        let header = layout.header(layout.count + number);
        if section.name.len() > NAME_OCTETS {
            return Err(wrong(format!("{} is too long a name", section.name)));
        }
        file[header..header + SECTION_HEADER_OCTETS].fill(0);
        file[header..header + section.name.len()].copy_from_slice(section.name.as_bytes());
        for (offset, value) in [(8, size), (12, address), (16, stored), (20, at), (36, READ_ONLY_DATA)] {
            put(&mut file, header + offset, value);
        }
        address = (address + size.max(1)).next_multiple_of(layout.section_alignment);
    }
    let count = u16::try_from(layout.count + new.len()).map_err(|_| wrong("too many sections"))?;
    file[layout.coff + 2..layout.coff + 4].copy_from_slice(&count.to_le_bytes());
    put(&mut file, layout.coff + 4, 0);
    put(&mut file, layout.optional + 56, address);
    let sum_at = layout.optional + 64;
    put(&mut file, sum_at, 0);
    let sum = checksum(&file);
    put(&mut file, sum_at, sum);
    Ok(file)
}

fn is_free(room: &[u8]) -> bool {
    FILLERS.iter().any(|filler| {
        let (words, rest) = room.as_chunks();
        words.iter().all(|word| word == filler) && filler.starts_with(rest)
    })
}

/// The first address behind all sections.
fn end_of_memory(file: &[u8], layout: &Layout) -> Result<u32, Failure> {
    let ends = (0..layout.count).map(|number| {
        let header = layout.header(number);
        let (size, address) = (word(file, header + 8)?, word(file, header + 12)?);
        size.checked_add(address)
    });
    let ends: Option<Vec<u32>> = ends.collect();
    let end =
        ends.and_then(|ends| ends.into_iter().max()).ok_or_else(|| wrong("its sections are cut off"))?;
    Ok(end.next_multiple_of(layout.section_alignment))
}

/// The sum of all 16-bit words with the carry taken back in, and the length.
fn checksum(file: &[u8]) -> u32 {
    let mut sum: u32 = 0;
    for pair in file.chunks(2) {
        sum += u32::from(u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum.wrapping_add(u32::try_from(file.len()).unwrap_or(u32::MAX))
}

fn half(file: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(file.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn word(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(file.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn put(file: &mut [u8], at: usize, value: u32) {
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The smallest file that has what is needed: one section, room for more headers.
    pub(crate) fn stub() -> Vec<u8> {
        let mut file = vec![0; 0x400];
        file[..2].copy_from_slice(b"MZ");
        put(&mut file, SIGNATURE_AT, 0x40);
        file[0x40..0x44].copy_from_slice(SIGNATURE);
        let (coff, optional) = (0x44, 0x44 + COFF_OCTETS);
        file[coff..coff + 2].copy_from_slice(&[0x64, 0x86]);
        file[coff + 2] = 1;
        file[coff + 16] = 112;
        put(&mut file, coff + 4, 12345);
        file[optional..optional + 2].copy_from_slice(&MAGIC.to_le_bytes());
        for (at, value) in [(32, 0x1000), (36, 0x200), (56, 0x2000), (60, 0x400)] {
            put(&mut file, optional + at, value);
        }
        let header = optional + 112;
        file[header..header + 5].copy_from_slice(b".text");
        for (at, value) in [(8, 5), (12, 0x1000), (16, 0x200), (20, 0x400)] {
            put(&mut file, header + at, value);
        }
        file.extend(b"code!");
        file.resize(0x600, 0);
        file
    }

    /// The same as the linker for AArch64 makes it: the free room is full of instructions that do nothing.
    fn arm_stub() -> Vec<u8> {
        let mut file = stub();
        file[0x44..0x46].copy_from_slice(&[0x64, 0xaa]);
        let first = Layout::read(&file).unwrap().header(1);
        for word in file[first..0x400].chunks_exact_mut(4) {
            word.copy_from_slice(&FILLERS[1]);
        }
        file
    }

    #[test]
    fn what_is_appended_is_read_back_beside_what_was_there() {
        let new = [
            Section { name: ".cmdline".to_owned(), octets: b"panic=10".to_vec() },
            Section { name: ".linux".to_owned(), octets: vec![7; 0x1234] },
        ];
        let file = append(&stub(), &new).unwrap();
        let read = sections(&file).unwrap();
        assert_eq!(read[0], Section { name: ".text".to_owned(), octets: b"code!".to_vec() });
        assert_eq!(read[1..], new);
        let layout = Layout::read(&file).unwrap();
        assert_eq!(word(&file, layout.coff + 4), Some(0), "the time stamp");
        assert_eq!(
            word(&file, layout.optional + 56),
            Some(0x5000),
            "the size in memory: 1 + 1 + 1 + 2 pages"
        );
        assert_eq!(append(&stub(), &new).unwrap(), file);
    }

    /// What stood in the room of a header would be read as a part of it: relocations, line numbers.
    #[test]
    fn a_stub_of_another_processor_has_other_free_room() {
        let new = [Section { name: ".linux".to_owned(), octets: b"kernel".to_vec() }];
        let (file, other) = (append(&stub(), &new).unwrap(), append(&arm_stub(), &new).unwrap());
        assert_eq!(sections(&file).unwrap(), sections(&other).unwrap());
        assert_eq!(architecture(&file).unwrap(), Architecture::Amd64);
        assert_eq!(architecture(&other).unwrap(), Architecture::Arm64);
        let header = Layout::read(&file).unwrap().header(1);
        assert_eq!(
            file[header..header + SECTION_HEADER_OCTETS],
            other[header..header + SECTION_HEADER_OCTETS]
        );
        let mut used = arm_stub();
        used[0x3fc] = 1;
        assert!(append(&used, &new).unwrap_err().to_string().contains("no room"));
        let mut foreign = stub();
        foreign[0x44..0x46].copy_from_slice(&[0x4c, 0x01]);
        assert!(architecture(&foreign).unwrap_err().to_string().contains("another processor"));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for file in [&b""[..], b"MZ", &[0; 0x1000], &stub()[..0x100]] {
            assert!(append(file, &[]).is_err());
        }
        let many: Vec<Section> =
            (0..40).map(|_| Section { name: ".x".to_owned(), octets: Vec::new() }).collect();
        assert!(append(&stub(), &many).unwrap_err().to_string().contains("no room"));
        let mut cut = stub();
        cut.truncate(0x402);
        assert!(sections(&cut).is_err());
    }
}
