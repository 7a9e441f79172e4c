//! `stratamx serve`: opens the store, starts the planes, waits for signals.
//!
//! SIGTERM and SIGINT: sessions are told 421, everything appended is made durable, the process ends within 10 s.
//! SIGHUP: the configuration is read again; all but both listens, data_dir, cores and segment_size take effect. What the API
//! provisions is put in force the same way, without a look at the file.

use super::admin::{Admin, Asked};
use super::machine::{cpus, end_with_a_panic, events, fit_descriptors, tell_supervisor};
use super::tls::Tls;
use super::{Exit, fail, fixed, followed, logging, opened};
use crate::bridge::SealKey;
use crate::bridge::operator::Request;
use crate::bridge::{Lookup, Recipients, Snapshot, Usage, lookup_channel};
use crate::config::{ArcSeal, Config, Source};
use crate::control::acquaintances::Acquaintances;
use crate::control::files::FilesThread;
use crate::control::lookup;
use crate::control::mta_sts::Policies;
use crate::control::orders::OrderBook;
use crate::control::process::{Process, Tail};
use crate::control::provisioning::{Applied, Provisioned};
use crate::control::recipients::{self, Keeper, Loaded};
use crate::control::store::{Store, StoreThread};
use crate::control::trust;
use crate::limits::JOURNAL_SEGMENT_OCTETS;
use crate::shard::executor::{self, Found, ShardHandle, ShardStart, StartError, Summary};
use crate::shard::mesh::{self, Mesh, Note};
use crate::shard::node::{self, Common};
use async_channel::{Receiver, Sender};
use core::net::SocketAddr;
use futures_lite::future::{block_on, or};
use sd_notify::NotifyState;
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
    /// What came through the API, and where it is told that a new snapshot is needed.
    provisioned: Arc<Provisioned>,
    wanted: Receiver<Applied>,
    reloads: Receiver<Sender<Result<(), String>>>,
    store_thread: Option<StoreThread>,
    admin: Option<Admin>,
    /// The addresses that it listens on.
    pub addresses: Vec<SocketAddr>,
    keys: Arc<Keys>,
    seals: Seals,
    tls: Tls,
    _lock: DirectoryLock,
}

/// What the main thread waits for.
enum Event {
    /// A signal.
    Signal(i32),
    /// Something was provisioned.
    Provisioned(Applied),
    /// The API asks for what SIGHUP does.
    Reload(Sender<Result<(), String>>),
}

