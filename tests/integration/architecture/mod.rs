//! The walls of the house, read from the sources: who may name whom, who may call what, sizes, cycles, the top
//! level. `canary.rs` shows that each check can fail.

mod canary;
mod paths;
mod rules;
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rules::{Sources, check};

/// Folders with Rust sources.
const FOLDERS: [&str; 8] =
    ["src", "storage/src", "storage/tests", "tools/src", "tools/tests", "benches", "tests", "appliance"];

#[test]
fn the_house_stands_as_designed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        read_folder(root, &root.join(folder), &mut files);
    }
    assert!(files.len() > 10, "the sources were not found in {}", root.display());
    let top_level =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let clippy = fs::read_to_string(root.join("clippy.toml")).unwrap();
    let violations: Vec<String> =
        check(&Sources { files, top_level, clippy }).iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

/// Reads every Rust file below a folder that may be absent.
fn read_folder(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_folder(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}
