//! A node on the simulated machine: shards over one store with their standing tasks, all on one thread.

use super::{Primary, SimShard, SimSpawn};
use crate::bridge::{ClientTls, Lookup, Snapshot, Usage, lookup_channel};
use crate::config::{Config, OnExpiry, OnReject};
use crate::shard::mesh::mesh;
use crate::shard::node::{self, Common, Ready, Synchronisation};
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use storage::sim::{SimClock, SimDisk};
use storage::store::StoreOptions;

/// How a node is made.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) shards: u16,
    pub(super) segment_octets: u64,
    pub(super) journal_octets: u64,
    pub(super) config: Config,
    pub(super) lookup: Lookup,
    /// How TLS is spoken with primaries; none: by no authorities.
    pub(super) client_tls: Option<Arc<ClientTls>>,
    /// What the system says about its clock.
    pub(super) synchronisation: fn() -> Synchronisation,
}

impl Plan {
    /// The same with one connection a domain, which keeps the order of all messages.
    pub(super) fn one_connection() -> Self {
        let mut plan = Self::one_shard();
        plan.config.domains[0].max_connections = 1;
        plan
    }

    /// One shard with the embedded configuration, which tries again each second.
    pub(super) fn one_shard() -> Self {
        let mut config = Config::embedded();
        config.storage.min_free_space_bytes = 0;
        config.domains[0].retry_interval = Duration::from_secs(1);
        // What is refused is seen at once; notices have tests of their own.
        config.domains[0].on_reject = OnReject::Hold;
        config.domains[0].on_expiry = OnExpiry::Hold;
        Self {
            shards: 1,
            segment_octets: 4 << 20,
            journal_octets: 4 << 20,
            config,
            lookup: lookup_channel().0,
            client_tls: None,
            synchronisation: || Synchronisation::Synchronised,
        }
    }
}

/// Opens the store and starts shards with their standing tasks, but for the operator's.
pub(super) async fn start(
    disk: SimDisk,
    clock: SimClock,
    spawn: &SimSpawn,
    primary: &Primary,
    mut plan: Plan,
) -> Vec<Rc<SimShard>> {
    plan.config.storage.segment_size_bytes = plan.segment_octets;
    let options =
        StoreOptions { shards: plan.shards, journal_octets: plan.journal_octets, ..StoreOptions::default() };
    let usage = Arc::<Usage>::default();
    let opened = node::open(&disk, &clock, &options, &usage).await;
    let (opened, notices) = opened.expect("a store that crashed opens");
    let mut snapshot = Snapshot::new(plan.config, usage);
    if let Some(client_tls) = plan.client_tls {
        snapshot = snapshot.with_client_tls(client_tls);
    }
    let common = Common {
        snapshot: Arc::new(snapshot),
        keys: Arc::default(),
        lookup: plan.lookup,
        journal_octets: plan.journal_octets,
        caps: Arc::default(),
        deferrals: Arc::default(),
    };
    let mut all = Vec::new();
    for parts in node::deal(opened, notices, mesh(plan.shards), &common) {
        let set_up = Ready::set_up(parts, disk.clone(), clock.clone(), plan.synchronisation);
        all.push(set_up.await.expect("a log opens"));
    }
    // Their other end is gone: tests of the operator have a task of their own.
    let stand = |ready: Ready<_, _>| ready.stand(primary, spawn, async_channel::bounded(1).1).shard;
    all.into_iter().map(stand).collect()
}
