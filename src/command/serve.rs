//! `stratamx serve`: opens the store, starts the planes, waits for signals.
//!
//! SIGTERM and SIGINT: sessions are told 421, everything appended is made durable, the process ends within 10 s.
//! SIGHUP: the configuration is read again; all but both listens, data_dir, cores and segment_size take effect.

use super::admin::Admin;
use super::tls::Tls;
use super::{Exit, logging, opened};
use crate::auth::contained::is_contained;
use crate::bridge::SealKey;
use crate::bridge::operator::Request;
use crate::bridge::{Lookup, Recipients, Snapshot, Usage, lookup_channel};
use crate::config::{ArcSeal, Config, Cores, Source};
use crate::control::acquaintances::Acquaintances;
use crate::control::files::FilesThread;
use crate::control::lookup;
use crate::control::mta_sts::Policies;
use crate::control::orders::OrderBook;
use crate::control::recipients::{self, Keeper, Loaded};
use crate::limits::{DELIVERY_DESCRIPTORS_A_SHARD, DESCRIPTORS_RESERVED, JOURNAL_SEGMENT_OCTETS};
use crate::shard::executor::{self, Found, ShardHandle, ShardStart, StartError, Summary};
use crate::shard::mesh::{self, Mesh, Note};
use crate::shard::node::{self, Common};
use async_channel::{Receiver, Sender};
use core::net::SocketAddr;
use core::time::Duration;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use storage::clock::SystemClock;
use storage::crypt::Keys;
use storage::disk::dma::DirectoryLock;
use storage::position::ShardId;
use storage::store::{Opened, StoreOptions};

/// Keys to seal mail with.
type Seals = HashMap<ArcSeal, Arc<SealKey>>;

/// A running server.
#[derive(Debug)]
pub struct Server {
    senders: Vec<Sender<Note>>,
    lookup: Lookup,
    handles: Vec<ShardHandle>,
    config: Config,
    source: Source,
    /// What is stored, whatever configuration is in force.
    usage: Arc<Usage>,
    /// What is known of recipients, the same.
    recipients: Arc<Recipients>,
    keeper: Arc<Keeper>,
    files_thread: Option<FilesThread>,
    admin: Option<Admin>,
    /// The addresses that it listens on.
    pub addresses: Vec<SocketAddr>,
    keys: Arc<Keys>,
    seals: Seals,
    tls: Tls,
    _lock: DirectoryLock,
}

/// Runs the command.
#[must_use]
pub fn run(file: Option<&Path>, without: &[u16]) -> Exit {
    let (mut config, source) = match super::configuration(file) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let keys = match super::keys::load(&config.storage) {
        Ok(keys) => Arc::new(keys),
        Err(error) => {
            eprintln!("{error}");
            return Exit::Usage;
        }
    };
    if let Err(error) = super::tls::check(&config) {
        eprintln!("{error}");
        return Exit::Usage;
    }
    let seals = match super::seals::load(&config) {
        Ok(seals) => seals,
        Err(error) => {
            eprintln!("{error}");
            return Exit::Usage;
        }
    };
    if let Err(error) = super::admin::check(&config) {
        eprintln!("{error}");
        return Exit::Usage;
    }
    let lists = match recipients::load(&config) {
        Ok(lists) => lists,
        Err(error) => {
            eprintln!("recipient_list: {error}");
            return Exit::Usage;
        }
    };
    let log = logging::start();
    end_with_a_panic(log.lines());
    // Before anything starts: a signal that comes early is not lost.
    let signals = match Signals::new([SIGHUP, SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("signals cannot be had: {error}")),
    };
    fit_descriptors(&mut config);
    let without = without.iter().copied().map(ShardId).collect();
    match Server::start(config, source, keys, (lists, seals), without) {
        Ok(server) => {
            introduce(&server);
            server.run(signals)
        }
        Err(error) => fail(&error),
    }
}

