//! The whole node on a simulated machine: world, workload, faults and checkers apart, all from one seed.
//!
//! `STRATAMX_SEED` tells the story of one seed again, with `STRATAMX_SEEDS` so many from there on (`make soak`).
#![allow(clippy::panic, clippy::unwrap_used, unreachable_pub, missing_docs, reason = "a test")]

#[path = "simulation/canary.rs"]
mod canary;
#[path = "simulation/checker.rs"]
mod checker;
#[path = "simulation/days.rs"]
mod days;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/operator.rs"]
mod operator;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/primary.rs"]
mod primary;
#[path = "simulation/rescue.rs"]
mod rescue;
#[path = "simulation/seeds.rs"]
mod seeds;
#[path = "simulation/sender.rs"]
mod sender;
#[path = "simulation/world.rs"]
mod world;
