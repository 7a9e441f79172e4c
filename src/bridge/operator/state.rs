//! How the primaries of a domain are doing, in a word.

use core::fmt;
use serde::Serialize;
use utoipa::ToSchema;

/// How a domain's primaries are doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It takes mail.
    Up,
    /// It answers, and puts everything off.
    Impaired,
    /// One try has failed.
    Suspect,
    /// It does not serve us.
    Down,
    /// It is back, and what waited is being handed over.
    Recovering,
    /// The bounce guard stopped the lane.
    Frozen,
    /// An operator stopped the lane.
    Held,
    /// Nothing was tried since the start.
    #[default]
    Unknown,
}

impl State {
    /// All of them, in their order.
    pub const ALL: [Self; 8] = [
        Self::Up,
        Self::Impaired,
        Self::Suspect,
        Self::Down,
        Self::Recovering,
        Self::Frozen,
        Self::Held,
        Self::Unknown,
    ];
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Up => "up",
            Self::Impaired => "impaired",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Recovering => "recovering",
            Self::Frozen => "frozen",
            Self::Held => "held",
            Self::Unknown => "unknown",
        })
    }
}
