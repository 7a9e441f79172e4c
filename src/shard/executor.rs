//! One executor a core: starts a shard of the node on a thread of its own, with glommio's disk, clock and sockets, and ends it.

use super::node::{self, Parts, Ready};
pub use super::node::{Found, Summary};
use super::socket::{self, Listener, LocalSpawn, TcpDialer};
use super::{accept, expiry_clock};
use crate::bridge::Usage;
use crate::bridge::operator::Request;
use async_channel::Receiver;
use core::net::SocketAddr;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::SystemClock;
use storage::disk::dma::DmaDisk;
use storage::error::DiskError;
use storage::store::{Opened, StoreOptions};

/// Everything that one shard starts with.
#[derive(Debug)]
pub struct ShardStart {
    /// Its part of the node.
    pub parts: Parts,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Time.
    pub clock: SystemClock,
    /// Questions of the operator.
    pub operator: Receiver<Request>,
    /// Told once: the addresses that it listens on, or why not.
    pub started: async_channel::Sender<Result<Vec<SocketAddr>, StartError>>,
    /// The addresses to listen on, with the ports that the first shard was given.
    pub listen: Vec<SocketAddr>,
}

/// Why a shard does not start.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// A log cannot be made.
    #[error("the data directory cannot be used: {0}")]
    Disk(DiskError),
    /// An address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, String),
}

/// Memory that is registered with the ring for disk writes; far below the usual limit on locked memory.
const REGISTERED_MEMORY_OCTETS: usize = 3 << 20;

/// A shard that runs.
#[derive(Debug)]
pub struct ShardHandle(ExecutorJoinHandle<Summary>);

impl ShardHandle {
    /// Waits for its end.
    ///
    /// # Errors
    /// It panicked.
    pub fn join(self) -> Result<Summary, String> {
        self.0.join().map_err(|error| error.to_string())
    }
}

/// Opens the store on an executor of its own, before any shard runs; also gives the notices that wait there, which are noted in
/// `usage`.
///
/// # Errors
/// A sentence for the operator.
pub fn open_store(
    data_dir: PathBuf,
    options: StoreOptions,
    clock: SystemClock,
    usage: Arc<Usage>,
) -> Result<(Opened, Vec<Found>), String> {
    let opening = LocalExecutorBuilder::new(Placement::Unbound).name("open").io_memory(1 << 20).spawn(
        move || async move {
            let disk = DmaDisk::attach(&data_dir).await.map_err(|error| error.to_string())?;
            node::open(&disk, &clock, &options, &usage).await.map_err(|error| error.to_string())
        },
    );
    let opening = opening.map_err(|error| no_executor(&error.to_string()))?;
    opening.join().map_err(|error| error.to_string())?
}

fn no_executor(error: &str) -> String {
    format!("io_uring cannot be used: {error} (a kernel from 5.8 on and 8 MiB of locked memory are needed)")
}

/// Starts a shard on a thread of its own, on the core `cpu`, or on any where there are fewer.
///
/// # Errors
/// A sentence for the operator: no ring, or no locked memory.
pub fn start(cpu: Option<usize>, start: ShardStart) -> Result<ShardHandle, String> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .name(&format!("shard-{}", start.parts.id().0))
        .io_memory(REGISTERED_MEMORY_OCTETS)
        .spawn(move || run(start))
        .map(ShardHandle)
        .map_err(|error| no_executor(&error.to_string()))
}

async fn run(start: ShardStart) -> Summary {
    let (started, requests) = (start.started.clone(), start.operator.clone());
    // It is so for all of them, and said once.
    if start.parts.id().0 == 0 && !socket::is_uninterrupted() {
        tracing::info!(
            "each completion interrupts the shards: a kernel from 5.19 on takes mail with about a quarter less of CPU"
        );
    }
    match set_up(start).await {
        Ok((ready, listeners)) => {
            let addresses = listeners.iter().filter_map(|listener| listener.address().ok()).collect();
            // The starter waits for this; if it is gone, a shutdown is on its way.
            let _ = started.send(Ok(addresses)).await;
            let node = ready.stand(&TcpDialer, &LocalSpawn, requests);
            for listener in listeners {
                let accepting = accept::run(Rc::clone(&node.shard), listener, LocalSpawn);
                glommio::spawn_local(accepting).detach();
            }
            node.serve().await
        }
        Err(error) => {
            let _ = started.send(Err(error)).await;
            Summary::default()
        }
    }
}

/// A shard before its tasks, and what it listens on.
async fn set_up(start: ShardStart) -> Result<(Ready<DmaDisk, SystemClock>, Vec<Listener>), StartError> {
    let disk = DmaDisk::attach(&start.data_dir).await.map_err(StartError::Disk)?;
    let ready = Ready::set_up(start.parts, disk, start.clock, expiry_clock::synchronisation);
    let ready = ready.await.map_err(StartError::Disk)?;
    let bind = |address: &SocketAddr| {
        Listener::bind(*address).map_err(|error| StartError::Listen(*address, error.to_string()))
    };
    let listeners = start.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    Ok((ready, listeners))
}
