//! The commands' way to the admin API: where it is, with which token, and what went wrong.
//!
//! On the server itself the configuration tells address and token file. Elsewhere `--url` and `--token`, or
//! `STRATAMX_URL` and `STRATAMX_TOKEN`, which name a process's environment rather than its arguments, where others see it.

use super::Exit;
use super::secured::{self, Trusted};
use crate::config::Config;
use crate::control::admin::token;
use crate::limits::{ADMIN_ANSWER_OCTETS_MAX, ADMIN_CLIENT_TIMEOUT};
use core::convert::Infallible;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use hyper::http::request::Builder;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Where the server is, as the arguments say it.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// The API's address.
    pub url: Option<String>,
    /// The token.
    pub token: Option<String>,
    /// Authorities that are trusted beside the system's.
    pub ca: Option<PathBuf>,
}

impl Remote {
    /// Whether an address is named: the server is not meant by its files.
    pub(super) fn is_elsewhere(&self) -> bool {
        let named = std::env::var_os("STRATAMX_URL").is_some_and(|url| !url.is_empty());
        self.url.is_some() || (named && self.config.is_none())
    }
}

/// A client of one server.
pub(super) struct Client {
    base: String,
    token: String,
    runtime: Runtime,
    http: HttpClient<HttpsConnector<HttpConnector>, Octets>,
}

/// What goes with a request.
type Octets = BoxBody<Bytes, Infallible>;

impl Client {
    /// The server that the arguments, the environment or the configuration name; what is wrong with them is told.
    pub(super) fn open(remote: Remote) -> Result<Self, Exit> {
        Self::find(remote).map_err(|error| {
            eprintln!("stratamx: {error}");
            Exit::Usage
        })
    }

    fn find(remote: Remote) -> Result<Self, String> {
        // Who names a configuration means its server, whatever the environment says.
        let is_named = remote.config.is_some();
        let from_environment = |name| std::env::var(name).ok().filter(|value| !value.is_empty() && !is_named);
        let url = remote.url.or_else(|| from_environment("STRATAMX_URL"));
        let token = remote.token.or_else(|| from_environment("STRATAMX_TOKEN"));
        let ca = remote.ca.or_else(|| from_environment("STRATAMX_CA").map(PathBuf::from));
        let (base, token, trusted) = match (url, token) {
            (Some(url), Some(token)) => (url, token, Trusted::Authorities(ca)),
            (Some(_), None) => {
                return Err("with --url a token is needed too: --token, or STRATAMX_TOKEN".to_owned());
            }
            (None, token) => {
                let (config, _) =
                    Config::discover(remote.config.as_deref()).map_err(|error| error.to_string())?;
                let address =
                    config.admin.listen.ok_or("the configuration has no admin listener ([admin] listen)")?;
                if address.port() == 0 {
                    return Err("[admin] listen leaves the port to the system: give --url, as the server's log tells it".to_owned());
                }
                let token = token.map_or_else(|| read_token(&config), Ok)?;
                let trusted = secured::own(&config)?;
                let scheme = if matches!(trusted, Trusted::Nobody) { "http" } else { "https" };
                (format!("{scheme}://{}", reachable(address)), token, trusted)
            }
        };
        let base = base.trim_end_matches('/').to_owned();
        let uri: Uri = base.parse().map_err(|error| format!("{base}: {error}"))?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        if !is_http || uri.host().is_none() || uri.path() != "/" {
            return Err(format!("{base}: not an address like https://mx2.example.net:8025"));
        }
        // What is plain needs nobody's word.
        let trusted = if uri.scheme_str() == Some("http") { Trusted::Nobody } else { trusted };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let http = HttpClient::builder(TokioExecutor::new()).build(secured::connector(trusted)?);
        Ok(Self { base, token, runtime, http })
    }

    /// What a path answers.
    pub(super) fn get(&self, path: &str) -> Result<Value, String> {
        self.whole("GET", path, None)
    }

