//! The checks of a domain that is to be protected: pure functions of what was looked up. Each says what is so, and how to mend it.
//!
//! Senders find a backup by the domain's own records, its certificate and its policies, none of which this server makes. What is wrong
//! with them is seen in an outage, when it is too late; so it is looked at before.

mod beside;

use crate::bridge::operator::{DomainStatus, State};
use crate::bridge::{Exchanger, Lookup, LookupError};
use crate::config::{Domain, Primaries, Recipients};
use crate::limits::{DOCTOR_HOSTS_MAX, DOCTOR_LOOKUP_TIMEOUT};
use crate::message::mta_sts::{Mode, Policy};
pub(super) use beside::Beside;
use core::net::IpAddr;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::timeout;
use utoipa::ToSchema;

/// How it stands with one thing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Good,
    /// It could not be found out.
    Unknown,
    /// It works, and could be better.
    Warning,
    /// In an outage mail would be lost or refused.
    Error,
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(super) struct Finding {
    /// Its name, for scripts
    pub check: &'static str,
    /// How it stands
    pub verdict: Verdict,
    /// What is so
    pub text: String,
    /// How to mend it; null: there is nothing to mend
    pub mend: Option<String>,
}

/// A host of the domain's MX records, and what it resolves to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Host {
    /// Its record.
    pub exchanger: Exchanger,
    /// Its addresses, or why there are none.
    pub addresses: Result<Vec<IpAddr>, LookupError>,
}

/// What was looked up.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    /// Our name.
    pub hostname: &'a str,
    /// The addresses of our name.
    pub ours: Result<Vec<IpAddr>, String>,
    /// The domain's configuration.
    pub domain: &'a Domain,
    /// Its MX records, or why there are none.
    pub exchangers: Result<Vec<Host>, String>,
    /// Whether DNSSEC says so; none: it cannot be told.
    pub is_secure: Option<bool>,
    /// Its MTA-STS policy, if it has one; or why that cannot be told.
    pub policy: Result<Option<Policy>, String>,
    /// Whether our name has TLSA records; or why that cannot be told.
    pub has_tlsa: Result<bool, String>,
    /// Whether senders are shown a certificate that the operator has given.
    pub has_certificate: bool,
    /// How the domain stands.
    pub status: &'a DomainStatus,
    /// Whether the mail server lets us name clients (XCLIENT).
    pub is_trusted: bool,
    /// Contacts that are told of alerts.
    pub contacts: usize,
    /// What is no condition of an outage; none: it is not looked at.
    pub beside: Option<Beside>,
    /// What became of a test message, if one was sent.
    pub test: Option<Result<String, String>>,
}

fn finding(check: &'static str, verdict: Verdict, text: impl Into<String>, mend: Option<String>) -> Finding {
    Finding { check, verdict, text: text.into(), mend }
}

fn good(check: &'static str, text: impl Into<String>) -> Finding {
    finding(check, Verdict::Good, text, None)
}

/// All checks, in the order to mend them.
#[must_use]
pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let mut all = match &facts.exchangers {
        Ok(hosts) => of_records(facts, hosts),
        Err(error) => {
            let mend = format!(
                "Publish MX records for {}: its mail server first, {} last.",
                facts.domain.name, facts.hostname
            );
            vec![finding("mx", Verdict::Error, format!("Its MX records cannot be had: {error}."), Some(mend))]
        }
    };
    all.push(of_our_name(facts));
    all.push(of_dnssec(facts));
    all.extend(of_policy(facts));
    all.push(of_certificate(facts));
    all.push(of_primary(facts));
    all.push(of_trust(facts));
    all.push(of_recipients(facts));
    all.push(of_contacts(facts));
    all.extend(facts.beside.iter().flat_map(|beside| beside::examine(facts, beside)));
    all.extend(of_test(facts));
    all
}

/// Those of the records that senders go by: MX, and MTA-STS. None where the first cannot be had.
#[must_use]
pub(super) fn examine_records(facts: &Facts<'_>) -> Vec<Finding> {
    let Ok(hosts) = &facts.exchangers else { return Vec::new() };
    of_records(facts, hosts).into_iter().chain(of_policy(facts)).collect()
}

