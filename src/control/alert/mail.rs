//! Alerts by e-mail: through the smarthost, else to the mail exchangers of whom they are for, as notices go.
//!
//! TLS where it is offered; whose certificate it is is not verified, since there is nobody to tell but this operator, by this mail.
//! They come from postmaster at our own name, whose mail this server takes.

use super::Message;
use crate::bridge::Lookup;
use crate::config::{Host, Primary, SMTP_PORT, canonical_domain};
use core::net::IpAddr;
use core::time::Duration;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::client::{CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use tokio::time::timeout;

/// One try of one host.
const HOST_TIMEOUT: Duration = Duration::from_secs(8);

/// From where, and through whom.
pub(super) struct Own<'a> {
    pub(super) hostname: &'a str,
    pub(super) smarthost: Option<&'a Primary>,
    pub(super) lookup: &'a Lookup,
}

/// Whether mail can go there at all.
pub(in crate::control) fn is_mailbox(address: &str) -> bool {
    address.parse::<lettre::Address>().is_ok()
}

/// Sends it.
pub(super) async fn send(own: &Own<'_>, to: &str, message: &Message) -> Result<(), String> {
    let failed = |error: &dyn core::fmt::Display| error.to_string();
    let recipient: lettre::Address =
        to.parse().map_err(|error: lettre::address::AddressError| failed(&error))?;
    let from = format!("postmaster@{}", own.hostname)
        .parse()
        .map_err(|error: lettre::address::AddressError| failed(&error))?;
    let mail = lettre::Message::builder()
        .from(Mailbox::new(Some("StrataMX".to_owned()), from))
        .to(Mailbox::new(None, recipient.clone()))
        .subject(&message.subject)
        .header(ContentType::TEXT_PLAIN)
        .message_id(None)
        // RFC 3834 5: nobody's vacation answers it.
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .body(message.text.clone())
        .map_err(|error| failed(&error))?;
    let mut last = "nobody takes its mail".to_owned();
    for (host, address, port) in hosts(own, recipient.domain()).await? {
        let tried = timeout(HOST_TIMEOUT, through(own.hostname, &host, address, port, mail.clone())).await;
        match tried {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => last = format!("{host} at {address}: {error}"),
            // It takes connections and says nothing: the next one may.
            Err(_) => last = format!("{host} at {address}: no answer in time"),
        }
    }
    Err(last)
}

async fn through(
    hostname: &str,
    host: &str,
    address: IpAddr,
    port: u16,
    mail: lettre::Message,
) -> Result<(), String> {
    let tls = TlsParameters::builder(host.to_owned())
        .certificate_store(CertificateStore::None)
        .dangerous_accept_invalid_certs(true)
        .build_rustls()
        .map_err(|error| error.to_string())?;
    let transport: AsyncSmtpTransport<Tokio1Executor> =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.to_string())
            .port(port)
            .hello_name(ClientId::Domain(hostname.to_owned()))
            .tls(Tls::Opportunistic(tls))
            .timeout(Some(HOST_TIMEOUT))
            .build();
    transport.send(mail).await.map(drop).map_err(|error| error.to_string())
}

/// Where it may go, in order.
async fn hosts(own: &Own<'_>, domain: &str) -> Result<Vec<(String, IpAddr, u16)>, String> {
    let named = match own.smarthost {
        Some(smarthost) => vec![(smarthost.host.clone(), smarthost.port)],
        None => {
            let name = canonical_domain(domain).ok_or("its domain is none")?;
            let mut exchangers = own.lookup.exchangers(&name).await.map_err(|error| error.to_string())?;
            exchangers.sort_by_key(|exchanger| exchanger.preference);
            // RFC 7505: an empty name takes no mail.
            let taking = exchangers.into_iter().filter(|exchanger| !exchanger.host.is_empty());
            taking.map(|exchanger| (Host::Name(exchanger.host), SMTP_PORT)).collect()
        }
    };
    let mut all = Vec::new();
    for (host, port) in named {
        match host {
            Host::Address(address) => all.push((address.to_string(), address, port)),
            Host::Name(name) => {
                let found = own.lookup.addresses(&name).await.unwrap_or_default();
                all.extend(found.into_iter().map(|address| (name.clone(), address, port)));
            }
        }
    }
    Ok(all)
}
