//! Domains that come through the API, and their recipients: kept in the database, mirrored in memory, put in force.
//!
//! The mirror is what mail relies on: a snapshot is the file's domains, then these ([`Provisioned::merged`]). A change is durable
//! first, then in the mirror, then in force on all shards; only then it is answered. It takes its turn, and goes on to its end when
//! its client has given up, so that mirror and database never part.
//!
//! - A domain of the file is *pinned*: it hides one of the same name here, and no request changes it.
//! - Settings are kept as they were given. What they leave out follows `[delivery]`, also when that changes.
//! - A list of recipients refuses mail for good: a domain is switched to one only when it has addresses, and its last one cannot go.
//! - Settings that this version cannot read (an update was rolled back, H13) leave a domain protected, with defaults and its primaries:
//!   refusing its mail would lose it.

use super::store::{Store, StoreError, Transaction, domain, recipient};
use crate::bridge::{RecipientList, RecipientListBuilder, Recipients};
use crate::config::{Config, ConfigError, Delivery, Domain, Recipients as Policy};
use crate::limits::{DOMAINS_PROVISIONED_MAX, RECIPIENTS_PROVISIONED_MAX};
use async_channel::{Receiver, Sender};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A domain's own keys.
pub type Settings = Map<String, Value>;

/// See the module.
#[derive(Debug)]
pub struct Provisioned {
    store: Store,
    recipients: Arc<Recipients>,
    mirror: Mutex<Mirror>,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
    changed: Sender<Applied>,
}

/// Dropped when what had changed is in force on all shards.
pub type Applied = Sender<()>;

#[derive(Debug, Default)]
struct Mirror {
    delivery: Option<Delivery>,
    pinned: HashSet<String>,
    domains: BTreeMap<String, Entry>,
}

/// A provisioned domain.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its own keys.
    pub settings: Settings,
    /// Another one for each change.
    pub revision: u64,
    /// When it came, in seconds since 1970.
    pub created_s: i64,
    /// When it changed last.
    pub changed_s: i64,
    /// What holds for it.
    pub domain: Domain,
}

/// What is to become of a domain.
#[derive(Debug)]
pub enum Change {
    /// These are its own keys.
    Put(Settings),
    /// It is gone, with its recipients.
    Remove,
}

/// Why a change was not made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// The file has it.
    #[error("this domain is pinned by the configuration file: change it there")]
    Pinned,
    /// There is no such domain.
    #[error("this domain is not provisioned")]
    Unknown,
    /// There is one.
    #[error("this domain is provisioned already: PUT or PATCH changes it")]
    Exists,
    /// It is not what the client has seen.
    #[error("it was changed meanwhile: look again, then say what you have seen (If-Match)")]
    Changed,
    /// A key, and what is wrong with it.
    #[error("{0}")]
    Invalid(String),
    /// The bound on domains.
    #[error("{DOMAINS_PROVISIONED_MAX} domains are provisioned, which is the most")]
    TooMany,
    /// The bound on recipients.
    #[error("a domain has {RECIPIENTS_PROVISIONED_MAX} recipients at most")]
    TooManyRecipients,
    /// A list without an address would refuse everybody.
    #[error(
        "its recipients are a list, and nobody would be on it: import addresses first, or let recipients be any"
    )]
    NoRecipients,
    /// Mail is queued or held.
    #[error(
        "{0} messages of it are queued or held: hand them over first, or say with_mail=keep, and they wait until it is back"
    )]
    HasMail(u64),
    /// The database.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The process is ending.
    #[error("it is kept, and not in force: the server is ending")]
    Ending,
}

