//! One order: account, names that are shown to be ours, certificate (RFC 8555 7.4).

use super::super::trust;
use super::answers::{Answering, Answers};
use super::kept::{self, Issued, Kept};
use super::web::Web;
use super::{Challenge, Wanted};
use crate::config::{self, Acme};
use crate::limits::ACME_VERDICT_TIMEOUT;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use core::time::Duration;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::RootCertStore;
use std::path::Path;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// What an authority says of an account that it does not know, or has deactivated (RFC 8555 6.7, 7.3.6).
const NO_ACCOUNT: [&str; 2] =
    ["urn:ietf:params:acme:error:accountDoesNotExist", "urn:ietf:params:acme:error:unauthorized"];

/// The authority is asked ever more rarely.
const ASKING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(ACME_VERDICT_TIMEOUT);

/// Orders: what comes. A renewal is for the key of before.
pub(super) async fn order(
    wanted: &Wanted,
    kept: Option<Arc<Kept>>,
    answers: &Answers,
) -> Result<Issued, String> {
    let acme = wanted.acme.clone();
    let read = spawn_blocking(move || (roots(&acme), external_account(&acme))).await;
    let (roots, external) = read.map_err(|error| error.to_string())?;
    let (roots, external) = (roots?, external?);
    let identifiers: Vec<Identifier> = wanted.names.iter().cloned().map(Identifier::Dns).collect();
    let new = NewOrder::new(&identifiers);
    let mut order = match known(wanted, &roots, &new).await? {
        Some(order) => order,
        None => {
            let account = register(wanted, roots, external.as_ref()).await?;
            account.new_order(&new).await.map_err(|error| told(&error))?
        }
    };
    let answering = answers.begin();
    authorize(&mut order, wanted.acme.challenge, &answering).await?;
    let ready = order.poll_ready(&ASKING).await;
    if !matches!(ready, Ok(OrderStatus::Ready | OrderStatus::Valid)) {
        return Err(refusal(&mut order, ready.err()).await);
    }
    drop(answering);
    let (request, key) = request(&wanted.names, kept.as_deref())?;
    order.finalize_csr(&request).await.map_err(|error| told(&error))?;
    let chain = order.poll_certificate(&ASKING).await.map_err(|error| told(&error))?;
    Ok(Issued { chain, key })
}

/// An order by the account that is kept, if the authority takes it.
async fn known(
    wanted: &Wanted,
    roots: &Arc<RootCertStore>,
    new: &NewOrder<'_>,
) -> Result<Option<Order>, String> {
    let wish = wanted.clone();
    let kept = spawn_blocking(move || kept::account(&wish)).await.ok().flatten();
    let Some(credentials) = kept else { return Ok(None) };
    let builder = Account::builder_with_http(Box::new(Web::new(Arc::clone(roots))));
    let account = builder.from_credentials(credentials).await.map_err(|error| told(&error))?;
    match account.new_order(new).await {
        Err(Error::Api(problem))
            if problem.r#type.as_deref().is_some_and(|kind| NO_ACCOUNT.contains(&kind)) =>
        {
            let directory = &wanted.acme.directory;
            tracing::warn!(directory, %problem, "the authority does not take our account any more; one is made anew");
            Ok(None)
        }
        ordered => ordered.map(Some).map_err(|error| told(&error)),
    }
}

/// What is to be signed, and its key in PEM: that of before, so that a TLSA record for it stays true.
fn request(names: &[String], kept: Option<&Kept>) -> Result<(Vec<u8>, String), String> {
    let failed = |error: rcgen::Error| error.to_string();
    let before = kept.and_then(|kept| KeyPair::from_pem(&kept.key).ok());
    let key = before.map_or_else(KeyPair::generate, Ok).map_err(failed)?;
    let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok((request.der().to_vec(), key.serialize_pem()))
}

/// A new account, kept before it is used.
async fn register(
    wanted: &Wanted,
    roots: Arc<RootCertStore>,
    external: Option<&ExternalAccountKey>,
) -> Result<Account, String> {
    let contact = wanted.acme.contact.as_ref().map(|contact| format!("mailto:{contact}"));
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_http(Box::new(Web::new(roots)));
    let made = builder.create(&new, wanted.acme.directory.clone(), external).await;
    let (account, credentials) = made.map_err(|error| told(&error))?;
    let wish = wanted.clone();
    let keeping = spawn_blocking(move || kept::keep_account(&wish, credentials));
    keeping.await.map_err(|error| error.to_string())??;
    Ok(account)
}

/// Answers for each name, then says so.
async fn authorize(order: &mut Order, challenge: Challenge, answering: &Answering<'_>) -> Result<(), String> {
    let kind = match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|error| told(&error))?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => return Err(format!("it says {status:?} of a name before it was shown to be ours")),
        }
        let Some(mut asked) = authorization.challenge(kind.clone()) else {
            return Err(format!("it does not offer {challenge}"));
        };
        let authorization = asked.key_authorization();
        match challenge {
            Challenge::Http01 => answering.by_page(&asked.token, authorization.as_str()),
            Challenge::TlsAlpn01 => {
                let name = asked.identifier().to_string();
                answering.by_handshake(&name, authorization.digest().as_ref())?;
            }
        }
        asked.set_ready().await.map_err(|error| told(&error))?;
    }
    Ok(())
}

/// Why a name was not taken to be ours, as far as the authority says.
async fn refusal(order: &mut Order, error: Option<Error>) -> String {
    let mut reasons: Vec<String> = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { continue };
        let Ok(state) = authorization.refresh().await else { continue };
        let problems = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        reasons.extend(problems.map(ToString::to_string));
    }
    if reasons.is_empty() {
        return error
            .map_or_else(|| "it does not take our names to be ours".to_owned(), |error| told(&error));
    }
    format!("it does not take a name to be ours: {}", reasons.join("; "))
}

/// Who vouches for the authority's server.
pub(super) fn roots(acme: &Acme) -> Result<Arc<RootCertStore>, String> {
    match &acme.roots {
        Some(path) => trust::only(path).map_err(|error| format!("acme.roots: {}: {error}", path.display())),
        None => Ok(trust::system()),
    }
}

/// The key that the authority handed out.
///
/// # Errors
/// A sentence for the operator that names the key and the file.
pub(super) fn external_account(acme: &Acme) -> Result<Option<ExternalAccountKey>, String> {
    let Some(external) = &acme.external_account else { return Ok(None) };
    let key = external_key(&external.key_file);
    let key = key.map_err(|error| {
        format!("acme.external_account.key_file: {}: {error}", external.key_file.display())
    })?;
    Ok(Some(ExternalAccountKey::new(external.id.clone(), &key)))
}

fn external_key(path: &Path) -> Result<Vec<u8>, String> {
    let octets = config::read(path).map_err(|error| error.to_string())?;
    let text = octets.trim_ascii().strip_suffix(b"=").unwrap_or(octets.trim_ascii());
    let text = text.strip_suffix(b"=").unwrap_or(text);
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "is not base64url".to_owned())
}

/// An error with those behind it, as far as they are not in it.
fn told(error: &Error) -> String {
    let mut all = error.to_string();
    let mut source = core::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !all.contains(&cause_text) {
            all.push_str(": ");
            all.push_str(&cause_text);
        }
        source = cause.source();
    }
    all
}
