//! What a reload leaves as it is: listeners, and what the store is made for.

use crate::config::{AdminTls, Config};

/// The new configuration, with the old values where a change needs a restart.
pub(super) fn keep(old: &Config, mut new: Config) -> Config {
    let is_plain = |config: &Config| config.admin.tls == AdminTls::None;
    for key in old.keys_that_need_a_start(&new) {
        tracing::error!(key, "reload: this change needs a restart; the old value stays");
    }
    new.admin.listen = old.admin.listen;
    if is_plain(old) != is_plain(&new) {
        new.admin.tls = old.admin.tls.clone();
    }
    match (&old.acme, &mut new.acme) {
        (None, new) => *new = None,
        (Some(old), Some(new)) => (new.challenge, new.listen) = (old.challenge, old.listen.clone()),
        (Some(_), None) => {}
    }
    new.smtp.listen.clone_from(&old.smtp.listen);
    new.data_dir.clone_from(&old.data_dir);
    new.cores = old.cores;
    new.storage.segment_size_bytes = old.storage.segment_size_bytes;
    new
}
