//! Signatures in minisign's format: made and checked here, or by `minisign` itself.

use crate::fail::{At as _, Failure, wrong};
use crate::tool;
use minisign::{KeyPair, PublicKey, SecretKeyBox, SignatureBox};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What a signature's file is called behind the name of what it signs.
const SUFFIX: &str = "minisig";
/// The list of checksums, which is checked along with its signature.
pub(crate) const CHECKSUMS: &str = "SHA256SUMS";

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn failed(path: &Path) -> impl Fn(minisign::PError) -> Failure + '_ {
    move |error| wrong(format!("{}: {error}", path.display()))
}

/// See the command. The secret key has no password: it belongs on a machine that signs and does nothing else.
pub(crate) fn make_keys(file: &Path) -> Result<(), Failure> {
    let pair = KeyPair::generate_unencrypted_keypair().map_err(failed(file))?;
    let secret = pair.sk.to_box(Some("StrataMX appliance, secret key")).map_err(failed(file))?.into_string();
    let public = pair.pk.to_box().map_err(failed(file))?.into_string();
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).at(file)?;
    out.write_all(secret.as_bytes()).at(file)?;
    let public_file = beside(file, "pub");
    fs::write(&public_file, public).at(&public_file)
}

/// The text of a public key, which is one.
pub(crate) fn public_key(file: &Path) -> Result<Vec<u8>, Failure> {
    PublicKey::from_file(file).map_err(failed(file))?;
    fs::read(file).at(file)
}

/// See the command.
pub(crate) fn sign(key: &Path, files: &[PathBuf]) -> Result<(), Failure> {
    let text = fs::read_to_string(key).at(key)?;
    let secret = SecretKeyBox::from_string(&text).map_err(failed(key))?;
    let secret = secret.into_unencrypted_secret_key().map_err(failed(key))?;
    let public = PublicKey::from_secret_key(&secret).map_err(failed(key))?;
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let comment = format!("file:{name}");
        let content = File::open(file).at(file)?;
        let signature =
            minisign::sign(Some(&public), &secret, content, Some(&comment), Some("StrataMX appliance"));
        let signature_file = beside(file, SUFFIX);
        fs::write(&signature_file, signature.map_err(failed(file))?.to_string()).at(&signature_file)?;
    }
    Ok(())
}

/// See the command.
pub(crate) fn verify(key: &Path, files: &[PathBuf]) -> Result<(), Failure> {
    for file in files {
        verify_one(key, file)?;
        println!("{}: signature good", file.display());
        if file.file_name().is_some_and(|name| name == CHECKSUMS) {
            verify_checksums(file)?;
        }
    }
    Ok(())
}

/// Whether the signature beside a file is one of this key over it.
pub(crate) fn verify_one(key: &Path, file: &Path) -> Result<(), Failure> {
    let public = PublicKey::from_file(key).map_err(failed(key))?;
    let signature_file = beside(file, SUFFIX);
    let signature = SignatureBox::from_file(&signature_file).map_err(failed(&signature_file))?;
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    minisign::verify(&public, &signature, File::open(file).at(file)?, true, false, false)
        .map_err(failed(file))?;
    // A good signature of another file is none of this one: an old image under a new name.
    let comment = signature.trusted_comment().map_err(failed(&signature_file))?;
    let signed = comment.split('\t').find_map(|part| part.strip_prefix("file:"));
    if signed.is_some_and(|signed| signed != name) {
        return Err(wrong(format!("{}: the signature is of {}", file.display(), signed.unwrap_or_default())));
    }
    Ok(())
}

fn verify_checksums(list: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(list).at(list)?;
    let directory = list.parent().unwrap_or(Path::new(""));
    for line in text.lines() {
        let (sum, name) =
            line.split_once("  ").ok_or_else(|| wrong(format!("{}: {line}", list.display())))?;
        let file = directory.join(name);
        if tool::sha256(File::open(&file).at(&file)?).at(&file)? != sum {
            return Err(wrong(format!("{}: its checksum is another", file.display())));
        }
        println!("{}: checksum good", file.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("stratamx-sign-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_signature_is_of_one_key_one_content_and_one_name() {
        let directory = directory("one");
        let (key, other, file) = (directory.join("key"), directory.join("other"), directory.join("image"));
        make_keys(&key).unwrap();
        make_keys(&other).unwrap();
        assert!(make_keys(&key).is_err(), "a key is never overwritten");
        fs::write(&file, "content").unwrap();
        sign(&key, core::slice::from_ref(&file)).unwrap();
        verify_one(&beside(&key, "pub"), &file).unwrap();
        assert!(verify_one(&beside(&other, "pub"), &file).is_err());
        let renamed = directory.join("newer");
        fs::copy(&file, &renamed).unwrap();
        fs::copy(beside(&file, SUFFIX), beside(&renamed, SUFFIX)).unwrap();
        let error = verify_one(&beside(&key, "pub"), &renamed).unwrap_err();
        assert!(error.to_string().contains("is of image"), "{error}");
        fs::write(&file, "contend").unwrap();
        assert!(verify_one(&beside(&key, "pub"), &file).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn minisign_itself_takes_it_where_it_is_installed() {
        let directory = directory("minisign");
        let (key, file) = (directory.join("key"), directory.join("image"));
        make_keys(&key).unwrap();
        fs::write(&file, "content").unwrap();
        sign(&key, core::slice::from_ref(&file)).unwrap();
        let verified =
            Command::new("minisign").arg("-Vm").arg(&file).arg("-p").arg(beside(&key, "pub")).output();
        match verified {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("SKIP: minisign: {error}"),
        }
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_list_of_checksums_is_held_against_its_files() {
        let directory = directory("list");
        let (key, list) = (directory.join("key"), directory.join(CHECKSUMS));
        make_keys(&key).unwrap();
        fs::write(directory.join("image"), "content").unwrap();
        let sum = tool::sha256(&b"content"[..]).unwrap();
        fs::write(&list, format!("{sum}  image\n")).unwrap();
        sign(&key, core::slice::from_ref(&list)).unwrap();
        verify(&beside(&key, "pub"), core::slice::from_ref(&list)).unwrap();
        fs::write(directory.join("image"), "contend").unwrap();
        let error = verify(&beside(&key, "pub"), core::slice::from_ref(&list)).unwrap_err();
        assert!(error.to_string().contains("its checksum is another"), "{error}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
