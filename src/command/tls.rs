//! What STARTTLS shows: the configured certificates, or one that is made and kept in the data directory.

use crate::bridge::{self, Certificates};
use crate::config::{CertificateFiles, Config};
use crate::control::certificate::{self, Watch};
use rustls::ServerConfig;
use std::sync::Arc;

/// TLS with senders, in force.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    /// How it is spoken.
    pub(super) config: Arc<ServerConfig>,
    /// Looks for changed files.
    pub(super) watch: Arc<Watch>,
}

/// Whether the configured certificates can be used.
///
/// # Errors
/// A sentence for the operator that names the file.
pub(super) fn check(config: &Config) -> Result<(), String> {
    certificate::load(&config.smtp.tls).map(drop)
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
        Ok(Self { config: server, watch: Arc::new(Watch::new(certificates, files)) })
    }

    /// Shows what another configuration says; sessions that are secured go on as they are.
    ///
    /// # Errors
    /// A sentence for the operator; nothing is changed then.
    pub(super) fn reload(&self, config: &Config) -> Result<(), String> {
        self.watch.use_files(files(config)?)
    }
}

fn files(config: &Config) -> Result<Vec<CertificateFiles>, String> {
    if !config.smtp.tls.is_empty() {
        return Ok(config.smtp.tls.clone());
    }
    Ok(vec![certificate::self_signed(&config.data_dir, &config.hostname)?])
}
