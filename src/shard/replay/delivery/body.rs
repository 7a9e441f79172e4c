//! A message as BDAT has it: nothing is stuffed, and no line end added (H46).

use crate::smtp::chunk::DotUnstuffer;
use std::borrow::Cow;
use storage::format::message::{MessageView, Transfer};

/// See the module.
pub(super) struct Body<'a> {
    lead: &'a [u8],
    trace: &'a [u8],
    data: Cow<'a, [u8]>,
    dots: usize,
}

impl<'a> Body<'a> {
    pub(super) fn of(message: &MessageView<'a>, lead: &'a [u8], mut data: Cow<'a, [u8]>) -> Self {
        let dots = if message.data.stuffed_lines == 0 { 0 } else { DotUnstuffer::dots(&data) };
        let is_added = message.extensions.transfer == Transfer::Bdat { line_end_added: true };
        if is_added && data.ends_with(b"\r\n") {
            let end = data.len() - 2;
            match &mut data {
                Cow::Borrowed(data) => *data = &data[..end],
                Cow::Owned(data) => data.truncate(end),
            }
        }
        Self { lead, trace: message.trace, data, dots }
    }

    pub(super) fn octets(&self) -> u64 {
        (self.lead.len() + self.trace.len() + self.data.len() - self.dots) as u64
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.lead);
        out.extend_from_slice(self.trace);
        if self.dots == 0 {
            out.extend_from_slice(&self.data);
        } else {
            DotUnstuffer::default().unstuff(&self.data, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::format::message::{
        DataFacts, Envelope as Stored, Extensions as Said, Protocol, encode_head,
    };

    #[test]
    fn h46_a_body_leaves_by_bdat_as_it_came() {
        let added = Transfer::Bdat { line_end_added: true };
        let whole = Transfer::Bdat { line_end_added: false };
        for (transfer, stored, lines, expected) in [
            (Transfer::Data, "a\r\n..b\r\n", 1, "a\r\n.b\r\n"),
            (Transfer::Data, "..\r\n..\r\n...\r\n", 3, ".\r\n.\r\n..\r\n"),
            (Transfer::Data, "plain\r\n", 0, "plain\r\n"),
            (Transfer::Data, "", 0, ""),
            (added, "no end\r\n..x\r\n", 1, "no end\r\n.x"),
            (whole, "an end\r\n", 0, "an end\r\n"),
        ] {
            let envelope = Stored {
                reverse_path: "",
                recipients: &["a@b"],
                client: [192, 0, 2, 1].into(),
                helo: "c",
                protocol: Protocol::Esmtp,
                body_8bit: false,
                extensions: Said { transfer, ..Said::NONE },
            };
            let facts = DataFacts {
                stored_octets: stored.len() as u64,
                stuffed_lines: lines,
                ..DataFacts::default()
            };
            let mut payload = Vec::new();
            encode_head(&mut payload, &envelope, &facts, &[], b"Received: x\r\n", stored.len());
            payload.extend_from_slice(stored.as_bytes());
            let message = MessageView::decode(&payload).expect("a message");
            let (body, mut out) = (Body::of(&message, b"", Cow::Borrowed(message.tail)), Vec::new());
            body.write(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), format!("Received: x\r\n{expected}"));
            assert_eq!(body.octets(), out.len() as u64);
        }
    }
}
