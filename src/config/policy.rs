//! The keys that `[delivery]` and each `[[domain]]` share, and quantities within bounds.

use core::ops::RangeInclusive;
use core::time::Duration;

use super::reader::{ConfigError, Table};
use super::unit::{format_duration, format_size, parse_duration, parse_size};
use super::{Delivery, OnExpiry, OnReject, PrimaryTls, arc, notices};
use crate::limits;

/// See [`read_policy`].
pub(super) const POLICY_KEYS: [&str; 11] = [
    "arc",
    "retry_interval",
    "retention",
    "on_expiry",
    "held_retention",
    "safety_net",
    "on_reject",
    "max_connections",
    "authenticate",
    "tls",
    "smarthost",
];

/// The keys that `[delivery]` and each `[[domain]]` share.
pub(super) fn read_policy(table: &Table, default: &Delivery) -> Result<Delivery, ConfigError> {
    let tls = [
        ("opportunistic", PrimaryTls::Opportunistic),
        ("require", PrimaryTls::Require),
        ("none", PrimaryTls::None),
        ("mta-sts", PrimaryTls::MtaSts),
        ("dane", PrimaryTls::Dane),
    ];
    let kept = limits::RETENTION_MIN..=limits::RETENTION_MAX;
    let probed = limits::RETRY_INTERVAL_MIN..=limits::RETRY_INTERVAL_MAX;
    Ok(Delivery {
        retry_interval: read_duration(table, "retry_interval", probed, default.retry_interval)?,
        retention: read_duration(table, "retention", kept.clone(), default.retention)?,
        on_expiry: match table.value("on_expiry") {
            Some(value) => value.choice(
                &[("bounce", OnExpiry::Bounce), ("hold", OnExpiry::Hold), ("discard", OnExpiry::Discard)],
                &[],
            )?,
            None => default.on_expiry,
        },
        held_retention: read_duration(table, "held_retention", kept, default.held_retention)?,
        safety_net: read_duration(
            table,
            "safety_net",
            Duration::ZERO..=limits::SAFETY_NET_MAX,
            default.safety_net,
        )?,
        on_reject: match table.value("on_reject") {
            Some(value) => value.choice(
                &[("bounce", OnReject::Bounce), ("hold", OnReject::Hold), ("discard", OnReject::Discard)],
                &[],
            )?,
            None => default.on_reject,
        },
        max_connections: match table.value("max_connections") {
            Some(value) => value.integer(1..=limits::DOMAIN_CONNECTIONS_MAX)?,
            None => default.max_connections,
        },
        authenticate: match table.value("authenticate") {
            Some(value) => value.boolean()?,
            None => default.authenticate,
        },
        tls: match table.value("tls") {
            Some(value) => value.choice(&tls, &[])?,
            None => default.tls,
        },
        client_certificate: default.client_certificate.clone(),
        tls_roots: default.tls_roots.clone(),
        mta_sts_port: default.mta_sts_port,
        expiry_clock: default.expiry_clock,
        smarthost: notices::read_smarthost(table, default)?,
        arc: arc::read_arc(table, default.arc.as_ref())?,
    })
}

/// A duration within bounds.
pub(super) fn read_duration(
    table: &Table,
    key: &str,
    bounds: RangeInclusive<Duration>,
    default: Duration,
) -> Result<Duration, ConfigError> {
    let Some(value) = table.value(key) else {
        return Ok(default);
    };
    let duration = parse_duration(value.string()?).map_err(|error| value.error(error))?;
    if bounds.contains(&duration) {
        return Ok(duration);
    }
    let (shortest, longest) = (format_duration(*bounds.start()), format_duration(*bounds.end()));
    Err(value.error(format!("is not within {shortest} and {longest}")))
}

pub(super) fn read_size(
    table: &Table,
    key: &str,
    bounds: RangeInclusive<u64>,
    default: u64,
) -> Result<u64, ConfigError> {
    let Some(value) = table.value(key) else {
        return Ok(default);
    };
    let size = parse_size(value.text_or_number()?).map_err(|error| value.error(error))?;
    if bounds.contains(&size) {
        return Ok(size);
    }
    let (least, most) = (format_size(*bounds.start()), format_size(*bounds.end()));
    Err(value.error(format!("is not within {least} and {most}")))
}
