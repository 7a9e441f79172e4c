//! The configuration: typed, read once, every value with its unit.
//!
//! TOML text becomes one [`Config`] or a [`ConfigError`] that names file, line and key; nothing is guessed and
//! nothing is accepted and ignored. A key or value of a feature that is not built yet is refused by name, with
//! what is in force until then. [`Config::effective`] prints what holds, as TOML that reads back to the same
//! value.
//!
//! This file holds the types and their defaults, and is the only one that reads the file. What each key means
//! is in `parse.rs`, how a value knows its place in `reader.rs`, quantities in [`mod@unit`], names in [`mod@host`],
//! networks in [`mod@cidr`].

mod acme;
mod admin;
mod arc;
pub mod cidr;
mod domain;
mod edge;
mod effective;
mod files;
mod fixed;
pub mod host;
mod notices;
pub mod parse;
mod policy;
mod primaries;
mod provisioned;
mod reader;
mod recipients;
pub mod unit;

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

pub use acme::{Acme, Challenge, ExternalAccount};
pub use admin::{Admin, AdminTls};
pub use arc::ArcSeal;
pub use cidr::Cidr;
use host::parse_domain;
pub use host::{Host, Primaries, Primary, Protocol, SMTP_PORT, canonical_domain};
pub use reader::ConfigError;
pub use recipients::{RecipientPolicy, Recipients, UnknownDuringOutage};
use unit::format_size;

use crate::limits;

/// The file that is read when none is named, if it is there.
pub const FILE_DEFAULT: &str = "stratamx.toml";
/// The port of HTTPS, where MTA-STS policies are (RFC 8461 3.2).
const HTTPS_PORT: u16 = 443;
/// Where the embedded configuration listens and where its primary is.
const EMBEDDED_PORT: u16 = 2525;

/// The domain of notices' recipients in the store: nobody can have it (RFC 2606), so it is no protected one.
pub const NOTICES_DOMAIN: &str = "notices.invalid";

/// Everything that an operator can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our name in the greeting, in EHLO and in Received.
    pub hostname: String,
    /// Where mail to `<postmaster>` without a domain goes; its domain is a protected one.
    pub postmaster: String,
    /// Where the shards keep their segments; as it was written, so relative to the working directory.
    pub data_dir: PathBuf,
    /// Number of shards.
    pub cores: Cores,
    /// What we listen on and what a session may do.
    pub smtp: Smtp,
    /// Segments and disk space.
    pub storage: Storage,
    /// Defaults of all domains, already folded into `domains`.
    pub delivery: Delivery,
    /// Name resolution.
    pub dns: Dns,
    /// The admin API.
    pub admin: Admin,
    /// The authority of our own certificate; `None`: it is signed by its own key.
    pub acme: Option<Acme>,
    /// Protected domains: in the order of the file, then those that came through the API. Of a file without the admin API
    /// at least one.
    pub domains: Vec<Domain>,
}

/// Number of shards: one executor a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cores {
    /// All but one, which is left to the kernel's threads for disk and network and to the control plane; one where there is one.
    Auto,
    /// As many as the machine offers.
    All,
    /// This many, at least 1.
    Count(u32),
}

/// The `[smtp]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// Addresses to listen on, at least one.
    pub listen: Vec<SocketAddr>,
    /// Largest message in octets.
    pub max_message_size_bytes: u64,
    /// Most recipients of a transaction.
    pub max_recipients: u32,
    /// Most connections at a time.
    pub max_connections: u32,
    /// Most connections at a time from one address.
    pub max_connections_per_ip: u32,
    /// How fast one address may come.
    pub rate: Rates,
    /// Who tells by a PROXY header which client he speaks for: load balancers.
    pub proxy_from: Vec<Cidr>,
    /// What STARTTLS shows, the default first; empty: a self-signed one is made and kept in `data_dir`.
    pub tls: Vec<CertificateFiles>,
    /// Who may say XCLIENT.
    pub xclient_from: Vec<Cidr>,
}

/// The `[smtp.rate]` table: a minute's worth may come at once; 0: no bound. One address is an IPv4 address or the /64
/// of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Connections; more get `421 4.7.0`.
    pub connections_per_minute_per_ip: u32,
    /// Messages; more get `451 4.7.1` at MAIL.
    pub messages_per_minute_per_ip: u32,
}