impl Provisioned {
    /// Reads what is kept, under this configuration; and where it is told that a new snapshot is needed. Blocks.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(
        store: Store,
        recipients: Arc<Recipients>,
        config: &Config,
    ) -> Result<(Arc<Self>, Receiver<Applied>), String> {
        let rows =
            store.run_blocking(|connection| domain::all(connection)).map_err(|error| error.to_string())?;
        let mut domains = BTreeMap::new();
        for row in rows {
            let settings: Settings = serde_json::from_str(&row.settings)
                .map_err(|error| format!("{}: what the database has of it: {error}", row.name))?;
            let domain = lenient(&row.name, &settings, &config.delivery)?;
            let (revision, created_s, changed_s) = (row.revision, row.created_s, row.changed_s);
            domains.insert(row.name, Entry { settings, revision, created_s, changed_s, domain });
        }
        // One waits for another: there is one turn.
        let (changed, wanted) = async_channel::bounded(1);
        let mirror = Mutex::new(Mirror { delivery: None, pinned: HashSet::new(), domains });
        let provisioned =
            Arc::new(Self { store, recipients, mirror, turn: tokio::sync::Mutex::default(), changed });
        provisioned.use_configuration(config);
        Ok((provisioned, wanted))
    }

    /// Another file is in force from the next snapshot on. Blocks.
    pub fn use_configuration(&self, config: &Config) {
        let listed: Vec<String> = {
            let mut mirror = self.mirror();
            mirror.pinned = config.domains.iter().map(|domain| domain.name.clone()).collect();
            if mirror.delivery.as_ref() != Some(&config.delivery) {
                for (name, entry) in &mut mirror.domains {
                    match lenient(name, &entry.settings, &config.delivery) {
                        Ok(domain) => entry.domain = domain,
                        Err(error) => tracing::error!(domain = name, error, "it stays as it was"),
                    }
                }
                mirror.delivery = Some(config.delivery.clone());
            }
            for name in mirror.domains.keys().filter(|name| mirror.pinned.contains(*name)) {
                tracing::warn!(domain = name, "the file has it too: what was provisioned is not in force");
            }
            let listed = mirror.domains.values().map(|entry| &entry.domain);
            let listed = listed.filter(|domain| is_listed(domain) && !mirror.pinned.contains(&domain.name));
            listed.map(|domain| domain.name.clone()).collect()
        };
        for name in listed {
            let of = name.clone();
            match self.store.run_blocking(move |connection| Ok(list(&connection.transaction()?, &of)?.0)) {
                Ok(list) => self.recipients.domain(&name).use_list(list),
                Err(error) => tracing::error!(domain = name, %error, "its recipients cannot be read"),
            }
        }
    }

    /// The configuration with the domains that are provisioned.
    #[must_use]
    pub fn merged(&self, config: &Config) -> Config {
        let mut merged = config.clone();
        let mirror = self.mirror();
        let own = mirror.domains.values().filter(|entry| !mirror.pinned.contains(&entry.domain.name));
        merged.domains.extend(own.map(|entry| entry.domain.clone()));
        let postmaster_domain = merged.postmaster.rsplit_once('@').map_or("", |(_, domain)| domain);
        let is_protected = merged.domains.iter().any(|domain| domain.name == postmaster_domain);
        if let Some(first) = merged.domains.first().filter(|_| !is_protected) {
            // RFC 5321 4.5.1: somebody has to be postmaster, as with domains of the file alone.
            merged.postmaster = format!("postmaster@{}", first.name);
        }
        merged
    }

    /// A provisioned domain, hidden or not.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<Entry> {
        self.mirror().domains.get(name).cloned()
    }

    /// Whether the file has it.
    #[must_use]
    pub fn is_pinned(&self, name: &str) -> bool {
        self.mirror().pinned.contains(name)
    }

    /// Whether such settings would be taken.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, name: &str, settings: &Settings) -> Result<Domain, Refused> {
        let delivery = self.mirror().delivery.clone().unwrap_or_default();
        parse(name, settings, &delivery).map_err(Refused::Invalid)
    }

    /// Changes a domain as `change` says, which sees what there is: durable and in force on return.
    ///
    /// # Errors
    /// See [`Refused`]; of [`StoreError::Lost`] and [`Refused::Ending`] only the next look tells what was done.
    pub async fn change(
        self: &Arc<Self>,
        name: String,
        change: impl FnOnce(Option<&Entry>) -> Result<Change, Refused> + Send + 'static,
    ) -> Result<Option<Entry>, Refused> {
        let own = Arc::clone(self);
        let work = tokio::spawn(async move { own.change_in_turn(name, change).await });
        work.await.unwrap_or(Err(Refused::Store(StoreError::Lost)))
    }

    async fn change_in_turn(
        &self,
        name: String,
        change: impl FnOnce(Option<&Entry>) -> Result<Change, Refused>,
    ) -> Result<Option<Entry>, Refused> {
        let _turn = self.turn.lock().await;
        if self.is_pinned(&name) {
            return Err(Refused::Pinned);
        }
        let before = self.entry(&name);
        match change(before.as_ref())? {
            Change::Put(settings) => {
                let domain = self.check(&name, &settings)?;
                if before.is_none() && self.mirror().domains.len() >= DOMAINS_PROVISIONED_MAX {
                    return Err(Refused::TooMany);
                }
                let entry = self.keep(name.clone(), settings, domain).await?;
                self.mirror().domains.insert(name.clone(), entry.clone());
                self.apply().await?;
                if !is_listed(&entry.domain) {
                    self.recipients.domain(&name).use_list(Arc::default());
                }
                Ok(Some(entry))
            }
            Change::Remove => {
                let of = name.clone();
                let removed = self.store.run(move |connection| {
                    let transaction = connection.transaction()?;
                    domain::remove(&transaction, &of)?;
                    transaction.commit()
                });
                removed.await?;
                self.mirror().domains.remove(&name);
                self.apply().await?;
                self.recipients.domain(&name).use_list(Arc::default());
                Ok(None)
            }
        }
    }

    /// Makes it durable; where recipients are a list, it is in force before anybody asks for it.
    async fn keep(&self, name: String, settings: Settings, domain: Domain) -> Result<Entry, Refused> {
        let text = Value::Object(settings.clone()).to_string();
        let (of, is_listed) = (name.clone(), is_listed(&domain));
        let kept = self.store.run(move |connection| {
            let transaction = connection.transaction()?;
            let list = if is_listed { Some(list(&transaction, &of)?) } else { None };
            if list.as_ref().is_some_and(|(_, addresses)| *addresses == 0) {
                return Ok(None);
            }
            let row = domain::put(&transaction, &of, &text)?;
            transaction.commit()?;
            Ok(Some((row, list)))
        });
        let (row, list) = kept.await?.ok_or(Refused::NoRecipients)?;
        if let Some((list, _)) = list {
            self.recipients.domain(&name).use_list(list);
        }
        let (revision, created_s, changed_s) = (row.revision, row.created_s, row.changed_s);
        Ok(Entry { settings, revision, created_s, changed_s, domain })
    }

    /// Changes the recipients of a domain by one transaction; they are in force on return, where they are a list. What `work` gives,
    /// and how many there are now.
    ///
    /// # Errors
    /// See [`Refused`]; nothing is changed then.
    pub async fn change_recipients<T: Send + 'static>(
        self: &Arc<Self>,
        name: String,
        work: impl FnOnce(&Transaction<'_>, &str) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(T, u64), Refused> {
        let own = Arc::clone(self);
        let changed = tokio::spawn(async move {
            let _turn = own.turn.lock().await;
            let entry = own.entry(&name).ok_or(Refused::Unknown)?;
            let (of, is_listed) = (name.clone(), is_listed(&entry.domain));
            let changed = own.store.run(move |connection| {
                let transaction = connection.transaction()?;
                let result = work(&transaction, &of)?;
                let count = recipient::count(&transaction, &of)?;
                if count > RECIPIENTS_PROVISIONED_MAX as u64 {
                    return Ok(Err(Refused::TooManyRecipients));
                }
                let list = if is_listed { Some(list(&transaction, &of)?) } else { None };
                if list.as_ref().is_some_and(|(_, addresses)| *addresses == 0) {
                    return Ok(Err(Refused::NoRecipients));
                }
                transaction.commit()?;
                Ok(Ok((result, count, list)))
            });
            let (result, count, list) = changed.await??;
            if let Some((list, _)) = list.filter(|_| !own.is_pinned(&name)) {
                own.recipients.domain(&name).use_list(list);
            }
            Ok((result, count))
        });
        changed.await.unwrap_or(Err(Refused::Store(StoreError::Lost)))
    }

    /// Waits until a snapshot with the mirror as it is now is in force.
    async fn apply(&self) -> Result<(), Refused> {
        let (applied, all) = async_channel::bounded::<()>(1);
        self.changed.send(applied).await.map_err(|_| Refused::Ending)?;
        // Nothing is ever sent: the wait ends when the last shard has it.
        let _ = all.recv().await;
        Ok(())
    }

    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_listed(domain: &Domain) -> bool {
    domain.recipients.recipients == Policy::List
}

