//! What service extensions added to an envelope, in the words of their parameters.

use serde_json::{Value, json};
use storage::inspect::{Extensions, NoticeOf, RecipientDsn, Record, Ret, TlsFacts, Transfer};
use stratamx::smtp::dsn::Notify;

/// About the message, a word or two each; empty if nothing was said.
pub(crate) fn message(extensions: &Extensions<'_>) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(said) = extensions.smtputf8 {
        words.push(if said.header_8bit { "SMTPUTF8 (in the header too)" } else { "SMTPUTF8" }.to_owned());
    }
    words.extend(extensions.ret.map(|ret| format!("RET={}", ret_word(ret))));
    if !extensions.envid.is_empty() {
        words.push(format!("ENVID={}", extensions.envid));
    }
    match extensions.transfer {
        Transfer::Data => {}
        Transfer::Bdat { line_end_added: false } => words.push("by BDAT".to_owned()),
        Transfer::Bdat { line_end_added: true } => words.push("by BDAT, last line end added".to_owned()),
    }
    words.extend(
        extensions.tls.map(|tls| format!("{}, cipher suite {:#06x}", version(tls), tls.cipher_suite)),
    );
    words.extend(extensions.notice.as_ref().map(notice));
    words
}

/// What a notice of ours is about.
fn notice(notice: &NoticeOf<'_>) -> String {
    let NoticeOf { domain, stamp, ordinals, .. } = notice;
    let units = ordinals.len();
    format!("a notice about {units} recipient(s) in {domain}, of the message with stamp {}", stamp.0)
}

/// What authentication said of a message, for JSON; null where nothing is known.
pub(crate) fn authentication(record: &Record) -> Option<&str> {
    Some(record.authentication.as_str()).filter(|text| !text.is_empty())
}

/// About one recipient, with a space in front; empty if nothing was said.
pub(crate) fn recipient(extensions: &Extensions<'_>, ordinal: usize) -> String {
    let Some(dsn) = extensions.recipients.get(ordinal) else { return String::new() };
    let mut text = String::new();
    if dsn.notify != 0 {
        text.push_str(&format!(" NOTIFY={}", notify_words(dsn)));
    }
    if !dsn.orcpt.is_empty() {
        text.push_str(&format!(" ORCPT={}", dsn.orcpt));
    }
    text
}

/// All of it.
pub(crate) fn object(extensions: &Extensions<'_>) -> Value {
    let recipient = |dsn: &RecipientDsn<'_>| {
        let notify = (dsn.notify != 0).then(|| notify_words(dsn));
        json!({"notify": notify, "orcpt": some(&dsn.orcpt)})
    };
    let line_end_added = matches!(extensions.transfer, Transfer::Bdat { line_end_added: true });
    json!({
        "smtputf8": extensions.smtputf8.is_some(),
        "header_8bit": extensions.smtputf8.map(|said| said.header_8bit),
        "ret": extensions.ret.map(ret_word),
        "envid": some(&extensions.envid),
        "transfer": if extensions.transfer == Transfer::Data { "DATA" } else { "BDAT" },
        "line_end_added": line_end_added,
        "tls": extensions.tls.map(|tls| json!({"version": version(tls), "cipher_suite": tls.cipher_suite})),
        "notice": extensions.notice.as_ref().map(notice),
        "recipients": extensions.recipients.iter().map(recipient).collect::<Vec<_>>(),
    })
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

const fn ret_word(ret: Ret) -> &'static str {
    match ret {
        Ret::Full => "FULL",
        Ret::Headers => "HDRS",
    }
}

fn notify_words(dsn: &RecipientDsn<'_>) -> String {
    Notify::from_bits(dsn.notify).unwrap_or_default().to_string()
}

fn version(tls: TlsFacts) -> String {
    match tls.version {
        0x0303 => "TLS 1.2".to_owned(),
        0x0304 => "TLS 1.3".to_owned(),
        other => format!("TLS version {other:#06x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_said_is_shown() {
        assert_eq!(
            (message(&Extensions::NONE), recipient(&Extensions::NONE, 0)),
            (Vec::new(), String::new())
        );
        let extensions = Extensions {
            smtputf8: Some(storage::inspect::Smtputf8 { header_8bit: true }),
            ret: Some(Ret::Headers),
            envid: "id+3D1".into(),
            recipients: vec![RecipientDsn { notify: 6, orcpt: "rfc822;a@b".into() }],
            transfer: Transfer::Bdat { line_end_added: true },
            tls: Some(TlsFacts { version: 0x0304, cipher_suite: 0x1301 }),
            notice: None,
            replay_of: None,
        };
        let words = message(&extensions).join("; ");
        assert_eq!(
            words,
            "SMTPUTF8 (in the header too); RET=HDRS; ENVID=id+3D1; by BDAT, last line end added; \
             TLS 1.3, cipher suite 0x1301"
        );
        assert_eq!(recipient(&extensions, 0), " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@b");
        let object = object(&extensions);
        assert_eq!(
            (&object["transfer"], &object["recipients"][0]["notify"]),
            (&json!("BDAT"), &json!("SUCCESS,FAILURE"))
        );
    }
}
