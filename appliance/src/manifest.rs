//! `manifest.toml`: what an image is made of.

use crate::fail::{At as _, Failure, wrong};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Debian's suite that packages come from.
    pub(crate) suite: String,
    /// Where those are that it does not have.
    pub(crate) fallback: Vec<String>,
    /// Besides the kernel.
    pub(crate) packages: Vec<String>,
    /// Place in the initramfs -> file of a package.
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) boot: Boot,
    pub(crate) partitions: Partitions,
    pub(crate) variant: BTreeMap<String, Variant>,
}

/// `[boot]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Boot {
    pub(crate) cmdline: String,
}

/// `[partitions]`, in MiB.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Partitions {
    pub(crate) esp: u64,
    pub(crate) configuration: u64,
    pub(crate) data: u64,
}

/// `[variant.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    /// The package that depends on the kernel.
    pub(crate) kernel: String,
    /// Modules in the order in which they are loaded; what they need comes before them by itself.
    pub(crate) modules: Vec<String>,
    /// Of those, or besides, what a kernel may not have as a module.
    pub(crate) optional: Vec<String>,
}

/// Reads the file.
pub(crate) fn read(path: &Path) -> Result<Manifest, Failure> {
    let text = std::fs::read_to_string(path).at(path)?;
    toml::from_str(&text).map_err(|error| wrong(format!("{}: {error}", path.display())))
}
