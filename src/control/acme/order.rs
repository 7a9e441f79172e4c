//! One order: account, names that are shown to be ours, certificate (RFC 8555 7.4).

use super::super::trust;
use super::answers::{Answering, Answers};
use super::kept::{self, Kept};
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
use rustls::RootCertStore;
use std::path::Path;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// What an authority says of an account that it does not know (RFC 8555 6.7).
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// The authority is asked ever more rarely.
const ASKING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(ACME_VERDICT_TIMEOUT);

/// Orders, and keeps what comes.
pub(super) async fn order(wanted: &Wanted, answers: &Answers) -> Result<Kept, String> {
    let acme = wanted.acme.clone();
    let read = spawn_blocking(move || (roots(&acme), external_account(&acme))).await;
    let (roots, external) = read.map_err(|error| error.to_string())?;
    let (roots, external) = (roots?, external?);
    let identifiers: Vec<Identifier> = wanted.names.iter().cloned().map(Identifier::Dns).collect();
    let new = NewOrder::new(&identifiers);
    let (directory, data_dir) = (wanted.acme.directory.clone(), wanted.data_dir.clone());
    let kept = {
        let directory = directory.clone();
        spawn_blocking(move || kept::account(&data_dir, &directory)).await.ok().flatten()
    };
    let known = match kept {
        Some(credentials) => {
            let builder = Account::builder_with_http(Box::new(Web::new(Arc::clone(&roots))));
            let account = builder.from_credentials(credentials).await.map_err(|error| told(&error))?;
            match account.new_order(&new).await {
                Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(NO_ACCOUNT) => {
                    tracing::warn!(
                        directory,
                        "the authority does not know our account any more; one is made anew"
                    );
                    None
                }
                ordered => Some(ordered.map_err(|error| told(&error))?),
            }
        }
        None => None,
    };
    let mut order = match known {
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
    let key = order.finalize().await.map_err(|error| told(&error))?;
    let chain = order.poll_certificate(&ASKING).await.map_err(|error| told(&error))?;
    let (data_dir, names) = (wanted.data_dir.clone(), wanted.names.clone());
    let keeping = spawn_blocking(move || Kept::keep(&data_dir, &names, &chain, &key));
    keeping.await.map_err(|error| error.to_string())?
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
    let directory = wanted.acme.directory.clone();
    let builder = Account::builder_with_http(Box::new(Web::new(roots)));
    let made = builder.create(&new, directory.clone(), external).await;
    let (account, credentials) = made.map_err(|error| told(&error))?;
    let data_dir = wanted.data_dir.clone();
    let keeping = spawn_blocking(move || kept::keep_account(&data_dir, &directory, credentials));
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