/// The hosts of a domain's MX records, by preference, with their addresses: not too many, but us among them.
///
/// # Errors
/// Why there are none; also that no answer came in time.
pub(super) async fn hosts(lookup: &Lookup, domain: &str, own: &str) -> Result<Vec<Host>, LookupError> {
    let mut exchangers = in_time(lookup.exchangers(domain)).await?;
    exchangers.sort_by_key(|exchanger| exchanger.preference);
    let mut looking = JoinSet::new();
    for (place, exchanger) in exchangers.into_iter().enumerate() {
        if place >= DOCTOR_HOSTS_MAX && exchanger.host != own {
            continue;
        }
        let lookup = lookup.clone();
        looking.spawn(async move {
            let addresses = in_time(lookup.addresses(&exchanger.host)).await;
            (place, Host { exchanger, addresses })
        });
    }
    let mut hosts = looking.join_all().await;
    hosts.sort_by_key(|(place, _)| *place);
    Ok(hosts.into_iter().map(|(_, host)| host).collect())
}

/// What is looked up, or that no name server answers.
pub(super) async fn in_time<T>(
    looking: impl Future<Output = Result<T, LookupError>>,
) -> Result<T, LookupError> {
    let late = || format!("no answer within {} s", DOCTOR_LOOKUP_TIMEOUT.as_secs());
    timeout(DOCTOR_LOOKUP_TIMEOUT, looking).await.unwrap_or_else(|_| Err(LookupError::Temporary(late())))
}

/// Whether a host is this server: by its name, or by an address.
pub(super) fn is_us(own: &str, ours: &[IpAddr], host: &Host) -> bool {
    let shares = |addresses: &Vec<IpAddr>| addresses.iter().any(|address| ours.contains(address));
    host.exchanger.host == own || host.addresses.as_ref().is_ok_and(shares)
}

fn of_records(facts: &Facts<'_>, hosts: &[Host]) -> Vec<Finding> {
    let own = facts.ours.as_deref().unwrap_or_default();
    let (ours, others): (Vec<&Host>, Vec<&Host>) =
        hosts.iter().partition(|host| is_us(facts.hostname, own, host));
    let (name, own) = (&facts.domain.name, facts.hostname);
    let preferences = others.iter().map(|host| host.exchanger.preference);
    let (least, most) = (preferences.clone().min(), preferences.max());
    let mut all = Vec::new();
    let Some(us) = ours.iter().map(|host| host.exchanger.preference).min() else {
        let next = most.map_or(20, |most| most.saturating_add(10));
        let text = format!("None of its MX records is {own}: in an outage nobody comes here.");
        all.push(finding("mx", Verdict::Error, text, Some(format!("Add: {name}. MX {next} {own}."))));
        return all;
    };
    match (least, most) {
        (Some(least), _) if us <= least => {
            let text = format!(
                "{own} has preference {us}, and its mail server {least}: senders would come here first."
            );
            let mend = format!(
                "Give {own} a higher number than all others: MX {} {own}.",
                most.unwrap_or(10).saturating_add(10)
            );
            all.push(finding("mx", Verdict::Error, text, Some(mend)));
        }
        (None, _) => {
            let text = format!(
                "{own} is its only MX record: all mail comes here, and with primary = \"mx\" it goes nowhere."
            );
            let verdict = if matches!(facts.domain.primaries, Primaries::Exchangers) {
                Verdict::Error
            } else {
                Verdict::Warning
            };
            all.push(finding(
                "mx",
                verdict,
                text,
                Some(format!("Add the mail server itself with a lower number than {us}.")),
            ));
        }
        (Some(_), Some(most)) if us <= most => {
            let text = format!(
                "{own} has preference {us}, and another host {most}: senders come here before they try that."
            );
            let mend = format!("Give {own} the highest number: MX {} {own}.", most.saturating_add(10));
            all.push(finding("mx", Verdict::Warning, text, Some(mend)));
        }
        _ => all.push(good("mx", format!("{own} is behind its mail server, with preference {us}."))),
    }
    for host in others {
        if let Err(error) = &host.addresses {
            let text = format!("{} of its MX records has no address: {error}.", host.exchanger.host);
            let mend = "Give it an address, or take the record out: senders lose time over it.".to_owned();
            all.push(finding("mx-resolves", Verdict::Warning, text, Some(mend)));
        }
    }
    all
}

