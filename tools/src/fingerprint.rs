//! How a message is known again: an id in its first field, and a checksum from there to its end.
//!
//! What a sender submits begins with the field [`ID_FIELD`]. Servers on the way only put fields on top of that.
//! A message is unaltered if the octets from that field on are the same, and nothing but trace fields is above.
//! The fingerprint is taken while the data passes, in bounded memory.

use crc32fast::Hasher;

/// The field that begins a submitted message; its value is the message's id.
pub const ID_FIELD: &str = "X-Blaster-Id";
/// How far into a message the id is looked for.
const HEAD_OCTETS_MAX: usize = 64 * 1024;

/// What is known about a whole message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Value of the id field, if there is one.
    pub id: Option<String>,
    /// Names of the fields above the id field, in order.
    pub above: Vec<String>,
    /// Octets of the whole message, unstuffed.
    pub octets: u64,
    /// CRC32 of the message from the id field on; of the whole message without one.
    pub crc32: u32,
}

/// Takes the fingerprint of one message as its octets pass.
#[derive(Debug, Default)]
pub struct Fingerprinter {
    fingerprint: Fingerprint,
    hasher: Hasher,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The octets so far: complete fields without an id, and a last line that may go on.
    Searching { head: Vec<u8>, judged: usize },
    /// What follows is only hashed.
    Hashing,
}

impl Default for Phase {
    fn default() -> Self {
        Self::Searching { head: Vec::new(), judged: 0 }
    }
}

impl Fingerprint {
    /// The fingerprint of a message that is at hand.
    pub fn of(message: &[u8]) -> Self {
        let mut fingerprinter = Fingerprinter::default();
        fingerprinter.update(message);
        fingerprinter.finish()
    }
}

impl Fingerprinter {
    /// The next octets of the message, unstuffed.
    pub fn update(&mut self, octets: &[u8]) {
        self.fingerprint.octets += octets.len() as u64;
        match &mut self.phase {
            Phase::Hashing => self.hasher.update(octets),
            Phase::Searching { head, .. } => {
                head.extend_from_slice(octets);
                self.search();
            }
        }
    }

    /// The end of the message.
    pub fn finish(mut self) -> Fingerprint {
        if let Phase::Searching { head, .. } = &self.phase {
            self.hasher.update(head);
        }
        Fingerprint { crc32: self.hasher.finalize(), ..self.fingerprint }
    }

    /// Judges the lines of the head that are complete.
    fn search(&mut self) {
        let Phase::Searching { head, judged } = &mut self.phase else { return };
        while let Some(length) = head[*judged..].iter().position(|octet| *octet == b'\n') {
            let line = &head[*judged..*judged + length + 1];
            match field_name(line) {
                Some(name) if name.eq_ignore_ascii_case(ID_FIELD.as_bytes()) => {
                    let value = String::from_utf8_lossy(&line[name.len() + 1..]);
                    self.fingerprint.id = Some(value.trim().to_owned());
                    self.hasher.update(&head[*judged..]);
                    self.phase = Phase::Hashing;
                    return;
                }
                Some(name) => self.fingerprint.above.push(String::from_utf8_lossy(name).into_owned()),
                // A folded line belongs to the field above it; anything else ends the header.
                None if matches!(line.first(), Some(b' ' | b'\t')) => {}
                None => break,
            }
            *judged += length + 1;
        }
        let is_header = head[*judged..].iter().all(|octet| *octet != b'\n');
        if !is_header || head.len() > HEAD_OCTETS_MAX {
            self.fingerprint.above.clear();
            self.hasher.update(head);
            self.phase = Phase::Hashing;
        }
    }
}

/// The name of the field that begins in this line.
fn field_name(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|octet| *octet == b':')?;
    let name = &line[..colon];
    (!name.is_empty() && name.iter().all(|octet| (33..=126).contains(octet))).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBMITTED: &[u8] = b"X-Blaster-Id: run-7\r\nSubject: a\r\n\r\nReceived: body\r\n";

    #[test]
    fn fields_on_top_change_neither_id_nor_checksum() {
        let plain = Fingerprint::of(SUBMITTED);
        assert_eq!((plain.id.as_deref(), plain.above.len()), (Some("run-7"), 0));
        assert_eq!(plain.crc32, crc32fast::hash(SUBMITTED));
        let received = [b"Received: from a\r\n\tby b; now\r\nReturn-Path: <>\r\n", SUBMITTED].concat();
        let relayed = Fingerprint::of(&received);
        assert_eq!((relayed.id.as_deref(), relayed.crc32), (Some("run-7"), plain.crc32));
        assert_eq!(relayed.above, ["Received", "Return-Path"]);
        assert_eq!(relayed.octets, received.len() as u64);
    }

    #[test]
    fn each_changed_octet_changes_the_checksum() {
        let crc32 = Fingerprint::of(SUBMITTED).crc32;
        for at in 0..SUBMITTED.len() {
            let mut altered = SUBMITTED.to_vec();
            altered[at] ^= 1;
            assert_ne!(Fingerprint::of(&altered).crc32, crc32, "octet {at}");
        }
    }

    #[test]
    fn the_pieces_do_not_matter() {
        let whole = [b"Received: a\r\n b\r\n", SUBMITTED].concat();
        for size in 1..whole.len() {
            let mut fingerprinter = Fingerprinter::default();
            whole.chunks(size).for_each(|piece| fingerprinter.update(piece));
            assert_eq!(fingerprinter.finish(), Fingerprint::of(&whole), "pieces of {size}");
        }
    }

    #[test]
    fn a_message_without_an_id_is_hashed_whole() {
        for message in [
            &b""[..],
            b"\r\n",
            b"Subject: a\r\n\r\nX-Blaster-Id: b\r\n",
            b"no header",
            b": a\r\nX-Blaster-Id: b\r\n",
        ] {
            let fingerprint = Fingerprint::of(message);
            assert_eq!((fingerprint.id, fingerprint.crc32), (None, crc32fast::hash(message)));
        }
    }
}
