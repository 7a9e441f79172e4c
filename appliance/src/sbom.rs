//! The software bill of materials: CycloneDX 1.5, as JSON. Crates that are in the server, and Debian's packages.

use crate::architecture::Architecture;
use crate::fail::{Failure, wrong};
use crate::packages::Package;
use crate::tool;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The package that the server is.
const SERVER: &str = "stratamx";

/// The document. No time and no serial number: the same parts give the same document.
pub(crate) fn make(
    workspace: &Path,
    version: &str,
    architecture: Architecture,
    packages: &[Package],
) -> Result<Value, Failure> {
    let manifest = workspace.join("Cargo.toml").display().to_string();
    let arguments =
        ["metadata", "--format-version", "1", "--locked", "--offline", "--manifest-path", &manifest];
    // Crates that only other processors need are not linked.
    let platform = format!("{}-unknown-linux-gnu", architecture.processor());
    let metadata = tool::run("cargo", [&arguments[..], &["--filter-platform", &platform]].concat())?;
    let metadata: Value =
        serde_json::from_slice(&metadata).map_err(|error| wrong(format!("cargo metadata: {error}")))?;
    let mut components: Vec<Value> = crates(&metadata)?;
    components.extend(packages.iter().map(|package| {
        let Package { name, version, architecture, sha256 } = package;
        let purl = format!("pkg:deb/debian/{name}@{}?arch={architecture}", version.replace('+', "%2B"));
        let hashes = json!([{ "alg": "SHA-256", "content": sha256 }]);
        json!({ "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "hashes": hashes })
    }));
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "operating-system", "name": "stratamx-appliance", "version": version } },
        "components": components,
    }))
}

/// What the server is linked with: from its node on, along edges that are neither for tests nor for building.
fn crates(metadata: &Value) -> Result<Vec<Value>, Failure> {
    let unreadable = || wrong("cargo metadata is not understood");
    let packages = metadata["packages"].as_array().ok_or_else(unreadable)?;
    let by_id: BTreeMap<&str, &Value> =
        packages.iter().filter_map(|package| Some((package["id"].as_str()?, package))).collect();
    let nodes = metadata["resolve"]["nodes"].as_array().ok_or_else(unreadable)?;
    let edges: BTreeMap<&str, &Value> =
        nodes.iter().filter_map(|node| Some((node["id"].as_str()?, &node["deps"]))).collect();
    let root =
        packages.iter().find(|package| package["name"] == SERVER).and_then(|package| package["id"].as_str());
    let mut waiting = vec![root.ok_or_else(unreadable)?];
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        for edge in edges.get(id).and_then(|edges| edges.as_array()).into_iter().flatten() {
            let is_linked = edge["dep_kinds"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()));
            waiting.extend(edge["pkg"].as_str().filter(|_| is_linked));
        }
    }
    let components = seen.into_iter().filter_map(|id| {
        let package = by_id.get(id)?;
        let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
        let purl = format!("pkg:cargo/{name}@{version}");
        let licence = package["license"].as_str().unwrap_or("NOASSERTION");
        Some(json!({
            "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
            "licenses": [{ "expression": licence.replace('/', " OR ") }],
        }))
    });
    Ok(components.collect())
}
