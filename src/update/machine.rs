//! What the server asks of PID 1 about the machine, and is answered: what runs, the data partition, the health of its disk.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Machine {
    /// The version that runs
    pub version: String,
    /// What it was built for: cloud or generic
    pub variant: String,
    /// Seconds since the kernel was started
    pub uptime_s: u64,
    /// What all of mail, configuration and state lies on
    pub data: Partition,
    /// The disk that the data partition is on
    pub disk: Disk,
}

/// The data partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = MachinePartition)]
pub struct Partition {
    /// Its size, in octets
    pub size_octets: u64,
    /// What is free of it
    pub free_octets: u64,
    /// Nothing can be written any more
    pub is_read_only: bool,
}

/// The health of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = MachineDisk)]
pub struct Disk {
    /// Its name below /dev
    pub device: String,
    /// What it says that it is; null: nothing
    pub model: Option<String>,
    /// Its number, as the maker gave it
    pub serial: Option<String>,
    /// Its firmware
    pub firmware: Option<String>,
    /// How it is
    pub state: State,
    /// What is wrong, or why nothing is known; the worst first
    pub findings: Vec<String>,
    /// What was measured of it, as far as it tells
    pub figures: Figures,
    /// When it was last asked and answered, in seconds since 1970
    pub looked_s: Option<u64>,
}

/// How a disk is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = MachineDiskState)]
pub enum State {
    /// It tells nothing of itself, as most disks of hypervisors; nothing is known against it
    #[default]
    Silent,
    /// It says that it is well
    Healthy,
    /// It works, and is to be watched or replaced
    Degraded,
    /// It fails, or is about to: what is written may be lost
    Failing,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Silent, Self::Healthy, Self::Degraded, Self::Failing];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }
}

/// What was measured; null: the disk does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = MachineDiskFigures)]
pub struct Figures {
    /// Degrees Celsius
    pub temperature_c: Option<i64>,
    /// How much of the wear that it is made for is used, in percent; can be above 100
    pub used_percent: Option<u64>,
    /// Spare blocks that are left, in percent
    pub spare_percent: Option<u64>,
    /// Blocks that it could not read or write, for ever
    pub media_errors: Option<u64>,
    /// Blocks that it put others in the place of
    pub reallocated: Option<u64>,
    /// Times that its power was cut
    pub unsafe_shutdowns: Option<u64>,
    /// Hours that it was on
    pub hours: Option<u64>,
    /// Reads and writes that failed since the machine was started, as the kernel counts
    pub io_errors: u64,
    /// Complaints of the file system since then
    pub file_system_errors: u64,
}
