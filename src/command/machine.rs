//! What the server takes of the machine: cores, descriptors, signals; and its end by a panic.

use super::logging;
use crate::auth::contained::is_contained;
use crate::config::{Config, Cores};
use crate::limits::{DELIVERY_DESCRIPTORS_A_SHARD, DESCRIPTORS_RESERVED};
use async_channel::Receiver;
use core::time::Duration;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};
use sd_notify::NotifyState;
use signal_hook::iterator::Signals;
use std::sync::Arc;

/// How long a process that panicked waits for the reader of its log.
const LAST_LINES_PATIENCE: Duration = Duration::from_millis(200);

/// A shard that panicked must not leave a process that looks alive: clients would connect to its socket and
/// others wait for its notes. Everything promised is durable; whoever supervises us starts us again.
pub(super) fn end_with_a_panic(lines: Arc<logging::Lines>) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if !is_contained() {
            // What was told just before it says why.
            lines.end(LAST_LINES_PATIENCE);
            std::process::abort();
        }
    }));
}

/// Tells whoever started us, if he wants to know (NOTIFY_SOCKET: sd_notify(3)).
pub(super) fn tell_supervisor(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the supervisor cannot be told");
    }
}

/// Takes as many descriptors as the process may have, and bounds connections by what logs and deliveries leave.
pub(super) fn fit_descriptors(config: &mut Config) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.or(limit.current).unwrap_or(u64::MAX);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit on descriptors stays as it is");
    }
    let deliveries = cpus(config.cores).len() as u64 * DELIVERY_DESCRIPTORS_A_SHARD;
    let left = most - (DESCRIPTORS_RESERVED + deliveries).min(most / 2);
    if left < u64::from(config.smtp.max_connections) {
        let bound = u32::try_from(left).unwrap_or(u32::MAX);
        tracing::warn!(
            max_connections = bound,
            descriptors = most,
            "max_connections is bounded by the limit on descriptors"
        );
        config.smtp.max_connections = bound;
    }
}

/// A thread that hands signals on, so that the main one can wait for something else too.
pub(super) fn events(mut signals: Signals) -> std::io::Result<Receiver<i32>> {
    let (sender, events) = async_channel::bounded(1);
    let forward = move || {
        for signal in signals.forever() {
            if sender.send_blocking(signal).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward)?;
    Ok(events)
}

/// The cores to run on, one a shard: of those that this process may use, as far as they go.
pub(super) fn cpus(cores: Cores) -> Vec<Option<usize>> {
    let allowed: Vec<usize> = match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(_) => (0..std::thread::available_parallelism().map_or(1, core::num::NonZero::get)).collect(),
    };
    placed(cores, &allowed)
}

/// A core of `allowed` for each shard; `None`: any.
fn placed(cores: Cores, allowed: &[usize]) -> Vec<Option<usize>> {
    let wanted = match cores {
        Cores::Auto => allowed.len().saturating_sub(1).max(1),
        Cores::All => allowed.len(),
        Cores::Count(count) => usize::try_from(count).unwrap_or(allowed.len()),
    };
    // More shards than cores share them as the system sees fit.
    let pinned = wanted <= allowed.len();
    (0..wanted).map(|shard| allowed.get(shard).copied().filter(|_| pinned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_left_to_the_system_unless_all_are_asked_for() {
        assert_eq!(placed(Cores::Auto, &[4, 5, 6]), [Some(4), Some(5)]);
        assert_eq!(placed(Cores::Auto, &[4]), [Some(4)], "a shard there is");
        assert_eq!(placed(Cores::Auto, &[]), [None]);
        assert_eq!(placed(Cores::All, &[4, 5]), [Some(4), Some(5)]);
        assert_eq!(placed(Cores::Count(1), &[4, 5]), [Some(4)]);
        assert_eq!(placed(Cores::Count(3), &[4, 5]), [None; 3], "more than there are");
    }
}
