//! The file with the keys of mail at rest, encrypted; and what opens it. Pure but for random octets.
//!
//! Version 1 is one object of JSON; octets stand in Base64. *Sealed* octets are a nonce of 12, the text under AES-256-GCM, and its tag of 16; associated with them is
//! `stratamx at-rest 1 WHAT`, so that what belongs to one place opens in no other, nor in another version.
//!
//! | field | meaning |
//! |---|---|
//! | `version` | 1; another one is not looked into |
//! | `keys` | the text of the key file (`storage.key_file`), sealed by the wrapping key; WHAT is `keys` |
//! | `slots` | each has the wrapping key, 32 random octets, sealed by a key of its own; one of a kind, and one is enough |
//! | `kind` of a slot | `tpm`, `passphrase` or `recovery`; also its WHAT |
//! | `wrapped` | the wrapping key, sealed |
//! | `public`, `private` | tpm: the sealed object as the TPM gave it (TPM2B_PUBLIC, TPM2B_PRIVATE without their lengths); the slot's key is in it |
//! | `memory_kib`, `passes`, `lanes`, `salt` | passphrase: the slot's key is Argon2id of it (RFC 9106), version 0x13 |
//! | `salt` | recovery: the slot's key is HKDF-SHA256 (RFC 5869) of the recovery key's 20 octets; info is `stratamx recovery 1` |
//!
//! Whatever is changed in it either does not open, or opens to the same keys. It holds no secret without one: who reads it has nothing.

use super::recovery::RecoveryKey;
use crate::limits::{
    AT_REST_ARGON2_LANES, AT_REST_ARGON2_LANES_MAX, AT_REST_ARGON2_MEMORY_KIB, AT_REST_ARGON2_MEMORY_KIB_MAX,
    AT_REST_ARGON2_PASSES, AT_REST_ARGON2_PASSES_MAX,
};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::fmt;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version that is written, and the only one that there is.
const VERSION: u32 = 1;
/// Octets of each key in it.
pub(super) const KEY_OCTETS: usize = 32;
const SALT_OCTETS: usize = 16;
const RECOVERY_INFO: &[u8] = b"stratamx recovery 1";

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sealed {
    version: u32,
    keys: Octets,
    slots: Vec<Slot>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Slot {
    Tpm { public: Octets, private: Octets, wrapped: Octets },
    Passphrase { memory_kib: u32, passes: u32, lanes: u32, salt: Octets, wrapped: Octets },
    Recovery { salt: Octets, wrapped: Octets },
}

/// What may open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tpm,
    Passphrase,
    Recovery,
}

/// A secret of 32 octets, which nobody is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key([u8; KEY_OCTETS]);

/// An object that only one TPM opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) public: Vec<u8>,
    pub(super) private: Vec<u8>,
}

