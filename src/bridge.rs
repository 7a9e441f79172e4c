//! Where the planes meet: bounded channels and immutable snapshots. The only file that both import.
//!
//! A shard asks the lookup thread a question and waits for its answer; neither ever blocks the other: a full
//! channel makes the asking task wait, not its core. A [`Snapshot`] of the configuration is built once,
//! shared by all and replaced as a whole.

mod acquaintance;
mod authentication;
mod certificates;
mod client_tls;
mod drill;
mod end_sent;
mod fingerprint;
pub mod operator;
mod orders;
mod owing;
mod passage;
mod recipients;
mod records;
mod security;
mod usage;

use crate::config::{ArcSeal, Config, Domain};
use crate::limits::LOOKUP_QUEUE;
use crate::smtp::server::ServerProfile;
pub use acquaintance::{Acquaintance, Change, Known as KnownHost, Meeting, Memory, Stranger};
use async_channel::{Receiver, Sender};
pub use authentication::{
    Authenticated, AuthenticationQuestion, Authenticator, BodyHashes, MessageQuestion, SealKey, SealQuestion,
    SenderQuestion, Stored,
};
pub use certificates::{Certificates, server_config};
#[cfg(test)]
pub(crate) use client_tls::authority;
pub use client_tls::{ClientTls, Observed, Published, TlsaRecord, key_digest};
use core::net::{IpAddr, SocketAddr};
pub use drill::Drill;
pub use end_sent::EndSent;
pub use fingerprint::{Answer, Fingerprint, Session};
pub use orders::{Maintenance, Orders, Redirect, Standing};
pub use owing::Owing;
pub use passage::Passage;
pub use recipients::{
    DomainRecipients, Evidence, Instants, ListError, RecipientList, RecipientListBuilder, Recipients,
    Remembered, Source, folded, without_detail,
};
pub use records::RecordKind;
use rustls::{RootCertStore, ServerConfig};
pub use security::{SecureExchangers, SecurityQuestion, Tlsa, Trust};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
pub use usage::{DomainUsage, Transport, UnitEnd, Usage};

/// What the lookup thread is asked, and told.
#[derive(Debug)]
pub enum Question {
    /// The addresses of a host.
    Addresses {
        /// The host's name.
        host: String,
        /// Where the answer goes.
        answer: Sender<Result<Vec<IpAddr>, LookupError>>,
    },
    /// The mail exchangers of a domain.
    Exchangers {
        /// The domain.
        domain: String,
        /// Where the answer goes.
        answer: Sender<Result<Vec<Exchanger>, LookupError>>,
    },
    /// Other records of a name.
    Records {
        /// Which.
        kind: RecordKind,
        /// The name, or an address.
        name: String,
        /// Where the answer goes.
        answer: Sender<Result<Vec<String>, LookupError>>,
    },
    /// Ask these name servers from now on; none: those of /etc/resolv.conf.
    NameServers(Vec<SocketAddr>),
}

/// A mail exchanger of a domain (RFC 974, RFC 5321 5.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchanger {
    /// Lower comes first.
    pub preference: u16,
    /// The host in lower case, without a dot at the end; empty: none takes mail (RFC 7505).
    pub host: String,
}

/// Why a name has no addresses, or exchangers, for us now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LookupError {
    /// The name or its addresses do not exist: an answer.
    #[error("the name does not exist, or has no address")]
    NoAddress,
    /// No answer: try again later.
    #[error("name resolution failed: {0}")]
    Temporary(String),
}

/// The shards' end of the lookup thread.
#[derive(Clone, Debug)]
pub struct Lookup {
    questions: Sender<Question>,
    security: Sender<SecurityQuestion>,
    authenticator: Authenticator,
}

/// The lookup thread's end.
#[derive(Debug)]
pub struct Asked {
    /// Whoever asks waits for the answer.
    pub questions: Receiver<Question>,
    /// The same, about how hosts are to be secured.
    pub security: Receiver<SecurityQuestion>,
    /// Nobody does.
    pub authentications: Receiver<AuthenticationQuestion>,
}

/// Both ends of the lookup channel.
#[must_use]
pub fn lookup_channel() -> (Lookup, Asked) {
    let (sender, questions) = async_channel::bounded(LOOKUP_QUEUE);
    let (authenticator, authentications) = Authenticator::new();
    let (security, security_asked) = security::channel();
    let lookup = Lookup { questions: sender, security, authenticator };
    (lookup, Asked { questions, security: security_asked, authentications })
}

impl Lookup {
    /// The addresses of `host`, in the order to try them.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let (answer, answered) = async_channel::bounded(1);
        self.ask(Question::Addresses { host: host.to_owned(), answer }, &answered).await
    }

    /// The mail exchangers of `domain`, in no order; the domain itself where it names none (RFC 5321 5.1).
    ///
    /// # Errors
    /// See [`LookupError`]; `NoAddress`: there is no such domain.
    pub async fn exchangers(&self, domain: &str) -> Result<Vec<Exchanger>, LookupError> {
        let (answer, answered) = async_channel::bounded(1);
        self.ask(Question::Exchangers { domain: domain.to_owned(), answer }, &answered).await
    }

    async fn ask<T>(
        &self,
        question: Question,
        answered: &Receiver<Result<T, LookupError>>,
    ) -> Result<T, LookupError> {
        self.questions.send(question).await.map_err(|_| gone())?;
        answered.recv().await.map_err(|_| gone())?
    }

    /// Where the origin of mail is asked about.
    #[must_use]
    pub const fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// Other name servers, from the next question on.
    pub fn use_nameservers(&self, nameservers: Vec<SocketAddr>) {
        // The thread ends with the last shard only: while somebody can ask, it is there.
        let _ = self.questions.send_blocking(Question::NameServers(nameservers));
    }
}