/// Runs the command.
#[must_use]
pub fn run(file: Option<&Path>, without: &[u16]) -> Exit {
    let (mut config, source) = match super::configuration(file) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    super::trial::extend(&mut config);
    let is_locked = super::keys::are_locked(&config.storage);
    let keys = match super::keys::load(&config.storage) {
        _ if is_locked => Arc::default(),
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
    if is_locked {
        return super::locked::run(&config, signals);
    }
    let without = without.iter().copied().map(ShardId).collect();
    match Server::start(config, source, keys, (lists, seals), without, log.tail()) {
        Ok(server) => {
            introduce(&server);
            tell_supervisor(NotifyState::Ready);
            server.run(signals)
        }
        Err(error) => fail(&error),
    }
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
        log: Arc<Tail>,
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
        let (store, store_thread) = Store::open(&config.data_dir)?;
        let (provisioned, wanted) = Provisioned::open(store.clone(), Arc::clone(&recipients), &config)?;
        let (reload, reloads) = async_channel::bounded(1);
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
            provisioned,
            wanted,
            reloads,
            store_thread: Some(store_thread),
            admin: None,
            keys,
            seals,
            tls,
            _lock: lock,
        };
        server.trust_provisioned();
        let orders = OrderBook::open(&server.config.data_dir, Arc::clone(&server.usage))?;
        let provisioned = ((store, Arc::clone(&server.provisioned)), reload);
        let (mut admin, asked) =
            Admin::prepare(&server.config, server.snapshot(), orders, provisioned, shards)?;
        server.start_shards(opened, notices, &cpus, meshes, asked, clock)?;
        let configuration = match &server.source {
            Source::Embedded => None,
            Source::File(path) => Some(path.clone()),
        };
        let process = Process { configuration, log };
        let acme = (server.tls.admin.clone(), server.tls.acme(&server.config));
        let (smtp, roots) = (server.addresses.clone(), trust::web_roots(&server.config));
        admin.start(Asked::Serving(smtp), server.lookup.clone(), roots, acme, process)?;
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
        let config = self.provisioned.merged(&self.config);
        let snapshot = Snapshot::new(config, Arc::clone(&self.usage));
        let snapshot = snapshot.with_recipients(&self.recipients).with_tls(Arc::clone(&self.tls.config));
        let snapshot = snapshot.with_certificates(&self.tls.shown);
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

    /// Works off signals, and what is provisioned, until the end.
    fn run(mut self, signals: Signals) -> Exit {
        let events = match events(signals) {
            Ok(events) => events,
            Err(error) => return fail(&format!("signals cannot be waited for: {error}")),
        };
        let (wanted, reloads) = (self.wanted.clone(), self.reloads.clone());
        let signal = async || events.recv().await.map(Event::Signal);
        let provisioned = async || wanted.recv().await.map(Event::Provisioned);
        let reload = async || reloads.recv().await.map(Event::Reload);
        while let Ok(event) = block_on(or(signal(), or(provisioned(), reload()))) {
            match event {
                Event::Signal(SIGHUP) => drop(self.reload()),
                Event::Signal(_) => break,
                Event::Reload(answer) => {
                    // Whoever asked may have given up.
                    let _ = answer.try_send(self.reload());
                }
                Event::Provisioned(applied) => {
                    self.trust_provisioned();
                    let snapshot = self.snapshot();
                    self.put_in_force(&snapshot, None);
                    drop(applied);
                }
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
        tell_supervisor(NotifyState::Stopping);
        self.tell(&Note::Shutdown);
        let mut sum = Summary::default();
        for handle in self.handles.drain(..) {
            match handle.join() {
                Ok(summary) => sum.add(&summary),
                Err(error) => tracing::error!(%error, "a shard ended badly"),
            }
        }
        // Who waits for what he provisioned is told that the end comes first.
        self.wanted.close();
        self.reloads.close();
        while self.wanted.try_recv().is_ok() || self.reloads.try_recv().is_ok() {}
        if let Some(admin) = &mut self.admin {
            admin.stop();
        }
        if let Some(thread) = self.store_thread.take() {
            thread.stop();
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

    /// Takes up whom domains of the API need to be trusted. Without them their mail waits, as after an outage of their policies.
    fn trust_provisioned(&mut self) {
        match self.tls.trust_for(&self.provisioned.merged(&self.config)) {
            Ok(true) => self.lookup.use_trust(self.tls.trust.clone()),
            Ok(false) => {}
            Err(error) => tracing::error!(error, "a domain that was provisioned: its mail waits"),
        }
    }

    /// Reads the file again; what is wrong with it is logged, and told to whoever asked. The one in force stays then.
    fn reload(&mut self) -> Result<(), String> {
        let reloaded = followed::follow().and_then(|before| {
            let reloaded = self.try_reload();
            if reloaded.is_err() {
                before.restore();
            }
            reloaded
        });
        if let Err(error) = &reloaded {
            tracing::error!(error, "reload: the configuration in force stays");
        }
        reloaded
    }

    fn try_reload(&mut self) -> Result<(), String> {
        let mut new = self.source.load().map_err(|error| error.to_string())?;
        super::trial::extend(&mut new);
        let keys = super::keys::load(&new.storage)?;
        self.keys.extend(&keys).map_err(|error| format!("storage.key_file: mail is {error}"))?;
        let lists = recipients::load(&new).map_err(|error| format!("recipient_list: {error}"))?;
        let seals = super::seals::load(&new)?;
        let new = fixed::keep(&self.config, new);
        let token = self.admin.as_ref().map_or(Ok(None), |admin| admin.read_token(&new))?;
        self.tls.reload(&self.provisioned.merged(&new))?;
        // First, so that a change that is under way touches no list of the file.
        self.provisioned.pin(&new);
        self.keeper.use_lists(lists);
        self.seals = seals;
        if let Err(error) = self.provisioned.use_configuration(&new) {
            tracing::error!(error, "a domain that was provisioned: anybody is taken until the next reload");
        }
        self.config = new;
        fit_descriptors(&mut self.config);
        self.lookup.use_nameservers(self.config.dns.nameservers.clone());
        self.lookup.use_trust(self.tls.trust.clone());
        let snapshot = self.snapshot();
        self.put_in_force(&snapshot, token.as_deref());
        tracing::info!(domains = snapshot.config.domains.len(), "configuration reloaded");
        Ok(())
    }

    /// Tells everybody; on return all use it.
    fn put_in_force(&self, snapshot: &Arc<Snapshot>, token: Option<&str>) {
        let (taken, all) = async_channel::bounded(1);
        if let Some(admin) = &self.admin {
            admin.reload(Arc::clone(snapshot), token);
        }
        self.tell(&Note::Configuration(Arc::clone(snapshot), taken));
        // Nothing is ever sent: the wait ends when the last shard has dropped its note.
        let _ = all.recv_blocking();
    }
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
