//! Which kernel modules an image has, and in which order they are loaded.
//!
//! What a module needs is in its own `.modinfo`: `depends=` names modules, `softdep=pre:` what should come before. Neither the package nor this
//! program has `modules.dep`, and soft dependencies would not be in it: `xfs` fails on a kernel whose `crc32c` is not loaded yet.

use crate::fail::{Failure, wrong};
use crate::packages::files;
use crate::tool;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// One module, unpacked: Debian compresses them, and the kernel takes them plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) octets: Vec<u8>,
}

/// The wanted modules and what they need, each behind what it needs.
pub(crate) fn in_order(root: &Path, wanted: &[String], optional: &[String]) -> Result<Vec<Module>, Failure> {
    let mut paths = BTreeMap::new();
    find(root, &mut paths)?;
    let mut order = Order { paths, placed: BTreeSet::new(), modules: Vec::new() };
    for name in wanted {
        order.place(
            &canonical(name),
            optional.iter().any(|optional| canonical(optional) == canonical(name)),
            0,
        )?;
    }
    for name in optional {
        order.place(&canonical(name), true, 0)?;
    }
    Ok(order.modules)
}

struct Order {
    paths: BTreeMap<String, PathBuf>,
    placed: BTreeSet<String>,
    modules: Vec<Module>,
}

/// Deeper than any module of a kernel depends.
const DEPTH_MAX: usize = 32;

impl Order {
    fn place(&mut self, name: &str, may_lack: bool, depth: usize) -> Result<(), Failure> {
        if self.placed.contains(name) {
            return Ok(());
        }
        if depth > DEPTH_MAX {
            return Err(wrong(format!("module {name} depends on itself")));
        }
        let Some(path) = self.paths.get(name).cloned() else {
            // A soft dependency is an alias as often as a name, and may be in the kernel.
            return if may_lack { Ok(()) } else { Err(wrong(format!("the kernel has no module {name}"))) };
        };
        let octets = unpack(&path)?;
        for soft in soft_dependencies(&octets) {
            self.place(&soft, true, depth + 1)?;
        }
        for hard in dependencies(&octets) {
            self.place(&hard, false, depth + 1)?;
        }
        self.placed.insert(name.to_owned());
        self.modules.push(Module { name: name.to_owned(), octets });
        Ok(())
    }
}

/// File names have hyphens where names have underscores.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn find(directory: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<(), Failure> {
    for path in files(directory)? {
        if path.is_dir() {
            find(&path, found)?;
        } else if let Some((name, _)) =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once(".ko"))
        {
            found.insert(canonical(name), path.clone());
        }
    }
    Ok(())
}

fn unpack(path: &Path) -> Result<Vec<u8>, Failure> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => tool::run("xz", [Path::new("-dc"), path]),
        _ => std::fs::read(path).map_err(|error| Failure::File { path: path.to_owned(), error }),
    }
}

/// Values of a key of `.modinfo`: texts that end with NUL, anywhere in the file.
fn values<'a>(octets: &'a [u8], key: &'a str) -> impl Iterator<Item = &'a str> {
    let texts = octets.split(|octet| *octet == 0);
    texts.filter_map(move |text| core::str::from_utf8(text).ok()?.strip_prefix(key)?.strip_prefix('='))
}

fn dependencies(octets: &[u8]) -> Vec<String> {
    let names = values(octets, "depends").flat_map(|list| list.split(',')).filter(|name| !name.is_empty());
    names.map(canonical).collect()
}

fn soft_dependencies(octets: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for text in values(octets, "softdep") {
        let before =
            text.split_once("pre:").map_or("", |(_, rest)| rest.split("post:").next().unwrap_or_default());
        names.extend(before.split_whitespace().map(canonical));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str, information: &str) {
        std::fs::write(directory.join(format!("{name}.ko")), format!("ELF\0{information}\0rest")).unwrap();
    }

    #[test]
    fn what_is_needed_comes_before_who_needs_it() {
        let directory = std::env::temp_dir().join(format!("stratamx-modules-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        write(&directory, "xfs", "depends=libcrc32c");
        write(&directory, "libcrc32c", "softdep=pre: crc32c-intel not-there post: late\0depends=");
        write(&directory, "crc32c-intel", "depends=");
        write(&directory, "late", "depends=");
        write(&directory, "circle", "depends=circle");
        let names = |wanted: &str, optional: &[String]| {
            let modules = in_order(&directory, &[wanted.to_owned()], optional)?;
            Ok::<_, Failure>(modules.into_iter().map(|module| module.name).collect::<Vec<_>>())
        };
        assert_eq!(names("xfs", &[]).unwrap(), ["crc32c_intel", "libcrc32c", "xfs"]);
        assert!(names("none", &[]).unwrap_err().to_string().contains("no module none"));
        assert!(names("none", &["none".to_owned()]).unwrap().is_empty());
        assert!(names("circle", &[]).unwrap_err().to_string().contains("depends on itself"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
