use super::*;

const KEYS: &str = "1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";
/// As small as Argon2 is.
const CHEAP: [u32; 3] = [8, 1, 1];

fn object() -> Object {
    Object { public: vec![1, 2, 3], private: vec![4, 5] }
}

/// All slots, and what opens each.
fn whole() -> (Sealed, Key, RecoveryKey) {
    let (sealed, wrapping) = Sealed::make(KEYS).unwrap();
    let secret = Key::random().unwrap();
    let sealed = sealed.with_tpm(&wrapping, &secret, object()).unwrap();
    let sealed = sealed.with_passphrase_of(&wrapping, "correct horse", CHEAP).unwrap();
    let (sealed, recovery) = sealed.with_recovery(&wrapping).unwrap();
    assert!([Kind::Tpm, Kind::Passphrase, Kind::Recovery].into_iter().all(|kind| sealed.has(kind)));
    (sealed, secret, recovery)
}

#[test]
fn each_slot_opens_by_its_own_secret_and_by_no_other() {
    let (sealed, secret, recovery) = whole();
    let sealed = Sealed::parse(&sealed.text().unwrap()).unwrap();
    let opened = [
        sealed.open_by_tpm(&secret).unwrap(),
        sealed.open_by("correct horse").unwrap(),
        sealed.open_by(&recovery.to_string()).unwrap(),
        sealed.open_by(&recovery.to_string().to_lowercase()).unwrap(),
    ];
    for wrapping in &opened {
        assert_eq!(sealed.keys(wrapping).unwrap(), KEYS);
    }
    assert_eq!(sealed.object(), Some(object()));
    assert_eq!(sealed.open_by_tpm(&Key::random().unwrap()), Err(Unopened::Wrong("secret of this TPM")));
    assert_eq!(sealed.open_by("correct house"), Err(Unopened::Wrong("passphrase")));
    let other = RecoveryKey::new([9; 20]).to_string();
    assert_eq!(sealed.open_by(&other), Err(Unopened::Wrong("recovery key")));
    assert!(matches!(sealed.keys(&Key::random().unwrap()), Err(Unopened::Damaged(_))));
    let bare = sealed.without_tpm();
    assert!(!bare.has(Kind::Tpm) && bare.object().is_none());
    assert_eq!(bare.open_by_tpm(&secret), Err(Unopened::None("a TPM")));
    assert_eq!(bare.open_by("correct horse").unwrap(), opened[0], "the others stay");
}

#[test]
fn a_slot_that_is_replaced_opens_no_more() {
    let (sealed, secret, recovery) = whole();
    let wrapping = sealed.open_by_tpm(&secret).unwrap();
    let (newer, new_recovery) = sealed.with_recovery(&wrapping).unwrap();
    assert_eq!(newer.open_by(&recovery.to_string()), Err(Unopened::Wrong("recovery key")));
    assert_eq!(newer.open_by(&new_recovery.to_string()).unwrap(), wrapping);
    let newer = newer.with_passphrase_of(&wrapping, "battery staple", CHEAP).unwrap();
    assert_eq!(newer.open_by("correct horse"), Err(Unopened::Wrong("passphrase")));
    assert_eq!(newer.open_by("battery staple").unwrap(), wrapping);
    assert_eq!(newer.slots.len(), 3, "one of a kind");
}

/// The associated data: what one slot has is worth nothing in another, whoever has both keys.
#[test]
fn what_belongs_to_one_slot_opens_in_no_other() {
    let key = Key::random().unwrap();
    let sealed = seal(&key, "recovery", &[7; KEY_OCTETS]).unwrap();
    assert!(open(&key, "recovery", &sealed).is_some());
    for what in ["passphrase", "tpm", "keys", "recovery "] {
        assert!(open(&key, what, &sealed).is_none(), "{what}");
    }
}

#[test]
fn a_torn_file_is_no_file() {
    let text = whole().0.text().unwrap();
    // Without its line's end it is whole.
    for length in 0..text.len() - 2 {
        let error = Sealed::parse(&text[..length]).unwrap_err();
        assert!(error.contains("damaged"), "{length}: {error}");
    }
    let newer = text.replace("\"version\": 1", "\"version\": 2");
    assert!(Sealed::parse(&newer).unwrap_err().contains("of version 2; this one reads 1"));
}

/// Each octet, with one bit of it changed: it is refused, or opens to the same keys, and never to others.
#[test]
fn a_flipped_bit_never_makes_other_keys() {
    let (sealed, secret, recovery) = whole();
    let text = sealed.text().unwrap();
    let (mut refused, mut shut, mut same) = (0, 0, 0);
    for (at, bit) in (0..text.len()).map(|at| (at, at % 8)) {
        let mut octets = text.clone().into_bytes();
        octets[at] ^= 1 << bit;
        let Some(flipped) = String::from_utf8(octets).ok().and_then(|text| Sealed::parse(&text).ok()) else {
            refused += 1;
            continue;
        };
        for opened in [
            flipped.open_by_tpm(&secret),
            flipped.open_by("correct horse"),
            flipped.open_by(&recovery.to_string()),
        ] {
            match opened.and_then(|wrapping| flipped.keys(&wrapping)) {
                Ok(keys) => {
                    assert_eq!(keys, KEYS, "octet {at}");
                    same += 1;
                }
                Err(_) => shut += 1,
            }
        }
    }
    assert!(refused > 100 && shut > 100 && same > 100, "{refused} {shut} {same}");
}

#[test]
fn a_cost_beyond_its_bounds_is_not_paid() {
    for cost in [[u32::MAX, 1, 1], [8, u32::MAX, 1], [8, 1, 64], [0, 0, 0]] {
        assert!(of_passphrase("x", cost, &[0; 16]).is_none(), "{cost:?}");
    }
    assert!(of_passphrase("x", CHEAP, &[0; 16]).is_some());
}

/// Version 1 as the first machines wrote it: every later version opens it. The file is never made again.
#[test]
fn version_1_opens_for_ever() {
    let sealed = Sealed::parse(include_str!("golden_1.json")).unwrap();
    for secret in ["correct horse", "28T5-CY4H-8T5C-Y4H8-28T5-CY4H-8T5C-Y4H8"] {
        let wrapping = sealed.open_by(secret);
        assert_eq!(sealed.keys(&wrapping.unwrap()).unwrap(), KEYS, "{secret}");
    }
}