    /// Asks for a change.
    pub(super) fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, String> {
        self.whole("POST", path, body)
    }

    /// The same by another method; an answer without a body is null.
    pub(super) fn change(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        self.whole(method, path, body)
    }

    /// Asks for a change of what was seen: by its entity tag.
    pub(super) fn change_seen(&self, path: &str, seen: u64, body: Option<&Value>) -> Result<Value, String> {
        let request = Request::builder().method("POST").uri(format!("{}{path}", self.base));
        let request =
            request.header(IF_MATCH, format!("\"{seen}\"")).header(CONTENT_TYPE, "application/json");
        let octets = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let asked = self.send_request(request, BoxBody::new(Full::new(octets)), ADMIN_CLIENT_TIMEOUT);
        self.runtime.block_on(async { value(asked.await?).await })
    }

    /// Hands octets in.
    pub(super) fn send(&self, method: &str, path: &str, kind: &str, body: Bytes) -> Result<Value, String> {
        self.runtime.block_on(async { value(self.ask(method, path, Some((kind, body))).await?).await })
    }

    /// Hands in what is large, with a header of its own; the answer may take so long.
    pub(super) fn upload(
        &self,
        path: &str,
        (name, content): (&str, &str),
        body: impl Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
        patience: Duration,
    ) -> Result<Value, String> {
        let request = Request::builder().method("POST").uri(format!("{}{path}", self.base));
        let request = request.header(name, content).header(CONTENT_TYPE, "application/octet-stream");
        let asked = self.send_request(request, BoxBody::new(body), patience);
        self.runtime.block_on(async { value(asked.await?).await })
    }

    /// Hands what a path answers to `out`, as it comes.
    pub(super) fn copy(&self, path: &str, out: &mut dyn Write) -> Result<(), String> {
        self.runtime.block_on(async {
            let mut body = self.ask("GET", path, None).await?.into_body();
            loop {
                let frame = timeout(ADMIN_CLIENT_TIMEOUT, body.frame()).await.map_err(|_| self.late())?;
                let Some(frame) = frame else { return Ok(()) };
                let frame = frame.map_err(|error| format!("the answer was cut off: {error}"))?;
                if let Some(octets) = frame.data_ref() {
                    out.write_all(octets).map_err(|error| format!("cannot write: {error}"))?;
                }
            }
        })
    }

    /// Waits.
    pub(super) fn pause(&self, time: Duration) {
        // A timer is made where it runs.
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    fn whole(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let body = body.map(|body| ("application/json", Bytes::from(body.to_string())));
        self.runtime.block_on(async { value(self.ask(method, path, body).await?).await })
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, Bytes)>,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some((kind, _)) = &body {
            request = request.header(CONTENT_TYPE, *kind);
        }
        let octets = body.map(|(_, octets)| octets).unwrap_or_default();
        self.send_request(request, BoxBody::new(Full::new(octets)), ADMIN_CLIENT_TIMEOUT).await
    }

    async fn send_request(
        &self,
        request: Builder,
        body: Octets,
        patience: Duration,
    ) -> Result<Response<Incoming>, String> {
        let request = request.header(AUTHORIZATION, format!("Bearer {}", self.token));
        let request = request.body(body).map_err(|error| error.to_string())?;
        let response = timeout(patience, self.http.request(request)).await.map_err(|_| self.late())?;
        let response = response.map_err(|error| {
            if let Some(error) = secured::fault(&error) {
                return format!("{}: no TLS: {error}", self.base);
            }
            format!(
                "no answer from {}: is the server running, and is this its address ([admin] listen, and tls)?",
                self.base
            )
        })?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED => Err(format!(
                "{} does not know this token: it is in the server's [admin] token_file, or admin-token in its data_dir",
                self.base
            )),
            status => Err(problem(status, response).await),
        }
    }

    fn late(&self) -> String {
        format!("{} did not answer within {} s", self.base, ADMIN_CLIENT_TIMEOUT.as_secs())
    }
}