/// How long a process that panicked waits for the reader of its log.
const LAST_LINES_PATIENCE: Duration = Duration::from_millis(200);

/// A shard that panicked must not leave a process that looks alive: clients would connect to its socket and
/// others wait for its notes. Everything promised is durable; whoever supervises us starts us again.
fn end_with_a_panic(lines: Arc<logging::Lines>) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if !is_contained() {
            // What was told just before it says why.
            lines.end(LAST_LINES_PATIENCE);
            std::process::abort();
        }
    }));
}

/// Takes as many descriptors as the process may have, and bounds connections by what logs and deliveries leave.
fn fit_descriptors(config: &mut Config) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.or(limit.current).unwrap_or(u64::MAX);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit on descriptors stays as it is");
    }
    let deliveries = cpus(config.cores).len() as u64 * DELIVERY_DESCRIPTORS_A_SHARD;
    let left = most - (DESCRIPTORS_RESERVED + deliveries).min(most / 2);
    if left < u64::from(config.smtp.max_connections) {
        let bound = u32::try_from(left).unwrap_or(u32::MAX);
        tracing::warn!(
            max_connections = bound,
            descriptors = most,
            "max_connections is bounded by the limit on descriptors"
        );
        config.smtp.max_connections = bound;
    }
}

fn fail(error: &str) -> Exit {
    eprintln!("stratamx: {error}");
    Exit::Failed
}

