//! `domains/NAME/doctor`: looks up what senders will find of a domain, and says how to mend what is wrong.

use super::Api;
use super::domains::known;
use super::orders::is_recipient;
use super::problem::Problem;
use super::queue::{Queried, query};
use super::{answered, status};
use crate::bridge::operator::{DomainStatus, Request as Asked};
use crate::bridge::{Lookup, LookupError, RecordKind, Snapshot};
use crate::config::{self, Config, Domain, Primaries, Primary, canonical_domain};
use crate::control::acme;
use crate::control::doctor::{Beside, Facts, Finding, Host, Verdict, examine, hosts, in_time, is_us};
use crate::control::store::alert as rows;
use crate::limits::DOCTOR_HOSTS_MAX;
use axum::Json;
use axum::extract::{Path, State};
use core::net::IpAddr;
use futures_lite::future::zip;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::task::{JoinSet, spawn_blocking};
use utoipa::{IntoParams, ToSchema};

/// What is done beside looking.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Send a test message to this address, through the domain's own mail servers
    test_recipient: Option<String>,
}

/// All checks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Examined {
    domain: String,
    /// The worst of all
    verdict: Verdict,
    findings: Vec<Finding>,
}

/// Examines a domain: MX records, certificate, policies, the mail server, who is told
#[utoipa::path(
    post, path = "/api/v1/domains/{name}/doctor", tag = "domains",
    params(("name" = String, Path, description = "The domain"), Wanted), responses((status = 200, body = Examined))
)]
pub(super) async fn examined(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    wanted: Queried<Wanted>,
) -> Result<Json<Examined>, Problem> {
    let Wanted { test_recipient } = query(wanted)?;
    let snapshot = api.current.get();
    let name = known(&snapshot, &canonical_domain(&name).unwrap_or_default())?;
    let domain = snapshot.domain(&name).cloned();
    let domain = domain.ok_or_else(|| Problem::conflict("this domain is not configured: add it first"))?;
    let status = answered(&api, status::domains(&api, &[Arc::clone(&name)])).await?;
    let status = status.into_iter().next().unwrap_or_default();
    if test_recipient.as_ref().is_some_and(|recipient| !is_recipient(recipient)) {
        return Err(Problem::bad_request("test_recipient is no mail address"));
    }
    let contacts = api.store.run(|connection| rows::contacts(connection)).await?;
    let contacts =
        contacts.iter().filter(|contact| contact.domain.is_empty() || contact.domain == *name).count();
    let test = async {
        match test_recipient {
            Some(recipient) => tested((&api, &snapshot), &domain, recipient).await.map(Some),
            None => Ok(None),
        }
    };
    let (test, mut facts) = zip(test, looked_up((&api, &snapshot), &domain, &status, contacts)).await;
    facts.test = test?;
    let findings = examine(&facts);
    let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown);
    Ok(Json(Examined { domain: name.to_string(), verdict, findings }))
}

async fn looked_up<'a>(
    (api, snapshot): (&'a Api, &'a Snapshot),
    domain: &'a Domain,
    status: &'a DomainStatus,
    contacts: usize,
) -> Facts<'a> {
    let (hostname, lookup) = (snapshot.config.hostname.as_str(), &api.lookup);
    // Side by side, and bounded: where no name server answers it is told that none does.
    let of_domain = zip(
        hosts(lookup, &domain.name, hostname),
        zip(in_time(lookup.secure_exchangers(&domain.name)), in_time(lookup.policy(&domain.name))),
    );
    let of_us = zip(in_time(lookup.addresses(hostname)), in_time(lookup.tlsa(hostname, 25)));
    let ((exchangers, (secure, policy)), (ours, tlsa)) = zip(of_domain, of_us).await;
    let (ours, exchangers) = (ours.map_err(told), exchangers.map_err(told));
    let beside = beside(snapshot, &api.lookup, domain, ours.as_deref(), exchangers.as_deref()).await;
    Facts {
        hostname,
        ours,
        domain,
        exchangers,
        is_secure: secure.ok().map(|secure| secure.is_secure),
        policy: policy.map(|policy| policy.map(|policy| (*policy).clone())).map_err(told),
        has_tlsa: tlsa.map(|tlsa| tlsa.is_some()).map_err(told),
        has_certificate: has_certificate(&snapshot.config).await,
        status,
        is_trusted: snapshot.usage_of(&domain.name).passage.is_trusted(),
        contacts,
        beside: Some(beside),
        test: None,
    }
}

