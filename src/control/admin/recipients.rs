//! Recipients of a provisioned domain: pages, imports as CSV, JSON or text, and single ones.
//!
//! An import is taken whole or not at all: a line that is no address of the domain refuses it, with its number. An address may be
//! given without its domain; `@domain` means everybody. Whether the list decides is the domain's key `recipients`.

use super::Api;
use super::problem::Problem;
use super::queue::domain_of;
use crate::bridge::RecipientListBuilder;
use crate::control::provisioning::Refused;
use crate::control::store::recipient;
use crate::limits::{
    ADMIN_IMPORT_OCTETS_MAX, RECIPIENT_LIST_LINE_OCTETS_MAX, RECIPIENTS_PROVISIONED_MAX, STORE_PAGE_MAX,
};
use axum::Json;
use axum::body::{Bytes, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Addresses behind this one
    after: Option<String>,
    /// So many at most
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// A page in order; `next` is the `after` of the one behind it, null at the end.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Addresses {
    recipients: Vec<String>,
    /// Of all pages
    total: u64,
    next: Option<String>,
}

/// What an import did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Imported {
    /// Addresses that were not there
    added: u64,
    /// Addresses now
    total: u64,
}

/// Addresses to import.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Import {
    /// A list
    List(Vec<String>),
    /// An object with a list
    Object {
        /// The addresses
        recipients: Vec<String>,
    },
}

/// A page of recipients
#[utoipa::path(
    get, path = "/api/v1/domains/{name}/recipients", tag = "recipients",
    params(("name" = String, Path, description = "The domain"), Wanted), responses((status = 200, body = Addresses))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Addresses>, Problem> {
    let name = domain_of(&name)?;
    let Query(Wanted { after, limit }) = wanted.map_err(|error| Problem::bad_request(&error.body_text()))?;
    let limit = limit.unwrap_or(STORE_PAGE_MAX).clamp(1, STORE_PAGE_MAX);
    api.provisioned.entry(&name).ok_or(Refused::Unknown)?;
    let page = api.store.run(move |connection| {
        let rows = recipient::page(connection, &name, &after.unwrap_or_default(), limit)?;
        Ok((rows, recipient::count(connection, &name)?))
    });
    let (recipients, total) = page.await?;
    let next = recipients.last().filter(|_| recipients.len() == limit).cloned();
    Ok(Json(Addresses { recipients, total, next }))
}

/// Imports recipients in place of those that are there
#[utoipa::path(
    put, path = "/api/v1/domains/{name}/recipients", tag = "recipients",
    params(("name" = String, Path, description = "The domain")),
    request_body(description = "A list, or the first column of CSV, or an address a line", content(
        (Import = "application/json"), (String = "text/csv"), (String = "text/plain"))),
    responses((status = 200, body = Imported), (status = 409, description = "Nobody would be left on a list that decides"))
)]
pub(super) async fn replace(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Imported>, Problem> {
    import(&api, &name, request, true).await
}

/// Imports recipients beside those that are there
#[utoipa::path(
    post, path = "/api/v1/domains/{name}/recipients", tag = "recipients",
    params(("name" = String, Path, description = "The domain")),
    request_body(description = "A list, or the first column of CSV, or an address a line", content(
        (Import = "application/json"), (String = "text/csv"), (String = "text/plain"))),
    responses((status = 200, body = Imported))
)]
pub(super) async fn add(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Imported>, Problem> {
    import(&api, &name, request, false).await
}

/// Removes a recipient
#[utoipa::path(
    delete, path = "/api/v1/domains/{name}/recipients/{address}", tag = "recipients",
    params(("name" = String, Path, description = "The domain"), ("address" = String, Path, description = "As it is listed")),
    responses((status = 204, description = "It is gone"), (status = 409, description = "Nobody would be left on a list that decides"))
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Path((name, address)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let name = domain_of(&name)?;
    let work =
        move |transaction: &rusqlite::Transaction<'_>, of: &str| recipient::remove(transaction, of, &address);
    let (was_there, _) = api.provisioned.change_recipients(name.to_string(), work).await?;
    if was_there {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found("this address is not among the recipients that were imported"))
    }
}

async fn import(api: &Api, name: &str, request: Request, replaces: bool) -> Result<Json<Imported>, Problem> {
    let name = domain_of(name)?;
    api.provisioned.entry(&name).ok_or(Refused::Unknown)?;
    let _place = api
        .imports
        .try_acquire()
        .map_err(|_| Problem::unavailable("another import is under way; try again when it has ended"))?;
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = Kind::of(kind.unwrap_or("application/json"))?;
    let octets = to_bytes(request.into_body(), ADMIN_IMPORT_OCTETS_MAX).await;
    let octets = octets.map_err(|_| Problem::too_large())?;
    let of = Arc::clone(&name);
    // A million addresses take a while: nobody else waits for that.
    let read = tokio::task::spawn_blocking(move || addresses(&octets, kind, &of)).await;
    let addresses = read.map_err(|_| Problem::internal())??;
    let work = move |transaction: &rusqlite::Transaction<'_>, of: &str| {
        if replaces {
            recipient::clear(transaction, of)?;
        }
        recipient::add(transaction, of, &addresses)
    };
    let (added, total) = api.provisioned.change_recipients(name.to_string(), work).await?;
    tracing::info!(domain = %name, added, total, "recipients were imported");
    Ok(Json(Imported { added, total }))
}

