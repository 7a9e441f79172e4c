//! MAIL and RCPT as they are said to a server that offers this or that.

use super::{Capabilities, Envelope};
use crate::smtp::dsn::{MailDsn, RcptDsn, push_ascii_orcpt};

/// Parameters go only where they were offered: a server may refuse MAIL for one that it does not know. SMTPUTF8 goes
/// only where it is needed too, since what came with it may not go on everywhere (RFC 6531 3.4).
pub(super) fn mail_line(envelope: &Envelope<'_>, capabilities: &Capabilities, smtputf8: bool) -> Vec<u8> {
    let mut line = format!("MAIL FROM:<{}>", envelope.reverse_path);
    if capabilities.size.is_some() {
        line.push_str(&format!(" SIZE={}", envelope.octets));
    }
    if capabilities.eight_bit_mime && envelope.has_8bit {
        line.push_str(" BODY=8BITMIME");
    }
    if smtputf8 {
        line.push_str(" SMTPUTF8");
    }
    let MailDsn { ret, envid } = envelope.extensions.dsn;
    if let Some(ret) = ret.filter(|_| capabilities.dsn) {
        line.push_str(&format!(" RET={ret}"));
    }
    if capabilities.dsn && !envid.is_empty() {
        line.push_str(&format!(" ENVID={envid}"));
    }
    line.push_str("\r\n");
    line.into_bytes()
}

/// RFC 3461 5.2.1: parameters go on as they came. UTF-8 in ORCPT is encoded where none may be said (RFC 6533 3).
pub(super) fn rcpt_line(mailbox: &str, dsn: Option<&RcptDsn<'_>>, smtputf8: bool) -> Vec<u8> {
    let mut line = format!("RCPT TO:<{mailbox}>");
    let RcptDsn { notify, orcpt } = dsn.copied().unwrap_or_default();
    if notify.is_said() {
        line.push_str(&format!(" NOTIFY={notify}"));
    }
    if !orcpt.is_empty() {
        line.push_str(" ORCPT=");
        if smtputf8 {
            line.push_str(orcpt);
        } else {
            push_ascii_orcpt(&mut line, orcpt);
        }
    }
    line.push_str("\r\n");
    line.into_bytes()
}
