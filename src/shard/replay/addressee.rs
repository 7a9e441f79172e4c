//! Who of a stored envelope can be offered to a primary, and with what: pure functions.
//!
//! What needs SMTPUTF8 does not go where it is not offered: it is refused here as the primary would have to
//! (`553 5.6.7`, RFC 6531 3.5), for each recipient by itself, and then held or dropped as any refusal is.

use crate::config::NOTICES_DOMAIN;
use crate::smtp::client::{Extensions, RecipientOutcome, Stage, TransactionOutcome};
use crate::smtp::dsn::{MailDsn, Notify, RcptDsn, Ret};
use crate::smtp::reply::{EnhancedCode, ReceivedReply};
use storage::format::message::{self, MessageView};

/// A recipient and what it wants to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Addressee<'a> {
    pub(super) mailbox: &'a str,
    pub(super) dsn: RcptDsn<'a>,
}

/// The recipients with these ordinals; fewer if the record does not have them all.
pub(super) fn addressees<'a>(message: &'a MessageView<'a>, ordinals: &[u16]) -> Vec<Addressee<'a>> {
    let addressee = |ordinal: &u16| {
        let ordinal = usize::from(*ordinal);
        let said = message.extensions.recipients.get(ordinal);
        let dsn = said.map(|said| RcptDsn {
            // What no program of ours writes is not said on.
            notify: Notify::from_bits(said.notify).unwrap_or_default(),
            orcpt: &said.orcpt,
        });
        let stored = message.recipients.get(ordinal)?;
        let mailbox = if message.extensions.notice.is_some() { sent_to(stored) } else { stored };
        Some(Addressee { mailbox, dsn: dsn.unwrap_or_default() })
    };
    ordinals.iter().filter_map(addressee).collect()
}

/// Where a notice goes whose recipient is stored as `mailbox@` and the reserved domain (`storage/FORMAT.md`, "Message").
pub(super) fn sent_to(stored: &str) -> &str {
    let mailbox = stored.strip_suffix(NOTICES_DOMAIN).and_then(|rest| rest.strip_suffix('@'));
    mailbox.unwrap_or(stored)
}

/// What the envelope says beside its addresses.
pub(super) fn extensions<'a>(message: &'a MessageView<'_>, recipients: &'a [RcptDsn<'a>]) -> Extensions<'a> {
    let said = &message.extensions;
    let ret = said.ret.map(|ret| match ret {
        message::Ret::Full => Ret::Full,
        message::Ret::Headers => Ret::Headers,
    });
    Extensions {
        dsn: MailDsn { ret, envid: &said.envid },
        recipients,
        header_needs_smtputf8: said.smtputf8.is_some_and(|said| said.header_8bit),
        client: None,
    }
}

/// Whether this recipient can be offered to a server that does not offer SMTPUTF8.
pub(super) fn goes_without_smtputf8(message: &MessageView<'_>, addressee: &Addressee<'_>) -> bool {
    let header_8bit = message.extensions.smtputf8.is_some_and(|said| said.header_8bit);
    !header_8bit && message.reverse_path.is_ascii() && addressee.mailbox.is_ascii()
}

/// Whether a recipient of a message is in a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// It is in this one.
    Now,
    /// It is in one behind this one: the primary takes no more in one (RFC 9422).
    Later,
    /// It is in none: it needs SMTPUTF8.
    Never,
}

/// Who of them is offered now, of those that can go, where a transaction has a bound.
pub(super) fn parts(can_go: impl IntoIterator<Item = bool>, most: Option<u32>) -> Vec<Part> {
    let mut left = most.unwrap_or(u32::MAX);
    let part = |can_go: bool| match (can_go, left) {
        (false, _) => Part::Never,
        (true, 0) => Part::Later,
        (true, _) => {
            left -= 1;
            Part::Now
        }
    };
    can_go.into_iter().map(part).collect()
}

