//! Debian packages, downloaded and unpacked into a directory of their own: the machine's own are neither asked nor changed.
//!
//! apt does the work with lists and a cache of its own, so signatures and hashes are verified as always. The mirror is the one that
//! the machine's apt is set up with. What was downloaded once is used again: two builds see the same packages.

use crate::architecture::Architecture;
use crate::fail::{At as _, Failure, wrong};
use crate::manifest::{Manifest, Recipe};
use crate::tool;
use serde::Serialize;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// One package, as it was downloaded.
#[derive(Clone, Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) architecture: String,
    pub(crate) sha256: String,
}

/// The packages of an image, unpacked.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Sorted by name.
    pub(crate) packages: Vec<Package>,
    /// All files of all of them.
    pub(crate) root: PathBuf,
    /// The kernel's version, as in the names of its files.
    pub(crate) kernel: String,
}

/// Where Debian's suites are, and which keys sign them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Downloads and unpacks what an image needs into `cache`, once.
pub(crate) fn unpack(recipe: &Recipe, cache: &Path) -> Result<Unpacked, Failure> {
    fs::create_dir_all(cache).at(cache)?;
    let cache = &cache.canonicalize().at(cache)?;
    let (debs, root, complete) = (cache.join("debs"), cache.join("root"), cache.join("complete"));
    let (manifest, kernel) = (recipe.manifest, &recipe.variant.kernel);
    let wanted = format!("{} {:?} {:?} {kernel}", manifest.suite, manifest.fallback, manifest.packages);
    if fs::read_to_string(&complete).ok().as_deref() != Some(wanted.as_str()) {
        for stale in [&debs, &root] {
            if stale.exists() {
                fs::remove_dir_all(stale).at(stale)?;
            }
            fs::create_dir_all(stale).at(stale)?;
        }
        download(recipe, cache, &debs)?;
        for deb in files(&debs)? {
            tool::run("dpkg-deb", [Path::new("-x"), &deb, &root])?;
        }
        fs::write(&complete, wanted).at(&complete)?;
    }
    let mut packages = files(&debs)?.iter().map(|deb| describe(deb)).collect::<Result<Vec<_>, _>>()?;
    packages.sort();
    let modules = root.join("lib/modules");
    let kernel = files(&modules)?.first().and_then(|path| path.file_name()?.to_str().map(str::to_owned));
    let kernel = kernel.ok_or_else(|| wrong("the kernel's package has no modules"))?;
    Ok(Unpacked { packages, root, kernel })
}

/// The entries of a directory, sorted.
pub(crate) fn files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(directory).at(directory)?;
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().at(directory)?;
    paths.sort();
    Ok(paths)
}

fn describe(deb: &Path) -> Result<Package, Failure> {
    let field = |name: &str| -> Result<String, Failure> {
        let text = tool::run("dpkg-deb", [Path::new("-f"), deb, Path::new(name)])?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    };
    let sha256 = tool::sha256(File::open(deb).at(deb)?).at(deb)?;
    Ok(Package {
        name: field("Package")?,
        version: field("Version")?,
        architecture: field("Architecture")?,
        sha256,
    })
}

fn download(recipe: &Recipe, cache: &Path, debs: &Path) -> Result<(), Failure> {
    let (manifest, variant) = (recipe.manifest, recipe.variant);
    let apt = Apt::set_up(manifest, recipe.architecture, cache)?;
    apt.run("apt-get", &["update"], cache)?;
    // The package of the variant has no files: it names the kernel's.
    let shown = apt.run("apt-cache", &["show", "--no-all-versions", &variant.kernel], cache)?;
    let kernel = shown
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))
        .and_then(|depends| depends.split([' ', ',']).find(|name| name.starts_with("linux-image-")))
        .ok_or_else(|| wrong(format!("{} names no kernel", variant.kernel)))?
        .to_owned();
    let mut arguments = vec!["download"];
    arguments.extend(manifest.packages.iter().map(String::as_str));
    arguments.push(&kernel);
    eprintln!("downloading {} packages", arguments.len() - 1);
    apt.run("apt-get", &arguments, debs).map(drop)
}

/// apt with lists and a cache of its own.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn set_up(manifest: &Manifest, architecture: Architecture, cache: &Path) -> Result<Self, Failure> {
        let apt = cache.join("apt");
        for directory in ["lists/partial", "cache/archives/partial"] {
            let directory = apt.join(directory);
            fs::create_dir_all(&directory).at(&directory)?;
        }
        let sources = apt.join("sources.list");
        let lines: Result<Vec<String>, Failure> = core::iter::once(&manifest.suite)
            .chain(&manifest.fallback)
            .map(|suite| Ok(format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror(suite)?)))
            .collect();
        fs::write(&sources, lines?.concat()).at(&sources)?;
        let option = |key: &str, value: &Path| ["-o".to_owned(), format!("{key}={}", value.display())];
        let options = [
            option("Dir::Etc::sourcelist", &sources),
            option("Dir::Etc::sourceparts", Path::new("/dev/null")),
            option("Dir::State::lists", &apt.join("lists")),
            option("Dir::Cache", &apt.join("cache")),
            option("APT::Default-Release", Path::new(&manifest.suite)),
            // As on the machine that the image is for; this one's own processor does not matter.
            option("APT::Architecture", Path::new(architecture.name())),
            option("APT::Architectures", Path::new(architecture.name())),
            // Whoever builds as root has files that apt's own user may not read.
            option("APT::Sandbox::User", Path::new("root")),
        ];
        Ok(Self { options: options.concat() })
    }

    fn run(&self, program: &str, arguments: &[&str], directory: &Path) -> Result<String, Failure> {
        let mut all = vec!["-C".to_owned(), directory.display().to_string(), program.to_owned()];
        all.push("-qq".to_owned());
        all.extend(self.options.iter().cloned());
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        // env -C: apt downloads into the directory that it is started in.
        tool::run("env", all).map(|octets| String::from_utf8_lossy(&octets).into_owned())
    }
}

/// Where the machine's own apt has suites of this kind from: security updates come from elsewhere.
fn mirror(suite: &str) -> Result<String, Failure> {
    let targets = tool::run("apt-get", ["indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN)"])?;
    let targets = String::from_utf8_lossy(&targets).into_owned();
    let is_security = |suite: &str| suite.ends_with("-security");
    let found = targets.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (uri, codename, origin) = (words.next()?, words.next()?, words.next()?);
        (origin == "Debian" && is_security(codename) == is_security(suite)).then(|| uri.to_owned())
    });
    found.ok_or_else(|| {
        wrong(format!("apt is not set up with a mirror of Debian for {suite}; is `apt-get update` done?"))
    })
}