/// What an import is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Csv,
    Json,
    Text,
}

impl Kind {
    fn of(media_type: &str) -> Result<Self, Problem> {
        match media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::Json),
            "text/csv" => Ok(Self::Csv),
            "text/plain" => Ok(Self::Text),
            _ => Err(Problem::media_type("recipients come as application/json, text/csv or text/plain")),
        }
    }
}

/// Looks at each, so that no list is in force whose half was left out.
fn addresses(octets: &Bytes, kind: Kind, domain: &str) -> Result<Vec<String>, Problem> {
    let found = match kind {
        Kind::Json => {
            let import: Import = serde_json::from_slice(octets).map_err(|_| {
                Problem::bad_request("the body is a list of texts, or {\"recipients\": [...]}")
            })?;
            let (Import::List(all) | Import::Object { recipients: all }) = import;
            all.into_iter().zip(1..).map(|(address, number)| (number, address)).collect()
        }
        Kind::Csv => first_column(octets)?,
        Kind::Text => {
            let text =
                core::str::from_utf8(octets).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
            text.lines().zip(1..).map(|(line, number)| (number, line.to_owned())).collect()
        }
    };
    let mut builder = RecipientListBuilder::default();
    let mut all = Vec::with_capacity(found.len());
    for (number, text) in found {
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() || (kind != Kind::Json && text.starts_with('#')) {
            continue;
        }
        if all.len() == RECIPIENTS_PROVISIONED_MAX {
            return Err(Refused::TooManyRecipients.into());
        }
        let address = if text.contains('@') { text.to_owned() } else { format!("{text}@{domain}") };
        let is_short = address.len() <= RECIPIENT_LIST_LINE_OCTETS_MAX;
        let added = if is_short {
            builder.add(&address, domain).map_err(|error| error.to_string())
        } else {
            Err("is too long for an address".to_owned())
        };
        let shown: String = text.chars().take(100).collect();
        added.map_err(|error| Problem::unprocessable(&format!("line {number}: {shown:?} {error}")))?;
        all.push(address);
    }
    Ok(all)
}

/// The first column; a first line without an address in it names the columns.
fn first_column(octets: &[u8]) -> Result<Vec<(u64, String)>, Problem> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(octets);
    let mut all = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| Problem::unprocessable(&format!("the CSV: {error}")))?;
        let line = record.position().map_or(0, csv::Position::line);
        let first = record.get(0).unwrap_or_default();
        let is_heading = all.is_empty() && line == 1 && !first.contains('@');
        if !is_heading {
            all.push((line, first.to_owned()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, kind: Kind) -> Result<Vec<String>, String> {
        let read = addresses(&Bytes::from(text.to_owned()), kind, "a.test");
        read.map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn the_same_addresses_in_three_ways() {
        let both = Ok(vec!["one@a.test".to_owned(), "b, c@a.test".to_owned()]);
        let both_quoted = Ok(vec!["one@a.test".to_owned(), "\"b, c\"@a.test".to_owned()]);
        assert_eq!(
            read("e-mail,name\r\none@a.test,\"One, A.\"\r\n\r\n", Kind::Csv),
            Ok(vec!["one@a.test".to_owned()])
        );
        assert_eq!(read("one@a.test\n\"\"\"b, c\"\"@a.test\",x\n", Kind::Csv), both_quoted);
        assert_eq!(read("[\"one@a.test\", \"\\\"b, c\\\"@a.test\"]", Kind::Json), both_quoted);
        assert_eq!(read("{\"recipients\": [\"one\"]}", Kind::Json), Ok(vec!["one@a.test".to_owned()]));
        assert_eq!(read("\u{feff}one\n# two\n\n  \"b, c\"@a.test \n", Kind::Text), both_quoted);
        assert_ne!(both, both_quoted);
    }

    #[test]
    fn a_wrong_line_refuses_all_and_is_named() {
        for (text, kind, expected) in [
            ("one@a.test\ntwo@b.test\n", Kind::Text, "line 2: \\\"two@b.test\\\" is in another domain"),
            (
                "address\none@a.test\nx y@a.test\n",
                Kind::Csv,
                "line 3: \\\"x y@a.test\\\" is not a mail address",
            ),
            ("[\"one\", 2]", Kind::Json, "a list of texts"),
        ] {
            let error = read(text, kind).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
    }
}