fn told(error: LookupError) -> String {
    error.to_string()
}

/// Aliases, names of addresses, reports; and what is known without a question.
async fn beside(
    snapshot: &Snapshot,
    lookup: &Lookup,
    domain: &Domain,
    ours: Result<&[IpAddr], &String>,
    exchangers: Result<&[Host], &String>,
) -> Beside {
    let (mut aliases, mut names) = (JoinSet::new(), JoinSet::new());
    for (place, host) in exchangers.unwrap_or_default().iter().enumerate() {
        let (lookup, host) = (lookup.clone(), host.exchanger.host.clone());
        aliases.spawn(async move {
            let found = in_time(lookup.records(RecordKind::Alias, &host)).await.unwrap_or_default();
            found.into_iter().next().map(|target| (place, (host, target)))
        });
    }
    for (place, address) in ours.unwrap_or_default().iter().copied().enumerate().take(DOCTOR_HOSTS_MAX) {
        let lookup = lookup.clone();
        names.spawn(async move {
            let found = in_time(lookup.records(RecordKind::Names, &address.to_string())).await;
            (place, (address, found.map_err(told)))
        });
    }
    let reports = format!("_smtp._tls.{}", domain.name);
    let reports = in_time(lookup.records(RecordKind::Texts, &reports));
    let (reports, (aliases, names)) = zip(reports, zip(aliases.join_all(), names.join_all())).await;
    let certificates = snapshot.certificates.as_ref();
    Beside {
        aliases: in_order(aliases.into_iter().flatten().collect()),
        names: in_order(names),
        reports: reports.map_err(told),
        covers_name: certificates.is_none_or(|shown| shown.covers(&snapshot.config.hostname)),
        known: snapshot.usage_of(&domain.name).acquaintance.memory(),
    }
}

fn in_order<T>(mut answers: Vec<(usize, T)>) -> Vec<T> {
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Whether senders are shown another than the self-signed one.
async fn has_certificate(config: &Config) -> bool {
    let data_dir = config.data_dir.clone();
    let is_issued = async || spawn_blocking(move || acme::files(&data_dir).is_some()).await.unwrap_or(false);
    !config.smtp.tls.is_empty() || (config.acme.is_some() && is_issued().await)
}

/// A message through the domain's own hosts, as for a redirect.
async fn tested(
    (api, snapshot): (&Api, &Snapshot),
    domain: &Domain,
    recipient: String,
) -> Result<Result<String, String>, Problem> {
    let hosts = match &domain.primaries {
        Primaries::Hosts(hosts) => hosts.clone(),
        Primaries::Exchangers => {
            match before_us(&api.lookup, &domain.name, &snapshot.config.hostname).await {
                Ok(hosts) => hosts,
                Err(error) => return Ok(Err(error)),
            }
        }
    };
    let name: Arc<str> = domain.name.as_str().into();
    let asked =
        api.shards.ask(|answer| Asked::Try(Arc::clone(&name), hosts.clone(), recipient.clone(), answer));
    let tested = answered(api, asked).await?.into_iter().flatten().next();
    tested.ok_or_else(|| Problem::unavailable("too many test messages are under way; try again"))
}

/// The hosts that a domain's records name before us (RFC 5321 5.1).
async fn before_us(lookup: &Lookup, domain: &str, own: &str) -> Result<Vec<Primary>, String> {
    let (hosts, ours) = zip(hosts(lookup, domain, own), in_time(lookup.addresses(own))).await;
    let (hosts, ours) = (hosts.map_err(told)?, ours.unwrap_or_default());
    let is_ours = |host: &&Host| is_us(own, &ours, host);
    let least = hosts.iter().filter(is_ours).map(|host| host.exchanger.preference).min();
    let is_before =
        |host: &&Host| !is_ours(host) && least.is_none_or(|least| host.exchanger.preference < least);
    let named = hosts.iter().filter(is_before).filter(|host| !host.exchanger.host.is_empty());
    let before: Vec<Primary> = named
        .map(|host| Primary {
            host: config::Host::Name(host.exchanger.host.clone()),
            port: config::SMTP_PORT,
            protocol: config::Protocol::Smtp,
        })
        .collect();
    if before.is_empty() { Err("its MX records name no host before this one".to_owned()) } else { Ok(before) }
}
