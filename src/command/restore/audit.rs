//! The restored store, recounted from its records.

use std::path::Path;
use std::sync::Arc;

use crate::update::restore::Queue;
use futures_lite::future::block_on;
use storage::crypt::Keys;
use storage::inspect::{Directory, ReadOnly};
use storage::ledger::Row;

/// # Errors
/// A sentence when it cannot be read.
pub(super) fn audit(data_dir: &Path, keys: &Arc<Keys>) -> Result<Queue, String> {
    let walked = block_on(Directory::walk(ReadOnly::new(data_dir.to_owned()), Arc::clone(keys)));
    let walked = walked.map_err(|error| format!("{}: {error}", data_dir.display()))?;
    let audit = walked.audit();
    let mut problems: Vec<String> = audit.problems.iter().map(ToString::to_string).collect();
    let unbalanced = audit.rows.iter().filter(|row| !row.balances());
    problems.extend(unbalanced.map(|row| format!("{}: the ledger does not balance", row.domain)));
    let sum = |of: fn(&Row) -> u64| audit.rows.iter().map(of).sum();
    Ok(Queue { backlog: sum(|row| row.backlog), held: sum(|row| row.held), problems })
}