fn of_our_name(facts: &Facts<'_>) -> Finding {
    match &facts.ours {
        Ok(addresses) if addresses.iter().all(IpAddr::is_loopback) => {
            let text = format!(
                "{} is this machine to itself only (a loopback address). Nobody finds this server.",
                facts.hostname
            );
            let mend = "Set hostname in the configuration to the name that is published with its address."
                .to_owned();
            finding("own-name", Verdict::Error, text, Some(mend))
        }
        Ok(addresses) => {
            let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            good("own-name", format!("{} has the addresses {}.", facts.hostname, shown.join(", ")))
        }
        Err(error) => {
            let text = format!("{} has no address: {error}. Nobody finds this server.", facts.hostname);
            let mend = "Publish its address, or set hostname in the configuration to a name that has one."
                .to_owned();
            finding("own-name", Verdict::Error, text, Some(mend))
        }
    }
}

fn of_dnssec(facts: &Facts<'_>) -> Finding {
    let name = &facts.domain.name;
    match (facts.is_secure, &facts.has_tlsa) {
        (None, _) => finding(
            "dane",
            Verdict::Unknown,
            "Whether its records are signed cannot be told: do the name servers pass DNSSEC on?",
            None,
        ),
        (Some(false), _) => {
            good("dane", format!("{name} is not signed by DNSSEC, so no sender asks for DANE."))
        }
        (Some(true), Ok(true)) => {
            good("dane", format!("{name} is signed, and {} has TLSA records.", facts.hostname))
        }
        (Some(true), Ok(false)) => {
            let text = format!(
                "{name} is signed, and {} has no TLSA records: senders by DANE send here without it.",
                facts.hostname
            );
            let mend =
                format!("Publish _25._tcp.{}. TLSA 3 1 1 with the key of its certificate.", facts.hostname);
            finding("dane", Verdict::Warning, text, Some(mend))
        }
        (Some(true), Err(error)) => finding(
            "dane",
            Verdict::Unknown,
            format!("TLSA records of {} cannot be had: {error}.", facts.hostname),
            None,
        ),
    }
}

fn of_policy(facts: &Facts<'_>) -> Option<Finding> {
    let policy = match &facts.policy {
        Ok(Some(policy)) if policy.mode != Mode::None => policy,
        Ok(_) => return Some(good("mta-sts", format!("{} has no MTA-STS policy.", facts.domain.name))),
        Err(error) => {
            return Some(finding(
                "mta-sts",
                Verdict::Unknown,
                format!("Its MTA-STS policy cannot be had: {error}."),
                None,
            ));
        }
    };
    if !policy.names(facts.hostname) {
        let verdict = if policy.mode == Mode::Enforce { Verdict::Error } else { Verdict::Warning };
        let text = format!(
            "Its MTA-STS policy does not name {}: senders who keep to it do not come here.",
            facts.hostname
        );
        let mend =
            format!("Add the line `mx: {}` to the policy, and change the id of its record.", facts.hostname);
        return Some(finding("mta-sts", verdict, text, Some(mend)));
    }
    if !facts.has_certificate && policy.mode == Mode::Enforce {
        let text = "Its MTA-STS policy is enforced, and this server shows a self-signed certificate: senders who keep to it refuse that.";
        let mend = format!(
            "Set smtp.tls to a certificate for {} that authorities vouch for, or [acme].",
            facts.hostname
        );
        return Some(finding("mta-sts", Verdict::Error, text, Some(mend)));
    }
    Some(good("mta-sts", format!("Its MTA-STS policy names {}.", facts.hostname)))
}

fn of_certificate(facts: &Facts<'_>) -> Finding {
    if facts.has_certificate {
        return good("certificate", "Senders are shown a certificate that was given, or issued.");
    }
    let mend = format!(
        "Set smtp.tls to a certificate for {}, or [acme] to an authority that issues one.",
        facts.hostname
    );
    finding("certificate", Verdict::Warning, "Senders are shown a self-signed certificate.", Some(mend))
}

