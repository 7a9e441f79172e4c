//! What the lookup thread is asked about how a domain's hosts are to be secured: DANE and MTA-STS.
//!
//! A channel of its own: an answer may wait for a web server, and no question about a name waits behind it.

use super::client_tls::TlsaRecord;
use super::{Exchanger, Lookup, LookupError};
use crate::limits::SECURITY_QUEUE;
use crate::message::mta_sts::Policy;
use async_channel::{Receiver, Sender};
use rustls::RootCertStore;
use std::collections::HashSet;
use std::sync::Arc;

/// A question; whoever asks waits for the answer.
#[derive(Debug)]
pub enum SecurityQuestion {
    /// The mail exchangers of a domain, and whether DNSSEC says so.
    Exchangers {
        /// The domain.
        domain: String,
        /// Where the answer goes.
        answer: Sender<Result<SecureExchangers, LookupError>>,
    },
    /// The MTA-STS policy of a domain.
    Policy {
        /// The domain.
        domain: String,
        /// Where the answer goes.
        answer: Sender<Result<Option<Arc<Policy>>, LookupError>>,
    },
    /// The TLSA records of a host.
    Tlsa {
        /// The host's name.
        host: String,
        /// The port that it is connected to.
        port: u16,
        /// Where the answer goes.
        answer: Sender<Result<Option<Tlsa>, LookupError>>,
    },
    /// Trust these from now on.
    Trust(Trust),
}

/// Whom the lookup thread trusts beyond what is built in.
#[derive(Clone, Debug)]
pub struct Trust {
    /// DNSKEY records that DNSSEC begins from, beside the root's.
    pub trust_anchor: Option<Arc<str>>,
    /// Who vouches for the web servers of policies.
    pub roots: Arc<RootCertStore>,
    /// Their port.
    pub mta_sts_port: u16,
    /// Domains whose policies are asked for; those of others are forgotten.
    pub policies_of: Arc<HashSet<String>>,
}

/// Mail exchangers of a domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecureExchangers {
    /// In no order; the domain itself where it names none (RFC 5321 5.1).
    pub exchangers: Vec<Exchanger>,
    /// Whether DNSSEC says so.
    pub is_secure: bool,
}

/// What a host publishes about its certificate, with DNSSEC's word for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tlsa {
    /// The name that the records are of (RFC 7672 2.2.3): what the host is asked for.
    pub base: String,
    /// At least one, usable or not.
    pub records: Vec<TlsaRecord>,
}

/// Both ends.
pub(super) fn channel() -> (Sender<SecurityQuestion>, Receiver<SecurityQuestion>) {
    async_channel::bounded(SECURITY_QUEUE)
}

impl Lookup {
    /// The mail exchangers of `domain`, in no order, and whether DNSSEC says so.
    ///
    /// # Errors
    /// As [`Lookup::exchangers`]; an answer that DNSSEC says is forged is none.
    pub async fn secure_exchangers(&self, domain: &str) -> Result<SecureExchangers, LookupError> {
        let (answer, answered) = async_channel::bounded(1);
        self.ask_security(SecurityQuestion::Exchangers { domain: domain.to_owned(), answer }, &answered).await
    }

    /// The MTA-STS policy of `domain`; `None`: it has none, or none that could be had (RFC 8461 3.3).
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn policy(&self, domain: &str) -> Result<Option<Arc<Policy>>, LookupError> {
        let (answer, answered) = async_channel::bounded(1);
        self.ask_security(SecurityQuestion::Policy { domain: domain.to_owned(), answer }, &answered).await
    }

    /// The TLSA records of `host` at `port`; `None`: DNSSEC says that there are none, or says nothing about the host.
    ///
    /// # Errors
    /// There may be some: no answer, or one that DNSSEC says is forged (RFC 7672 2.1.1).
    pub async fn tlsa(&self, host: &str, port: u16) -> Result<Option<Tlsa>, LookupError> {
        let (answer, answered) = async_channel::bounded(1);
        self.ask_security(SecurityQuestion::Tlsa { host: host.to_owned(), port, answer }, &answered).await
    }

    /// Other anchors and authorities, from the next question on.
    pub fn use_trust(&self, trust: Trust) {
        // The thread ends with the last shard only: while somebody can ask, it is there.
        let _ = self.security.send_blocking(SecurityQuestion::Trust(trust));
    }

    async fn ask_security<T>(
        &self,
        question: SecurityQuestion,
        answered: &Receiver<Result<T, LookupError>>,
    ) -> Result<T, LookupError> {
        self.security.send(question).await.map_err(|_| super::gone())?;
        answered.recv().await.map_err(|_| super::gone())?
    }
}
