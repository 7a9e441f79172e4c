//! What primaries said about recipients, as a file of the data directory: so that a restart in an outage knows them.
//!
//! ```text
//! STRATAMX RECIPIENTS 1 LF   then, for each domain that has any:
//! u8 n, domain (n octets)    u32 count of what follows
//!   u8 bits                  1: refused (else accepted); 2: said at a delivery (else by a callout)
//!   u8 n, local part (n octets), u32 first, u32 last    seconds since 1970
//! u32 CRC-32 of everything before
//! ```
//! Numbers are little-endian. The file is written whole beside the one before and renamed. One that is damaged, or of
//! another version, is as good as none: nobody is refused for want of it.

use crate::bridge::{Evidence, Recipients, Remembered, Source};

const MAGIC: &[u8] = b"STRATAMX RECIPIENTS 1\n";
const REFUSED: u8 = 1;
const AT_DELIVERY: u8 = 2;

/// The file's octets.
pub(super) fn encode(all: &[Remembered]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    for (domain, recipients) in all.iter().filter(|(_, recipients)| !recipients.is_empty()) {
        // RFC 5321 4.5.3.1.2 bounds domains; a local part that folding made longer than an octet tells stays behind.
        let recipients: Vec<_> = recipients.iter().filter(|(_, name, _)| name.len() <= 255).collect();
        push_text(&mut file, domain);
        file.extend_from_slice(&u32::try_from(recipients.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (refused, name, evidence) in recipients {
            let at_delivery = if evidence.source == Source::Delivery { AT_DELIVERY } else { 0 };
            file.push((if *refused { REFUSED } else { 0 }) | at_delivery);
            push_text(&mut file, name);
            file.extend_from_slice(&evidence.first_s.to_le_bytes());
            file.extend_from_slice(&evidence.last_s.to_le_bytes());
        }
    }
    let checksum = crc32fast::hash(&file);
    file.extend_from_slice(&checksum.to_le_bytes());
    file
}

fn push_text(file: &mut Vec<u8>, text: &str) {
    file.push(u8::try_from(text.len()).expect("at most 255 octets"));
    file.extend_from_slice(text.as_bytes());
}

/// Takes what the file says; gives how many recipients that are. `None`: damaged; nothing
/// was taken, unless what wrote it erred (its checksum is right, and what it says is not).
pub(super) fn restore(file: &[u8], recipients: &Recipients) -> Option<usize> {
    let (content, checksum) = file.split_last_chunk::<4>()?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let mut taken = 0;
    while !rest.is_empty() {
        let domain = recipients.domain(text(&mut rest)?);
        for _ in 0..number(&mut rest)? {
            let (bits, after) = rest.split_first()?;
            rest = after;
            let name = text(&mut rest)?;
            let (first_s, last_s) = (number(&mut rest)?, number(&mut rest)?);
            let source = if bits & AT_DELIVERY != 0 { Source::Delivery } else { Source::Callout };
            domain.restore(bits & REFUSED != 0, name, Evidence::restored(source, first_s, last_s));
            taken += 1;
        }
    }
    Some(taken)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (octets, after) = rest.split_first()?;
    let (text, after) = after.split_at_checked((*octets).into())?;
    *rest = after;
    core::str::from_utf8(text).ok()
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::Instants;
    use crate::limits::{RECIPIENT_ACCEPTED_AGE, RECIPIENT_REFUSED_AGE};
    use core::time::Duration;

    fn at(wall_s: u32) -> Instants {
        Instants { wall_s, now: Duration::from_secs(wall_s.into()) }
    }

    #[test]
    fn what_was_said_outlives_the_process_and_damage_says_nothing() {
        let recipients = Recipients::default();
        assert!(recipients.news().is_none());
        let one = recipients.domain("one.test");
        one.accept("jürgen", Some('+'), Source::Delivery, at(1_000_000));
        one.refuse("bad", Source::Callout, at(1_000_000));
        one.anybody_accepted(at(1_086_400));
        one.refuse("bad", Source::Delivery, at(1_086_400));
        let _ = recipients.domain("two.test");
        let file = encode(&recipients.news().expect("news"));
        assert!(recipients.news().is_none(), "told once");
        let restored = Recipients::default();
        assert_eq!(restore(&file, &restored), Some(2));
        let one = restored.domain("one.test");
        assert!(one.is_accepted("jürgen", None, at(1_086_400), RECIPIENT_ACCEPTED_AGE));
        assert!(
            one.is_learned_refused("bad", at(1_086_400)) && !one.is_learned_refused("jürgen", at(1_086_400))
        );
        for place in 0..file.len() {
            let mut damaged = file.clone();
            damaged[place] ^= 4;
            let restored = Recipients::default();
            assert_eq!(restore(&damaged, &restored), None, "octet {place}");
            assert_eq!(restore(&file[..place], &restored), None, "cut at {place}");
            let one = restored.domain("one.test");
            assert!(!one.is_refused("bad", at(1_086_400), RECIPIENT_REFUSED_AGE));
        }
    }
}
