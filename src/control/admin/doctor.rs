//! `domains/NAME/doctor`: looks up what senders will find of a domain, and says how to mend what is wrong.

use super::Api;
use super::domains::known;
use super::orders::is_recipient;
use super::problem::Problem;
use super::queue::{Queried, query};
use super::{answered, status};
use crate::bridge::operator::{DomainStatus, Request as Asked};
use crate::bridge::{LookupError, Snapshot};
use crate::config::{Domain, Primaries, canonical_domain};
use crate::control::doctor::{Facts, Finding, Host, Verdict, examine};
use crate::control::store::alert as rows;
use crate::limits::DOCTOR_HOSTS_MAX;
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
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
    let test = match test_recipient {
        Some(recipient) if !is_recipient(&recipient) => {
            return Err(Problem::bad_request("test_recipient is no mail address"));
        }
        Some(recipient) => Some(tested(&api, &domain, recipient).await?),
        None => None,
    };
    let contacts = api.store.run(|connection| rows::contacts(connection)).await?;
    let contacts =
        contacts.iter().filter(|contact| contact.domain.is_empty() || contact.domain == *name).count();
    let facts = looked_up((&api, &snapshot), &domain, &status, contacts, test).await;
    let findings = examine(&facts);
    let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown);
    Ok(Json(Examined { domain: name.to_string(), verdict, findings }))
}

async fn looked_up<'a>(
    (api, snapshot): (&'a Api, &'a Snapshot),
    domain: &'a Domain,
    status: &'a DomainStatus,
    contacts: usize,
    test: Option<Result<String, String>>,
) -> Facts<'a> {
    let hostname = snapshot.config.hostname.as_str();
    let told = |error: LookupError| error.to_string();
    let exchangers = match api.lookup.exchangers(&domain.name).await {
        Ok(mut exchangers) => {
            exchangers.sort_by_key(|exchanger| exchanger.preference);
            let mut hosts = Vec::new();
            for exchanger in exchangers.into_iter().take(DOCTOR_HOSTS_MAX) {
                let addresses = api.lookup.addresses(&exchanger.host).await.map_err(told);
                hosts.push(Host { exchanger, addresses });
            }
            Ok(hosts)
        }
        Err(error) => Err(told(error)),
    };
    let secure = api.lookup.secure_exchangers(&domain.name).await;
    let policy = api.lookup.policy(&domain.name).await;
    Facts {
        hostname,
        ours: api.lookup.addresses(hostname).await.map_err(told),
        domain,
        exchangers,
        is_secure: secure.ok().map(|secure| secure.is_secure),
        policy: policy.map(|policy| policy.map(|policy| (*policy).clone())).map_err(told),
        has_tlsa: api.lookup.tlsa(hostname, 25).await.map(|tlsa| tlsa.is_some()).map_err(told),
        has_certificate: !snapshot.config.smtp.tls.is_empty(),
        status,
        is_trusted: snapshot.usage_of(&domain.name).passage.is_trusted(),
        contacts,
        test,
    }
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
