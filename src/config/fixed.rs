//! What is decided when the server starts: a change of it waits for the next start.

use super::{AdminTls, Config};

impl Config {
    /// The keys whose change to `new` needs a start of the server; a reload leaves them as they are.
    pub fn keys_that_need_a_start<'a>(&'a self, new: &'a Self) -> impl Iterator<Item = &'static str> + 'a {
        let is_plain = |config: &Self| config.admin.tls == AdminTls::None;
        let is_first = self.acme.is_none() && new.acme.is_some();
        let is_asked_elsewhere = self
            .acme
            .as_ref()
            .zip(new.acme.as_ref())
            .is_some_and(|(old, new)| (old.challenge, &old.listen) != (new.challenge, &new.listen));
        let fixed = [
            ("admin.listen", self.admin.listen != new.admin.listen),
            ("admin.tls", is_plain(self) != is_plain(new)),
            ("acme", is_first),
            ("acme.listen, acme.challenge", is_asked_elsewhere),
            ("smtp.listen", self.smtp.listen != new.smtp.listen),
            ("data_dir", self.data_dir != new.data_dir),
            ("cores", self.cores != new.cores),
            ("storage.segment_size", self.storage.segment_size_bytes != new.storage.segment_size_bytes),
        ];
        fixed.into_iter().filter_map(|(key, is_changed)| is_changed.then_some(key))
    }
}
