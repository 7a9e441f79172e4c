//! Standing orders of the operator, kept in a file of the data directory: `orders.json`, written whole before an order holds.
//!
//! A start that cannot read it does not go on: mail would go where it was ordered away from. What is over is left out
//! when the file is written next.

use super::file;
use crate::bridge::{Standing, Usage};
use crate::config;
use crate::limits::MAINTENANCE_MAX;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const NAME: &str = "orders.json";
const VERSION: u32 = 1;

/// See the module.
#[derive(Debug)]
pub struct OrderBook {
    directory: PathBuf,
    usage: Arc<Usage>,
    domains: Mutex<BTreeMap<String, Standing>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    domains: BTreeMap<String, Standing>,
}

impl OrderBook {
    /// Reads what was ordered in a life before; from here on it holds.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(directory: &Path, usage: Arc<Usage>) -> Result<Self, String> {
        let path = directory.join(NAME);
        let read = |error: &dyn core::fmt::Display| {
            format!("{}: {error}; with it moved away no order of the operator holds", path.display())
        };
        let domains = match config::read(&path) {
            Ok(octets) => {
                let kept: Kept = serde_json::from_slice(&octets).map_err(|error| read(&error))?;
                if kept.version != VERSION {
                    return Err(read(&format!("version {} is not known here", kept.version)));
                }
                kept.domains
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(read(&error)),
        };
        for (name, standing) in &domains {
            usage.domain(name).orders.set(standing.clone());
        }
        Ok(Self { directory: directory.to_owned(), usage, domains: Mutex::new(domains) })
    }

    /// Changes what is ordered about a domain: durable, and in force, on return; `now_s` in seconds since 1970. Blocks.
    ///
    /// # Errors
    /// The system's; nothing has changed then.
    pub fn change(&self, domain: &str, now_s: u64, change: impl FnOnce(&mut Standing)) -> io::Result<()> {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = domains.clone();
        let mut standing = changed.remove(domain).unwrap_or_default();
        change(&mut standing);
        changed.insert(domain.to_owned(), standing.clone());
        // By a clock that may be wrong (H5): what is over long ago, by whatever clock.
        changed.retain(|_, standing| !standing.is_over(now_s.saturating_sub(MAINTENANCE_MAX.as_secs())));
        let kept = Kept { version: VERSION, domains: changed };
        let octets = serde_json::to_vec_pretty(&kept).map_err(io::Error::other)?;
        file::keep(&self.directory, NAME, &octets)?;
        *domains = kept.domains;
        self.usage.domain(domain).orders.set(standing);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::Maintenance;

    fn window(until_s: u64) -> Option<Maintenance> {
        Some(Maintenance { from_s: 10, until_s, by: "me".to_owned(), reason: "a new disk".to_owned() })
    }

    #[test]
    fn an_order_outlives_the_process_and_one_that_is_over_does_not() {
        let directory = std::env::temp_dir().join(format!("stratamx-orders-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let book = OrderBook::open(&directory, Arc::default()).expect("no file is no order");
        book.change("one.test", 5, |standing| standing.maintenance = window(20)).expect("it is written");
        book.change("two.test", 5, |standing| standing.maintenance = window(90)).expect("it is written");
        let usage = Arc::<Usage>::default();
        let again = OrderBook::open(&directory, Arc::clone(&usage)).expect("it reads back");
        assert!(usage.domain("one.test").orders.get().held_for(15).is_some());
        let later_s = 25 + MAINTENANCE_MAX.as_secs();
        again.change("two.test", later_s, |standing| standing.maintenance = None).expect("it is written");
        assert!(usage.domain("two.test").orders.get().lets_pass(30));
        let text = std::fs::read_to_string(directory.join(NAME)).expect("it is there");
        assert!(!text.contains("one.test") && !text.contains("two.test"), "{text}");
        for damaged in ["", "{\"version\":2,\"domains\":{}}", "{\"version\":1}"] {
            file::keep(&directory, NAME, damaged.as_bytes()).expect("it can be written");
            let error = OrderBook::open(&directory, Arc::default()).expect_err("it is not obeyed in part");
            assert!(error.contains(NAME) && error.contains("moved away"), "{error}");
        }
        std::fs::remove_dir_all(&directory).expect("it is ours");
    }
}
