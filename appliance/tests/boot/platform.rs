//! The kinds of machine that are emulated, and what the machine that emulates them needs for it.

use crate::machine::Release;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// One kind.
pub(crate) struct Platform {
    /// Debian's name of its processor.
    pub(crate) architecture: &'static str,
    /// What follows the variant in the names of its files.
    pub(crate) suffix: &'static str,
    pub(crate) emulator: &'static str,
    /// The emulator's arguments for it.
    pub(crate) machine: &'static [&'static str],
    /// Its code, and its variables as they are at first.
    pub(crate) firmware: [&'static str; 2],
    /// The variable that names its static server.
    variable: &'static str,
    /// Whether there is none where everything has to be: then STRATAMX_REQUIRE_VM asks for it only where it is named.
    is_optional: bool,
    /// The image of all tests of this process.
    pub(crate) release: OnceLock<Release>,
}

/// PCs.
pub(crate) static AMD64: Platform = Platform {
    architecture: "amd64",
    suffix: "",
    emulator: "qemu-system-x86_64",
    machine: &["-machine", "q35", "-cpu", "max", "-device", "i6300esb", "-action", "watchdog=poweroff"],
    firmware: ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"],
    variable: "STRATAMX_STATIC_SERVER",
    is_optional: false,
    release: OnceLock::new(),
};

/// A processor of many clouds, and no watchdog but the kernel's own. Its server takes another compiler, which the checks have no minutes for.
pub(crate) static ARM64: Platform = Platform {
    architecture: "arm64",
    suffix: "_arm64",
    emulator: "qemu-system-aarch64",
    machine: &["-machine", "virt", "-cpu", "neoverse-n1"],
    firmware: ["/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"],
    variable: "STRATAMX_STATIC_SERVER_ARM64",
    is_optional: true,
    release: OnceLock::new(),
};

/// Programs besides the emulator, and by which argument they end at once.
const PROGRAMS: [(&str, &str); 4] =
    [("mcopy", "--version"), ("mkfs.vfat", "--help"), ("swtpm", "--version"), ("xz", "--version")];

impl Platform {
    /// Its static server, where everything else is there too; else the reason why not is told.
    pub(crate) fn server(&self) -> Option<PathBuf> {
        let named = std::env::var_os(self.variable).map(PathBuf::from);
        let is_required =
            std::env::var_os("STRATAMX_REQUIRE_VM").is_some() && (named.is_some() || !self.is_optional);
        let reason = match (&named, self.lacking()) {
            (None, _) => format!("{} does not name the static server", self.variable),
            (Some(server), _) if !server.is_file() => format!("{} is not there", server.display()),
            (Some(_), Some(name)) => format!("{name} is not there"),
            (Some(_), None) => return named,
        };
        assert!(!is_required, "STRATAMX_REQUIRE_VM is set, and {reason}");
        eprintln!("SKIP: {reason}");
        None
    }

    /// The first thing that is not there.
    fn lacking(&self) -> Option<&'static str> {
        let firmware = self.firmware.into_iter().find(|file| !Path::new(file).is_file());
        let programs = [(self.emulator, "--version")].into_iter().chain(PROGRAMS);
        firmware.or_else(|| {
            programs.into_iter().find(|(program, argument)| !is_there(program, argument)).map(|one| one.0)
        })
    }
}

fn is_there(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg(argument)
        .env("PATH", path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok()
}

/// Where programs are looked for: mkfs.vfat is in /sbin, which is not on everybody's path.
pub(crate) fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}
