//! Domains that come through the API, and their recipients: kept in the database, mirrored in memory, put in force.
//!
//! The mirror is what mail relies on: a snapshot is the file's domains, then these ([`Provisioned::merged`]). A change is durable
//! first, then in the mirror, then in force on all shards; only then it is answered. It takes its turn, and goes on to its end when
//! its client has given up, so that mirror and database never part.
//!
//! - A domain of the file is *pinned*: it hides one of the same name here, and no request changes it.
//! - Settings are kept as they were given. What they leave out follows `[delivery]`, also when that changes.
//! - Lists are put in force by the database's thread alone, in the order of its commits, and never over one of the file.
//! - A list of recipients refuses mail for good: a domain is switched to one only when it has addresses, and its last one cannot go.
//! - Settings that this version cannot read (an update was rolled back, H13) leave a domain protected, with defaults and its primaries,
//!   or its MX records where those cannot be read: refusing its mail would lose it.

use super::store::{Store, StoreError, Transaction, domain, recipient};
use super::trust;
use crate::auth::contained::Contained;
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

/// Who is postmaster where no file says so, and no domain is pinned.
const NOBODY: &str = "postmaster@localhost";

/// Dropped when what had changed is in force on all shards.
pub type Applied = Sender<()>;

#[derive(Debug, Default)]
struct Mirror {
    delivery: Option<Delivery>,
    /// Whether anybody vouches for the web servers of policies.
    has_authorities: bool,
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
            let settings: Settings = serde_json::from_str(&row.settings).unwrap_or_default();
            let domain = lenient(&row.name, &settings, &config.delivery)?;
            let (revision, created_s, changed_s) = (row.revision, row.created_s, row.changed_s);
            domains.insert(row.name, Entry { settings, revision, created_s, changed_s, domain });
        }
        // One waits for another: there is one turn.
        let (changed, wanted) = async_channel::bounded(1);
        let mirror = Mutex::new(Mirror { domains, ..Mirror::default() });
        let provisioned =
            Arc::new(Self { store, recipients, mirror, turn: tokio::sync::Mutex::default(), changed });
        provisioned.pin(config);
        provisioned.use_configuration(config)?;
        Ok((provisioned, wanted))
    }

    /// The file has these domains from now on: no list of theirs is touched any more.
    pub fn pin(&self, config: &Config) {
        self.mirror().pinned = config.domains.iter().map(|domain| domain.name.clone()).collect();
    }

    /// Another file is in force from the next snapshot on, whose domains are pinned and whose lists are in force. Blocks.
    ///
    /// # Errors
    /// A sentence for the operator: lists that cannot be read are not in force.
    pub fn use_configuration(self: &Arc<Self>, config: &Config) -> Result<(), String> {
        let has_authorities = !trust::web_roots(config).is_empty();
        let listed: Vec<String> = {
            let mut mirror = self.mirror();
            mirror.has_authorities = has_authorities;
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
            let listed =
                mirror.domains.values().map(|entry| &entry.domain).filter(|domain| is_listed(domain));
            // One that is in force is what the database has.
            let listed = listed.filter(|domain| self.recipients.domain(&domain.name).list().is_empty());
            listed.map(|domain| domain.name.clone()).collect()
        };
        for name in listed {
            let (own, of) = (Arc::clone(self), name.clone());
            let read = self.store.run_blocking(move |connection| {
                let (list, _) = list(&connection.transaction()?, &of)?;
                own.install(&of, list);
                Ok(())
            });
            read.map_err(|error| format!("{name}: its recipients cannot be read: {error}"))?;
        }
        Ok(())
    }

    /// Puts a list in force, unless the file has the domain. Only the database's thread does, so an older one is never put over a newer.
    fn install(&self, name: &str, list: Arc<RecipientList>) {
        let mirror = self.mirror();
        if !mirror.pinned.contains(name) {
            self.recipients.domain(name).use_list(list);
        }
    }

    /// The configuration with the domains that are provisioned.
    #[must_use]
    pub fn merged(&self, config: &Config) -> Config {
        let mut merged = config.clone();
        let pinned: HashSet<&str> = config.domains.iter().map(|domain| domain.name.as_str()).collect();
        let mirror = self.mirror();
        let own = mirror.domains.values().filter(|entry| !pinned.contains(entry.domain.name.as_str()));
        merged.domains.extend(own.map(|entry| entry.domain.clone()));
        if let Some(first) = merged.domains.first().filter(|_| config.postmaster == NOBODY) {
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
        let (delivery, has_authorities) = {
            let mirror = self.mirror();
            (mirror.delivery.clone().unwrap_or_default(), mirror.has_authorities)
        };
        let domain = parse(name, settings, &delivery).map_err(Refused::Invalid)?;
        if domain.tls.asks_for_policy() && !has_authorities {
            // Without any, each policy would look like none.
            let error = "tls: mta-sts and dane need certificate authorities: the system has none, and delivery.tls_roots names none";
            return Err(Refused::Invalid(error.to_owned()));
        }
        Ok(domain)
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
        let work = Contained::new(async move { own.change_in_turn(name, change).await });
        let done = tokio::spawn(work).await.ok().flatten();
        done.unwrap_or(Err(Refused::Store(StoreError::Lost)))
    }

    async fn change_in_turn(
        self: &Arc<Self>,
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
                    self.forget_list(name).await?;
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
                self.forget_list(name).await?;
                Ok(None)
            }
        }
    }

    /// Nobody looks at it any more.
    async fn forget_list(self: &Arc<Self>, name: String) -> Result<(), Refused> {
        let own = Arc::clone(self);
        let forgotten = self.store.run(move |_| {
            own.install(&name, Arc::default());
            Ok(())
        });
        Ok(forgotten.await?)
    }

    /// Makes it durable; where recipients are a list, it is in force before anybody asks for it.
    async fn keep(
        self: &Arc<Self>,
        name: String,
        settings: Settings,
        domain: Domain,
    ) -> Result<Entry, Refused> {
        let text = Value::Object(settings.clone()).to_string();
        let (own, of, is_listed) = (Arc::clone(self), name, is_listed(&domain));
        let kept = self.store.run(move |connection| {
            let transaction = connection.transaction()?;
            let list = if is_listed { Some(list(&transaction, &of)?) } else { None };
            if list.as_ref().is_some_and(|(_, addresses)| *addresses == 0) {
                return Ok(None);
            }
            let row = domain::put(&transaction, &of, &text)?;
            transaction.commit()?;
            if let Some((list, _)) = list {
                own.install(&of, list);
            }
            Ok(Some(row))
        });
        let row = kept.await?.ok_or(Refused::NoRecipients)?;
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
        let changed = Contained::new(async move {
            let _turn = own.turn.lock().await;
            let entry = own.entry(&name).ok_or(Refused::Unknown)?;
            let (installing, is_listed) = (Arc::clone(&own), is_listed(&entry.domain));
            let changed = own.store.run(move |connection| {
                let transaction = connection.transaction()?;
                let result = work(&transaction, &name)?;
                let count = recipient::count(&transaction, &name)?;
                if count > RECIPIENTS_PROVISIONED_MAX as u64 {
                    return Ok(Err(Refused::TooManyRecipients));
                }
                let list = if is_listed { Some(list(&transaction, &name)?) } else { None };
                if list.as_ref().is_some_and(|(_, addresses)| *addresses == 0) {
                    return Ok(Err(Refused::NoRecipients));
                }
                transaction.commit()?;
                if let Some((list, _)) = list {
                    installing.install(&name, list);
                }
                Ok(Ok((result, count)))
            });
            changed.await?
        });
        let done = tokio::spawn(changed).await.ok().flatten();
        done.unwrap_or(Err(Refused::Store(StoreError::Lost)))
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
    if settings.contains_key("name") {
        return Err("name: stands in the path, and does not change".to_owned());
    }
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
    parse(name, &essential, delivery).or_else(|error| {
        tracing::error!(domain = name, error, "nor where its mail goes: its MX records say that until then");
        let published = Settings::from_iter([("primary".to_owned(), Value::from("mx"))]);
        parse(name, &published, delivery).map_err(|error| format!("{name}: {error}"))
    })
}

#[cfg(test)]
mod tests;
