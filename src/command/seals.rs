//! Keys to seal mail with, as the configuration names them.

use crate::auth::arc;
use crate::bridge::SealKey;
use crate::config::{self, ArcSeal, Config};
use std::collections::HashMap;
use std::sync::Arc;

/// Reads them.
///
/// # Errors
/// A sentence for the operator that names the file.
pub(super) fn load(config: &Config) -> Result<HashMap<ArcSeal, Arc<SealKey>>, String> {
    let mut keys = HashMap::new();
    // That of all is for domains of the API too.
    let own = config.domains.iter().filter_map(|domain| domain.arc.as_ref());
    for seal in own.chain(&config.delivery.arc) {
        if keys.contains_key(seal) {
            continue;
        }
        let failed = |error: &dyn core::fmt::Display| format!("arc: {}: {error}", seal.key.display());
        let pem = config::read(&seal.key).map_err(|error| failed(&error))?;
        arc::check(&pem).map_err(|error| failed(&error))?;
        let (domain, selector) = (seal.domain.clone(), seal.selector.clone());
        keys.insert(seal.clone(), Arc::new(SealKey { domain, selector, pem }));
    }
    Ok(keys)
}