/// A certificate with its chain, and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then those that it is signed by.
    pub cert: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
}

/// The `[storage]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Octets of a segment file, a multiple of 4096.
    pub segment_size_bytes: u64,
    /// With less free space than this, new mail gets `452 4.3.1`.
    pub min_free_space_bytes: u64,
    /// The file with the keys of mail at rest; none: it is not encrypted.
    pub key_file: Option<PathBuf>,
    /// How long what became of messages can be asked for; zero: it is not kept.
    pub trace_retention: Duration,
}

/// The `[delivery]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Longest time between two probes of a primary that is down.
    pub retry_interval: Duration,
    /// How long mail is kept for the primary.
    pub retention: Duration,
    /// What becomes of mail that is older than that.
    pub on_expiry: OnExpiry,
    /// How long held mail is kept for the operator; then it expires.
    pub held_retention: Duration,
    /// How long what was delivered is kept, so that it can be sent once more; 0: not at all.
    pub safety_net: Duration,
    /// What becomes of a message that the primary refuses for good.
    pub on_reject: OnReject,
    /// Most connections to the primary at a time.
    pub max_connections: u32,
    /// Whether SPF, DKIM and DMARC are looked into.
    pub authenticate: bool,
    /// Whether mail goes to primaries through TLS.
    pub tls: PrimaryTls,
    /// The certificate that is shown to a primary that asks for one. The same for all domains.
    pub client_certificate: Option<CertificateFiles>,
    /// A file with authorities that are trusted beside the system's. The same for all domains.
    pub tls_roots: Option<PathBuf>,
    /// The port of the web servers of MTA-STS policies. The same for all domains.
    pub mta_sts_port: u16,
    /// Whether a clock must say that it is synchronised before anything expires. The same for all domains.
    pub expiry_clock: ExpiryClockTrust,
    /// Who takes notices; none: the mail exchangers of whom they are for.
    pub smarthost: Option<Primary>,
    /// What mail is sealed with.
    pub arc: Option<ArcSeal>,
}

/// Whether mail goes to a primary through TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryTls {
    /// Never.
    None,
    /// Where it is offered; without, where the handshake fails (RFC 7435).
    Opportunistic,
    /// Always: mail waits for one that offers it.
    Require,
    /// As the domain's MTA-STS policy has it (RFC 8461); opportunistic where there is none.
    MtaSts,
    /// As the TLSA records of the host have it (RFC 7672); where there are none, as [`Self::MtaSts`].
    Dane,
}

/// What becomes of a message that the primary refuses for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReject {
    /// Its sender is told, where that is he; else it is kept for the operator (P5).
    Bounce,
    /// It is dropped, and counted.
    Discard,
    /// It is kept for the operator.
    Hold,
}

/// What becomes of mail that was kept for as long as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExpiry {
    /// Its sender is told, where that is he; else it is kept for the operator (P5).
    Bounce,
    /// It expires, and is counted.
    Discard,
    /// It is kept for the operator, for as long as held mail is.
    Hold,
}

/// What expiry asks of the clock (H5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryClockTrust {
    /// The system says that wall time is synchronised; as long as it does not, nothing expires.
    Synchronised,
    /// The operator says so.
    Trusted,
}

/// The `[dns]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Name servers in order; empty: those of /etc/resolv.conf.
    pub nameservers: Vec<SocketAddr>,
    /// A file with DNSKEY records that DNSSEC begins from, beside the root's.
    pub trust_anchor: Option<PathBuf>,
}

/// What becomes of mail while the primary is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenUp {
    /// The sender is told to go to the primary.
    Defer,
    /// It is carried through to the primary while the sender waits.
    #[default]
    Proxy,
    /// It is taken, and sent on at once.
    Relay,
}

impl fmt::Display for WhenUp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Defer => "defer",
            Self::Proxy => "proxy",
            Self::Relay => "relay",
        })
    }
}