/// The outcome for all recipients, of which those that are in the transaction have its, in its order.
pub(super) fn merged(
    parts: impl IntoIterator<Item = Part>,
    transaction: Option<TransactionOutcome>,
) -> TransactionOutcome {
    let mut tried = transaction.map(|outcome| outcome.recipients).unwrap_or_default().into_iter();
    let outcome = |part: Part| match part {
        Part::Later => RecipientOutcome::NotTried,
        Part::Now => tried.next().expect("a transaction has an outcome for each of its recipients"),
        Part::Never => RecipientOutcome::Rejected {
            stage: Stage::Recipient,
            reply: ReceivedReply {
                code: 553,
                enhanced: Some(EnhancedCode::new(5, 6, 7)),
                text: "needs SMTPUTF8, which the primary does not offer".to_owned(),
            },
        },
    };
    TransactionOutcome { recipients: parts.into_iter().map(outcome).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::format::message::{DataFacts, Envelope, Protocol, RecipientDsn, Smtputf8, encode_head};

    fn payload(reverse_path: &str, header_8bit: Option<bool>) -> Vec<u8> {
        let dsn = |notify, orcpt: &'static str| RecipientDsn { notify, orcpt: orcpt.into() };
        let envelope = Envelope {
            reverse_path,
            recipients: &["a@one.test", "\u{fc}@one.test", "b@two.test"],
            client: [192, 0, 2, 1].into(),
            helo: "c",
            protocol: Protocol::Esmtp,
            body_8bit: false,
            extensions: message::Extensions {
                smtputf8: header_8bit.map(|header_8bit| Smtputf8 { header_8bit }),
                ret: Some(message::Ret::Headers),
                envid: "id".into(),
                recipients: vec![dsn(1, ""), dsn(0, "utf-8;\u{fc}@x"), dsn(99, "")],
                ..message::Extensions::NONE
            },
        };
        let mut payload = Vec::new();
        encode_head(&mut payload, &envelope, &DataFacts::default(), &[], b"", 0);
        payload
    }

    #[test]
    fn each_recipient_goes_with_what_was_said_about_it() {
        let payload = payload("s@t", None);
        let message = MessageView::decode(&payload).unwrap();
        let found = addressees(&message, &[2, 0, 7]);
        let shown: Vec<_> = found.iter().map(|found| (found.mailbox, found.dsn.notify.to_string())).collect();
        assert_eq!(shown, [("b@two.test", String::new()), ("a@one.test", "NEVER".to_owned())]);
        let extensions = extensions(&message, &[]);
        assert_eq!((extensions.dsn.ret, extensions.dsn.envid), (Some(Ret::Headers), "id"));
    }

    #[test]
    fn only_what_needs_smtputf8_stays_behind() {
        for (reverse_path, header_8bit, expected) in [
            ("s@t", None, [true, false, true]),
            ("s@t", Some(false), [true, false, true]),
            ("s@t", Some(true), [false; 3]),
            ("\u{fc}@t", Some(false), [false; 3]),
            ("", None, [true, false, true]),
        ] {
            let payload = payload(reverse_path, header_8bit);
            let message = MessageView::decode(&payload).unwrap();
            let goes = addressees(&message, &[0, 1, 2])
                .iter()
                .map(|to| goes_without_smtputf8(&message, to))
                .collect::<Vec<_>>();
            assert_eq!(goes, expected, "{reverse_path} {header_8bit:?}");
        }
    }

    #[test]
    fn no_more_are_in_a_transaction_than_the_primary_takes() {
        use Part::{Later, Never, Now};
        assert_eq!(parts([true, false, true, true], Some(2)), [Now, Never, Now, Later]);
        assert_eq!(parts([true, true], Some(1)), [Now, Later]);
        assert_eq!(parts([true, true], None), [Now, Now]);
    }

    #[test]
    fn outcomes_find_their_recipients() {
        let sent =
            TransactionOutcome { recipients: vec![RecipientOutcome::NotTried, RecipientOutcome::Unknown] };
        let outcome = merged([Part::Now, Part::Never, Part::Now], Some(sent)).recipients;
        assert_eq!((&outcome[0], &outcome[2]), (&RecipientOutcome::NotTried, &RecipientOutcome::Unknown));
        assert!(matches!(&outcome[1], RecipientOutcome::Rejected { reply, .. } if reply.code == 553));
        assert_eq!(merged([Part::Never, Part::Never], None).recipients.len(), 2);
        assert_eq!(merged([Part::Later], None).recipients, [RecipientOutcome::NotTried]);
    }
}
