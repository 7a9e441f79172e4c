//! The domain that a new version of the appliance is tried with: PID 1 names a configuration, whose domains are taken too while it is there.

use crate::config::Config;
use crate::update::TRIAL_VARIABLE;
use std::path::PathBuf;

/// Adds them. Off the appliance nothing is named.
pub(super) fn extend(config: &mut Config) {
    let Some(path) = std::env::var_os(TRIAL_VARIABLE).map(PathBuf::from).filter(|path| path.exists()) else {
        return;
    };
    match Config::load(&path) {
        Ok(trial) => {
            let known: Vec<String> = config.domains.iter().map(|domain| domain.name.clone()).collect();
            config.domains.extend(trial.domains.into_iter().filter(|domain| !known.contains(&domain.name)));
        }
        // The trial fails by it, and says so.
        Err(error) => tracing::error!(%error, "the domain of the trial"),
    }
}
