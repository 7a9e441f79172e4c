//! What the API says of a domain's own keys. What comes is read by the configuration's own parser; a test holds both together.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A domain's own keys, as under `[[domain]]` of the configuration file; what is left out is as under `[delivery]`.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it describes; what comes is read by the configuration's own parser")]
pub(super) struct Settings {
    /// `["mail.example.com:25", ...]` in order, or `"mx"`: the domain's own MX records
    #[schema(value_type = Hosts, required)]
    primary: Value,
    /// `smtp` or `lmtp`
    protocol: Option<String>,
    /// `any`, `learn`, `verify`, or `list`: whom the addresses name that are imported
    recipients: Option<String>,
    /// Stands between a user and a detail; empty: there are no details
    subaddress_delimiter: Option<String>,
    /// `accept`, `defer` or `reject`
    unknown_during_outage: Option<String>,
    /// `proxy`, `relay` or `defer`
    when_up: Option<String>,
    /// `{"messages": 0, "bytes": "0"}`; 0: none but the fair share
    #[schema(value_type = Option<Object>)]
    quota: Option<Value>,
    /// Networks that may say ETRN
    etrn_from: Option<Vec<String>>,
    /// As `5m`
    retry_interval: Option<String>,
    /// As `30d`
    retention: Option<String>,
    /// `bounce`, `hold` or `discard`
    on_expiry: Option<String>,
    /// As `30d`
    held_retention: Option<String>,
    /// As `2d`; `0s`: no copies of what was delivered
    safety_net: Option<String>,
    /// `bounce`, `hold` or `discard`
    on_reject: Option<String>,
    max_connections: Option<u32>,
    authenticate: Option<bool>,
    /// `none`, `opportunistic`, `require`, `mta-sts` or `dane`
    tls: Option<String>,
    /// `host[:port]` that takes notices
    smarthost: Option<String>,
}

/// Hosts in order, or `mx`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes")]
pub(super) enum Hosts {
    /// `host[:port]`
    InOrder(Vec<String>),
    /// `mx`
    Exchangers(String),
}

/// A new domain: its name and its own keys.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it describes")]
pub(super) struct NewDomain {
    name: String,
    #[serde(flatten)]
    settings: Settings,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Domain;
    use utoipa::PartialSchema as _;

    #[test]
    fn what_is_described_is_what_is_read() {
        let schema = serde_json::to_value(Settings::schema()).unwrap();
        let mut described: Vec<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        described.push("name");
        let mut read = Domain::provisioned_keys();
        described.sort_unstable();
        read.sort_unstable();
        assert_eq!(described, read);
    }
}
