//! A glance at mail data, many octets at once: most of it needs no second look, whatever its lines are like.
//!
//! What a scanner has to find is rare: a CR or LF that is not half of a CRLF, and a line that begins with a dot. Both are pairs of
//! neighbours, so a block can be judged by comparing it with itself, moved by one octet, in registers; no line end is
//! looked for. A NUL and octets from 0x80 up come along. Where a block has something, the scanner goes by lines.
//!
//! The function is compiled for the vector units that a processor may have, and chosen when the program runs.

/// What octets were glanced at have; nothing else is asked of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// An octet from 0x80 up.
    pub(crate) has_8bit: bool,
    /// A NUL.
    pub(crate) has_nul: bool,
}

/// Octets of a block; so many are compared before one branch.
const BLOCK: usize = 512;
/// The same for what is left behind the last block.
const SMALL_BLOCK: usize = 64;

/// How many octets at the head of `data` are plain, and what they have: no octet among them is a CR without an LF behind it, none
/// has an LF behind it without being a CR, and none is an LF with a dot behind it. About the first octet's own place it
/// knows nothing: whether an LF there, or a dot, is in order is for the caller to say.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
pub(crate) fn plain_head(data: &[u8]) -> (usize, Seen) {
    let mut seen = Seen::default();
    let mut octets = blocks::<BLOCK>(data, &mut seen);
    octets += blocks::<SMALL_BLOCK>(&data[octets..], &mut seen);
    (octets, seen)
}

#[inline(always)]
fn blocks<const N: usize>(data: &[u8], seen: &mut Seen) -> usize {
    let mut at = 0;
    // One more: the last octet of a block has a neighbour too.
    while let Some(block) = data.get(at..=at + N) {
        let octets: &[u8; N] = block[..N].try_into().expect("cut to that length");
        let behind: &[u8; N] = block[1..].try_into().expect("cut to that length");
        let (mut bare, mut dotted, mut lowest, mut all) = (0, 0, u8::MAX, 0);
        for (octet, next) in octets.iter().zip(behind) {
            bare |= u8::from(*octet == b'\r') ^ u8::from(*next == b'\n');
            dotted |= u8::from(*octet == b'\n') & u8::from(*next == b'.');
            lowest = lowest.min(*octet);
            all |= *octet;
        }
        if bare | dotted != 0 {
            break;
        }
        seen.has_nul |= lowest == 0;
        seen.has_8bit |= all >= 0x80;
        at += N;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, octet by octet.
    fn is_plain(pair: &[u8]) -> bool {
        (pair[0] == b'\r') == (pair[1] == b'\n') && pair != b"\n."
    }

    #[test]
    fn one_octet_anywhere_is_noticed() {
        let good = b"x".repeat(2 * BLOCK + SMALL_BLOCK + 1);
        assert_eq!(plain_head(&good), (2 * BLOCK + SMALL_BLOCK, Seen::default()));
        for at in 0..good.len() - 1 {
            let mut data = good.clone();
            data[at] = 0;
            assert_eq!(plain_head(&data).1, Seen { has_nul: true, has_8bit: false }, "{at}");
            data[at] = 0x80;
            assert_eq!(plain_head(&data).1, Seen { has_nul: false, has_8bit: true }, "{at}");
            for bad in *b"\r\n" {
                data[at] = bad;
                let octets = plain_head(&data).0;
                // Its own place, or that of the octet before it, ends what is plain; an LF at the head is the caller's.
                assert!(octets <= at || (bad == b'\n' && at == 0), "{bad} at {at}: {octets}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_plain_is_plain_octet_by_octet(
            mut data in prop::collection::vec(prop::sample::select(b"ab\r\n.\0\x80".to_vec()), 0..40),
            fill in 0..3_usize,
        ) {
            // Long enough for blocks, most of it in order.
            let line = [&b"\r\n"[..], b"text\r\n", b"a..\r\n"][fill];
            for _ in 0..300 {
                data.extend_from_slice(line);
            }
            let (octets, seen) = plain_head(&data);
            prop_assert!(data.windows(2).take(octets).all(is_plain));
            prop_assert_eq!(seen.has_nul, data[..octets].contains(&0));
            prop_assert_eq!(seen.has_8bit, !data[..octets].is_ascii());
            // It stops for a reason.
            let rest = data.windows(2).skip(octets).take(SMALL_BLOCK);
            prop_assert!(rest.len() < SMALL_BLOCK || !rest.into_iter().all(is_plain));
        }
    }
}