fn of_primary(facts: &Facts<'_>) -> Finding {
    let status = facts.status;
    let reason = status.last_failure.as_ref().map_or("", |failure| failure.reason.as_str());
    match status.state {
        State::Up => good("primary", format!("{} takes mail.", facts.domain.primaries)),
        State::Unknown => finding(
            "primary",
            Verdict::Unknown,
            format!("Nothing was tried at {} since the start.", facts.domain.primaries),
            Some("Send a test message: --test-recipient.".to_owned()),
        ),
        State::Held => finding("primary", Verdict::Unknown, "An operator holds its mail.", None),
        state => {
            let text = format!("{} is {state}: {reason}.", facts.domain.primaries);
            let mend =
                "Is it reached from here, by this port, and does its firewall let this server's address in?"
                    .to_owned();
            finding("primary", Verdict::Error, text, Some(mend))
        }
    }
}

fn of_trust(facts: &Facts<'_>) -> Finding {
    if facts.is_trusted {
        return good(
            "trust",
            "Its mail server lets this one name clients (XCLIENT): its filters judge them, not this server.",
        );
    }
    let public = facts.ours.iter().flatten().filter(|address| !address.is_loopback());
    let addresses: Vec<String> = public.map(ToString::to_string).collect();
    let who =
        if addresses.is_empty() { "this server's addresses".to_owned() } else { addresses.join(" and ") };
    let mend = format!(
        "Have it trust {who}: Postfix smtpd_authorized_xclient_hosts, Exchange Online an inbound connector with enhanced filtering, Google an inbound \
         gateway (with \"Reject all mail not from gateway IPs\" off), cPanel the list of backup MX hosts; and except it from greylisting and rate limits."
    );
    let text =
        "That its mail server trusts this one is not proven: it may judge senders by this server's address.";
    finding("trust", Verdict::Warning, text, Some(mend))
}

fn of_recipients(facts: &Facts<'_>) -> Finding {
    let mend = "recipients = \"verify\" asks the mail server while it is up; \"list\" keeps to addresses that are imported.".to_owned();
    match facts.domain.recipients.recipients {
        Recipients::Any => finding(
            "recipients",
            Verdict::Warning,
            "Any recipient is taken: what its mail server refuses afterwards is bounced or held here.",
            Some(mend),
        ),
        known => good("recipients", format!("Recipients are known by {known}.")),
    }
}

fn of_contacts(facts: &Facts<'_>) -> Finding {
    match facts.contacts {
        0 => {
            let mend = "stratamx contact add NAME mail to=ADDRESS, of another domain.".to_owned();
            finding("contacts", Verdict::Warning, "Nobody is told of an outage.", Some(mend))
        }
        count => good("contacts", format!("{count} contacts are told of an outage.")),
    }
}

