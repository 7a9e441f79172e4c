//! When an order may be made: ever more rarely behind failures, and not more than a few an hour over restarts, since authorities count (Let's Encrypt
//! locks a name out behind five failures in an hour).
//!
//! The times of the last orders are kept in a file of the data directory, a JSON list of seconds since 1970. Damaged or missing it is as good as empty.

use super::super::file;
use crate::config;
use crate::limits::{ACME_ORDERS_AN_HOUR, ACME_PAUSE_FIRST, ACME_PAUSE_MAX};
use core::time::Duration;
use std::path::Path;

const FILE: &str = "acme-orders.json";
const HOUR_S: i64 = 3600;

/// Whether one more may be made, which counts it.
pub(super) fn may_order(data_dir: &Path, now_s: i64) -> bool {
    let octets = config::read_kept(&data_dir.join(FILE)).unwrap_or_default();
    let mut times: Vec<i64> = serde_json::from_slice(&octets).unwrap_or_default();
    // Whatever the clock said.
    times.retain(|at_s| (now_s - HOUR_S..=now_s).contains(at_s));
    if times.len() >= ACME_ORDERS_AN_HOUR {
        return false;
    }
    times.push(now_s);
    let octets = serde_json::to_vec(&times).unwrap_or_default();
    if let Err(error) = file::keep(data_dir, FILE, &octets) {
        tracing::warn!(%error, "that a certificate is ordered cannot be kept");
    }
    true
}

/// Pure: between two tries, behind so many failures before the last one.
pub(super) fn pause(failures: u32) -> Duration {
    ACME_PAUSE_FIRST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(ACME_PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_ever_more_rare() {
        let minutes: Vec<u64> = (0..7).map(|failures| pause(failures).as_secs() / 60).collect();
        assert_eq!(minutes, [15, 30, 60, 120, 240, 360, 360]);
        assert_eq!(pause(99), ACME_PAUSE_MAX);
    }

    #[test]
    fn orders_are_few_an_hour_whoever_makes_them() {
        let directory = std::env::temp_dir().join(format!("stratamx-acme-orders-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let made = (0..9).filter(|second| may_order(&directory, 10_000 + second)).count();
        assert_eq!(made, ACME_ORDERS_AN_HOUR);
        assert!(!may_order(&directory, 10_000 + HOUR_S) && may_order(&directory, 10_001 + HOUR_S));
        assert!(may_order(&directory, 500), "a clock that went back locks nobody out");
        file::keep(&directory, FILE, b"[1,").unwrap();
        assert!(may_order(&directory, 600));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