/// The list of a domain's recipients, and how many addresses it is made of.
fn list(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<(Arc<RecipientList>, u64)> {
    let mut builder = RecipientListBuilder::default();
    let mut count = 0;
    recipient::each(transaction, name, |address| match builder.add(address, name) {
        Ok(()) => count += 1,
        // It was looked at before it was kept.
        Err(error) => tracing::error!(domain = name, address, %error, "a recipient is left out"),
    })?;
    Ok((Arc::new(builder.finish()), count))
}

/// A domain's own keys with the defaults; what is wrong with them.
fn parse(name: &str, settings: &Settings, delivery: &Delivery) -> Result<Domain, String> {
    let mut whole = settings.clone();
    whole.insert("name".to_owned(), name.into());
    if let Some((key, _)) = whole.iter().find(|(_, value)| value.is_null()) {
        return Err(format!("{key}: null is no value; leave the key out"));
    }
    let text = toml::to_string(&whole).map_err(|error| error.to_string())?;
    Domain::parse_provisioned(&text, delivery).map_err(|error| match error {
        ConfigError::Invalid { key, reason, .. } => format!("{key}: {reason}"),
        error @ ConfigError::Unreadable { .. } => error.to_string(),
    })
}

/// The same of settings that were taken once: what is not understood now is told, and left out.
fn lenient(name: &str, settings: &Settings, delivery: &Delivery) -> Result<Domain, String> {
    let error = match parse(name, settings, delivery) {
        Ok(domain) => return Ok(domain),
        Err(error) => error,
    };
    tracing::error!(
        domain = name,
        error,
        "this version cannot read its settings: defaults hold, with its primaries"
    );
    let essential = settings.iter().filter(|(key, _)| ["primary", "protocol"].contains(&key.as_str()));
    let essential = essential.map(|(key, value)| (key.clone(), value.clone())).collect();
    parse(name, &essential, delivery).map_err(|error| format!("{name}: what the database has of it: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::Directory;
    use super::super::store::{Connection, StoreThread};
    use super::*;
    use serde_json::json;

    fn opened(directory: &Directory, config: &Config) -> (Arc<Provisioned>, Receiver<Applied>, StoreThread) {
        let (store, thread) = Store::open(&directory.0).expect("it opens");
        let (provisioned, wanted) =
            Provisioned::open(store, Arc::default(), config).expect("what is kept can be read");
        (provisioned, wanted, thread)
    }

    fn settings(value: Value) -> Settings {
        value.as_object().expect("an object").clone()
    }

    /// Runs changes while somebody puts them in force.
    fn run<T>(wanted: &Receiver<Applied>, test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let wanted = wanted.clone();
        runtime.block_on(async {
            tokio::spawn(async move { while wanted.recv().await.is_ok() {} });
            test.await
        })
    }

    async fn put(own: &Arc<Provisioned>, name: &str, value: Value) -> Result<Option<Entry>, Refused> {
        let settings = settings(value);
        own.change(name.to_owned(), |_| Ok(Change::Put(settings))).await
    }

    #[test]
    fn a_domain_is_kept_and_in_force_and_follows_the_defaults() {
        let directory = Directory::new("provisioned");
        let mut config = Config::embedded();
        let (own, wanted, thread) = opened(&directory, &config);
        run(&wanted, async {
            let body = json!({ "primary": ["192.0.2.1"], "max_connections": 3 });
            let entry = put(&own, "a.test", body.clone()).await.expect("taken").expect("there");
            assert_eq!(
                (entry.domain.max_connections, entry.domain.retention),
                (3, config.delivery.retention)
            );
            assert_eq!(put(&own, "example.test", body).await.map(drop), Err(Refused::Pinned));
            for (wrong, expected) in [
                (json!({}), "primary: is missing"),
                (json!({ "primary": ["192.0.2.1"], "colour": "red" }), "colour: unknown key"),
                (json!({ "primary": ["192.0.2.1"], "retention": null }), "retention: null is no value"),
                (json!({ "primary": ["192.0.2.1"], "arc": { "key": "/etc/shadow" } }), "arc: "),
            ] {
                match put(&own, "b.test", wrong).await {
                    Err(Refused::Invalid(error)) => assert!(error.starts_with(expected), "{error}"),
                    other => panic!("{other:?}"),
                }
            }
        });
        let names = |config: &Config| {
            own.merged(config).domains.iter().map(|domain| domain.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&config), ["example.test", "a.test"]);
        config.delivery.retention /= 2;
        own.use_configuration(&config);
        assert_eq!(own.merged(&config).domains[1].retention, config.delivery.retention);
        thread.stop();
        config.domains[0].name = "a.test".to_owned();
        let (own, _wanted, thread) = opened(&directory, &config);
        assert_eq!(own.merged(&config).domains.len(), 1, "the file has it");
        assert!(own.entry("a.test").is_some() && own.is_pinned("a.test"));
        config.domains.clear();
        config.postmaster = "postmaster@localhost".to_owned();
        own.use_configuration(&config);
        assert_eq!(own.merged(&config).postmaster, "postmaster@a.test");
        thread.stop();
    }

    #[test]
    fn a_list_never_refuses_everybody() {
        let directory = Directory::new("provisioned-list");
        let config = Config::embedded();
        let (own, wanted, thread) = opened(&directory, &config);
        let listed = || json!({ "primary": ["192.0.2.1"], "recipients": "list" });
        run(&wanted, async {
            assert_eq!(put(&own, "a.test", listed()).await.map(drop), Err(Refused::NoRecipients));
            assert!(own.entry("a.test").is_none(), "nothing was kept");
            put(&own, "a.test", json!({ "primary": ["192.0.2.1"] })).await.expect("taken");
            let add = |transaction: &Transaction<'_>, of: &str| {
                recipient::add(transaction, of, &["one@a.test".to_owned(), "two@a.test".to_owned()])
            };
            assert_eq!(own.change_recipients("a.test".to_owned(), add).await, Ok((2, 2)));
            put(&own, "a.test", listed()).await.expect("taken");
            assert!(own.recipients.domain("a.test").list().contains("two"));
            let clear = own.change_recipients("a.test".to_owned(), recipient::clear);
            assert_eq!(clear.await, Err(Refused::NoRecipients));
            let removed = own.change_recipients("a.test".to_owned(), |transaction, of| {
                recipient::remove(transaction, of, "two@a.test")
            });
            assert_eq!(removed.await, Ok((true, 1)));
        });
        let list = own.recipients.domain("a.test").list();
        assert!(list.contains("one") && !list.contains("two"));
        thread.stop();
        let (own, wanted, thread) = opened(&directory, &config);
        assert!(own.recipients.domain("a.test").list().contains("one"), "it is read at the start");
        run(&wanted, async {
            own.change("a.test".to_owned(), |_| Ok(Change::Remove)).await.expect("removed");
        });
        assert!(own.recipients.domain("a.test").list().is_empty());
        let left =
            own.store.run_blocking(|connection: &mut Connection| recipient::count(connection, "a.test"));
        assert_eq!(left, Ok(0), "its recipients went with it");
        thread.stop();
    }

    #[test]
    fn h13_settings_of_a_newer_version_leave_the_domain_protected() {
        let directory = Directory::new("provisioned-newer");
        let config = Config::embedded();
        let (store, thread) = Store::open(&directory.0).expect("it opens");
        let kept = store.run_blocking(|connection| {
            let transaction = connection.transaction()?;
            let newer = "{\"primary\":[\"192.0.2.1:26\"],\"colour\":\"red\",\"max_connections\":2}";
            domain::put(&transaction, "a.test", newer)?;
            transaction.commit()
        });
        assert_eq!(kept, Ok(()));
        thread.stop();
        let (own, _wanted, thread) = opened(&directory, &config);
        let merged = own.merged(&config);
        assert_eq!(merged.domains[1].primaries.to_string(), "192.0.2.1:26");
        assert_eq!(own.entry("a.test").expect("there").settings["colour"], "red", "it is not lost");
        thread.stop();
    }
}
