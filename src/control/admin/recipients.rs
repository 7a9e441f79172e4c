//! Recipients of a provisioned domain: pages, imports as CSV, JSON or text, and single ones.
//!
//! An import is taken whole or not at all: a line that is no address of the domain refuses it, with its number. An address may be
//! given without its domain; `@domain` means everybody. Whether the list decides is the domain's key `recipients`.

use super::Api;
use super::problem::Problem;
use super::queue::domain_of;
use crate::auth::contained::contain;
use crate::bridge::{RecipientListBuilder, folded};
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
use core::fmt;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Addresses behind this one
    after: Option<String>,
    /// So many at most; the server has a bound of its own
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
        (Vec<String> = "application/json"), (String = "text/csv"), (String = "text/plain"))),
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
        (Vec<String> = "application/json"), (String = "text/csv"), (String = "text/plain"))),
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
    let address = if address.contains('@') { address } else { format!("{address}@{name}") };
    // All ways in which this mailbox is written, as the list knows only one.
    let local_part = |address: &str| address.rsplit_once('@').map(|(own, _)| folded(own).into_owned());
    let work = move |transaction: &rusqlite::Transaction<'_>, of: &str| {
        let (wanted, mut found) = (local_part(&address), Vec::new());
        recipient::each(transaction, of, |one| {
            if local_part(one) == wanted {
                found.push(one.to_owned());
            }
        })?;
        for one in &found {
            recipient::remove(transaction, of, one)?;
        }
        Ok(!found.is_empty())
    };
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
    // It goes along with the addresses, so that no second import is in memory while they are.
    let place = Arc::clone(&api.imports)
        .try_acquire_owned()
        .map_err(|_| Problem::unavailable("another import is under way; try again when it has ended"))?;
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = Kind::of(kind.unwrap_or("application/json"))?;
    let octets = to_bytes(request.into_body(), ADMIN_IMPORT_OCTETS_MAX).await;
    let octets = octets.map_err(|_| Problem::too_large())?;
    let of = Arc::clone(&name);
    // A million addresses take a while: nobody else waits for that.
    let read = tokio::task::spawn_blocking(move || contain(|| addresses(&octets, kind, &of))).await;
    let addresses = read.ok().flatten().ok_or_else(Problem::internal)??;
    let work = move |transaction: &rusqlite::Transaction<'_>, of: &str| {
        let _place = place;
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

/// Looks at each as it is read, so that no list is in force whose half was left out, and none in memory that is too long.
fn addresses(octets: &Bytes, kind: Kind, domain: &str) -> Result<Vec<String>, Problem> {
    let mut taken = Taken { domain, builder: RecipientListBuilder::default(), all: Vec::new() };
    match kind {
        Kind::Json => {
            let mut reader = serde_json::Deserializer::from_slice(octets);
            let read =
                reader.deserialize_seq(Each(&mut taken)).and_then(|found| reader.end().map(|()| found));
            read.map_err(|_| Problem::bad_request("the body is a list of texts"))??;
        }
        Kind::Csv => first_column(octets, &mut taken)?,
        Kind::Text => {
            let text =
                core::str::from_utf8(octets).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
            for (line, number) in text.lines().zip(1..) {
                if !line.trim_start().starts_with('#') {
                    taken.take(line, number)?;
                }
            }
        }
    }
    Ok(taken.all)
}

/// What was read of an import.
struct Taken<'a> {
    domain: &'a str,
    builder: RecipientListBuilder,
    all: Vec<String>,
}

impl Taken<'_> {
    fn take(&mut self, text: &str, number: u64) -> Result<(), Problem> {
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Ok(());
        }
        if self.all.len() == RECIPIENTS_PROVISIONED_MAX {
            return Err(Refused::TooManyRecipients.into());
        }
        let bad = |what: &str| {
            let shown: String = text.chars().take(100).collect();
            Problem::unprocessable(&format!("line {number}: {shown:?} {what}"))
        };
        let address = if text.contains('@') { text.to_owned() } else { format!("{text}@{}", self.domain) };
        if address.len() > RECIPIENT_LIST_LINE_OCTETS_MAX {
            return Err(bad("is too long for an address"));
        }
        self.builder.add(&address, self.domain).map_err(|error| bad(&error.to_string()))?;
        self.all.push(address);
        Ok(())
    }
}

/// The texts of a JSON list, one after the other.
struct Each<'a, 'b>(&'a mut Taken<'b>);

impl<'de> Visitor<'de> for Each<'_, '_> {
    type Value = Result<(), Problem>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
        let mut number = 0;
        let mut refused = Ok(());
        while let Some(text) = all.next_element::<Cow<'_, str>>()? {
            number += 1;
            if refused.is_ok() {
                refused = self.0.take(&text, number);
            }
        }
        Ok(refused)
    }
}

/// The first column; a first line that names the columns is left out.
fn first_column(octets: &[u8], taken: &mut Taken<'_>) -> Result<(), Problem> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(octets);
    let mut record = csv::StringRecord::new();
    let failed = |error: csv::Error| Problem::unprocessable(&format!("the CSV: {error}"));
    while reader.read_record(&mut record).map_err(failed)? {
        let line = record.position().map_or(0, csv::Position::line);
        let first = record.get(0).unwrap_or_default();
        let word = first.trim_start_matches('\u{feff}').to_ascii_lowercase();
        let is_heading =
            line == 1 && HEADINGS.iter().any(|heading| word.contains(heading)) && !word.contains('@');
        if !is_heading {
            taken.take(first, line)?;
        }
    }
    Ok(())
}

/// Words of which one stands above a column of addresses.
const HEADINGS: [&str; 4] = ["mail", "address", "recipient", "user"];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, kind: Kind) -> Result<Vec<String>, String> {
        let read = addresses(&Bytes::from(text.to_owned()), kind, "a.test");
        read.map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn the_same_addresses_in_three_ways() {
        let both_quoted = Ok(vec!["one@a.test".to_owned(), "\"b, c\"@a.test".to_owned()]);
        assert_eq!(
            read("e-mail,name\r\none@a.test,\"One, A.\"\r\n\r\n", Kind::Csv),
            Ok(vec!["one@a.test".to_owned()])
        );
        assert_eq!(read("one@a.test\n\"\"\"b, c\"\"@a.test\",x\n", Kind::Csv), both_quoted);
        assert_eq!(read("[\"one@a.test\", \"\\\"b, c\\\"@a.test\"]", Kind::Json), both_quoted);
        assert_eq!(
            read(
                "ann
bob
",
                Kind::Csv
            ),
            Ok(vec!["ann@a.test".to_owned(), "bob@a.test".to_owned()])
        );
        assert_eq!(read("\u{feff}one\n# two\n\n  \"b, c\"@a.test \n", Kind::Text), both_quoted);
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