/// Why it did not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unopened {
    /// There is no such slot.
    #[error("{0} does not open it: there is none")]
    None(&'static str),
    /// Another one than was set; or the slot was altered, which nothing can tell apart.
    #[error("this is not the {0}")]
    Wrong(&'static str),
    /// What is written in it is not ours.
    #[error("the file with the keys is damaged: {0}")]
    Damaged(&'static str),
}

impl Key {
    pub(super) fn random() -> Result<Self, String> {
        random().map(Self)
    }

    pub(super) const fn new(octets: [u8; KEY_OCTETS]) -> Self {
        Self(octets)
    }

    pub(super) const fn octets(&self) -> &[u8; KEY_OCTETS] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(not shown)")
    }
}

impl Sealed {
    /// The text of a key file behind a new wrapping key, and no slot yet.
    pub(super) fn make(keys: &str) -> Result<(Self, Key), String> {
        let wrapping = Key::random()?;
        let keys = seal(&wrapping, "keys", keys.as_bytes())?;
        Ok((Self { version: VERSION, keys, slots: Vec::new() }, wrapping))
    }

    /// The same slots around other keys.
    pub(super) fn with_keys(&self, wrapping: &Key, keys: &str) -> Result<Self, String> {
        Ok(Self { keys: seal(wrapping, "keys", keys.as_bytes())?, ..self.clone() })
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// A sentence; another version is told from what is damaged.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let damaged = |error: serde_json::Error| format!("the file with the keys is damaged: {error}");
        let head: Head = serde_json::from_str(text).map_err(damaged)?;
        if head.version != VERSION {
            return Err(format!(
                "the file with the keys is of version {}; this one reads {VERSION}",
                head.version
            ));
        }
        serde_json::from_str(text).map_err(damaged)
    }

    pub(super) fn text(&self) -> Result<String, String> {
        let mut text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        text.push('\n');
        Ok(text)
    }

    /// The text of the key file.
    ///
    /// # Errors
    /// [`Unopened::Damaged`]: the wrapping key is right, and this is not what it sealed.
    pub(crate) fn keys(&self, wrapping: &Key) -> Result<String, Unopened> {
        let damaged = Unopened::Damaged("its keys do not open");
        let octets = open(wrapping, "keys", &self.keys).ok_or_else(|| damaged.clone())?;
        String::from_utf8(octets).map_err(|_| damaged)
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.slots.iter().any(|slot| slot.kind() == kind)
    }

    /// What the TPM is to open.
    pub(super) fn object(&self) -> Option<Object> {
        self.slots.iter().find_map(|slot| match slot {
            Slot::Tpm { public, private, .. } => {
                Some(Object { public: public.0.clone(), private: private.0.clone() })
            }
            _ => None,
        })
    }

    /// The wrapping key, by what the TPM's object held.
    pub(super) fn open_by_tpm(&self, secret: &Key) -> Result<Key, Unopened> {
        let wrapped = self.slots.iter().find_map(|slot| match slot {
            Slot::Tpm { wrapped, .. } => Some(wrapped),
            _ => None,
        });
        unwrap(secret, Kind::Tpm, wrapped.ok_or(Unopened::None("a TPM"))?)
    }

    /// The wrapping key, by what somebody typed: a recovery key, or the passphrase.
    ///
    /// # Errors
    /// [`Unopened`].
    pub(crate) fn open_by(&self, secret: &str) -> Result<Key, Unopened> {
        match RecoveryKey::parse(secret) {
            // No passphrase looks like one.
            Some(key) => self.open_by_recovery(&key),
            None => self.open_by_passphrase(secret),
        }
    }

    fn open_by_recovery(&self, key: &RecoveryKey) -> Result<Key, Unopened> {
        let slot = self.slots.iter().find_map(|slot| match slot {
            Slot::Recovery { salt, wrapped } => Some((salt, wrapped)),
            _ => None,
        });
        let (salt, wrapped) = slot.ok_or(Unopened::None("a recovery key"))?;
        unwrap(&of_recovery(key, &salt.0), Kind::Recovery, wrapped)
    }

    fn open_by_passphrase(&self, passphrase: &str) -> Result<Key, Unopened> {
        let slot = self.slots.iter().find_map(|slot| match slot {
            Slot::Passphrase { memory_kib, passes, lanes, salt, wrapped } => {
                Some(([*memory_kib, *passes, *lanes], salt, wrapped))
            }
            _ => None,
        });
        let (cost, salt, wrapped) = slot.ok_or(Unopened::None("a passphrase"))?;
        let key = of_passphrase(passphrase, cost, &salt.0)
            .ok_or(Unopened::Damaged("the cost of its passphrase is out of bounds"))?;
        unwrap(&key, Kind::Passphrase, wrapped)
    }

    /// The same with this TPM's object in place of another's; `secret` is what it holds.
    pub(super) fn with_tpm(&self, wrapping: &Key, secret: &Key, object: Object) -> Result<Self, String> {
        let wrapped = seal(secret, Kind::Tpm.word(), &wrapping.0)?;
        let (public, private) = (Octets(object.public), Octets(object.private));
        Ok(self.with(Slot::Tpm { public, private, wrapped }))
    }

    /// The same with another passphrase.
    pub(super) fn with_passphrase(&self, wrapping: &Key, passphrase: &str) -> Result<Self, String> {
        let cost = [AT_REST_ARGON2_MEMORY_KIB, AT_REST_ARGON2_PASSES, AT_REST_ARGON2_LANES];
        self.with_passphrase_of(wrapping, passphrase, cost)
    }

    fn with_passphrase_of(&self, wrapping: &Key, passphrase: &str, cost: [u32; 3]) -> Result<Self, String> {
        let salt: [u8; SALT_OCTETS] = random()?;
        let key = of_passphrase(passphrase, cost, &salt).ok_or("a passphrase cannot be derived from")?;
        let wrapped = seal(&key, Kind::Passphrase.word(), &wrapping.0)?;
        let [memory_kib, passes, lanes] = cost;
        Ok(self.with(Slot::Passphrase { memory_kib, passes, lanes, salt: Octets(salt.to_vec()), wrapped }))
    }

    /// The same with a new recovery key.
    pub(super) fn with_recovery(&self, wrapping: &Key) -> Result<(Self, RecoveryKey), String> {
        let key = RecoveryKey::new(random()?);
        let salt: [u8; SALT_OCTETS] = random()?;
        let wrapped = seal(&of_recovery(&key, &salt), Kind::Recovery.word(), &wrapping.0)?;
        Ok((self.with(Slot::Recovery { salt: Octets(salt.to_vec()), wrapped }), key))
    }

    /// The same, and no TPM opens it any more.
    pub(super) fn without_tpm(&self) -> Self {
        let mut other = self.clone();
        other.slots.retain(|slot| slot.kind() != Kind::Tpm);
        other
    }

    fn with(&self, slot: Slot) -> Self {
        let mut other = self.clone();
        other.slots.retain(|old| old.kind() != slot.kind());
        other.slots.push(slot);
        other
    }
}

impl Slot {
    const fn kind(&self) -> Kind {
        match self {
            Self::Tpm { .. } => Kind::Tpm,
            Self::Passphrase { .. } => Kind::Passphrase,
            Self::Recovery { .. } => Kind::Recovery,
        }
    }
}

impl Kind {
    /// As it stands in the file.
    const fn word(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::Passphrase => "passphrase",
            Self::Recovery => "recovery",
        }
    }

    /// As people are told.
    const fn told(self) -> &'static str {
        match self {
            Self::Tpm => "secret of this TPM",
            Self::Passphrase => "passphrase",
            Self::Recovery => "recovery key",
        }
    }
}

