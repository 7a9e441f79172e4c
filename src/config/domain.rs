//! The keys of `[[domain]]`.

use super::host::parse_domain;
use super::policy::{POLICY_KEYS, read_policy, read_size};
use super::reader::{ConfigError, Table};
use super::recipients::Origin;
use super::{Delivery, Domain, NOTICES_DOMAIN, Quota, WhenUp, edge, primaries, recipients};
use crate::limits;

/// The keys that only a domain has, beside those about its recipients.
pub(super) const OWN_KEYS: [&str; 6] = ["name", "primary", "protocol", "when_up", "quota", "etrn_from"];

/// The keys of one domain.
pub(super) fn read_domain(table: &Table, delivery: &Delivery, origin: Origin) -> Result<Domain, ConfigError> {
    let keys = [&OWN_KEYS[..], &recipients::KEYS, &POLICY_KEYS].concat();
    table.expect_keys(&keys)?;
    let name = table.required("name")?;
    let when_up = match table.value("when_up") {
        Some(value) => value
            .choice(&[("proxy", WhenUp::Proxy), ("relay", WhenUp::Relay), ("defer", WhenUp::Defer)], &[])?,
        None => WhenUp::default(),
    };
    let policy = read_policy(table, delivery)?;
    let text = parse_domain(name.string()?).map_err(|error| name.error(error))?;
    if text == NOTICES_DOMAIN {
        return Err(name.error("is the domain that notices are kept under"));
    }
    Ok(Domain {
        name: text,
        primaries: primaries::read(table)?,
        recipients: recipients::read(table, origin)?,
        when_up,
        retry_interval: policy.retry_interval,
        retention: policy.retention,
        on_expiry: policy.on_expiry,
        held_retention: policy.held_retention,
        safety_net: policy.safety_net,
        on_reject: policy.on_reject,
        max_connections: policy.max_connections,
        tls: policy.tls,
        authenticate: policy.authenticate,
        quota: read_quota(&table.table("quota")?)?,
        etrn_from: edge::read_networks(table, "etrn_from")?,
        smarthost: policy.smarthost,
        arc: policy.arc,
    })
}

fn read_quota(table: &Table) -> Result<Quota, ConfigError> {
    table.expect_keys(&["messages", "bytes"])?;
    Ok(Quota {
        messages: match table.value("messages") {
            Some(value) => value.integer(0..=limits::QUOTA_MESSAGES_MAX)?,
            None => 0,
        },
        octets: read_size(table, "bytes", 0..=limits::QUOTA_OCTETS_MAX, 0)?,
    })
}
