//! The webhook: what happened as JSON, signed as Standard Webhooks 1.0.0 has it, so that libraries of the receiver can check it.
//!
//! `webhook-signature` is `v1,` and the HMAC-SHA256 of `id.timestamp.body` in Base64, by the secret's octets (those behind `whsec_`
//! in Base64). A repeated try has the same id.

use super::Message;
use super::http::Web;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use ring::hmac;
use serde_json::json;

/// Sends a message.
pub(super) async fn send(
    web: &Web,
    (url, secret): (&str, &str),
    (id, now_s): (&str, i64),
    hostname: &str,
    message: &Message,
) -> Result<(), String> {
    let body = json!({
        "type": "alerts",
        "hostname": hostname,
        "subject": message.subject,
        "text": message.text,
        "events": message.events,
    });
    let body = body.to_string();
    let request = Request::post(url)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("stratamx/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", id)
        .header("webhook-timestamp", now_s)
        .header("webhook-signature", signature(secret, id, now_s, &body))
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    web.send(request).await
}

fn signature(secret: &str, id: &str, now_s: i64, body: &str) -> String {
    let encoded = secret.strip_prefix("whsec_").and_then(|rest| STANDARD.decode(rest).ok());
    let octets = encoded.unwrap_or_else(|| secret.as_bytes().to_vec());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &octets);
    let tag = hmac::sign(&key, format!("{id}.{now_s}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked with `printf 'm1.1700000000.{}' | openssl dgst -sha256 -hmac abc -binary | base64`.
    #[test]
    fn the_signature_is_that_of_the_standard() {
        let expected = signature("abc", "m1", 1_700_000_000, "{}");
        assert_eq!(signature("whsec_YWJj", "m1", 1_700_000_000, "{}"), expected);
        assert!(expected.starts_with("v1,") && expected.len() == 3 + 44);
        assert_ne!(signature("abc", "m1", 1_700_000_001, "{}"), expected);
    }
}