/// Random octets.
///
/// # Errors
/// A sentence: the kernel has none.
fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut octets = [0; N];
    SystemRandom::new().fill(&mut octets).map_err(|_| "no random octets can be had".to_owned())?;
    Ok(octets)
}

/// A new key file for [`Sealed::make`]: one key, the first.
pub(super) fn new_key_file() -> Result<String, String> {
    let key: [u8; KEY_OCTETS] = random()?;
    let digits: String = key.iter().map(|octet| format!("{octet:02x}")).collect();
    Ok(format!("1 {digits}\n"))
}

fn of_passphrase(passphrase: &str, [memory_kib, passes, lanes]: [u32; 3], salt: &[u8]) -> Option<Key> {
    // A file that was altered must not take all memory, nor a day.
    let is_bounded = memory_kib <= AT_REST_ARGON2_MEMORY_KIB_MAX
        && passes <= AT_REST_ARGON2_PASSES_MAX
        && lanes <= AT_REST_ARGON2_LANES_MAX;
    let parameters = Params::new(memory_kib, passes, lanes, Some(KEY_OCTETS)).ok().filter(|_| is_bounded)?;
    let mut key = [0; KEY_OCTETS];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
    argon2.hash_password_into(passphrase.as_bytes(), salt, &mut key).ok()?;
    Some(Key(key))
}

fn of_recovery(key: &RecoveryKey, salt: &[u8]) -> Key {
    let mut out = [0; KEY_OCTETS];
    let derived = Salt::new(HKDF_SHA256, salt).extract(key.octets());
    let filled = derived.expand(&[RECOVERY_INFO], HKDF_SHA256).and_then(|material| material.fill(&mut out));
    filled.expect("32 octets are one block of the hash");
    Key(out)
}

fn unwrap(key: &Key, kind: Kind, wrapped: &Octets) -> Result<Key, Unopened> {
    let octets = open(key, kind.word(), wrapped).ok_or(Unopened::Wrong(kind.told()))?;
    let key = octets.try_into().map_err(|_| Unopened::Damaged("a wrapping key of another length"))?;
    Ok(Key(key))
}

fn cipher(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key.0).expect("32 octets are a key of AES-256"))
}

fn associated(what: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("stratamx at-rest {VERSION} {what}").into_bytes())
}

fn seal(key: &Key, what: &str, text: &[u8]) -> Result<Octets, String> {
    let nonce: [u8; NONCE_LEN] = random()?;
    let mut octets = text.to_vec();
    let sealed = cipher(key).seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        associated(what),
        &mut octets,
    );
    sealed.map_err(|_| "it cannot be encrypted".to_owned())?;
    Ok(Octets([&nonce[..], &octets].concat()))
}

fn open(key: &Key, what: &str, sealed: &Octets) -> Option<Vec<u8>> {
    let (nonce, octets) = sealed.0.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut octets = octets.to_vec();
    let text = cipher(key).open_in_place(nonce, associated(what), &mut octets).ok()?;
    Some(text.to_vec())
}

/// Base64 in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Octets(Vec<u8>);

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'a> Deserialize<'a> for Octets {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