impl Server {
    /// Opens the store and starts all threads.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn start(
        config: Config,
        source: Source,
        keys: Arc<Keys>,
        (lists, seals): (Vec<Loaded>, Seals),
        without: Vec<ShardId>,
    ) -> Result<Self, String> {
        let lock = DirectoryLock::acquire(&config.data_dir).map_err(|error| error.to_string())?;
        let tls = Tls::start(&config)?;
        let cpus = cpus(config.cores);
        let shards = u16::try_from(cpus.len()).map_err(|_| "too many cores".to_owned())?;
        let clock = SystemClock::start();
        let options =
            StoreOptions { shards, journal_octets: JOURNAL_SEGMENT_OCTETS, keys: Arc::clone(&keys), without };
        let usage = Arc::<Usage>::default();
        let (opened, notices) =
            executor::open_store(config.data_dir.clone(), options, clock, Arc::clone(&usage))?;
        opened::report(&opened);
        let (lookup, asked) = lookup_channel();
        let policies = Policies::restored(&config.data_dir);
        lookup::start(config.dns.nameservers.clone(), tls.trust.clone(), Arc::clone(&policies), asked)
            .map_err(|error| error.to_string())?;
        let recipients = Arc::<Recipients>::default();
        let keeper = Arc::new(Keeper::new(Arc::clone(&recipients), &config.data_dir));
        keeper.restore();
        keeper.use_lists(lists);
        let acquaintances = Acquaintances::restored(Arc::clone(&usage), &config.data_dir);
        let files_thread = FilesThread::start(Arc::clone(&keeper), acquaintances, policies, tls.watches());
        let files_thread = files_thread.map_err(|error| error.to_string())?;
        let meshes = mesh::mesh(shards);
        let senders = meshes.first().map(|mesh| mesh.senders.clone()).unwrap_or_default();
        let mut server = Self {
            senders,
            lookup,
            handles: Vec::new(),
            addresses: Vec::new(),
            config,
            source,
            usage,
            recipients,
            keeper,
            files_thread: Some(files_thread),
            admin: None,
            keys,
            seals,
            tls,
            _lock: lock,
        };
        let orders = OrderBook::open(&server.config.data_dir, Arc::clone(&server.usage))?;
        let (mut admin, asked) = Admin::prepare(&server.config, server.snapshot(), orders, shards)?;
        server.start_shards(opened, notices, &cpus, meshes, asked, clock)?;
        admin.start()?;
        server.admin = Some(admin);
        Ok(server)
    }

    fn start_shards(
        &mut self,
        opened: Opened,
        notices: Vec<Found>,
        cpus: &[Option<usize>],
        meshes: Vec<Mesh>,
        asked: Vec<Receiver<Request>>,
        clock: SystemClock,
    ) -> Result<(), String> {
        let common = Common {
            snapshot: self.snapshot(),
            keys: Arc::clone(&self.keys),
            lookup: self.lookup.clone(),
            journal_octets: JOURNAL_SEGMENT_OCTETS,
            caps: Arc::default(),
            deferrals: Arc::default(),
        };
        let parts = node::deal(opened, notices, meshes, &common);
        for ((parts, operator), cpu) in parts.into_iter().zip(asked).zip(cpus) {
            let (started, answer) = async_channel::bounded(1);
            let start = ShardStart {
                parts,
                data_dir: self.config.data_dir.clone(),
                clock,
                operator,
                started,
                listen: self.listen_addresses(),
            };
            self.handles.push(executor::start(*cpu, start)?);
            match answer.recv_blocking() {
                Ok(Ok(addresses)) => self.addresses = addresses,
                Ok(Err(error)) => return Err(self.give_up(&error)),
                Err(_) => return Err("a shard ended while it started".to_owned()),
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let snapshot = Snapshot::new(self.config.clone(), Arc::clone(&self.usage));
        let snapshot = snapshot.with_recipients(&self.recipients).with_tls(Arc::clone(&self.tls.config));
        Arc::new(snapshot.with_client_tls(Arc::clone(&self.tls.client)).with_seals(&self.seals))
    }

    /// As configured; where the system chose a port for the first shard, the others share it.
    fn listen_addresses(&self) -> Vec<SocketAddr> {
        if self.addresses.is_empty() { self.config.smtp.listen.clone() } else { self.addresses.clone() }
    }

    fn give_up(&mut self, error: &StartError) -> String {
        self.tell(&Note::Shutdown);
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
        error.to_string()
    }

    /// Works off signals until the end.
    fn run(mut self, mut signals: Signals) -> Exit {
        for signal in signals.forever() {
            match signal {
                SIGHUP => self.reload(),
                _ => break,
            }
        }
        let summary = self.stop();
        tracing::info!(
            messages = summary.messages,
            accepted = summary.accepted,
            delivered = summary.delivered,
            bounced = summary.bounced,
            held = summary.held,
            expired = summary.expired,
            damaged = summary.damaged,
            "stopped"
        );
        Exit::Done
    }

    /// Ends all shards; returns what they counted.
    pub fn stop(mut self) -> Summary {
        tracing::info!("stopping");
        self.tell(&Note::Shutdown);
        let mut sum = Summary::default();
        for handle in self.handles.drain(..) {
            match handle.join() {
                Ok(summary) => sum.add(&summary),
                Err(error) => tracing::error!(%error, "a shard ended badly"),
            }
        }
        if let Some(admin) = &mut self.admin {
            admin.stop();
        }
        // Behind the last shard, which may have learned something.
        if let Some(thread) = self.files_thread.take() {
            thread.stop();
        }
        sum
    }

    fn tell(&self, note: &Note) {
        for sender in &self.senders {
            // A shard that has ended needs no note.
            let _ = sender.send_blocking(note.clone());
        }
    }

    fn reload(&mut self) {
        let new = match self.source.load() {
            Ok(new) => new,
            Err(error) => {
                tracing::error!(%error, "SIGHUP: the configuration in force stays");
                return;
            }
        };
        let added = super::keys::load(&new.storage).and_then(|keys| {
            self.keys.extend(&keys).map_err(|error| format!("storage.key_file: mail is {error}"))
        });
        if let Err(error) = added {
            tracing::error!(error, "SIGHUP: the configuration in force stays");
            return;
        }
        let lists = match recipients::load(&new) {
            Ok(lists) => lists,
            Err(error) => {
                tracing::error!(error, "SIGHUP: recipient_list: the configuration in force stays");
                return;
            }
        };
        let seals = match super::seals::load(&new) {
            Ok(seals) => seals,
            Err(error) => {
                tracing::error!(error, "SIGHUP: the configuration in force stays");
                return;
            }
        };
        let new = keep_fixed(&self.config, new);
        let token = match self.admin.as_ref().map_or(Ok(None), |admin| admin.read_token(&new)) {
            Ok(token) => token,
            Err(error) => {
                tracing::error!(error, "SIGHUP: the configuration in force stays");
                return;
            }
        };
        if let Err(error) = self.tls.reload(&new) {
            tracing::error!(error, "SIGHUP: the configuration in force stays");
            return;
        }
        self.keeper.use_lists(lists);
        self.seals = seals;
        self.config = new;
        fit_descriptors(&mut self.config);
        self.lookup.use_nameservers(self.config.dns.nameservers.clone());
        self.lookup.use_trust(self.tls.trust.clone());
        let snapshot = self.snapshot();
        let (taken, all) = async_channel::bounded(1);
        if let Some(admin) = &self.admin {
            admin.reload(Arc::clone(&snapshot), token.as_deref());
        }
        self.tell(&Note::Configuration(snapshot, taken));
        // Nothing is ever sent: the wait ends when the last shard has dropped its note.
        let _ = all.recv_blocking();
        tracing::info!(domains = self.config.domains.len(), "SIGHUP: configuration reloaded");
    }
}

/// The new configuration, with the old values where a change needs a restart.
fn keep_fixed(old: &Config, mut new: Config) -> Config {
    let fixed = [
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("smtp.listen", old.smtp.listen != new.smtp.listen),
        ("data_dir", old.data_dir != new.data_dir),
        ("cores", old.cores != new.cores),
        ("storage.segment_size", old.storage.segment_size_bytes != new.storage.segment_size_bytes),
    ];
    for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
        tracing::error!(key, "SIGHUP: this change needs a restart; the old value stays");
    }
    new.admin.listen = old.admin.listen;
    new.smtp.listen.clone_from(&old.smtp.listen);
    new.data_dir.clone_from(&old.data_dir);
    new.cores = old.cores;
    new.storage.segment_size_bytes = old.storage.segment_size_bytes;
    new
}

