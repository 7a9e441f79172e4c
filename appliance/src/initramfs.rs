//! The initramfs: everything that runs on the machine, and nothing else.

use crate::cpio::Archive;
use crate::fail::{At as _, Failure, wrong};
use crate::manifest::Recipe;
use crate::modules;
use crate::packages::{Unpacked, files};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Where Debian's package has its authorities, and where programs look for them.
const AUTHORITIES: &str = "usr/share/ca-certificates/mozilla";
const AUTHORITIES_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Directories that the machine mounts on.
const DIRECTORIES: [&str; 6] = ["/dev", "/proc", "/sys", "/run", "/tmp", "/data"];

/// The archive; `own` is what differs between two images of the same parts: who it is, and by which key it takes updates.
pub(crate) fn make(
    recipe: &Recipe,
    unpacked: &Unpacked,
    (rootfs, own): (&Path, Vec<(&str, Vec<u8>)>),
    server: &Path,
) -> Result<Vec<u8>, Failure> {
    let mut archive = Archive::default();
    DIRECTORIES.iter().for_each(|directory| archive.add_directory(directory));
    let program = fs::read(server).at(server)?;
    recipe.architecture.check_program(&program, &server.display().to_string())?;
    if !is_static(&program) {
        return Err(wrong(format!("{} is not a static program: see the Makefile", server.display())));
    }
    archive.add("/bin/stratamx", 0o755, program);
    for (place, file) in recipe.files() {
        let path = find(&unpacked.root, file);
        let mode = fs::metadata(&path).at(&path)?.permissions().mode() & 0o777;
        archive.add(place, mode, fs::read(&path).at(&path)?);
    }
    let mut authorities = Vec::new();
    for path in files(&unpacked.root.join(AUTHORITIES))? {
        authorities.extend(fs::read(&path).at(&path)?);
        authorities.push(b'\n');
    }
    archive.add(AUTHORITIES_FILE, 0o644, authorities);
    add_tree(&mut archive, rootfs, "")?;
    for (place, octets) in own {
        archive.add(place, 0o644, octets);
    }
    let tree = unpacked.root.join("lib/modules").join(&unpacked.kernel);
    let mut order = String::new();
    for module in modules::in_order(&tree, &recipe.variant.modules, &recipe.variant.optional)? {
        let place = format!("/lib/modules/{}.ko", module.name);
        order += &format!("{place}\n");
        archive.add(&place, 0o644, module.octets);
    }
    archive.add("/lib/modules/order", 0o644, order.into_bytes());
    Ok(archive.encode())
}

/// Packages move from / to /usr one by one, and the machine that they are installed on has both in one.
fn find(root: &Path, file: &str) -> PathBuf {
    let merged = root.join("usr").join(file);
    if merged.exists() {
        merged
    } else {
        root.join(file.strip_prefix("usr/").filter(|plain| root.join(plain).exists()).unwrap_or(file))
    }
}

/// Files of ours as they are, with the modes that matter.
fn add_tree(archive: &mut Archive, directory: &Path, place: &str) -> Result<(), Failure> {
    for path in files(directory)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let place = format!("{place}/{name}");
        if path.is_dir() {
            add_tree(archive, &path, &place)?;
            continue;
        }
        let octets = fs::read(&path).at(&path)?;
        // Not the mode of the file: it depends on who checked it out.
        let mode = if octets.starts_with(b"#!") { 0o755 } else { 0o644 };
        archive.add(&place, mode, octets);
    }
    Ok(())
}

/// Whether an ELF program asks for no interpreter: its program headers have no `PT_INTERP`.
fn is_static(program: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(program.get(at..at + 2)?.try_into().ok()?)));
    let word = |at: usize| Some(u32::from_le_bytes(program.get(at..at + 4)?.try_into().ok()?));
    let headers = || -> Option<Vec<u32>> {
        let at = usize::try_from(u64::from_le_bytes(program.get(32..40)?.try_into().ok()?)).ok()?;
        let (size, count) = (half(54)?, half(56)?);
        (0..count).map(|number| word(at + number * size)).collect()
    };
    program.starts_with(b"\x7fELF\x02\x01")
        && headers().is_some_and(|kinds| !kinds.is_empty() && !kinds.contains(&PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_an_interpreter_is_not_static() {
        // This test's own program is linked dynamically, as everything is by default.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&own));
        assert!(!is_static(b"#!/bin/sh\n") && !is_static(b"\x7fELF\x02\x01"));
    }
}
