//! `domains/NAME/doctor`: looks up what senders will find of a domain, and says how to mend what is wrong.

use super::Api;
use super::domains::known;
use super::orders::is_recipient;
use super::problem::Problem;
use super::queue::{Queried, query};
use super::{answered, status};
use crate::bridge::Snapshot;
use crate::bridge::operator::{DomainStatus, Request as Asked};
use crate::config::{Config, Domain, Primaries, canonical_domain};
use crate::control::acme;
use crate::control::doctor::{Facts, Finding, Verdict, examine, hosts};
use crate::control::store::alert as rows;
use crate::limits::DOCTOR_LOOKUP_TIMEOUT;
use axum::Json;
use axum::extract::{Path, State};
use futures_lite::future::zip;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
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
            Some(recipient) => tested(&api, &domain, recipient).await.map(Some),
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
        in_time(hosts(lookup, &domain.name)),
        zip(in_time(lookup.secure_exchangers(&domain.name)), in_time(lookup.policy(&domain.name))),
    );
    let of_us = zip(in_time(lookup.addresses(hostname)), in_time(lookup.tlsa(hostname, 25)));
    let ((exchangers, (secure, policy)), (ours, tlsa)) = zip(of_domain, of_us).await;
    Facts {
        hostname,
        ours,
        domain,
        exchangers,
        is_secure: secure.ok().map(|secure| secure.is_secure),
        policy: policy.map(|policy| policy.map(|policy| (*policy).clone())),
        has_tlsa: tlsa.map(|tlsa| tlsa.is_some()),
        has_certificate: has_certificate(&snapshot.config).await,
        status,
        is_trusted: snapshot.usage_of(&domain.name).passage.is_trusted(),
        contacts,
        test: None,
    }
}

/// What is looked up, or why not.
async fn in_time<T, E: core::fmt::Display>(looking: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match timeout(DOCTOR_LOOKUP_TIMEOUT, looking).await {
        Ok(found) => found.map_err(|error| error.to_string()),
        Err(_) => {
            Err(format!("no answer within {} s; is there a name server?", DOCTOR_LOOKUP_TIMEOUT.as_secs()))
        }
    }
}

/// Whether senders are shown another than the self-signed one.
async fn has_certificate(config: &Config) -> bool {
    let data_dir = config.data_dir.clone();
    let is_issued = async || spawn_blocking(move || acme::files(&data_dir).is_some()).await.unwrap_or(false);
    !config.smtp.tls.is_empty() || (config.acme.is_some() && is_issued().await)
}

/// A message through the domain's own hosts, as for a redirect.
async fn tested(api: &Api, domain: &Domain, recipient: String) -> Result<Result<String, String>, Problem> {
    let hosts = match &domain.primaries {
        Primaries::Hosts(hosts) => hosts.clone(),
        Primaries::Exchangers => {
            return Err(Problem::conflict(
                "with primary = \"mx\" no test message is sent yet; name its hosts for the test",
            ));
        }
    };
    let name: Arc<str> = domain.name.as_str().into();
    let asked =
        api.shards.ask(|answer| Asked::Try(Arc::clone(&name), hosts.clone(), recipient.clone(), answer));
    let tested = answered(api, asked).await?.into_iter().flatten().next();
    tested.ok_or_else(|| Problem::unavailable("too many test messages are under way; try again"))
}
