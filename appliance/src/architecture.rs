//! The processors that images are made for, and what each of them is called by those who have to agree on it.
//!
//! What is chosen for one, such as kernel and modules, is in the manifest; what is here was settled elsewhere.

use crate::fail::{Failure, wrong};
use clap::ValueEnum;
use serde::Deserialize;

/// One of them, by Debian's name.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Architecture {
    /// 64-bit PCs.
    Amd64,
    /// 64-bit ARM, with UEFI.
    Arm64,
}

use Architecture::{Amd64, Arm64};

impl Architecture {
    pub(crate) const ALL: [Self; 2] = [Amd64, Arm64];

    /// Debian's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Amd64 => "amd64",
            Arm64 => "arm64",
        }
    }

    /// Rust's name, and the kernel's own.
    pub(crate) fn processor(self) -> &'static str {
        match self {
            Amd64 => "x86_64",
            Arm64 => "aarch64",
        }
    }

    /// The short name in files of UEFI, small (UEFI Specification 2.10, 3.5.1.1).
    pub(crate) fn efi(self) -> &'static str {
        match self {
            Amd64 => "x64",
            Arm64 => "aa64",
        }
    }

    /// What follows the variant in the names of files. The first processor has nothing there: machines that run know its images so.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Amd64 => "",
            Arm64 => "_arm64",
        }
    }

    /// `Machine` of a COFF header (Microsoft PE and COFF specification, 3.3.1).
    fn coff(self) -> u16 {
        match self {
            Amd64 => 0x8664,
            Arm64 => 0xaa64,
        }
    }

    /// `e_machine` of an ELF header.
    fn elf(self) -> u16 {
        match self {
            Amd64 => 62,
            Arm64 => 183,
        }
    }

    /// That of a PE program.
    pub(crate) fn of_pe(machine: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.coff() == machine)
    }

    /// Whether an ELF program is for this one.
    pub(crate) fn check_program(self, program: &[u8], name: &str) -> Result<(), Failure> {
        let is_elf = program.starts_with(b"\x7fELF\x02\x01");
        let machine = program.get(18..20).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        if is_elf && machine == Some(self.elf()) {
            return Ok(());
        }
        Err(wrong(format!("{name} is not a program for {}", self.name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_for_one_processor() {
        for architecture in Architecture::ALL {
            let mut program = b"\x7fELF\x02\x01".to_vec();
            program.resize(18, 0);
            program.extend(architecture.elf().to_le_bytes());
            for other in Architecture::ALL {
                let checked = other.check_program(&program, "stratamx");
                assert_eq!(checked.is_ok(), other == architecture, "{checked:?}");
            }
            assert!(architecture.check_program(&program[..19], "stratamx").is_err());
            assert!(architecture.check_program(b"#!/bin/sh\n", "stratamx").is_err());
            assert_eq!(Architecture::of_pe(architecture.coff()), Some(architecture));
        }
        assert_eq!(Architecture::of_pe(0x14c), None);
    }
}
