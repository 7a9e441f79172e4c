//! One mail transaction: reverse-path and recipients in one arena that is used again for the next.
//!
//! The arena is a string in which paths lie end to end; a recipient is a range of it. Clearing keeps the
//! memory, so a warm session takes a command without an allocation. A recipient under decision (the
//! candidate) lies at the end of the arena and is either kept or cut off.
//!
//! Invariants: every range lies on character borders inside the arena; mailboxes are distinct, their domains
//! lower-case (address literals as typed); the arena is at most `ENVELOPE_OCTETS_MAX`.

use core::ops::Range;

use crate::limits::ENVELOPE_OCTETS_MAX;
use crate::smtp::command::{Body, Mail, Rcpt};
use crate::smtp::dsn::{MailDsn, Notify, RcptDsn, Ret};
use crate::smtp::path::{ForwardPath, Mailbox, ReversePath};

/// The envelope as it stands. Valid from `Sender` to the end of the transaction.
#[derive(Debug, Default)]
pub struct Transaction {
    arena: String,
    reverse_path: Range<usize>,
    recipients: Vec<Recipient>,
    candidate: Option<Candidate>,
    declared_size: Option<u64>,
    body: Body,
    smtputf8: bool,
    ret: Option<Ret>,
    envid: Range<usize>,
    refused: u32,
}

/// A mailbox in the arena; `at` is where its `@` is. Its ORCPT lies behind it.
#[derive(Clone, Debug)]
struct Recipient {
    text: Range<usize>,
    at: usize,
    notify: Notify,
    orcpt: Range<usize>,
}

/// Everything of it lies at the end of the arena.
#[derive(Clone, Debug)]
struct Candidate {
    /// `text` is empty for `<postmaster>`, which has no mailbox until the host names one.
    recipient: Recipient,
    is_postmaster: bool,
}

/// What becomes of a recipient before the host is asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Proposal {
    /// Already in the envelope: 250, stored once.
    Duplicate,
    /// The envelope is full.
    Full,
    /// The host decides.
    Pending,
}

impl Transaction {
    /// The reverse-path without brackets; empty for `<>`.
    pub fn reverse_path(&self) -> &str {
        &self.arena[self.reverse_path.clone()]
    }

    /// The domain of the reverse-path; empty for `<>`.
    pub fn reverse_path_domain(&self) -> &str {
        self.reverse_path().rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// Accepted mailboxes in the order of their RCPT.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = &str> {
        self.recipients.iter().map(|recipient| &self.arena[recipient.text.clone()])
    }

