//! A place among the messages of a domain that may be with their primary and are not settled (P4), for one that was carried through.

use super::usage::DomainUsage;
use crate::limits::OUTSTANDING_MAX;
use std::sync::Arc;

/// A message that was carried through to its end, among those that may repeat (P4): until this is dropped.
#[derive(Debug)]
pub struct EndSent(Arc<DomainUsage>);

impl EndSent {
    /// None: as many of the domain are outstanding as may be.
    #[must_use]
    pub fn new(usage: Arc<DomainUsage>) -> Option<Self> {
        usage.passage.may_end(OUTSTANDING_MAX).then(|| Self(usage))
    }
}

impl Drop for EndSent {
    fn drop(&mut self) {
        self.0.passage.end_heard();
    }
}