/// A protected domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The domain in lower case, as A-labels.
    pub name: String,
    /// Where its mail goes.
    pub primaries: Primaries,
    /// Who its recipients are.
    pub recipients: RecipientPolicy,
    /// What becomes of its mail while its primaries are well.
    pub when_up: WhenUp,
    /// Longest time between two probes of its primaries when they are down.
    pub retry_interval: Duration,
    /// How long mail is kept for them.
    pub retention: Duration,
    /// What becomes of mail that is older than that.
    pub on_expiry: OnExpiry,
    /// How long held mail is kept for the operator; then it expires.
    pub held_retention: Duration,
    /// How long what was delivered is kept, so that it can be sent once more; 0: not at all.
    pub safety_net: Duration,
    /// What becomes of a message that they refuse for good.
    pub on_reject: OnReject,
    /// Most connections to them at a time.
    pub max_connections: u32,
    /// Whether mail goes to them through TLS.
    pub tls: PrimaryTls,
    /// Whether SPF, DKIM and DMARC are looked into for its mail, after it was accepted.
    pub authenticate: bool,
    /// How much may be queued and held.
    pub quota: Quota,
    /// Who may say ETRN for it, besides those of its hosts that are addresses.
    pub etrn_from: Vec<Cidr>,
    /// Who takes notices about its mail; none: the mail exchangers of whom they are for.
    pub smarthost: Option<Primary>,
    /// What its mail is sealed with.
    pub arc: Option<ArcSeal>,
}

/// How much a domain may have queued and held; 0: no bound but the fair share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Quota {
    /// Messages.
    pub messages: u32,
    /// Octets of their records.
    pub octets: u64,
}

/// Where a configuration came from, so that it can be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The defaults inside the program.
    Embedded,
    /// A file.
    File(PathBuf),
}

impl Config {
    /// Reads the named file; else `./stratamx.toml` if it is there; else takes the embedded configuration.
    pub fn discover(file: Option<&Path>) -> Result<(Self, Source), ConfigError> {
        let path = file.unwrap_or(Path::new(FILE_DEFAULT));
        match read(path) {
            Err(error) if file.is_none() && error.kind() == ErrorKind::NotFound => {
                Ok((Self::embedded(), Source::Embedded))
            }
            bytes => Ok((Self::from_bytes(path, bytes)?, Source::File(path.to_owned()))),
        }
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::from_bytes(path, read(path))
    }

    /// What holds without a file: a loopback listener and one domain, `example.test`.
    pub fn embedded() -> Self {
        let delivery = Delivery::default();
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let domain = Domain {
            name: "example.test".to_owned(),
            primaries: Primaries::Hosts(vec![Primary {
                host: Host::Address(loopback),
                port: EMBEDDED_PORT + 1,
                protocol: Protocol::Smtp,
            }]),
            recipients: RecipientPolicy::default(),
            when_up: WhenUp::default(),
            retry_interval: delivery.retry_interval,
            retention: delivery.retention,
            on_expiry: delivery.on_expiry,
            held_retention: delivery.held_retention,
            safety_net: delivery.safety_net,
            on_reject: delivery.on_reject,
            max_connections: delivery.max_connections,
            tls: delivery.tls,
            authenticate: delivery.authenticate,
            quota: Quota::default(),
            etrn_from: Vec::new(),
            smarthost: None,
            arc: None,
        };
        Self {
            hostname: machine_name(),
            postmaster: format!("postmaster@{}", domain.name),
            data_dir: PathBuf::from("./stratamx-data"),
            cores: Cores::Auto,
            smtp: Smtp { listen: vec![SocketAddr::new(loopback, EMBEDDED_PORT)], ..Smtp::default() },
            storage: Storage::default(),
            delivery,
            dns: Dns { nameservers: Vec::new(), trust_anchor: None },
            admin: Admin::default(),
            acme: None,
            domains: vec![domain],
        }
    }

    fn from_bytes(path: &Path, bytes: std::io::Result<Vec<u8>>) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let unreadable = |reason: String| ConfigError::Unreadable { file: file.clone(), reason };
        let text = String::from_utf8(bytes.map_err(|error| unreadable(error.to_string()))?)
            .map_err(|error| unreadable(error.to_string()))?;
        if text.len() as u64 > limits::CONFIG_OCTETS_MAX {
            return Err(unreadable(format!("larger than {}", format_size(limits::CONFIG_OCTETS_MAX))));
        }
        Self::parse(&text, &file)
    }
}

