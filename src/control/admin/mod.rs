//! The admin API: HTTP/1.1 and JSON under `/api/v1/`, for the operator's commands and for scripts.
//!
//! A thread of its own, a tokio current-thread runtime. It owns no mail: it asks the shards ([`crate::bridge::operator`])
//! and puts their answers together. Mail does not wait for it: connections, requests, their size and their time are
//! bounded ([`crate::limits`]); a client that is slow costs a place among the connections, a shard that does not answer
//! costs the request (503), a handler that panics costs its request (500).
//!
//! - Every path but `/healthz` and `/readyz` asks for a bearer token (RFC 6750); without a good one it is 401, whatever the
//!   path. The first administrator's token is in a file ([`token`]); in memory there is only what tells it.
//! - Errors are problem details (RFC 9457): [`problem`].
//! - A change is answered when it is durable; a request that ends by a 503 may have been done all the same.
//!
//! - A server whose keys of mail at rest are not open answers little more than how to open them ([`at_rest`]).
//! - A token has scopes ([`caller`]): the first administrator's may do everything.
//! - A change, and a look at the content of a message, is in the audit log before it is done ([`record`]); one with an `Idempotency-Key` is
//!   done once.
//! - What is served is described: `GET /api/openapi.json` is made of the same list of routes ([`routes`]).
//! - A slow, locked or full database costs changes (503), never a look at the queue, and never mail ([`super::store`]).

mod actions;
mod alerts;
mod at_rest;
mod audit;
mod backup;
mod caller;
mod configuration;
mod doctor;
mod domains;
mod drill;
mod machine;
mod metrics;
mod orders;
mod outages;
mod places;
mod problem;
mod provision;
mod queue;
mod recipients;
mod record;
mod replay;
mod report;
mod restore;
mod revisions;
mod routes;
mod serve;
mod settings;
mod status;
mod submit;
mod support;
#[cfg(test)]
mod tests;
pub mod token;
mod tokens;
mod trace;
mod update;
mod upload;

use super::acme;
use super::alert::{self, Watch};
use super::machine::Machine;
use super::orders::OrderBook;
use super::process::Process;
use super::provisioning::Provisioned;
use super::store::{Store, token as given};
use crate::bridge::operator::{Shards, Unanswered};
use crate::bridge::{Current, Lookup};
use crate::limits::{ADMIN_IMPORTS_MAX, ADMIN_REQUEST_TIMEOUT, BACKUPS_MAX};
use async_channel::Sender;
use caller::Callers;
use core::net::SocketAddr;
use core::time::Duration;
use problem::Problem;
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use token::Token;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The detail of a 404.
const UNKNOWN_DOMAIN: &str = "this domain is not protected, and has no mail here";

/// What the handlers share.
#[derive(Debug)]
struct Api {
    shards: Shards,
    current: Arc<Current>,
    callers: Callers,
    orders: Arc<OrderBook>,
    store: Store,
    provisioned: Arc<Provisioned>,
    watch: Arc<Watch>,
    lookup: Lookup,
    /// Where mail is taken.
    smtp: Vec<SocketAddr>,
    reload: Reload,
    /// PID 1 of the appliance, if this is one.
    machine: Option<Arc<Machine>>,
    /// Its keys of mail at rest are not open: there are no shards, and mail is not taken.
    is_locked: bool,
    process: Process,
    imports: Arc<Semaphore>,
    backups: Arc<Semaphore>,
    started: Instant,
    /// Longest work on one request.
    patience: Duration,
}

/// The thread; it ends when this is dropped or stopped.
#[derive(Debug)]
pub struct AdminThread {
    stop: Sender<()>,
    handle: JoinHandle<()>,
    /// Where it listens, if it does.
    pub address: Option<SocketAddr>,
}

