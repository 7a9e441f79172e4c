//! The resolver of the lookup thread, by hickory-resolver, which keeps answers for as long as they live.

use core::cell::RefCell;
use core::net::SocketAddr;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// The resolver in use, built when it is first needed.
#[derive(Debug)]
pub(super) struct Resolvers {
    nameservers: RefCell<Vec<SocketAddr>>,
    built: RefCell<Option<TokioResolver>>,
}

impl Resolvers {
    /// None is built yet. `nameservers` empty: those of /etc/resolv.conf.
    pub(super) fn new(nameservers: Vec<SocketAddr>) -> Self {
        Self { nameservers: nameservers.into(), built: RefCell::default() }
    }

    /// The resolver; `None` where none can be made.
    pub(super) fn current(&self) -> Option<TokioResolver> {
        let mut built = self.built.borrow_mut();
        if built.is_none() {
            *built = build(&self.nameservers.borrow()).inspect_err(complain).ok();
        }
        built.clone()
    }

    /// Asks others from now on.
    pub(super) fn replace(&self, nameservers: Vec<SocketAddr>) {
        *self.nameservers.borrow_mut() = nameservers;
        *self.built.borrow_mut() = None;
    }
}

fn build(nameservers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if nameservers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = nameservers.iter().map(|address| name_server(*address)).collect();
        let config = ResolverConfig::from_name_servers(servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

fn complain(error: &NetError) {
    tracing::error!(%error, "no resolver: named primaries cannot be found until name servers are configured");
}
