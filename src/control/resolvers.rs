//! The resolvers of the lookup thread, by hickory-resolver, which keep answers for as long as they live: one that takes name servers'
//! word, and one that validates by DNSSEC itself, from the root's keys and those of `dns.trust_anchor` on, and so needs name servers that
//! pass signatures on. Only who is verified by DANE is asked for by the second one: behind a name server that strips
//! signatures everything signed is forged to it, and no other domain's mail must wait for that.

use core::cell::RefCell;
use core::net::SocketAddr;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::serialize::txt::trust_anchor;
use std::sync::Arc;

/// The resolver in use, built when it is first needed.
#[derive(Debug)]
pub(super) struct Resolvers {
    nameservers: RefCell<Vec<SocketAddr>>,
    built: RefCell<Option<TokioResolver>>,
    trust_anchor: RefCell<Option<Arc<str>>>,
    validating: RefCell<Option<TokioResolver>>,
}

impl Resolvers {
    /// None is built yet. `nameservers` empty: those of /etc/resolv.conf.
    pub(super) fn new(nameservers: Vec<SocketAddr>, trust_anchor: Option<Arc<str>>) -> Self {
        let (built, validating) = Default::default();
        Self { nameservers: nameservers.into(), built, trust_anchor: trust_anchor.into(), validating }
    }

    /// The resolver; `None` where none can be made.
    pub(super) fn current(&self) -> Option<TokioResolver> {
        let mut built = self.built.borrow_mut();
        if built.is_none() {
            *built = build(&self.nameservers.borrow(), None).inspect_err(complain).ok();
        }
        built.clone()
    }

    /// The one that validates; `None` where none can be made.
    pub(super) fn validating(&self) -> Option<TokioResolver> {
        let mut built = self.validating.borrow_mut();
        if built.is_none() {
            // It was read before, when the configuration was.
            let anchors = anchors(self.trust_anchor.borrow().as_deref()).unwrap_or_default();
            *built = build(&self.nameservers.borrow(), Some(anchors)).inspect_err(complain).ok();
        }
        built.clone()
    }

    /// Begins from other keys from now on.
    pub(super) fn trust(&self, trust_anchor: Option<Arc<str>>) {
        *self.trust_anchor.borrow_mut() = trust_anchor;
        *self.validating.borrow_mut() = None;
    }

    /// Asks others from now on.
    pub(super) fn replace(&self, nameservers: Vec<SocketAddr>) {
        *self.nameservers.borrow_mut() = nameservers;
        *self.built.borrow_mut() = None;
        *self.validating.borrow_mut() = None;
    }
}

/// The root's keys, and those of a text of DNSKEY records.
pub(super) fn anchors(text: Option<&str>) -> Result<TrustAnchors, String> {
    let mut anchors = TrustAnchors::default();
    let Some(text) = text else { return Ok(anchors) };
    let entries = trust_anchor::Parser::new(text).parse().map_err(|error| error.to_string())?;
    let mut found = 0;
    for entry in entries {
        let trust_anchor::Entry::DNSKEY(record) = entry else { continue };
        anchors.insert_with_name(record.data().public_key(), record.name().into());
        found += 1;
    }
    if found == 0 { Err("no DNSKEY record".to_owned()) } else { Ok(anchors) }
}

fn build(nameservers: &[SocketAddr], anchors: Option<TrustAnchors>) -> Result<TokioResolver, NetError> {
    let mut builder = if nameservers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = nameservers.iter().map(|address| name_server(*address)).collect();
        let config = ResolverConfig::from_name_servers(servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    if let Some(anchors) = anchors {
        builder = builder.with_trust_anchor(Arc::new(anchors));
        // RFC 7672 2.2.3: a chain of aliases is as good as its weakest link.
        builder.options_mut().preserve_intermediates = true;
        // Nobody signs /etc/hosts: a host that is in there would have no answer that counts.
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
    }
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
