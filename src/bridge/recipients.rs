//! Who the recipients of a domain are, as far as it is known: what its list says. One
//! table for the life of the process, as that of usage: a reload keeps it.
//!
//! A list is replaced as a whole; a session that looks at the one before goes on with it. Locks are taken for a look or
//! a replacement, never while a file is read.

mod list;
mod local_part;

pub use list::{ListError, RecipientList, RecipientListBuilder};
pub use local_part::{folded, without_detail};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// See the module.
#[derive(Debug, Default)]
pub struct Recipients {
    domains: Mutex<HashMap<Arc<str>, Arc<DomainRecipients>>>,
}

/// The recipients of one domain.
#[derive(Debug, Default)]
pub struct DomainRecipients {
    list: RwLock<Arc<RecipientList>>,
}

impl Recipients {
    /// Those of a domain, by its name in lower case.
    #[must_use]
    pub fn domain(&self, name: &str) -> Arc<DomainRecipients> {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(domain) = domains.get(name) {
            return Arc::clone(domain);
        }
        let domain = Arc::<DomainRecipients>::default();
        domains.insert(name.into(), Arc::clone(&domain));
        domain
    }
}

impl DomainRecipients {
    /// The list in force; empty where none was read.
    #[must_use]
    pub fn list(&self) -> Arc<RecipientList> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another list is in force.
    pub fn use_list(&self, list: Arc<RecipientList>) {
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = list;
    }
}
