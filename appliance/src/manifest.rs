//! `manifest.toml`: what an image is made of.

use crate::architecture::Architecture;
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
    /// Besides the kernel, of each processor.
    pub(crate) packages: Vec<String>,
    /// Place in the initramfs -> file of a package.
    files: BTreeMap<String, String>,
    boot: Boot,
    pub(crate) partitions: Partitions,
    architecture: BTreeMap<Architecture, Parts>,
}

/// `[boot]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Boot {
    cmdline: String,
}

/// `[partitions]`, in MiB.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Partitions {
    pub(crate) esp: u64,
    pub(crate) configuration: u64,
    pub(crate) data: u64,
}

/// `[architecture.NAME]`: what differs between processors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    /// The consoles, in front of the common command line.
    consoles: String,
    /// Besides the common ones.
    files: BTreeMap<String, String>,
    variant: BTreeMap<String, Variant>,
}

/// `[architecture.NAME.variant.NAME]`.
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

/// What one image is made of.
#[derive(Debug)]
pub(crate) struct Recipe<'a> {
    pub(crate) architecture: Architecture,
    /// The variant's name.
    pub(crate) name: &'a str,
    pub(crate) manifest: &'a Manifest,
    pub(crate) variant: &'a Variant,
    parts: &'a Parts,
}

impl Manifest {
    /// That of a variant.
    pub(crate) fn recipe<'a>(
        &'a self,
        architecture: Architecture,
        name: &'a str,
    ) -> Result<Recipe<'a>, Failure> {
        let parts = self.architecture.get(&architecture);
        let parts = parts.ok_or_else(|| wrong(format!("the manifest has no {}", architecture.name())))?;
        let variant = parts.variant.get(name).ok_or_else(|| {
            wrong(format!("the manifest has no variant {name} for {}", architecture.name()))
        })?;
        Ok(Recipe { architecture, name, manifest: self, variant, parts })
    }
}

impl Recipe<'_> {
    /// Place in the initramfs -> file of a package.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&String, &String)> {
        self.manifest.files.iter().chain(&self.parts.files)
    }

    /// The kernel's command line.
    pub(crate) fn cmdline(&self) -> String {
        format!("{} {}", self.parts.consoles, self.manifest.boot.cmdline)
    }

    /// What the names of its files end with, in front of the suffix: PID 1 holds those of updates against what they have of themselves.
    pub(crate) fn stem(&self, version: &str) -> String {
        format!("stratamx_{version}_{}{}", self.name, self.architecture.suffix())
    }
}

/// Reads the file.
pub(crate) fn read(path: &Path) -> Result<Manifest, Failure> {
    let text = std::fs::read_to_string(path).at(path)?;
    toml::from_str(&text).map_err(|error| wrong(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Manifest {
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("manifest.toml")).unwrap()
    }

    #[test]
    fn each_processor_has_both_variants_in_files_of_their_own() {
        let manifest = ours();
        let mut stems = Vec::new();
        for architecture in Architecture::ALL {
            for name in ["cloud", "generic"] {
                let recipe = manifest.recipe(architecture, name).unwrap();
                assert!(recipe.variant.kernel.ends_with(architecture.name()), "{}", recipe.variant.kernel);
                assert!(recipe.cmdline().ends_with(" rdinit=/bin/stratamx -- init"), "{}", recipe.cmdline());
                assert!(recipe.cmdline().starts_with("console=tty0 console=ttyS0,"), "{}", recipe.cmdline());
                let places: Vec<&String> = recipe.files().map(|(place, _)| place).collect();
                let loader = places.iter().filter(|place| place.contains("/ld-linux-")).count();
                assert_eq!(loader, 1, "what is not static needs its interpreter: {places:?}");
                let libraries = format!("/lib/{}-linux-gnu/libc.so.6", architecture.processor());
                assert!(places.contains(&&libraries), "{places:?}");
                // The last watchdog is the kernel's own, and file systems come behind what sums their octets.
                assert!(recipe.variant.modules.iter().any(|module| module == "softdog"));
                stems.push(recipe.stem("0.1.0"));
            }
        }
        assert_eq!(
            stems,
            [
                "stratamx_0.1.0_cloud",
                "stratamx_0.1.0_generic",
                "stratamx_0.1.0_cloud_arm64",
                "stratamx_0.1.0_generic_arm64"
            ]
        );
        let error = manifest.recipe(Architecture::Arm64, "toaster").unwrap_err();
        assert_eq!(error.to_string(), "the manifest has no variant toaster for arm64");
    }
}
