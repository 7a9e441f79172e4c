//! Keys of `[smtp]` about who is at the other end and through what: certificates, load balancers, rates.

use core::net::SocketAddr;
use core::ops::RangeInclusive;
use std::path::PathBuf;

use super::cidr::Cidr;
use super::reader::{ConfigError, Table, Value};
use super::{CertificateFiles, Rates};
use crate::limits;

/// `tls = { cert, key }`, or a list of such for several names; an empty list is the self-signed one.
pub(super) fn read_tls(table: &Table) -> Result<Vec<CertificateFiles>, ConfigError> {
    let Some(value) = table.value("tls") else { return Ok(Vec::new()) };
    if let Ok(one) = value.table() {
        return Ok(vec![read_certificate(&one)?]);
    }
    let all = value.list(0..=limits::CERTIFICATES_MAX)?;
    all.iter().map(|element| read_certificate(&element.table()?)).collect()
}

/// A table `{ cert, key }`.
pub(super) fn read_certificate(table: &Table) -> Result<CertificateFiles, ConfigError> {
    table.expect_keys(&["cert", "key"])?;
    let path = |key| {
        let value = table.required(key)?;
        if value.string()?.is_empty() {
            Err(value.error("is no file"))
        } else {
            Ok(PathBuf::from(value.string()?))
        }
    };
    Ok(CertificateFiles { cert: path("cert")?, key: path("key")? })
}

/// The name of a file; none where there is none, or an empty one.
pub(super) fn read_file(table: &Table, key: &str) -> Result<Option<PathBuf>, ConfigError> {
    let Some(value) = table.value(key) else { return Ok(None) };
    Ok(Some(value.string()?).filter(|path| !path.is_empty()).map(PathBuf::from))
}

/// A list of networks; nobody where there is none.
pub(super) fn read_networks(table: &Table, key: &str) -> Result<Vec<Cidr>, ConfigError> {
    let Some(value) = table.value(key) else {
        return Ok(Vec::new());
    };
    let mut networks = Vec::new();
    for element in value.list(0..=limits::NETWORKS_MAX)? {
        let network = element.string()?.parse().map_err(|error| element.error(error))?;
        if networks.contains(&network) {
            return Err(element.error("is there twice"));
        }
        networks.push(network);
    }
    Ok(networks)
}

/// A list of socket addresses; an address without a port gets `port`, if there is one.
pub(super) fn read_addresses(
    value: &Value,
    length: RangeInclusive<usize>,
    port: Option<u16>,
) -> Result<Vec<SocketAddr>, ConfigError> {
    let mut addresses = Vec::new();
    for element in value.list(length)? {
        let text = element.string()?;
        let bare = || Some(SocketAddr::new(text.parse().ok()?, port?));
        let Some(address) = text.parse().ok().or_else(bare) else {
            let shape = if port.is_some() { "\"ip\" or \"ip:port\"" } else { "\"ip:port\"" };
            return Err(element.error(format!("is not {shape} (IPv6 with a port as \"[::1]:25\")")));
        };
        if addresses.contains(&address) {
            return Err(element.error("is there twice"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// The `[smtp.rate]` table.
pub(super) fn read_rates(table: &Table) -> Result<Rates, ConfigError> {
    table.expect_keys(&["connections_per_minute_per_ip", "messages_per_minute_per_ip"])?;
    let default = Rates::default();
    let number = |key, default| {
        table.value(key).map_or(Ok(default), |value| value.integer(0..=limits::RATE_A_MINUTE_MAX))
    };
    Ok(Rates {
        connections_per_minute_per_ip: number(
            "connections_per_minute_per_ip",
            default.connections_per_minute_per_ip,
        )?,
        messages_per_minute_per_ip: number("messages_per_minute_per_ip", default.messages_per_minute_per_ip)?,
    })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn parse(smtp: &str) -> Result<Config, String> {
        let text = format!("[smtp]\n{smtp}\n[[domain]]\nname = \"one.test\"\nprimary = [\"192.0.2.1\"]\n");
        Config::parse(&text, "t").map_err(|error| error.to_string())
    }

    #[test]
    fn one_certificate_or_several_or_none() {
        assert!(parse("").unwrap().smtp.tls.is_empty());
        assert!(parse("tls = []").unwrap().smtp.tls.is_empty());
        let one = parse("tls = { cert = \"a.pem\", key = \"b.pem\" }").unwrap();
        assert_eq!(one.smtp.tls[0].key.to_str(), Some("b.pem"));
        let two = "tls = [{ cert = \"a\", key = \"b\" }, { cert = \"c\", key = \"d\" }]";
        assert_eq!(parse(two).unwrap().smtp.tls.len(), 2);
        for (wrong, expected) in [
            ("tls = \"a.pem\"", "t:2: smtp.tls: \"a.pem\" is not a list"),
            ("tls = { cert = \"a\" }", "t:2: smtp.tls.key: is missing"),
            ("tls = [{ cert = \"a\", key = \"\" }]", "t:2: smtp.tls[0].key: \"\" is no file"),
            ("tls = { cert = \"a\", key = \"b\", chain = \"c\" }", "t:2: smtp.tls.chain: unknown key"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn balancers_are_networks_and_rates_are_numbers() {
        let smtp =
            parse("proxy_from = [\"192.0.2.0/24\", \"::1\"]\nrate = { messages_per_minute_per_ip = 0 }");
        let smtp = smtp.unwrap().smtp;
        assert!(smtp.proxy_from[0].contains("192.0.2.9".parse().unwrap()));
        assert_eq!(
            (smtp.rate.connections_per_minute_per_ip, smtp.rate.messages_per_minute_per_ip),
            (3_000, 0)
        );
        for (wrong, expected) in [
            ("proxy_from = [\"192.0.2.1/24\"]", "t:2: smtp.proxy_from[0]: \"192.0.2.1/24\" has bits"),
            ("proxy_from = [\"::1\", \"::1/128\"]", "t:2: smtp.proxy_from[1]: \"::1/128\" is there twice"),
            (
                "rate = { messages_per_minute_per_ip = -1 }",
                "t:2: smtp.rate.messages_per_minute_per_ip: -1 is not",
            ),
            ("rate = { messages = 1 }", "t:2: smtp.rate.messages: unknown key"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
