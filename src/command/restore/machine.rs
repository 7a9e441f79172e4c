//! What PID 1 of an appliance has this program do, as the server's user: look at an archive, unpack it, count what waits. It is told in JSON, on a pipe.

use super::super::client::{fail, print_json};
use super::super::{Exit, keys};
use super::audit::audit;
use super::unpack::{Restored, Targets, unpack};
use crate::config::Config;
use crate::update::at_rest::Secret;
use crate::update::restore::{Looked, Named, Queue, flat};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Less than mail, which is taken meanwhile.
const NICE: i32 = 10;

/// Looks at all of an archive; what it holds but for the configuration goes into `data_dir`, if there is one, and is audited there.
pub(super) fn look(file: &Path, data_dir: Option<PathBuf>) -> Exit {
    let _ = rustix::process::nice(NICE);
    let targets = Targets { data_dir, configuration: None };
    let looked = unpack(file, &targets).and_then(|restored| {
        let data_dir = targets.data_dir.as_deref().filter(|_| restored.manifest.store.is_some());
        let queue = data_dir.map(|data_dir| audit(data_dir, &restored.keys)).transpose()?;
        Ok(looked(restored, queue))
    });
    told(looked)
}

/// Counts what waits in the store of a configuration, whose server does not run.
pub(super) fn count(configuration: &Path) -> Exit {
    let config = Config::load(configuration).map_err(|error| error.to_string());
    let counted = config.and_then(|config| {
        let keys = keys::load(&config.storage)?;
        audit(&config.data_dir, &Arc::new(keys))
    });
    told(counted.map(|queue: Queue| Looked { queue: Some(queue), ..Looked::default() }))
}

fn told(looked: Result<Looked, String>) -> Exit {
    let value = looked.and_then(|looked| serde_json::to_value(looked).map_err(|error| error.to_string()));
    match value {
        Ok(value) => print_json(&value),
        Err(error) => fail(&error),
    }
}

fn looked(restored: Restored, queue: Option<Queue>) -> Looked {
    let Restored { manifest, octets, contents, .. } = restored;
    let mut files = BTreeMap::new();
    let named = contents.named.iter().filter_map(|(number, octets)| {
        let named = manifest.files.get(*number)?;
        Some((flat(&named.path)?.to_owned(), octets))
    });
    let own = contents.configuration.iter().map(|octets| ("stratamx.toml".to_owned(), octets));
    for (name, octets) in named.chain(own) {
        files.insert(name, Secret(STANDARD.encode(octets)));
    }
    Looked {
        hostname: manifest.hostname,
        made_at_s: manifest.made_at_s,
        octets,
        has_configuration: manifest.configuration,
        has_key_file: contents.has_key_file,
        named: manifest.files.into_iter().map(|named| Named { path: named.path, held: named.held }).collect(),
        queue,
        files,
        keys: contents.keys.map(|octets| Secret(String::from_utf8_lossy(&octets).into_owned())),
    }
}
