//! A server whose keys of mail at rest are not open, on the appliance: its admin API, and nothing else.
//!
//! The log is not opened and no port for mail is bound, so nothing is taken, and nothing of what waits is touched. PID 1 ends this process when the keys are open, and
//! starts another, which serves. What the API shows of a server that serves is 503 here ([`crate::control::admin`]).

use super::admin::{Admin, Asked};
use super::machine::events;
use super::tls::Tls;
use super::{Exit, fail};
use crate::bridge::{Recipients, Snapshot, Usage, lookup_channel};
use crate::config::Config;
use crate::control::acme;
use crate::control::orders::OrderBook;
use crate::control::process::Process;
use crate::control::provisioning::Provisioned;
use crate::control::store::Store;
use crate::control::trust;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;
use std::sync::Arc;
use storage::disk::dma::DirectoryLock;

/// Serves until it is told to end.
pub(super) fn run(config: &Config, signals: Signals) -> Exit {
    let end = events(signals).map_err(|error| format!("signals cannot be waited for: {error}"));
    match end.and_then(|events| {
        serve(config, || {
            // There is nothing that could be read again.
            while events.recv_blocking().is_ok_and(|signal| signal == SIGHUP) {}
        })
    }) {
        Ok(()) => Exit::Done,
        Err(error) => fail(&error),
    }
}

fn serve(config: &Config, wait: impl FnOnce()) -> Result<(), String> {
    let _lock = DirectoryLock::acquire(&config.data_dir).map_err(|error| error.to_string())?;
    let tls = Tls::start(config)?;
    let usage = Arc::<Usage>::default();
    let (lookup, _) = lookup_channel();
    let (store, thread) = Store::open(&config.data_dir)?;
    let (provisioned, _wanted) = Provisioned::open(store.clone(), Arc::<Recipients>::default(), config)?;
    let orders = OrderBook::open(&config.data_dir, Arc::clone(&usage))?;
    let snapshot = Arc::new(Snapshot::new(config.clone(), usage));
    let (reload, _reloads) = async_channel::bounded(1);
    // Nobody is asked: there are no shards.
    let (mut admin, _) = Admin::prepare(config, snapshot, orders, ((store, provisioned), reload), 0)?;
    let acme = (tls.admin.clone(), acme::Parts::default());
    admin.start(Asked::Locked, lookup, trust::web_roots(config), acme, Process::default())?;
    tracing::error!("locked: the keys of mail at rest are not open, and no mail is taken");
    wait();
    tracing::info!("stopped");
    admin.stop();
    thread.stop();
    Ok(())
}
