//! What STARTTLS shows to senders: the configured certificates, or one that is made and kept in the data directory. What it
//! shows to a primary that asks: the configured one, or nothing.

use crate::bridge::{self, Certificates, ClientTls, Trust};
use crate::config::{CertificateFiles, Config};
use crate::control::certificate::{self, Watch};
use crate::control::trust;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

/// TLS with senders and primaries, in force.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    /// How it is spoken with senders.
    pub(super) config: Arc<ServerConfig>,
    /// What senders are shown.
    pub(super) shown: Arc<Certificates>,
    /// How it is spoken with primaries.
    pub(super) client: Arc<ClientTls>,
    /// Whom we trust.
    pub(super) trust: Trust,
    own: Arc<Certificates>,
    watch: Arc<Watch>,
    client_watch: Arc<Watch>,
}

/// Whether the configured certificates can be used, and whom we are to trust is there.
///
/// # Errors
/// A sentence for the operator that names the file.
pub(super) fn check(config: &Config) -> Result<(), String> {
    for (key, files) in [(SENDERS, config.smtp.tls.clone()), (PRIMARIES, client_files(config))] {
        certificate::load(&files).map_err(|error| format!("{key}: {error}"))?;
    }
    trust::read(config).map(drop)
}

impl Tls {
    /// Reads or makes the certificates; the data directory is ours.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn start(config: &Config) -> Result<Self, String> {
        let files = files(config)?;
        let certificates = Certificates::new(certificate::load(&files)?);
        let server = bridge::server_config(Arc::clone(&certificates)).map_err(|error| error.to_string())?;
        let client_files = client_files(config);
        let own = Certificates::new(certificate::load(&client_files)?);
        let trust = trust::read(config)?;
        Ok(Self {
            config: server,
            shown: Arc::clone(&certificates),
            client: client(&own, &trust),
            trust,
            own: Arc::clone(&own),
            watch: Arc::new(Watch::new(certificates, files)),
            client_watch: Arc::new(Watch::new(own, client_files)),
        })
    }

    /// What looks for changed files, each with the key that they stand behind.
    pub(super) fn watches(&self) -> Vec<(&'static str, Arc<Watch>)> {
        vec![(SENDERS, Arc::clone(&self.watch)), (PRIMARIES, Arc::clone(&self.client_watch))]
    }

    /// Trusts whom these domains need, where they are others than before: whether they are.
    ///
    /// # Errors
    /// A sentence for the operator; nothing is changed then.
    pub(super) fn trust_for(&mut self, config: &Config) -> Result<bool, String> {
        if *self.trust.policies_of == trust::policies_of(config) {
            return Ok(false);
        }
        let trust = trust::read(config)?;
        (self.client, self.trust) = (client(&self.own, &trust), trust);
        Ok(true)
    }

    /// Shows what another configuration says; sessions that are secured go on as they are.
    ///
    /// # Errors
    /// A sentence for the operator; nothing is changed then.
    pub(super) fn reload(&mut self, config: &Config) -> Result<(), String> {
        let trust = trust::read(config)?;
        let loaded = certificate::load(&client_files(config)).map(drop);
        loaded.map_err(|error| format!("{PRIMARIES}: {error}"))?;
        self.watch.use_files(files(config)?).map_err(|error| format!("{SENDERS}: {error}"))?;
        self.client_watch.use_files(client_files(config)).map_err(|error| format!("{PRIMARIES}: {error}"))?;
        (self.client, self.trust) = (client(&self.own, &trust), trust);
        Ok(())
    }
}

fn client(own: &Arc<Certificates>, trust: &Trust) -> Arc<ClientTls> {
    ClientTls::new(Arc::clone(own), RootCertStore::clone(&trust.roots))
}

const SENDERS: &str = "smtp.tls";
const PRIMARIES: &str = "delivery.client_certificate";

fn client_files(config: &Config) -> Vec<CertificateFiles> {
    config.delivery.client_certificate.iter().cloned().collect()
}

fn files(config: &Config) -> Result<Vec<CertificateFiles>, String> {
    if !config.smtp.tls.is_empty() {
        return Ok(config.smtp.tls.clone());
    }
    Ok(vec![certificate::self_signed(&config.data_dir, &config.hostname)?])
}
