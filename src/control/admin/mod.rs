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
//! | request | what |
//! |---|---|
//! | `GET /api/v1/status` | all domains, disk, throughput since the start |
//! | `GET /api/v1/domains`, `GET /api/v1/domains/NAME` | the configuration in force, and the status |
//! | `POST /api/v1/domains/NAME/hold`, `.../release` | maintenance: nothing is handed over for a time; it ends early |
//! | `POST /api/v1/domains/NAME/redirect`, `.../direct` | mail goes to other hosts, behind a test message; no more |
//! | `GET /api/v1/queue?domain=&state=&after=&limit=` | a page of messages, in the order of acceptance |
//! | `GET /api/v1/queue/ID` | one message: envelope, units, trace field; never content |
//! | `GET /api/v1/queue/ID/export` | the message itself |
//! | `POST /api/v1/queue/ID/ACTION` | `bounce`, `hold`, `release`, `discard`, `delete` |
//! | `POST /api/v1/queue/ACTION` | the same to those of a domain and state; or `flush`, `thaw` |
//! | `POST /api/v1/queue/replay` | delivered mail whose copies are kept is queued once more, or would be |

mod domains;
mod orders;
mod problem;
mod queue;
mod replay;
mod serve;
mod status;
pub mod token;

use super::orders::OrderBook;
use crate::bridge::Current;
use crate::bridge::operator::{Shards, Unanswered};
use crate::limits::ADMIN_REQUEST_TIMEOUT;
use async_channel::Sender;
use axum::Router;
use axum::routing::{get, post};
use core::net::SocketAddr;
use core::time::Duration;
use problem::Problem;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use token::Token;
use tokio::time::Instant;

/// The detail of a 404.
const UNKNOWN_DOMAIN: &str = "this domain is not protected, and has no mail here";

/// What the handlers share.
#[derive(Debug)]
struct Api {
    shards: Shards,
    current: Arc<Current>,
    token: Arc<Token>,
    orders: Arc<OrderBook>,
    started: Instant,
    /// Longest work on one request.
    patience: Duration,
}

/// The thread; it ends when this is dropped or stopped.
#[derive(Debug)]
pub struct AdminThread {
    stop: Sender<()>,
    handle: JoinHandle<()>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl AdminThread {
    /// Starts it on a listener that is bound.
    ///
    /// # Errors
    /// The system's, if no thread or runtime can be had.
    pub fn start(
        listener: TcpListener,
        shards: Shards,
        current: Arc<Current>,
        token: Arc<Token>,
        orders: Arc<OrderBook>,
    ) -> io::Result<Self> {
        let (stop, stopped) = async_channel::bounded(1);
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let task = move || {
            runtime.block_on(async move {
                let patience = ADMIN_REQUEST_TIMEOUT;
                let api = Arc::new(Api { shards, current, token, orders, started: Instant::now(), patience });
                serve::run(listener, router(api), stopped).await;
            });
        };
        let handle = Builder::new().name("admin".to_owned()).spawn(task)?;
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

fn router(api: Arc<Api>) -> Router {
    let routes = Router::new()
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/domains", get(domains::list))
        .route("/api/v1/domains/{name}", get(domains::show))
        .route("/api/v1/domains/{name}/hold", post(orders::hold))
        .route("/api/v1/domains/{name}/release", post(orders::release))
        .route("/api/v1/domains/{name}/redirect", post(orders::redirect))
        .route("/api/v1/domains/{name}/direct", post(orders::direct))
        .route("/api/v1/queue", get(queue::list))
        .route("/api/v1/queue/replay", post(replay::replay))
        .route("/api/v1/queue/{name}", get(queue::show).post(queue::act_on_many))
        .route("/api/v1/queue/{id}/export", get(queue::export))
        .route("/api/v1/queue/{id}/{action}", post(queue::act_on_one));
    guarded(routes, &api).with_state(api)
}

/// The same for every path, known or not.
fn guarded(routes: Router<Arc<Api>>, api: &Arc<Api>) -> Router<Arc<Api>> {
    routes
        .fallback(async || Problem::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || Problem::method())
        .layer(axum::middleware::from_fn_with_state(Arc::clone(api), serve::guard))
}

/// The answers of all shards to a question, in bounded time.
async fn answered<T>(api: &Api, asked: impl Future<Output = Result<T, Unanswered>>) -> Result<T, Problem> {
    let answer = tokio::time::timeout(api.patience, asked).await;
    answer.unwrap_or(Err(Unanswered)).map_err(|error| Problem::unavailable(&error.to_string()))
}
