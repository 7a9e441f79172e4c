//! Where a domain's mail goes, and what is spoken there.

use super::host::{Primaries, Primary, Protocol, SMTP_PORT};
use super::reader::{ConfigError, Table};
use crate::limits;

/// The keys `primary` and `protocol` of a domain.
pub(super) fn read(table: &Table) -> Result<Primaries, ConfigError> {
    let value = table.required("primary")?;
    let protocol = match table.value("protocol") {
        Some(value) => value.choice(&[("smtp", Protocol::Smtp), ("lmtp", Protocol::Lmtp)], &[])?,
        None => Protocol::Smtp,
    };
    if value.string().is_ok_and(|text| text == "mx") {
        return match protocol {
            Protocol::Smtp => Ok(Primaries::Exchangers),
            // RFC 2033 5: who is found by MX is asked for SMTP.
            Protocol::Lmtp => Err(value.error("cannot be \"mx\" with protocol = \"lmtp\": name the hosts")),
        };
    }
    let mut primaries = Vec::new();
    for element in value.list(1..=limits::PRIMARIES_MAX)? {
        let primary = Primary::parse(element.string()?).map_err(|error| element.error(error))?;
        if protocol == Protocol::Lmtp && primary.port == SMTP_PORT {
            return Err(element.error(
                "needs a port other than 25 with protocol = \"lmtp\" (RFC 2033 5), as in \"host:24\"",
            ));
        }
        let primary = Primary { protocol, ..primary };
        if primaries.contains(&primary) {
            return Err(element.error("is there twice"));
        }
        primaries.push(primary);
    }
    Ok(Primaries::Hosts(primaries))
}