fn gone() -> LookupError {
    LookupError::Temporary("the lookup thread is gone".to_owned())
}

/// The configuration as the shards use it: immutable, shared, replaced as a whole.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// What all server sessions share.
    pub profile: Arc<ServerProfile>,
    /// How TLS is spoken with senders; none: STARTTLS is not offered.
    pub tls: Option<Arc<ServerConfig>>,
    /// What senders are shown by it; none where nobody has to know.
    pub certificates: Option<Arc<Certificates>>,
    /// How TLS is spoken with primaries.
    pub client_tls: Arc<ClientTls>,
    /// What is stored: the same in every snapshot of a process.
    pub usage: Arc<Usage>,
    domains: HashMap<String, usize>,
    /// Counts of the domains, in the order of the configuration.
    usages: Vec<Arc<DomainUsage>>,
    /// What is known of the recipients of the domains, in the same order.
    recipients: Vec<Arc<DomainRecipients>>,
    /// What mail for them is sealed with, in the same order.
    seals: Vec<Option<Arc<SealKey>>>,
}

/// The snapshot in force, for those who are not told by notes.
#[derive(Debug)]
pub struct Current(RwLock<Arc<Snapshot>>);

impl Current {
    /// This one.
    #[must_use]
    pub const fn new(snapshot: Arc<Snapshot>) -> Self {
        Self(RwLock::new(snapshot))
    }

    /// The one in force.
    #[must_use]
    pub fn get(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another one is.
    pub fn set(&self, snapshot: Arc<Snapshot>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

impl Snapshot {
    /// The snapshot of `config`, with the counts of the process.
    #[must_use]
    pub fn new(config: Config, usage: Arc<Usage>) -> Self {
        let profile = Arc::new(ServerProfile {
            hostname: config.hostname.clone(),
            max_message_size: config.smtp.max_message_size_bytes,
            max_recipients: config.smtp.max_recipients,
            starttls: false,
            withheld: Vec::new(),
        });
        let names = config.domains.iter().enumerate();
        let domains = names.map(|(place, domain)| (domain.name.clone(), place)).collect();
        let usages = config.domains.iter().map(|domain| usage.domain(&domain.name)).collect();
        let recipients = config.domains.iter().map(|_| Arc::default()).collect();
        let seals = vec![None; config.domains.len()];
        let client_tls = ClientTls::new(Certificates::new(Vec::new()), RootCertStore::empty());
        Self {
            config,
            profile,
            tls: None,
            certificates: None,
            client_tls,
            usage,
            domains,
            usages,
            recipients,
            seals,
        }
    }

    /// The same, with what the process knows of recipients.
    #[must_use]
    pub fn with_recipients(mut self, recipients: &Recipients) -> Self {
        self.recipients = self.config.domains.iter().map(|domain| recipients.domain(&domain.name)).collect();
        self
    }

    /// The same, with keys to seal with, by what the configuration says of each.
    #[must_use]
    pub fn with_seals(mut self, keys: &HashMap<ArcSeal, Arc<SealKey>>) -> Self {
        let key = |domain: &Domain| domain.arc.as_ref().and_then(|arc| keys.get(arc)).map(Arc::clone);
        self.seals = self.config.domains.iter().map(key).collect();
        self
    }

    /// The same, with TLS: STARTTLS is offered.
    #[must_use]
    pub fn with_tls(mut self, tls: Arc<ServerConfig>) -> Self {
        Arc::make_mut(&mut self.profile).starttls = true;
        self.tls = Some(tls);
        self
    }

    /// The same, with what senders are shown.
    #[must_use]
    pub fn with_certificates(mut self, certificates: &Arc<Certificates>) -> Self {
        self.certificates = Some(Arc::clone(certificates));
        self
    }

    /// The same, with another way to speak TLS with primaries.
    #[must_use]
    pub fn with_client_tls(mut self, client_tls: Arc<ClientTls>) -> Self {
        self.client_tls = client_tls;
        self
    }

    /// A protected domain, by its name in lower case.
    #[must_use]
    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.get(name).map(|place| &self.config.domains[*place])
    }

    /// What mail for a protected domain is sealed with, by its name in lower case.
    #[must_use]
    pub fn seal_of(&self, name: &str) -> Option<&Arc<SealKey>> {
        self.domains.get(name).and_then(|place| self.seals[*place].as_ref())
    }

    /// What is known of the recipients of a protected domain, by its name in lower case.
    #[must_use]
    pub fn recipients_of(&self, name: &str) -> Option<&Arc<DomainRecipients>> {
        self.domains.get(name).map(|place| &self.recipients[*place])
    }

    /// What a domain has stored, protected or not, by its name in lower case.
    #[must_use]
    pub fn usage_of(&self, name: &str) -> Arc<DomainUsage> {
        match self.domains.get(name) {
            Some(place) => Arc::clone(&self.usages[*place]),
            None => self.usage.domain(name),
        }
    }
}