fn of_test(facts: &Facts<'_>) -> Option<Finding> {
    Some(match facts.test.as_ref()? {
        Ok(said) => good("test-message", format!("A test message was taken: {said}.")),
        Err(error) => {
            let mend = "What its log says of it tells why; the address of this server may have to be let in."
                .to_owned();
            finding(
                "test-message",
                Verdict::Error,
                format!("A test message was not taken: {error}."),
                Some(mend),
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn host(preference: u16, name: &str, address: &str) -> Host {
        let addresses =
            if address.is_empty() { Err(LookupError::NoAddress) } else { Ok(vec![address.parse().unwrap()]) };
        Host { exchanger: Exchanger { preference, host: name.to_owned() }, addresses }
    }

    pub(super) fn facts<'a>(domain: &'a Domain, status: &'a DomainStatus, hosts: Vec<Host>) -> Facts<'a> {
        Facts {
            hostname: "mx2.example.net",
            ours: Ok(vec!["192.0.2.2".parse().unwrap()]),
            domain,
            exchangers: Ok(hosts),
            is_secure: Some(false),
            policy: Ok(None),
            has_tlsa: Ok(false),
            has_certificate: true,
            status,
            is_trusted: true,
            contacts: 1,
            beside: None,
            test: None,
        }
    }

    fn verdict(all: &[Finding], check: &str) -> Verdict {
        all.iter()
            .find(|finding| finding.check == check)
            .unwrap_or_else(|| panic!("{check}: {all:?}"))
            .verdict
    }

    #[test]
    fn the_records_have_us_behind_the_mail_server_or_say_what_to_publish() {
        let (domain, status) = (Config::embedded().domains.remove(0), DomainStatus::default());
        let primary = || host(10, "mail.a.test", "192.0.2.1");
        for (hosts, expected, words) in [
            (vec![primary(), host(20, "mx2.example.net", "192.0.2.2")], Verdict::Good, "preference 20"),
            (vec![primary(), host(20, "backup.a.test", "192.0.2.2")], Verdict::Good, "preference 20"),
            (vec![primary()], Verdict::Error, "in an outage nobody comes here"),
            (vec![primary(), host(10, "mx2.example.net", "192.0.2.2")], Verdict::Error, "come here first"),
            (vec![host(5, "mx2.example.net", "192.0.2.2"), primary()], Verdict::Error, "come here first"),
            (vec![host(5, "mx2.example.net", "192.0.2.2")], Verdict::Warning, "only MX record"),
            (
                vec![
                    primary(),
                    host(20, "mx2.example.net", "192.0.2.2"),
                    host(30, "third.test", "192.0.2.3"),
                ],
                Verdict::Warning,
                "before they try that",
            ),
        ] {
            let all = examine(&facts(&domain, &status, hosts));
            assert_eq!(verdict(&all, "mx"), expected, "{words}");
            assert!(all[0].text.contains(words), "{}", all[0].text);
            assert_eq!(all[0].mend.is_none(), expected == Verdict::Good, "what is wrong can be mended");
        }
        let dead = vec![primary(), host(15, "gone.a.test", ""), host(20, "mx2.example.net", "192.0.2.2")];
        assert_eq!(verdict(&examine(&facts(&domain, &status, dead)), "mx-resolves"), Verdict::Warning);
    }

    #[test]
    fn an_enforced_policy_that_leaves_us_out_is_an_error() {
        let (domain, status) = (Config::embedded().domains.remove(0), DomainStatus::default());
        let policy = |mode: &str, mx: &str| {
            Policy::parse(&format!("version: STSv1\nmode: {mode}\nmax_age: 86400\nmx: {mx}\n")).unwrap()
        };
        for (policy, has_certificate, expected) in [
            (policy("enforce", "mail.a.test"), true, Verdict::Error),
            (policy("testing", "mail.a.test"), true, Verdict::Warning),
            (policy("enforce", "*.example.net"), true, Verdict::Good),
            (policy("enforce", "*.example.net"), false, Verdict::Error),
            (policy("testing", "*.example.net"), false, Verdict::Good),
        ] {
            let hosts = vec![host(10, "mail.a.test", "192.0.2.1"), host(20, "mx2.example.net", "192.0.2.2")];
            let mut facts = facts(&domain, &status, hosts);
            (facts.policy, facts.has_certificate) = (Ok(Some(policy)), has_certificate);
            assert_eq!(verdict(&examine(&facts), "mta-sts"), expected);
        }
    }

    #[test]
    fn what_is_not_known_is_not_called_good() {
        let (domain, status) = (Config::embedded().domains.remove(0), DomainStatus::default());
        let mut facts = facts(&domain, &status, Vec::new());
        facts.ours = Ok(vec!["127.0.1.1".parse().unwrap()]);
        assert_eq!(verdict(&examine(&facts), "own-name"), Verdict::Error, "as a machine calls itself");
        facts.exchangers = Err("no answer".to_owned());
        (facts.ours, facts.is_secure, facts.contacts) = (Err("no answer".to_owned()), None, 0);
        facts.test = Some(Err("550 5.7.1 go away".to_owned()));
        let all = examine(&facts);
        for (check, expected) in [
            ("mx", Verdict::Error),
            ("own-name", Verdict::Error),
            ("dane", Verdict::Unknown),
            ("primary", Verdict::Unknown),
            ("contacts", Verdict::Warning),
            ("recipients", Verdict::Warning),
            ("test-message", Verdict::Error),
        ] {
            assert_eq!(verdict(&all, check), expected, "{check}");
        }
    }
}