impl Source {
    /// Reads the same source again.
    pub fn load(&self) -> Result<Config, ConfigError> {
        match self {
            Self::Embedded => Ok(Config::embedded()),
            Self::File(path) => Config::load(path),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => formatter.write_str("the embedded default"),
            Self::File(path) => write!(formatter, "{}", path.display()),
        }
    }
}

impl Default for Smtp {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0; 4], SMTP_PORT)), SocketAddr::from(([0; 16], SMTP_PORT))],
            max_message_size_bytes: 100 << 20,
            max_recipients: limits::RECIPIENTS_MAX,
            max_connections: 10_000,
            max_connections_per_ip: 50,
            rate: Rates::default(),
            proxy_from: Vec::new(),
            tls: Vec::new(),
            xclient_from: Vec::new(),
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        // Far above what one sender's queue brings when a domain's primary fails, far below what one machine can.
        Self { connections_per_minute_per_ip: 3_000, messages_per_minute_per_ip: 60_000 }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            segment_size_bytes: 64 << 20,
            min_free_space_bytes: 1 << 30,
            key_file: None,
            trace_retention: Duration::from_secs(30 * 86_400),
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        let retention = Duration::from_secs(30 * 86_400);
        Self {
            retry_interval: Duration::from_secs(300),
            retention,
            on_expiry: OnExpiry::Bounce,
            held_retention: retention,
            safety_net: Duration::ZERO,
            on_reject: OnReject::Bounce,
            max_connections: 5,
            authenticate: true,
            tls: PrimaryTls::Opportunistic,
            client_certificate: None,
            tls_roots: None,
            mta_sts_port: HTTPS_PORT,
            expiry_clock: ExpiryClockTrust::Synchronised,
            smarthost: None,
            arc: None,
        }
    }
}

impl PrimaryTls {
    /// Whether what the domain publishes decides.
    #[must_use]
    pub const fn asks_for_policy(self) -> bool {
        matches!(self, Self::Dane | Self::MtaSts)
    }
}

impl fmt::Display for PrimaryTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Opportunistic => "opportunistic",
            Self::Require => "require",
            Self::MtaSts => "mta-sts",
            Self::Dane => "dane",
        })
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("\"auto\""),
            Self::All => formatter.write_str("\"all\""),
            Self::Count(count) => write!(formatter, "{count}"),
        }
    }
}

impl fmt::Display for OnReject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bounce => "bounce",
            Self::Discard => "discard",
            Self::Hold => "hold",
        })
    }
}

impl fmt::Display for OnExpiry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bounce => "bounce",
            Self::Discard => "discard",
            Self::Hold => "hold",
        })
    }
}

impl fmt::Display for ExpiryClockTrust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Synchronised => "synchronised",
            Self::Trusted => "trusted",
        })
    }
}

/// The machine's own name, or `localhost` if it is none that SMTP can say.
fn machine_name() -> String {
    let name =
        read(Path::new("/proc/sys/kernel/hostname")).ok().and_then(|name| String::from_utf8(name).ok());
    name.and_then(|name| parse_domain(name.trim()).ok()).unwrap_or_else(|| "localhost".to_owned())
}

/// Reads a file, at most one octet more than a configuration may have; also key files and certificates, which it names.
#[expect(clippy::disallowed_methods, reason = "the one place where a configuration file is read")]
pub(crate) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limits::CONFIG_OCTETS_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a file that we keep in the data directory.
#[expect(
    clippy::disallowed_methods,
    reason = "a file of the control plane, which has no disk of the data plane"
)]
pub(crate) fn read_kept(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a list of recipients, to be read by lines; it may be far larger than what [`read`] reads.
#[expect(clippy::disallowed_methods, reason = "a file that the configuration names")]
pub(crate) fn open_list(path: &Path) -> std::io::Result<BufReader<std::io::Take<File>>> {
    Ok(BufReader::with_capacity(1 << 16, File::open(path)?.take(limits::RECIPIENT_LIST_OCTETS_MAX + 1)))
}