async fn value(response: Response<Incoming>) -> Result<Value, String> {
    let octets = collect(response).await?;
    if octets.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&octets).map_err(|error| format!("the answer is not JSON: {error}"))
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, String> {
    let body = Limited::new(response.into_body(), ADMIN_ANSWER_OCTETS_MAX);
    let collected =
        timeout(ADMIN_CLIENT_TIMEOUT, body.collect()).await.map_err(|_| "the answer stalls".to_owned())?;
    collected.map(|body| body.to_bytes()).map_err(|error| format!("the answer was cut off: {error}"))
}

/// What problem details say (RFC 9457).
async fn problem(status: StatusCode, response: Response<Incoming>) -> String {
    let details =
        collect(response).await.ok().and_then(|octets| serde_json::from_slice::<Value>(&octets).ok());
    match details.as_ref().and_then(|details| details["detail"].as_str()) {
        Some(detail) => detail.to_owned(),
        None => format!("the server answered {status}"),
    }
}

fn read_token(config: &Config) -> Result<String, String> {
    let path = config.admin.token_file(&config.data_dir);
    token::read(&path).map_err(|error| {
        format!("{error}; the server makes it when it first starts, and it is the server's own: run this as its user, or give --token")
    })
}

/// Where a listener is reached from its own machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

/// A part of a path, with what is not a plain character written as `%XX` (RFC 3986 2.1).
pub(super) fn escaped(part: &str) -> String {
    let mut out = String::new();
    for octet in part.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._".contains(&octet) {
            out.push(octet.into());
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
    }
    out
}

/// Puts text on standard output; a reader that has seen enough is no failure.
pub(super) fn print(text: &str) -> Exit {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            fail(&format!("cannot write to standard output: {error}"))
        }
        _ => Exit::Done,
    }
}

/// Tells what went wrong.
pub(super) fn fail(error: &str) -> Exit {
    eprintln!("stratamx: {error}");
    Exit::Failed
}

/// An answer for scripts.
pub(super) fn print_json(value: &Value) -> Exit {
    print(&format!("{value:#}\n"))
}

/// Rows for people: columns as wide as they need be; one whose head begins with `>` stands to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let names = head.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
    let all: Vec<&Vec<String>> = core::iter::once(&names).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for row in all {
        let mut line = String::new();
        for ((cell, width), head) in row.iter().zip(&widths).zip(head) {
            // What strangers wrote commands no terminal.
            let cell: String = cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            let cell =
                if head.starts_with('>') { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(&cell);
            line.push_str("  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Seconds for people, its two largest units.
pub(super) fn age(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(3);
    let mut left = seconds;
    let mut out = String::new();
    for (unit, name) in units.iter().skip(first).take(2) {
        if left / unit > 0 || out.is_empty() {
            out.push_str(&format!("{}{name}", left / unit));
        }
        left %= unit;
    }
    out
}

/// Octets for people.
pub(super) fn size(octets: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| octets >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", octets / unit, octets % unit * 10 / unit),
        None => format!("{octets} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_for_people() {
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3_725, "1h2m"), (90_000, "1d1h"), (86_401, "1d")]
        {
            assert_eq!(age(seconds), expected);
        }
        assert_eq!([size(9), size(1536), size(5 << 30)], ["9 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!(escaped("a b/\u{fc}.x-1"), "a%20b%2F%C3%BC.x-1");
    }

    #[test]
    fn a_table_has_columns_and_no_control_characters() {
        let rows = vec![
            vec!["a".to_owned(), "10".to_owned(), "x\u{1b}[2J".to_owned()],
            vec!["long".to_owned(), "9".to_owned(), String::new()],
        ];
        assert_eq!(table(&["NAME", ">N", "T"], &rows), "NAME   N  T\na     10  x?[2J\nlong   9\n");
    }

    #[test]
    fn a_listener_on_every_address_is_reached_on_loopback() {
        for (listen, expected) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("192.0.2.1:1", "192.0.2.1:1")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected);
        }
    }
}
