//! Short messages: by Twilio's request, or by any provider's whose request can be written down with `{to}` and `{text}` in it.

use super::Message;
use super::http::Web;
use crate::limits::SMS_CHARACTERS_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::{Serializer, byte_serialize};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};

const TWILIO: &str = "https://api.twilio.com";
const FORM: &str = "application/x-www-form-urlencoded";

/// An account of Twilio, or of who takes the same request.
pub(super) struct Account<'a> {
    pub(super) base_url: Option<&'a str>,
    pub(super) account: &'a str,
    pub(super) auth_token: &'a str,
    pub(super) from: &'a str,
}

/// Sends it by Twilio's Messages resource (API 2010-04-01).
pub(super) async fn send(web: &Web, own: &Account<'_>, to: &str, message: &Message) -> Result<(), String> {
    let base = own.base_url.unwrap_or(TWILIO).trim_end_matches('/');
    let body = Serializer::new(String::new())
        .append_pair("To", to)
        .append_pair("From", own.from)
        .append_pair("Body", &short(message))
        .finish();
    let request = Request::post(format!("{base}/2010-04-01/Accounts/{}/Messages.json", own.account))
        .header(CONTENT_TYPE, FORM)
        .header(
            AUTHORIZATION,
            format!("Basic {}", STANDARD.encode(format!("{}:{}", own.account, own.auth_token))),
        )
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    web.send(request).await
}

/// A request that the operator has written down.
pub(super) struct Template<'a> {
    pub(super) url: &'a str,
    pub(super) body: &'a str,
    pub(super) media_type: &'a str,
    pub(super) authorization: Option<&'a str>,
}

/// Fills it in and sends it.
pub(super) async fn fill_in(
    web: &Web,
    own: &Template<'_>,
    to: &str,
    message: &Message,
) -> Result<(), String> {
    let text = short(message);
    let url = filled(own.url, to, &text, escaped);
    let builder = if own.body.is_empty() { Request::get(url) } else { Request::post(url) };
    let builder = match own.media_type {
        "" => builder,
        media_type => builder.header(CONTENT_TYPE, media_type),
    };
    let builder = match own.authorization {
        Some(authorization) => builder.header(AUTHORIZATION, authorization),
        None => builder,
    };
    let escape = match own.media_type {
        "application/json" => json,
        FORM => escaped,
        _ => str::to_owned,
    };
    let body = filled(own.body, to, &text, escape);
    web.send(builder.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?).await
}

fn filled(template: &str, to: &str, text: &str, escape: fn(&str) -> String) -> String {
    // One pass: a text that has {to} in it stays as it is.
    let mut out = String::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let (value, length) = match rest {
            _ if rest.starts_with("{to}") => (escape(to), 4),
            _ if rest.starts_with("{text}") => (escape(text), 6),
            _ => ("{".to_owned(), 1),
        };
        out.push_str(&value);
        rest = &rest[length..];
    }
    out + rest
}

fn escaped(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

/// What stands between the quotes of a JSON text.
fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// As much as three short messages hold.
fn short(message: &Message) -> String {
    let whole = message.text.trim();
    if whole.chars().count() <= SMS_CHARACTERS_MAX {
        return whole.to_owned();
    }
    let cut: String = whole.chars().take(SMS_CHARACTERS_MAX - 4).collect();
    format!("{cut} ...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_escaped_and_looked_at_once() {
        let text = "a \"b\" & {to}";
        assert_eq!(
            filled("{\"to\":\"{to}\",\"t\":\"{text}\"}", "+49", text, json),
            r#"{"to":"+49","t":"a \"b\" & {to}"}"#
        );
        assert_eq!(
            filled("to={to}&text={text}", "+49", text, escaped),
            "to=%2B49&text=a+%22b%22+%26+%7Bto%7D"
        );
        assert_eq!(filled("{x} {to", "1", "2", str::to_owned), "{x} {to");
    }

    #[test]
    fn a_long_text_is_cut_at_three_messages() {
        let message =
            |length: usize| Message { subject: String::new(), text: "ü".repeat(length), events: Vec::new() };
        assert_eq!(short(&message(SMS_CHARACTERS_MAX)).chars().count(), SMS_CHARACTERS_MAX);
        let cut = short(&message(SMS_CHARACTERS_MAX + 1));
        assert!(cut.chars().count() == SMS_CHARACTERS_MAX && cut.ends_with("ü ..."), "{cut}");
    }
}
