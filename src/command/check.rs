//! `stratamx check`: validates the configuration and prints what holds.
//!
//! Standard output is TOML that reads back to the same configuration. Standard error tells the source, and one
//! line for each plain default that stands in for a feature that is not built yet.

use std::io::Write;
use std::path::Path;

use super::Exit;
use crate::config::{Config, Domain, Host, OnExpiry, OnReject, Protocol, RecipientPolicy, WhenUp};
use crate::control::recipients;

/// Runs the command on the named file, else on what [`Config::discover`] finds.
pub fn run(file: Option<&Path>) -> Exit {
    let (config, source) = match super::configuration(file) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    if let Err(error) = super::keys::load(&config.storage) {
        eprintln!("{error}");
        return Exit::Usage;
    }
    if let Err(error) = super::tls::check(&config) {
        eprintln!("{error}");
        return Exit::Usage;
    }
    if let Err(error) = super::seals::load(&config) {
        eprintln!("{error}");
        return Exit::Usage;
    }
    if let Err(error) = super::admin::check(&config) {
        eprintln!("{error}");
        return Exit::Usage;
    }
    if let Err(error) = recipients::load(&config) {
        eprintln!("recipient_list: {error}");
        return Exit::Usage;
    }
    eprintln!("{source} is valid; {} domain(s) protected", config.domains.len());
    for note in notes(&config).into_iter().chain(tls_notes(&config)) {
        eprintln!("note: {note}");
    }
    match write!(std::io::stdout(), "{}", config.effective()) {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("cannot write to standard output: {error}");
            Exit::Failed
        }
    }
}

/// The defaults in force whose other values are not built yet.
fn notes(config: &Config) -> Vec<&'static str> {
    let mut notes = Vec::new();
    let is_never_carried =
        |domain: &&Domain| domain.when_up == WhenUp::Proxy && domain.primaries.protocol() == Protocol::Lmtp;
    if config.domains.iter().any(|domain| is_never_carried(&domain)) {
        notes.push(
            "when_up = \"proxy\" means \"relay\" where the primary speaks LMTP: its replies, one a recipient, cannot be told to a \
             sender who has one reply for all",
        );
    }
    let bounces =
        |domain: &Domain| domain.on_reject == OnReject::Bounce || domain.on_expiry == OnExpiry::Bounce;
    if config.domains.iter().any(|domain| bounces(domain) && !domain.authenticate) {
        notes.push(
            "authenticate: where it is false no reverse-path is proven, so what would be bounced is held",
        );
    }
    let is_idle = |policy: &RecipientPolicy| policy.list.is_some() && policy.list_in_force().is_none();
    if config.domains.iter().any(|domain| is_idle(&domain.recipients)) {
        notes.push("recipient_list: a list that is named is read with recipients = \"list\" only");
    }
    if config.smtp.tls.is_empty() {
        notes.push("smtp.tls: none is named; a self-signed certificate is made and kept in data_dir");
    }
    match config.admin.listen {
        None => {
            notes.push("admin.listen: there is no admin listener; stratamx status, domain and queue need one")
        }
        Some(address) if !address.ip().is_loopback() => {
            notes.push("admin.listen: tokens and what is asked for cross the network in plain HTTP; admin.tls is not built yet");
        }
        Some(_) => {}
    }
    notes
}

/// What `tls` means where it depends on what is published.
fn tls_notes(config: &Config) -> Vec<&'static str> {
    let mut notes = Vec::new();
    let asking = || config.domains.iter().filter(|domain| domain.tls.asks_for_policy());
    let hosts = || asking().flat_map(|domain| domain.primaries.hosts());
    if hosts().any(|host| matches!(host.host, Host::Name(_))) {
        notes.push(
            "tls: of a primary that is named an enforced MTA-STS policy wants a trusted certificate for that name, not that its mx \
             lines name it",
        );
    }
    if hosts().any(|host| matches!(host.host, Host::Address(_))) {
        notes.push(
            "tls: a primary that is an address has no TLSA records, and no certificate that an enforced MTA-STS policy takes, unless \
             it is one for that address",
        );
    }
    notes
}
