//! What the operator is told without asking: outages, and alerts about what needs him.
//!
//! ```text
//! status of all domains ─> outage (pure): began, returned, ended, ledger ─┐
//!   every few seconds  └─> rules (pure): conditions that hold now         ├─> book (pure): what is told, once ─> outbox ─> sinks
//!                                                                          ┘    opened, repeated, over, flapping    (database)  mail, webhook, SMS
//! ```
//!
//! - The shards are asked for their rows as any client of the API asks; a shard that does not answer is a condition itself.
//! - Rules and book are pure functions of what was seen and the time; sinks know nothing of rules.
//! - What is told is a row of the outbox, in one transaction with the alert that it tells of, before it leaves: a restart loses nothing and tells nothing
//!   twice but what was on its way. A sink that fails is tried again, ever more rarely, for three days.
//! - Words that leave together go together: what comes within a few seconds is one message to each contact (digest).

pub mod book;
mod drift;
mod http;
mod mail;
pub mod outage;
pub mod proof;
mod proving;
pub mod rules;
mod sms;
mod state;
mod watch;
mod webhook;

pub(super) use mail::is_mailbox;
pub use proving::run as prove;
pub use watch::{Watch, run};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an alert is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A mail server cannot be reached, or does not serve us.
    PrimaryDown,
    /// It answers, and puts everything off.
    PrimaryImpaired,
    /// The bounce guard stopped a domain's mail.
    Frozen,
    /// It is another than it was.
    PrimaryChanged,
    /// Mail is about to expire.
    Expiry,
    /// Held mail is about to end without a notice.
    HeldExpiry,
    /// The disk fills up.
    Spool,
    /// A shard does not answer, and may take no mail.
    Storage,
    /// A certificate that we show is near its end, or a new one cannot be had.
    Certificate,
    /// Records of a domain do not bring its mail here any more.
    Drift,
    /// The disk of the appliance fails, or is about to.
    DiskHealth,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::PrimaryDown,
        Self::PrimaryImpaired,
        Self::Frozen,
        Self::PrimaryChanged,
        Self::Expiry,
        Self::HeldExpiry,
        Self::Spool,
        Self::Storage,
        Self::Certificate,
        Self::Drift,
        Self::DiskHealth,
    ];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::PrimaryDown => "primary-down",
            Self::PrimaryImpaired => "primary-impaired",
            Self::Frozen => "frozen",
            Self::PrimaryChanged => "primary-changed",
            Self::Expiry => "expiry",
            Self::HeldExpiry => "held-expiry",
            Self::Spool => "spool",
            Self::Storage => "storage",
            Self::Certificate => "certificate",
            Self::Drift => "drift",
            Self::DiskHealth => "disk-health",
        }
    }

    /// The kind of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// How much it matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is to be done.
    Information,
    /// Something will have to be done.
    Warning,
    /// Something is to be done now.
    Critical,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Information => "information",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The severity of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Information, Self::Warning, Self::Critical].into_iter().find(|one| one.word() == word)
    }
}

/// Something that holds now and that the operator should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// What it is about.
    pub kind: Kind,
    /// The domain; empty: the whole server.
    pub domain: String,
    /// How much it matters.
    pub severity: Severity,
    /// A sentence, with what to do next.
    pub text: String,
}

/// Who is told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Sink {
    /// A mailbox.
    Mail {
        /// The address.
        to: String,
    },
    /// A web server that takes JSON by POST, signed.
    Webhook {
        /// Its address, https or http.
        url: String,
        /// HMAC-SHA256 key of the signature.
        secret: String,
    },
    /// A telephone, by Twilio or whoever takes the same request.
    Sms {
        /// Account.
        account: String,
        /// Its secret.
        auth_token: String,
        /// From which number.
        from: String,
        /// To which one.
        to: String,
        /// Instead of Twilio's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base_url: Option<String>,
    },
    /// A telephone, by any other provider: a request with {to} and {text} filled in.
    Template {
        /// The address; {to} and {text} in it are escaped.
        url: String,
        /// The body; {to} and {text} in it are escaped as its media type wants it. Empty: a GET.
        #[serde(default)]
        body: String,
        /// `application/json`, `application/x-www-form-urlencoded` or `text/plain`.
        #[serde(default)]
        media_type: String,
        /// An Authorization header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        authorization_secret: Option<String>,
        /// To which number.
        to: String,
    },
}

impl Sink {
    /// Where it goes, without secrets.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Self::Webhook { url, .. } => url,
            Self::Mail { to } | Self::Sms { to, .. } | Self::Template { to, .. } => to,
        }
    }

    /// The word for its kind.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Mail { .. } => "mail",
            Self::Webhook { .. } => "webhook",
            Self::Sms { .. } => "sms",
            Self::Template { .. } => "template",
        }
    }
}

/// What leaves to a contact.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Message {
    /// A line.
    pub subject: String,
    /// All of it, for people.
    pub text: String,
    /// The same for programs.
    pub events: Vec<serde_json::Value>,
}