    /// Accepted mailboxes with their parts at hand.
    pub fn mailboxes(&self) -> impl ExactSizeIterator<Item = Mailbox<'_>> {
        self.recipients.iter().map(|recipient| self.mailbox(recipient))
    }

    /// How many recipients were accepted; duplicates count once.
    pub fn recipient_count(&self) -> usize {
        self.recipients.len()
    }

    /// What each accepted recipient wants to be told, in the same order (RFC 3461 4.1, 4.2).
    pub fn recipients_dsn(&self) -> impl ExactSizeIterator<Item = RcptDsn<'_>> {
        let arena = &self.arena;
        let dsn = |recipient: &Recipient| (recipient.notify, recipient.orcpt.clone());
        self.recipients.iter().map(dsn).map(|(notify, orcpt)| RcptDsn { notify, orcpt: &arena[orcpt] })
    }

    /// RET and ENVID of MAIL (RFC 3461 4.3, 4.4).
    pub fn dsn(&self) -> MailDsn<'_> {
        MailDsn { ret: self.ret, envid: &self.arena[self.envid.clone()] }
    }

    /// SMTPUTF8 was said in MAIL (RFC 6531 3.4).
    pub fn smtputf8(&self) -> bool {
        self.smtputf8
    }

    /// What the recipient that the host is asked about wants to be told; nothing without one.
    pub fn candidate_dsn(&self) -> RcptDsn<'_> {
        let Some(Candidate { recipient, .. }) = &self.candidate else { return RcptDsn::default() };
        RcptDsn { notify: recipient.notify, orcpt: &self.arena[recipient.orcpt.clone()] }
    }

    /// The recipient that the host is asked about.
    ///
    /// # Panics
    /// Unless a `Recipient` event awaits its answer.
    pub fn candidate(&self) -> ForwardPath<'_> {
        let candidate = self.candidate.as_ref().expect("a Recipient event awaits its answer");
        if candidate.is_postmaster {
            return ForwardPath::Postmaster;
        }
        ForwardPath::Mailbox(self.mailbox(&candidate.recipient))
    }

    /// `SIZE=` of MAIL.
    pub fn declared_size(&self) -> Option<u64> {
        self.declared_size
    }

    /// `BODY=` of MAIL.
    pub fn body(&self) -> Body {
        self.body
    }

    /// At least one RCPT was refused.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused > 0
    }

    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.reverse_path = 0..0;
        self.recipients.clear();
        self.candidate = None;
        self.declared_size = None;
        self.body = Body::default();
        self.smtputf8 = false;
        self.ret = None;
        self.envid = 0..0;
        self.refused = 0;
    }

    pub(crate) fn begin(&mut self, mail: &Mail<'_>) {
        self.clear();
        self.reverse_path = match mail.reverse_path {
            ReversePath::Null => 0..0,
            ReversePath::Mailbox(mailbox) => self.push(mailbox, RcptDsn::default()).text,
        };
        self.declared_size = mail.declared_size;
        self.body = mail.body;
        self.smtputf8 = mail.smtputf8;
        self.ret = mail.dsn.ret;
        self.envid = self.push_text(mail.dsn.envid);
    }

    /// Puts the recipient up for decision, unless it is decided already.
    pub(crate) fn propose(&mut self, rcpt: &Rcpt<'_>, recipients_max: u32) -> Proposal {
        let candidate = match rcpt.forward_path {
            ForwardPath::Postmaster => {
                let text = self.arena.len()..self.arena.len();
                let (at, orcpt) = (text.start, self.push_text(rcpt.dsn.orcpt));
                let recipient = Recipient { text, at, notify: rcpt.dsn.notify, orcpt };
                Candidate { recipient, is_postmaster: true }
            }
            ForwardPath::Mailbox(mailbox) => {
                let recipient = self.push(mailbox, rcpt.dsn);
                if self.is_duplicate(&recipient) {
                    self.arena.truncate(recipient.text.start);
                    return Proposal::Duplicate;
                }
                Candidate { recipient, is_postmaster: false }
            }
        };
        let has_room = u32::try_from(self.recipients.len()).is_ok_and(|count| count < recipients_max)
            && self.arena.len() <= ENVELOPE_OCTETS_MAX;
        if !has_room {
            self.arena.truncate(candidate.recipient.text.start);
            return Proposal::Full;
        }
        self.candidate = Some(candidate);
        Proposal::Pending
    }

    /// The candidate becomes a recipient.
    pub(crate) fn accept(&mut self) {
        match self.candidate.take() {
            Some(Candidate { recipient, is_postmaster: false }) => self.recipients.push(recipient),
            _ => debug_assert!(false, "<postmaster> has no mailbox until the host names one"),
        }
    }

    /// The candidate is accepted under another name. False: the envelope is full.
    pub(crate) fn accept_as(&mut self, mailbox: Mailbox<'_>) -> bool {
        let (mut notify, mut orcpt) = (Notify::default(), String::new());
        if let Some(Candidate { recipient, .. }) = self.candidate.take() {
            notify = recipient.notify;
            orcpt.push_str(&self.arena[recipient.orcpt]);
            self.arena.truncate(recipient.text.start);
        }
        let recipient = self.push(mailbox, RcptDsn { notify, orcpt: &orcpt });
        if self.is_duplicate(&recipient) {
            self.arena.truncate(recipient.text.start);
            return true;
        }
        if self.arena.len() > ENVELOPE_OCTETS_MAX {
            self.arena.truncate(recipient.text.start);
            return false;
        }
        self.recipients.push(recipient);
        true
    }

    /// The candidate is refused.
    pub(crate) fn refuse(&mut self) {
        if let Some(candidate) = self.candidate.take() {
            self.arena.truncate(candidate.recipient.text.start);
        }
        self.note_refusal();
    }

    /// A RCPT was refused before it could become a candidate.
    pub(crate) fn note_refusal(&mut self) {
        self.refused = self.refused.saturating_add(1);
    }

    fn mailbox(&self, recipient: &Recipient) -> Mailbox<'_> {
        Mailbox::from_parts(&self.arena[recipient.text.clone()], recipient.at - recipient.text.start)
    }

    /// Appends the mailbox with its domain in lower case.
    fn push(&mut self, mailbox: Mailbox<'_>, dsn: RcptDsn<'_>) -> Recipient {
        let start = self.arena.len();
        self.arena.push_str(mailbox.as_str());
        let at = start + mailbox.local_part().len();
        if !mailbox.domain().starts_with('[') {
            self.arena[at + 1..].make_ascii_lowercase();
        }
        let text = start..self.arena.len();
        Recipient { text, at, notify: dsn.notify, orcpt: self.push_text(dsn.orcpt) }
    }

    fn push_text(&mut self, text: &str) -> Range<usize> {
        let start = self.arena.len();
        self.arena.push_str(text);
        start..self.arena.len()
    }

    /// Local parts are compared as typed (RFC 5321 2.4), domains in lower case.
    fn is_duplicate(&self, recipient: &Recipient) -> bool {
        let text = &self.arena[recipient.text.clone()];
        self.recipients().any(|known| known == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(text: &str) -> Transaction {
        let mut transaction = Transaction::default();
        let (reverse_path, _) = ReversePath::parse(text).unwrap();
        let dsn = MailDsn { ret: Some(Ret::Full), envid: "id" };
        let body = Body::EightBitMime;
        transaction.begin(&Mail { reverse_path, declared_size: Some(3), body, smtputf8: true, dsn });
        transaction
    }

    fn rcpt<'a>(text: &'a str, orcpt: &'a str) -> Rcpt<'a> {
        let notify = Notify::from_bits(u8::from(!orcpt.is_empty())).unwrap();
        Rcpt { forward_path: ForwardPath::parse(text).unwrap().0, dsn: RcptDsn { notify, orcpt } }
    }

    fn propose(transaction: &mut Transaction, text: &str) -> Proposal {
        transaction.propose(&rcpt(text, ""), 2)
    }

    #[test]
    fn what_was_said_about_notices_stays_with_its_recipient() {
        let mut transaction = begin("<s@t>");
        assert_eq!(transaction.dsn(), MailDsn { ret: Some(Ret::Full), envid: "id" });
        for (path, orcpt, accepted) in [
            ("<a@b>", "x;1", true),
            ("<refused@b>", "x;2", false),
            ("<a@B>", "x;3", false),
            ("<postmaster>", "x;4", true),
        ] {
            match transaction.propose(&rcpt(path, orcpt), 9) {
                Proposal::Duplicate => assert_eq!(path, "<a@B>"),
                Proposal::Full => panic!("there is room"),
                Proposal::Pending if path == "<postmaster>" => {
                    assert!(transaction.accept_as(Mailbox::parse("p@q").unwrap()));
                }
                Proposal::Pending if accepted => transaction.accept(),
                Proposal::Pending => transaction.refuse(),
            }
        }
        assert_eq!(propose(&mut transaction, "<c@d>"), Proposal::Full);
        let said: Vec<_> = transaction.recipients_dsn().map(|dsn| (dsn.notify.bits(), dsn.orcpt)).collect();
        assert_eq!(
            transaction.recipients().zip(said).collect::<Vec<_>>(),
            [("a@b", (1, "x;1")), ("p@q", (1, "x;4"))]
        );
        assert!(!transaction.arena.contains("x;2") && transaction.smtputf8());
        transaction.clear();
        assert_eq!((transaction.dsn(), transaction.smtputf8()), (MailDsn::default(), false));
    }

    #[test]
    fn domains_are_lower_cased_and_local_parts_are_kept() {
        let mut transaction = begin("<Sender@Example.ORG>");
        assert_eq!(transaction.reverse_path(), "Sender@example.org");
        assert_eq!(transaction.reverse_path_domain(), "example.org");
        assert_eq!(propose(&mut transaction, "<\"A@B\"@Example.NET>"), Proposal::Pending);
        let ForwardPath::Mailbox(candidate) = transaction.candidate() else { panic!("a mailbox") };
        assert_eq!((candidate.local_part(), candidate.domain()), ("\"A@B\"", "example.net"));
        transaction.accept();
        assert_eq!(transaction.recipients().collect::<Vec<_>>(), ["\"A@B\"@example.net"]);
        assert_eq!(transaction.mailboxes().next().map(|mailbox| mailbox.domain()), Some("example.net"));
    }

    #[test]
    fn a_duplicate_is_stored_once_even_in_a_full_envelope() {
        let mut transaction = begin("<>");
        for path in ["<a@b>", "<c@d>"] {
            assert_eq!(propose(&mut transaction, path), Proposal::Pending);
            transaction.accept();
        }
        assert_eq!(propose(&mut transaction, "<a@B>"), Proposal::Duplicate);
        assert_eq!(propose(&mut transaction, "<A@b>"), Proposal::Full);
        assert_eq!(transaction.recipients().collect::<Vec<_>>(), ["a@b", "c@d"]);
    }

    #[test]
    fn postmaster_is_kept_under_the_name_that_the_host_gives() {
        let mut transaction = begin("<>");
        for _ in 0..2 {
            assert_eq!(propose(&mut transaction, "<Postmaster>"), Proposal::Pending);
            assert_eq!(transaction.candidate(), ForwardPath::Postmaster);
            assert!(transaction.accept_as(Mailbox::parse("admin@Example.net").unwrap()));
        }
        assert_eq!(transaction.recipients().collect::<Vec<_>>(), ["admin@example.net"]);
    }

    #[test]
    fn a_refused_candidate_leaves_nothing_behind() {
        let mut transaction = begin("<s@t>");
        propose(&mut transaction, "<a@b>");
        transaction.refuse();
        assert!(transaction.has_refused() && transaction.arena == "s@tid");
        propose(&mut transaction, "<a@b>");
        transaction.accept();
        assert_eq!(transaction.recipient_count(), 1);
    }

    #[test]
    fn an_envelope_is_full_by_octets() {
        let mut transaction = begin("<>");
        let domain = format!("{0}.{0}.{0}", "d".repeat(60));
        let mut accepted = 0;
        loop {
            let mailbox = format!("<{accepted:0>60}@{domain}>");
            match transaction.propose(&rcpt(&mailbox, "rfc822;a@b"), u32::MAX) {
                Proposal::Pending => transaction.accept(),
                other => break assert_eq!(other, Proposal::Full),
            }
            accepted += 1;
        }
        assert!(transaction.arena.len() <= ENVELOPE_OCTETS_MAX);
        assert_eq!(transaction.recipient_count(), accepted);
    }
}
