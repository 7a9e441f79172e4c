//! ETRN (RFC 1985): somebody who may asks for the mail of a domain, and gets a true answer.
//!
//! Who may: addresses in the domain's `etrn_from`, and its own primaries where they are configured by address. Whoever
//! may not is told the same as whoever names a domain that is not protected. The owners of the domains make
//! everything due at once, also what stepped aside, and end the pause of their lanes; the mail goes out on connections
//! to the configured primaries, never on this one. Held mail is not asked for and not counted: it waits for the operator.

use super::mesh::{Note, owner};
use super::state::Shard;
use crate::bridge::Snapshot;
use crate::config::{Domain, Host, canonical_domain};
use crate::limits::ETRN_ANSWER_TIMEOUT;
use crate::smtp::command::EtrnNode;
use crate::smtp::reply::{
    CANNOT_QUEUE_458, ETRN_NOT_ALLOWED_459, NO_MESSAGES_WAITING_251, OK_250, PENDING_MESSAGES_STARTED_252,
    PENDING_MESSAGES_STARTED_253, Reply,
};
use async_channel::Receiver;
use core::net::IpAddr;
use futures_lite::future::or;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// Does what ETRN asks for; gives the reply.
pub(super) async fn run<D: Disk, C: Clock>(shard: &Shard<D, C>, client: IpAddr, node: EtrnNode<'_>) -> Reply {
    let snapshot = Arc::clone(&shard.snapshot.borrow());
    let domains = wanted(node, client, &snapshot);
    let name = node.name();
    if matches!(node, EtrnNode::Queue(_)) || shard.is_shutting_down() {
        return CANNOT_QUEUE_458.with_text(format!("Unable to queue messages for node {name}"));
    }
    if domains.is_empty() {
        tracing::info!(%client, node = name, "ETRN refused");
        return ETRN_NOT_ALLOWED_459.with_text(format!("Node {name} not allowed"));
    }
    let Some(counts) = flush(shard, &domains) else {
        return CANNOT_QUEUE_458.with_text(format!("Unable to queue messages for node {name}"));
    };
    let timeout = async {
        shard.clock.sleep(ETRN_ANSWER_TIMEOUT).await;
        None
    };
    let sum = async {
        let mut pending = 0;
        while let Ok(count) = counts.recv().await {
            pending += count;
        }
        Some(pending)
    };
    let pending = or(sum, timeout).await;
    tracing::info!(%client, node = name, domains = domains.len(), pending, "ETRN");
    match (pending, node) {
        (None, _) => OK_250.with_text(format!("Ok, queuing for node {name} started")),
        (Some(0), _) => NO_MESSAGES_WAITING_251.with_text(format!("Ok, no messages waiting for node {name}")),
        (Some(_), EtrnNode::DomainAndBelow(_)) => {
            PENDING_MESSAGES_STARTED_252.with_text(format!("Ok, pending messages for node {name} started"))
        }
        (Some(count), _) => PENDING_MESSAGES_STARTED_253
            .with_text(format!("Ok, {count} pending messages for node {name} started")),
    }
}

/// The domains that the client may ask for, of those that the node means.
fn wanted<'a>(node: EtrnNode<'_>, client: IpAddr, snapshot: &'a Snapshot) -> Vec<&'a Domain> {
    let Some(name) = canonical_domain(node.name()) else { return Vec::new() };
    let is_meant = |domain: &&Domain| match node {
        EtrnNode::Domain(_) => domain.name == name,
        EtrnNode::DomainAndBelow(_) => {
            let above = domain.name.strip_suffix(&*name);
            above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
        }
        EtrnNode::Queue(_) => false,
    };
    snapshot.config.domains.iter().filter(is_meant).filter(|domain| may_ask(client, domain)).collect()
}

fn may_ask(client: IpAddr, domain: &Domain) -> bool {
    let client = client.to_canonical();
    let is_client = |host: &Host| matches!(host, Host::Address(address) if address.to_canonical() == client);
    domain.etrn_from.iter().any(|network| network.contains(client))
        || domain.primaries.hosts().iter().any(|primary| is_client(&primary.host))
}

/// Has the owners make everything due, and tell how many messages wait. `None`: not all of them could be told.
fn flush<D: Disk, C: Clock>(shard: &Shard<D, C>, domains: &[&Domain]) -> Option<Receiver<u64>> {
    let (answer, counts) = async_channel::bounded(domains.len());
    for domain in domains {
        let owner = owner(&domain.name, shard.shards);
        let note = Note::Flush(domain.name.as_str().into(), answer.clone());
        if owner == shard.id {
            shard.take_note(note);
        } else if let Err(error) = shard.mesh.senders[usize::from(owner.0)].try_send(note) {
            tracing::debug!(%owner, %error, "the owner is behind, or has ended");
            return None;
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn snapshot() -> Snapshot {
        let text = r#"
            [[domain]]
            name = "one.test"
            primary = ["192.0.2.1", "mail.one.test", "[2001:db8::1]:26"]
            etrn_from = ["198.51.100.0/24"]
            [[domain]]
            name = "below.one.test"
            primary = ["192.0.2.1"]
            [[domain]]
            name = "xn--bcher-kva.test"
            primary = ["192.0.2.9"]
        "#;
        Snapshot::new(Config::parse(text, "t").unwrap(), Arc::default())
    }

    #[test]
    fn only_who_may_asks_and_only_for_his_own() {
        let snapshot = snapshot();
        for (node, client, expected) in [
            ("one.test", "192.0.2.1", "one.test"),
            ("ONE.Test", "198.51.100.200", "one.test"),
            ("one.test", "::ffff:192.0.2.1", "one.test"),
            ("one.test", "2001:db8::1", "one.test"),
            ("one.test", "192.0.2.9", ""),
            ("one.test", "127.0.0.1", ""),
            ("two.test", "192.0.2.1", ""),
            ("@one.test", "192.0.2.1", "one.test below.one.test"),
            ("@one.test", "198.51.100.1", "one.test"),
            ("@e.test", "192.0.2.1", ""),
            ("@test", "192.0.2.9", "xn--bcher-kva.test"),
            ("b\u{fc}cher.test", "192.0.2.9", "xn--bcher-kva.test"),
            ("#one.test", "192.0.2.1", ""),
        ] {
            let parsed = EtrnNode::parse(node.as_bytes()).expect(node);
            let found = wanted(parsed, client.parse().expect(client), &snapshot);
            let names: Vec<&str> = found.iter().map(|domain| domain.name.as_str()).collect();
            assert_eq!(names.join(" "), expected, "{node} by {client}");
        }
    }
}
