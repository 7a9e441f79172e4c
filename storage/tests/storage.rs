//! Tests of the storage crate: one binary, many modules.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests use the machine as it is, and a panic is how they fail"
)]

#[path = "storage/audit.rs"]
mod audit;
#[path = "storage/call_by_call.rs"]
mod call_by_call;
#[path = "storage/checker.rs"]
mod checker;
#[path = "storage/crash_points.rs"]
mod crash_points;
#[path = "storage/crash_recovery.rs"]
mod crash_recovery;
#[path = "storage/disk_contract.rs"]
mod disk_contract;
#[path = "storage/disk_faults.rs"]
mod disk_faults;
#[path = "storage/encryption.rs"]
mod encryption;
#[path = "storage/failure.rs"]
mod failure;
#[path = "storage/format_golden.rs"]
mod format_golden;
#[path = "storage/format_properties.rs"]
mod format_properties;
#[path = "storage/golden_store.rs"]
mod golden_store;
#[path = "storage/hazards.rs"]
mod hazards;
#[path = "storage/inspect.rs"]
mod inspect;
#[path = "storage/journal_failure.rs"]
mod journal_failure;
#[path = "storage/kept_damage.rs"]
mod kept_damage;
#[path = "storage/lookup.rs"]
mod lookup;
#[path = "storage/lost_files.rs"]
mod lost_files;
#[path = "storage/model.rs"]
mod model;
#[path = "storage/node.rs"]
mod node;
#[path = "storage/numbers.rs"]
mod numbers;
#[path = "storage/recovery_rows.rs"]
mod recovery_rows;
#[path = "storage/repair.rs"]
mod repair;
#[path = "storage/snapshot.rs"]
mod snapshot;
#[path = "storage/steps.rs"]
mod steps;
#[path = "storage/trace.rs"]
mod trace;
#[path = "storage/upkeep.rs"]
mod upkeep;
