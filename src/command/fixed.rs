//! What a reload leaves as it is: listeners, and what the store is made for.

use crate::config::{AdminTls, Config};

/// The new configuration, with the old values where a change needs a restart.
pub(super) fn keep(old: &Config, mut new: Config) -> Config {
    let asked = |config: &Config| config.acme.as_ref().map(|acme| (acme.challenge, acme.listen.clone()));
    let is_plain = |config: &Config| config.admin.tls == AdminTls::None;
    let is_asked_elsewhere = new.acme.is_some() && asked(old) != asked(&new);
    let fixed = [
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("admin.tls", is_plain(old) != is_plain(&new)),
        ("acme.listen", is_asked_elsewhere),
        ("smtp.listen", old.smtp.listen != new.smtp.listen),
        ("data_dir", old.data_dir != new.data_dir),
        ("cores", old.cores != new.cores),
        ("storage.segment_size", old.storage.segment_size_bytes != new.storage.segment_size_bytes),
    ];
    for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
        tracing::error!(key, "reload: this change needs a restart; the old value stays");
    }
    new.admin.listen = old.admin.listen;
    if is_plain(old) != is_plain(&new) {
        new.admin.tls = old.admin.tls.clone();
    }
    if is_asked_elsewhere {
        new.acme.clone_from(&old.acme);
    }
    new.smtp.listen.clone_from(&old.smtp.listen);
    new.data_dir.clone_from(&old.data_dir);
    new.cores = old.cores;
    new.storage.segment_size_bytes = old.storage.segment_size_bytes;
    new
}
