//! What STARTTLS shows to senders and the admin API to its clients: the configured certificates, or our own, which an authority issued or which is
//! made, and kept in the data directory. What is shown to a primary that asks: the configured one, or nothing.

use crate::bridge::{self, Certificates, ClientTls, Trust};
use crate::config::{AdminTls, CertificateFiles, Config};
use crate::control::acme;
use crate::control::certificate::{self, Watch};
use crate::control::trust;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

/// TLS with senders, primaries and the API's clients, in force.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    /// How it is spoken with senders.
    pub(super) config: Arc<ServerConfig>,
    /// How it is spoken with clients of the admin API; `None`: it is not.
    pub(super) admin: Option<Arc<ServerConfig>>,
    /// What senders are shown.
    pub(super) shown: Arc<Certificates>,
    /// How it is spoken with primaries.
    pub(super) client: Arc<ClientTls>,
    /// Whom we trust.
    pub(super) trust: Trust,
    own: Arc<Certificates>,
    watch: Arc<Watch>,
    client_watch: Arc<Watch>,
    admin_watch: Option<Arc<Watch>>,
    answers: Arc<acme::Answers>,
}

/// Whether the configured certificates can be used, and whom we are to trust is there.
///
/// # Errors
/// A sentence for the operator that names the file.
pub(super) fn check(config: &Config) -> Result<(), String> {
    let admin = match &config.admin.tls {
        AdminTls::Files(files) => vec![files.clone()],
        AdminTls::None | AdminTls::Own => Vec::new(),
    };
    for (key, files) in
        [(SENDERS, config.smtp.tls.clone()), (ADMIN, admin), (PRIMARIES, client_files(config))]
    {
        certificate::load(&files).map_err(|error| format!("{key}: {error}"))?;
    }
    acme::check(config)?;
    trust::read(config).map(drop)
}

impl Tls {
    /// Reads or makes the certificates; the data directory is ours.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn start(config: &Config) -> Result<Self, String> {
        let (files, is_own) = files(config)?;
        let certificates = Certificates::new(certificate::load(&files)?);
        let server = bridge::server_config(Arc::clone(&certificates)).map_err(|error| error.to_string())?;
        let client_files = client_files(config);
        let own = Certificates::new(certificate::load(&client_files)?);
        let trust = trust::read(config)?;
        let answers = Arc::<acme::Answers>::default();
        let admin = admin_files(config)?;
        let admin_watch = match admin {
            Some((files, is_own)) => {
                let certificates = Certificates::new(certificate::load(&files)?);
                Some(Arc::new(Watch::new(certificates, files, is_own)))
            }
            None => None,
        };
        let admin = match &admin_watch {
            Some(watch) => Some(admin_config(Arc::clone(watch.certificates()), Arc::clone(&answers))?),
            None => None,
        };
        Ok(Self {
            config: server,
            admin,
            shown: Arc::clone(&certificates),
            client: client(&own, &trust),
            trust,
            own: Arc::clone(&own),
            watch: Arc::new(Watch::new(certificates, files, is_own)),
            client_watch: Arc::new(Watch::new(own, client_files, false)),
            admin_watch,
            answers,
        })
    }

    /// What looks for changed files, each with the key that they stand behind.
    pub(super) fn watches(&self) -> Vec<(&'static str, Arc<Watch>)> {
        let admin = self.admin_watch.iter().map(|watch| (ADMIN, Arc::clone(watch)));
        let all = [(SENDERS, Arc::clone(&self.watch)), (PRIMARIES, Arc::clone(&self.client_watch))];
        all.into_iter().chain(admin).collect()
    }

    /// What an authority's certificate needs: the listeners are bound.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn acme(&self, config: &Config) -> Result<acme::Parts, String> {
        let addresses = config.acme.iter().flat_map(|acme| &acme.listen);
        let listeners = addresses.map(|address| acme::bind(*address)).collect::<Result<_, _>>()?;
        let watches = [Some(&self.watch), self.admin_watch.as_ref()].into_iter().flatten().cloned().collect();
        Ok(acme::Parts { watches, answers: Arc::clone(&self.answers), listeners, ..acme::Parts::default() })
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
        check(config)?;
        let trust = trust::read(config)?;
        let ((files, is_own), admin) = (files(config)?, admin_files(config)?);
        self.watch.use_files(files, is_own).map_err(|error| format!("{SENDERS}: {error}"))?;
        if let (Some(watch), Some((files, is_own))) = (&self.admin_watch, admin) {
            watch.use_files(files, is_own).map_err(|error| format!("{ADMIN}: {error}"))?;
        }
        let of_client = client_files(config);
        self.client_watch.use_files(of_client, false).map_err(|error| format!("{PRIMARIES}: {error}"))?;
        (self.client, self.trust) = (client(&self.own, &trust), trust);
        Ok(())
    }
}

fn client(own: &Arc<Certificates>, trust: &Trust) -> Arc<ClientTls> {
    ClientTls::new(Arc::clone(own), RootCertStore::clone(&trust.roots))
}

const SENDERS: &str = "smtp.tls";
const ADMIN: &str = "admin.tls";
const PRIMARIES: &str = "delivery.client_certificate";

fn client_files(config: &Config) -> Vec<CertificateFiles> {
    config.delivery.client_certificate.iter().cloned().collect()
}

/// What senders are shown, and whether that is our own.
fn files(config: &Config) -> Result<(Vec<CertificateFiles>, bool), String> {
    if config.smtp.tls.is_empty() {
        Ok((vec![own_files(config)?], true))
    } else {
        Ok((config.smtp.tls.clone(), false))
    }
}

/// What the API's clients are shown, the same.
fn admin_files(config: &Config) -> Result<Option<(Vec<CertificateFiles>, bool)>, String> {
    Ok(match &config.admin.tls {
        AdminTls::None => None,
        AdminTls::Own => Some((vec![own_files(config)?], true)),
        AdminTls::Files(files) => Some((vec![files.clone()], false)),
    })
}

/// The certificate of the authority, if there is to be one and it has come; else the self-signed one.
fn own_files(config: &Config) -> Result<CertificateFiles, String> {
    match config.acme.as_ref().and_then(|_| acme::files(&config.data_dir)) {
        Some(files) => Ok(files),
        None => certificate::self_signed(&config.data_dir, &config.hostname),
    }
}

/// As with senders; and an authority that asks by a handshake whether a name is ours finds its answer.
fn admin_config(
    certificates: Arc<Certificates>,
    answers: Arc<acme::Answers>,
) -> Result<Arc<ServerConfig>, String> {
    let config = bridge::server_config(Arc::clone(&certificates)).map_err(|error| error.to_string())?;
    let mut config = ServerConfig::clone(&config);
    config.alpn_protocols = vec![b"http/1.1".to_vec(), acme::ALPN.to_vec()];
    config.cert_resolver = Arc::new(Shown { certificates, answers });
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Shown {
    certificates: Arc<Certificates>,
    answers: Arc<acme::Answers>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if acme::asks(&hello) { self.answers.resolve(hello) } else { self.certificates.resolve(hello) }
    }
}