/// The cores to run on, one a shard: of those that this process may use, as far as they go.
fn cpus(cores: Cores) -> Vec<Option<usize>> {
    let allowed: Vec<usize> = match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(_) => (0..std::thread::available_parallelism().map_or(1, core::num::NonZero::get)).collect(),
    };
    let wanted = match cores {
        Cores::All => allowed.len(),
        Cores::Count(count) => usize::try_from(count).unwrap_or(allowed.len()),
    };
    // More shards than cores share them as the system sees fit.
    let pinned = wanted <= allowed.len();
    (0..wanted).map(|shard| allowed.get(shard).copied().filter(|_| pinned)).collect()
}

/// Says where the server is, and how to send a first message.
fn introduce(server: &Server) {
    for address in &server.addresses {
        tracing::info!(%address, "listening");
    }
    let (Some(address), Some(domain)) = (server.addresses.first(), server.config.domains.first()) else {
        return;
    };
    if server.source != Source::Embedded {
        return;
    }
    let name = &domain.name;
    let Some(primary) = domain.primaries.hosts().first() else { return };
    let (host, port) = (address.ip(), address.port());
    let sink = std::env::current_exe().unwrap_or_default().with_file_name("stratamx-sink");
    eprintln!(
        "\nStrataMX keeps mail for {name} until {primary} can be reached. In another terminal, a first message:\n\n  \
         swaks --server {host}:{port} --from me@example.org --to you@{name}    # taken, and kept\n  \
         {} --listen {primary} --keep inbox &    # the mail server comes back\n  \
         sleep 16; cat inbox/*.eml    # and has it, at the next try\n  \
         stratamx status    # in this directory, at any time: what waits, and why\n",
        sink.display(),
    );
}
