//! The admin API of a server: its address and its token, and the thread once the shards run.

use crate::bridge::operator::{self, Request, Shards};
use crate::bridge::{Current, Lookup, Snapshot};
use crate::config::Config;
use crate::control::acme;
use crate::control::admin::token::{self, Token};
use crate::control::admin::{AdminThread, Parts, Reload};
use crate::control::machine::Machine;
use crate::control::orders::OrderBook;
use crate::control::process::Process;
use crate::control::provisioning::Provisioned;
use crate::control::store::Store;
use crate::update::SOCKET_VARIABLE;
use async_channel::Receiver;
use rustls::{RootCertStore, ServerConfig};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct Admin {
    current: Arc<Current>,
    token: Arc<Token>,
    orders: Arc<OrderBook>,
    provisioned: (Store, Arc<Provisioned>),
    reload: Reload,
    listener: Option<TcpListener>,
    shards: Option<Shards>,
    thread: Option<AdminThread>,
}

/// What the API is for.
#[derive(Debug)]
pub(super) enum Asked {
    /// A machine whose keys of mail at rest are not open.
    Locked,
    /// A server that takes mail at these addresses.
    Serving(Vec<SocketAddr>),
}

impl Admin {
    /// Binds the listener, if there is to be one, and reads or makes the token; the data directory is ours. And where each
    /// shard is asked.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn prepare(
        config: &Config,
        snapshot: Arc<Snapshot>,
        orders: OrderBook,
        (provisioned, reload): ((Store, Arc<Provisioned>), Reload),
        shards: u16,
    ) -> Result<(Self, Vec<Receiver<Request>>), String> {
        let (asking, asked) = operator::channels(shards);
        let (current, orders) = (Arc::new(Current::new(snapshot)), Arc::new(orders));
        let Some(address) = config.admin.listen else {
            // Nobody can ask; outages are watched all the same.
            let token = Arc::new(Token::new("")?);
            let shards = Some(asking);
            let admin =
                Self { current, token, orders, provisioned, reload, listener: None, shards, thread: None };
            return Ok((admin, asked));
        };
        let token = Arc::new(Token::new(&read_or_make(config)?)?);
        let listener = TcpListener::bind(address).map_err(|error| {
            format!("admin.listen: cannot listen on {address}: {error}; another address, or \"\" for none")
        })?;
        let (listener, shards) = (Some(listener), Some(asking));
        Ok((Self { current, token, orders, provisioned, reload, listener, shards, thread: None }, asked))
    }

    /// Serves, now that the shards answer, or that there will be none.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn start(
        &mut self,
        asked: Asked,
        lookup: Lookup,
        roots: Arc<RootCertStore>,
        (tls, acme): (Option<Arc<ServerConfig>>, acme::Parts),
        process: Process,
    ) -> Result<(), String> {
        let Some(shards) = self.shards.take() else { return Ok(()) };
        let (is_locked, smtp) = match asked {
            Asked::Locked => (true, Vec::new()),
            Asked::Serving(smtp) => (false, smtp),
        };
        let (store, provisioned) = self.provisioned.clone();
        let socket = std::env::var_os(SOCKET_VARIABLE).map(PathBuf::from);
        let machine =
            socket.map(|socket| Arc::new(Machine::new(socket, &self.current.get().config.data_dir)));
        let parts = Parts {
            shards,
            current: Arc::clone(&self.current),
            token: Arc::clone(&self.token),
            orders: Arc::clone(&self.orders),
            store,
            provisioned,
            reload: self.reload.clone(),
            smtp,
            lookup,
            roots,
            tls,
            acme,
            machine,
            is_locked,
            process,
        };
        let thread = AdminThread::start(self.listener.take(), parts)?;
        if let Some(address) = thread.address {
            tracing::info!(%address, "the admin API listens");
        }
        self.thread = Some(thread);
        Ok(())
    }

    /// The token in force after a reload; `None` where nobody needs one.
    ///
    /// # Errors
    /// A sentence for the operator; nothing has changed then.
    pub(super) fn read_token(&self, config: &Config) -> Result<Option<String>, String> {
        let is_needed = self.thread.as_ref().is_some_and(|thread| thread.address.is_some());
        if is_needed { read_or_make(config).map(Some) } else { Ok(None) }
    }

    /// Another configuration is in force.
    pub(super) fn reload(&self, snapshot: Arc<Snapshot>, token: Option<&str>) {
        self.current.set(snapshot);
        if let Some(token) = token {
            self.token.replace(token);
        }
    }

    /// Ends the thread.
    pub(super) fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.stop();
        }
    }
}

/// Whether the token file that is named can be used.
///
/// # Errors
/// A sentence for the operator that names the key and the file.
pub(super) fn check(config: &Config) -> Result<(), String> {
    match (&config.admin.listen, &config.admin.token_file) {
        (Some(_), Some(path)) => {
            token::read(path).map(drop).map_err(|error| format!("admin.token_file: {error}"))
        }
        _ => Ok(()),
    }
}

/// The token of the file that is named, which has to be there; else that of our own, which is made.
fn read_or_make(config: &Config) -> Result<String, String> {
    let path = config.admin.token_file(&config.data_dir);
    if config.admin.token_file.is_some() {
        return token::read(&path).map_err(|error| format!("admin.token_file: {error}"));
    }
    let (token, is_made) = token::read_or_make(&path)?;
    if is_made {
        tracing::info!(file = %path.display(), "the first administrator's token was made");
    }
    Ok(token)
}