/// What the API works with.
#[derive(Debug)]
pub struct Parts {
    /// Where the shards are asked.
    pub shards: Shards,
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// What tells the first administrator's token.
    pub token: Arc<Token>,
    /// What an operator has ordered.
    pub orders: Arc<OrderBook>,
    /// The database.
    pub store: Store,
    /// Domains that come through the API.
    pub provisioned: Arc<Provisioned>,
    /// Has the configuration file read again.
    pub reload: Reload,
    /// Where mail is taken.
    pub smtp: Vec<SocketAddr>,
    /// What asks for names.
    pub lookup: Lookup,
    /// Who vouches for the web servers that are told of alerts.
    pub roots: Arc<RootCertStore>,
    /// How TLS is spoken; `None`: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// What gets our certificate from an authority.
    pub acme: acme::Parts,
    /// PID 1 of the appliance, if this is one.
    pub machine: Option<Arc<Machine>>,
    /// Whether its keys of mail at rest are not open: little is served then, and nobody is watched.
    pub is_locked: bool,
    /// This process.
    pub process: Process,
}

/// Asks for a reload: what is wrong with the file, if anything is, comes back.
pub type Reload = Sender<Sender<Result<(), String>>>;

impl AdminThread {
    /// Starts it on a listener that is bound; without one it only watches. Blocks while tokens are read.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn start(listener: Option<TcpListener>, parts: Parts) -> Result<Self, String> {
        let Parts {
            shards,
            current,
            token,
            orders,
            store,
            provisioned,
            reload,
            smtp,
            lookup,
            roots,
            tls,
            acme,
            machine,
            is_locked,
            process,
        } = parts;
        let rows = store.run_blocking(|connection| given::all(connection));
        let callers = Callers::new(token, rows.map_err(|error| error.to_string())?);
        let failed = |error: io::Error| format!("the admin thread: {error}");
        let (stop, stopped) = async_channel::bounded(1);
        let address = listener.as_ref().map(TcpListener::local_addr).transpose().map_err(failed)?;
        listener.as_ref().map_or(Ok(()), |listener| listener.set_nonblocking(true)).map_err(failed)?;
        let (asked, known) = ((shards.clone(), machine.clone()), Arc::clone(&current));
        let watch = Watch::open(asked, known, store.clone(), lookup.clone(), roots, &acme)?;
        let (watch, current_for_acme) = (Arc::new(watch), Arc::clone(&current));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let task = move || {
            runtime.block_on(async move {
                let api = Api {
                    shards,
                    current,
                    callers,
                    orders,
                    store,
                    provisioned,
                    watch: Arc::clone(&watch),
                    lookup,
                    smtp,
                    reload,
                    machine,
                    is_locked,
                    process,
                    backups: Arc::new(Semaphore::new(BACKUPS_MAX)),
                    imports: Arc::new(Semaphore::new(ADMIN_IMPORTS_MAX)),
                    started: Instant::now(),
                    patience: ADMIN_REQUEST_TIMEOUT,
                };
                api.machine.clone().map(|machine| tokio::spawn(machine.follow()));
                if !is_locked {
                    tokio::spawn(alert::prove(Arc::clone(&watch)));
                    tokio::spawn(alert::run(watch));
                    tokio::spawn(acme::run(current_for_acme, acme));
                }
                match listener {
                    Some(listener) => {
                        serve::run(listener, tls, routes::router(&Arc::new(api)), stopped).await
                    }
                    // Nothing is ever sent: it ends when the sender is dropped.
                    None => drop(stopped.recv().await),
                }
            });
        };
        let handle = Builder::new().name("admin".to_owned()).spawn(task).map_err(failed)?;
        Ok(Self { stop, handle, address })
    }

    /// Ends it, and waits for that; requests that are under way are cut off.
    pub fn stop(self) {
        drop(self.stop);
        if self.handle.join().is_err() {
            tracing::error!("the admin thread ended badly");
        }
    }
}

/// The answers of all shards to a question, in bounded time.
async fn answered<T>(api: &Api, asked: impl Future<Output = Result<T, Unanswered>>) -> Result<T, Problem> {
    let answer = tokio::time::timeout(api.patience, asked).await;
    answer.unwrap_or(Err(Unanswered)).map_err(|error| Problem::unavailable(&error.to_string()))
}
