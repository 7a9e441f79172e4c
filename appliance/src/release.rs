//! What goes out beside an image: manifest, SBOM, checksums, release notes.

use crate::fail::{At as _, Failure};
use crate::manifest::Recipe;
use crate::packages::Unpacked;
use crate::sbom;
use crate::sign::CHECKSUMS;
use crate::tool;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Writes them; `files` are those of the image.
pub(crate) fn write(
    out: &Path,
    workspace: &Path,
    (version, recipe): (&str, &Recipe),
    unpacked: &Unpacked,
    files: &[PathBuf],
) -> Result<(), Failure> {
    let mut told = serde_json::Map::new();
    for file in files {
        let sha256 = tool::sha256(File::open(file).at(file)?).at(file)?;
        let octets = fs::metadata(file).at(file)?.len();
        told.insert(name(file), json!({ "octets": octets, "sha256": sha256 }));
    }
    let manifest = json!({
        "product": "stratamx-appliance", "version": version, "variant": recipe.name,
        "architecture": recipe.architecture.processor(),
        "kernel": unpacked.kernel, "packages": unpacked.packages, "files": told,
    });
    let (manifest_file, sbom_file, notes_file) =
        (out.join("manifest.json"), out.join("sbom.cdx.json"), out.join("RELEASE-NOTES.md"));
    write_json(&manifest_file, &manifest)?;
    write_json(&sbom_file, &sbom::make(workspace, version, recipe.architecture, &unpacked.packages)?)?;
    fs::write(&notes_file, notes(workspace, version, recipe, unpacked)).at(&notes_file)?;
    let mut sums = String::new();
    let mut all = files.to_vec();
    all.extend([manifest_file, sbom_file, notes_file]);
    all.sort();
    for file in &all {
        sums += &format!("{}  {}\n", tool::sha256(File::open(file).at(file)?).at(file)?, name(file));
    }
    let list = out.join(CHECKSUMS);
    fs::write(&list, sums).at(&list)
}

fn name(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn write_json(path: &Path, value: &Value) -> Result<(), Failure> {
    fs::write(path, format!("{value:#}\n")).at(path)
}

/// What is in it, then what changed: the newest section of the changelog.
fn notes(workspace: &Path, version: &str, recipe: &Recipe, unpacked: &Unpacked) -> String {
    let changelog = fs::read_to_string(workspace.join("CHANGELOG.md")).unwrap_or_default();
    let newest = changelog
        .split("\n## ")
        .nth(1)
        .and_then(|section| section.split_once('\n'))
        .map_or("", |(_, text)| text);
    let mut notes = format!(
        "# StrataMX appliance {version} ({}, {})\n\nKernel {}.\n\n| package | version |\n|---|---|\n",
        recipe.name,
        recipe.architecture.name(),
        unpacked.kernel
    );
    for package in &unpacked.packages {
        notes += &format!("| {} | {} |\n", package.name, package.version);
    }
    notes += "\nThe packages are Debian's, under their own licences; Debian has their sources under the same versions.\n";
    format!("{notes}\n## Changes\n{}\n", newest.trim_end())
}
