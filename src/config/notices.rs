//! What the configuration says about notices: who takes them.

use super::host::{Primaries, Primary};
use super::reader::{ConfigError, Table};
use super::{Delivery, Domain, OnExpiry, OnReject, PrimaryTls, Quota, RecipientPolicy, WhenUp};
use crate::limits;

impl Domain {
    /// Where notices for this protected domain go: to its own primaries, secured as all of its mail.
    #[must_use]
    pub fn of_own_notices(&self, delivery: &Delivery) -> Self {
        let Self { name, primaries, tls, .. } = self.clone();
        Self { primaries, tls, ..Self::of_notices(&name, Vec::new(), delivery) }
    }

    /// The one host that takes notices: an operator who wants certificates or DNSSEC of primaries has no plain text for it.
    #[must_use]
    pub fn of_smarthost(name: &str, host: Primary, delivery: &Delivery) -> Self {
        let tls = match delivery.tls {
            PrimaryTls::MtaSts | PrimaryTls::Dane => PrimaryTls::Require,
            tls => tls,
        };
        Self { tls, ..Self::of_notices(name, vec![host], delivery) }
    }

    /// Where notices for `name` go, as if that were a protected domain: the defaults of `[delivery]` hold.
    #[must_use]
    pub fn of_notices(name: &str, hosts: Vec<Primary>, delivery: &Delivery) -> Self {
        Self {
            name: name.to_owned(),
            primaries: Primaries::Hosts(hosts),
            recipients: RecipientPolicy::default(),
            retry_interval: delivery.retry_interval,
            retention: limits::NOTICE_RETENTION,
            on_expiry: OnExpiry::Discard,
            held_retention: limits::NOTICE_RETENTION,
            safety_net: core::time::Duration::ZERO,
            on_reject: OnReject::Discard,
            // Each session of `replay::notice` has one.
            max_connections: 1,
            // What a domain publishes is asked for where it is protected here; many others are known by unsigned MX records only.
            tls: match delivery.tls {
                PrimaryTls::MtaSts | PrimaryTls::Dane => PrimaryTls::Opportunistic,
                tls => tls,
            },
            when_up: WhenUp::Relay,
            authenticate: false,
            quota: Quota::default(),
            etrn_from: Vec::new(),
            smarthost: None,
            arc: None,
        }
    }
}

/// Who takes notices; empty: the mail exchangers of whom they are for.
pub(super) fn read_smarthost(table: &Table, default: &Delivery) -> Result<Option<Primary>, ConfigError> {
    let Some(value) = table.value("smarthost") else { return Ok(default.smarthost.clone()) };
    let text = value.string()?;
    if text.is_empty() {
        return Ok(None);
    }
    Primary::parse(text).map(Some).map_err(|error| value.error(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, NOTICES_DOMAIN};

    const DOMAIN: &str = "[[domain]]\nname = \"one.test\"\nprimary = [\"mail.one.test\"]\n";

    fn error(text: &str) -> String {
        Config::parse(text, "t").expect_err("it is wrong").to_string()
    }

    #[test]
    fn notices_are_secured_as_the_mail_of_whom_they_go_to() {
        let text = format!("[delivery]\ntls = \"mta-sts\"\n{DOMAIN}tls = \"dane\"\n");
        let config = Config::parse(&text, "t").unwrap();
        let own = config.domains[0].of_own_notices(&config.delivery);
        assert_eq!((&own.name, &own.primaries), (&config.domains[0].name, &config.domains[0].primaries));
        assert_eq!((own.tls, own.max_connections), (PrimaryTls::Dane, 1));
        let host = || Primary::parse("relay.test").unwrap();
        assert_eq!(Domain::of_smarthost("a.test", host(), &config.delivery).tls, PrimaryTls::Require);
        let stranger = Domain::of_notices("a.test", vec![host()], &config.delivery);
        assert_eq!(stranger.tls, PrimaryTls::Opportunistic);
    }

    #[test]
    fn what_notices_need_is_looked_at() {
        let host = format!("{DOMAIN}smarthost = \"a b\"");
        assert!(error(&host).starts_with("t:4: domain[0].smarthost: \"a b\" is not \"host\", \"host:port\""));
        let reserved = DOMAIN.replace("one.test", NOTICES_DOMAIN);
        let expected = "t:2: domain[0].name: \"notices.invalid\" is the domain that notices are kept under";
        assert_eq!(error(&reserved), expected);
        let text =
            format!("[delivery]\nsmarthost = \"relay.test\"\n{DOMAIN}{}", DOMAIN.replace("one", "two"));
        let config = Config::parse(&format!("{text}smarthost = \"\""), "t").unwrap();
        let hosts: Vec<_> = config.domains.iter().map(|domain| domain.smarthost.clone()).collect();
        assert_eq!(hosts, [Primary::parse("relay.test").ok(), None]);
    }
}
