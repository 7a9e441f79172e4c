//! The rule, over small files that have an image's form.

use super::*;
use minisign::KeyPair;
use std::io::Cursor;

/// A PE file with one section.
fn pe(machine: u16, os_release: &str) -> Vec<u8> {
    let mut file = vec![0; 0x40];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x40;
    file.extend(b"PE\0\0");
    file.extend(machine.to_le_bytes());
    file.extend(1_u16.to_le_bytes());
    file.extend([0; 12]);
    file.extend([0; 4]);
    let place = u32::try_from(file.len() + 40).unwrap();
    let octets = u32::try_from(os_release.len()).unwrap();
    file.extend(b".osrel\0\0");
    for word in [octets, 0x1000, octets, place, 0, 0, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(os_release.as_bytes());
    file
}

fn os_release(version: &str, variant: &str) -> String {
    format!("ID=stratamx\nNAME=\"StrataMX appliance\"\nIMAGE_VERSION={version}\nVARIANT_ID={variant}\n")
}

/// An image of this version, without a kernel.
pub(crate) fn image(version: &str) -> Vec<u8> {
    pe(0x8664, &os_release(version, "cloud"))
}

struct Signer(KeyPair);

impl Signer {
    fn new() -> Self {
        Self(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    fn key(&self) -> Key {
        Key::parse(&self.0.pk.to_box().unwrap().into_string()).unwrap()
    }

    fn sign(&self, octets: &[u8], comment: &str) -> Signature {
        let signed = minisign::sign(Some(&self.0.pk), &self.0.sk, octets, Some(comment), None).unwrap();
        Signature::parse(&signed.to_string()).unwrap()
    }
}

fn running() -> Running {
    Running::of(&os_release("0.1.9", "cloud")).unwrap()
}

#[test]
fn an_image_is_taken_that_is_signed_newer_and_for_this_machine() {
    let signer = Signer::new();
    let octets = pe(0x8664, &os_release("0.1.10", "cloud"));
    let signature = signer.sign(&octets, "timestamp:1\tfile:stratamx_0.1.10_cloud.efi\thashed");
    let image = examine(&mut Cursor::new(&octets), &signature, &signer.key(), &running()).unwrap();
    assert_eq!((image.version.as_str(), image.variant.as_str()), ("0.1.10", "cloud"));
}

#[test]
fn what_breaks_one_part_of_the_rule_is_refused_with_its_reason() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let named = |version: &str, variant: &str| format!("file:stratamx_{version}_{variant}.efi");
    for (machine, version, variant, comment, expected) in [
        (
            0x8664,
            "0.1.9",
            "cloud",
            named("0.1.9", "cloud"),
            "version 0.1.9 is not newer than the running 0.1.9",
        ),
        (0x8664, "0.1.8", "cloud", named("0.1.8", "cloud"), "is not newer"),
        (0x8664, "0.2.0", "generic", named("0.2.0", "generic"), "the variant generic, and cloud runs"),
        (
            0xaa64,
            "0.2.0",
            "cloud",
            named("0.2.0", "cloud_arm64"),
            "this image is for aarch64, and this machine is x86_64",
        ),
        (0xaa64, "0.2.0", "cloud", named("0.2.0", "cloud"), "the image is stratamx_0.2.0_cloud_arm64.efi"),
        (0x8664, "0.2.0", "cloud", named("0.2.0", "cloud_arm64"), "the image is stratamx_0.2.0_cloud.efi"),
        // No variant has such a name: the processor's part cannot be a part of it.
        (0x8664, "0.2.0", "cloud_arm64", named("0.2.0", "cloud_arm64"), "no section .osrel"),
        (0x14c, "0.2.0", "cloud", named("0.2.0", "cloud"), "not a PE file"),
        (
            0x8664,
            "0.1.8",
            "cloud",
            named("0.2.0", "cloud"),
            "the signature is of stratamx_0.2.0_cloud.efi, and the image is stratamx_0.1.8_cloud.efi",
        ),
        (0x8664, "0.2.0", "cloud", "timestamp:1".to_owned(), "which file it is of"),
        (0x8664, "../../x", "cloud", named("../../x", "cloud"), "no section .osrel"),
    ] {
        let octets = pe(machine, &os_release(version, variant));
        let signature = signer.sign(&octets, &comment);
        let refused = examine(&mut Cursor::new(&octets), &signature, &signer.key(), &running()).unwrap_err();
        assert!(refused.to_string().contains(expected), "{expected}: {refused}");
    }
    let octets = pe(0x8664, &os_release("0.2.0", "cloud"));
    let comment = named("0.2.0", "cloud");
    let (good, foreign) = (signer.sign(&octets, &comment), stranger.sign(&octets, &comment));
    let refused = |octets: &[u8], signature: &Signature| {
        examine(&mut Cursor::new(octets), signature, &signer.key(), &running()).unwrap_err().to_string()
    };
    assert!(refused(&octets, &foreign).contains("another key"));
    let mut changed = octets.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(refused(&changed, &good).contains("was changed"));
    assert!(refused(&octets[..octets.len() - 1], &good).contains("was changed"));
    let text = signer.sign(b"not an image", &comment);
    assert!(refused(b"not an image", &text).contains("not a PE file"));
    assert!(Signature::parse("untrusted comment: none\n").is_err() && Key::parse("a key").is_err());
}

/// A file that lies about its parts costs no more than its bounds.
#[test]
fn headers_of_strangers_are_within_bounds() {
    let good = pe(0x8664, &os_release("0.2.0", "cloud"));
    assert!(Image::read(&mut Cursor::new(&good)).is_ok());
    for end in 0..good.len() {
        assert!(Image::read(&mut Cursor::new(&good[..end])).is_err(), "{end}");
    }
    for at in 0x3c..good.len() {
        for octet in [0, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = octet;
            let _ = Image::read(&mut Cursor::new(&bad));
        }
    }
}
