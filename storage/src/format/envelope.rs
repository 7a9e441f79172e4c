//! The envelope of a message record (`FORMAT.md`, "Envelope"): tagged values up to its end.
//!
//! A reader skips tags that it does not know, so that later versions add facts without a new format; what a tag
//! adds is only ever something that an older program may do without (H13). Facts about one recipient stand behind
//! it. Absent means: not said.

use super::journal_entry::Outcome;
use super::{Reader, Writer};
use crate::position::{QueueId, Stamp};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;

/// How the message came: the `with` of its Received field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// HELO.
    Smtp,
    /// EHLO.
    #[default]
    Esmtp,
}

/// An envelope to be stored. Recipients are `local@domain`, grouped by domain.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// Empty for the null reverse-path.
    pub reverse_path: &'a str,
    /// Units by ordinal.
    pub recipients: &'a [&'a str],
    /// The client's address.
    pub client: IpAddr,
    /// What it called itself.
    pub helo: &'a str,
    /// How it spoke.
    pub protocol: Protocol,
    /// BODY=8BITMIME was said (RFC 6152).
    pub body_8bit: bool,
    /// What else it said, and over what.
    pub extensions: Extensions<'a>,
}

/// What service extensions add to an envelope.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extensions<'a> {
    /// SMTPUTF8 was said (RFC 6531).
    pub smtputf8: Option<Smtputf8>,
    /// RET of MAIL (RFC 3461 4.3).
    pub ret: Option<Ret>,
    /// ENVID of MAIL as it was said, in xtext (RFC 3461 4.4); empty if it was not.
    pub envid: Cow<'a, str>,
    /// What each recipient wants; empty if nobody said anything, else one a recipient.
    pub recipients: Vec<RecipientDsn<'a>>,
    /// How the data came.
    pub transfer: Transfer,
    /// The TLS that it came over.
    pub tls: Option<TlsFacts>,
    /// It is a notice about these units.
    pub notice: Option<NoticeOf<'a>>,
    /// It was queued once more from the kept record of this message.
    pub replay_of: Option<QueueId>,
}

/// The units that a notice is about. It is durable before they are settled: a start that finds it and finds them open
/// settles them, and makes no second one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoticeOf<'a> {
    /// Their domain.
    pub domain: Cow<'a, str>,
    /// Their message.
    pub stamp: Stamp,
    /// Which recipients of it.
    pub ordinals: Vec<u16>,
    /// How they end; a final one.
    pub outcome: Outcome,
}

/// SMTPUTF8 was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Smtputf8 {
    /// The header section has an octet above 127: the message cannot go on without SMTPUTF8 (RFC 6531 3.1).
    pub header_8bit: bool,
}

/// What of the message a notice returns (RFC 3461 4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ret {
    /// All of it.
    Full,
    /// Its header section.
    Headers,
}

/// What was said about one recipient (RFC 3461 4.1, 4.2).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecipientDsn<'a> {
    /// NOTIFY, a sum: 1 NEVER (alone), 2 SUCCESS, 4 FAILURE, 8 DELAY; 0 if it was not said.
    pub notify: u8,
    /// ORCPT as it was said: `type;address`, the address encoded; empty if it was not.
    pub orcpt: Cow<'a, str>,
}

/// How the data came. It is always stored as DATA has it: dot-stuffed, its last line ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Transfer {
    /// By DATA.
    #[default]
    Data,
    /// By BDAT (RFC 3030), stuffed when it came.
    Bdat {
        /// The last line had no CRLF and was given one, which counts in the octets of the message (H46).
        line_end_added: bool,
    },
}

/// The TLS of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlsFacts {
    /// The protocol's version as it is on the wire: 0x0303 is 1.2, 0x0304 is 1.3 (RFC 8446 4.1.2).
    pub version: u16,
    /// The cipher suite's number in IANA's registry.
    pub cipher_suite: u16,
}

impl Extensions<'_> {
    /// Nothing was said.
    pub const NONE: Self = Self {
        smtputf8: None,
        ret: None,
        envid: Cow::Borrowed(""),
        recipients: Vec::new(),
        transfer: Transfer::Data,
        tls: None,
        notice: None,
        replay_of: None,
    };

    /// The same, with memory of its own.
    #[must_use]
    pub fn detached(&self) -> Extensions<'static> {
        let owned = |dsn: &RecipientDsn<'_>| RecipientDsn {
            notify: dsn.notify,
            orcpt: Cow::Owned(dsn.orcpt.clone().into_owned()),
        };
        Extensions {
            smtputf8: self.smtputf8,
            ret: self.ret,
            envid: Cow::Owned(self.envid.clone().into_owned()),
            recipients: self.recipients.iter().map(owned).collect(),
            transfer: self.transfer,
            tls: self.tls,
            notice: self.notice.as_ref().map(NoticeOf::detached),
            replay_of: self.replay_of,
        }
    }
}

impl NoticeOf<'_> {
    /// The same, with memory of its own.
    #[must_use]
    pub fn detached(&self) -> NoticeOf<'static> {
        NoticeOf {
            domain: Cow::Owned(self.domain.clone().into_owned()),
            stamp: self.stamp,
            ordinals: self.ordinals.clone(),
            outcome: self.outcome,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut value = Vec::new();
        let count = u16::try_from(self.ordinals.len()).expect("recipients of one message");
        Writer(&mut value).u64(self.stamp.0).octets(&[self.outcome.code()]).u16(count);
        for ordinal in &self.ordinals {
            Writer(&mut value).u16(*ordinal);
        }
        value.extend_from_slice(self.domain.as_bytes());
        value
    }
}

impl<'a> NoticeOf<'a> {
    fn decode(value: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(value);
        let stamp = Stamp(reader.u64()?);
        let outcome = Outcome::from_code(*reader.take(1)?.first()?)?;
        let count = reader.u16()?;
        let ordinals = (0..count).map(|_| reader.u16()).collect::<Option<Vec<u16>>>()?;
        let domain = Cow::Borrowed(core::str::from_utf8(reader.rest()).ok()?);
        outcome.is_final().then_some(Self { domain, stamp, ordinals, outcome })
    }
}

const TAG_REVERSE_PATH: u16 = 1;
const TAG_RECIPIENT: u16 = 2;
const TAG_CLIENT: u16 = 3;
const TAG_HELO: u16 = 4;
const TAG_PROTOCOL: u16 = 5;
const TAG_BODY_8BIT: u16 = 6;
const TAG_SMTPUTF8: u16 = 7;
const TAG_RET: u16 = 8;
const TAG_ENVID: u16 = 9;
const TAG_NOTIFY: u16 = 10;
const TAG_ORCPT: u16 = 11;
const TAG_BDAT: u16 = 12;
const TAG_TLS: u16 = 13;
const TAG_NOTICE: u16 = 14;
const TAG_REPLAY_OF: u16 = 15;

const HEADER_8BIT: u8 = 2;
const LINE_END_ADDED: u8 = 2;

/// Appends the envelope.
pub(super) fn encode(out: &mut Vec<u8>, envelope: &Envelope<'_>) {
    let extensions = &envelope.extensions;
    debug_assert!([0, envelope.recipients.len()].contains(&extensions.recipients.len()));
    let mut put = |tag: u16, value: &[u8]| {
        let octets = u16::try_from(value.len()).expect("a path or name is below 64 KiB");
        Writer(out).u16(tag).u16(octets).octets(value);
    };
    put(TAG_REVERSE_PATH, envelope.reverse_path.as_bytes());
    for (ordinal, recipient) in envelope.recipients.iter().enumerate() {
        put(TAG_RECIPIENT, recipient.as_bytes());
        let Some(dsn) = extensions.recipients.get(ordinal) else { continue };
        if dsn.notify != 0 {
            put(TAG_NOTIFY, &[dsn.notify]);
        }
        if !dsn.orcpt.is_empty() {
            put(TAG_ORCPT, dsn.orcpt.as_bytes());
        }
    }
    match envelope.client {
        IpAddr::V4(address) => put(TAG_CLIENT, &address.octets()),
        IpAddr::V6(address) => put(TAG_CLIENT, &address.octets()),
    }
    put(TAG_HELO, envelope.helo.as_bytes());
    put(TAG_PROTOCOL, &[if envelope.protocol == Protocol::Esmtp { 2 } else { 1 }]);
    if envelope.body_8bit {
        put(TAG_BODY_8BIT, &[1]);
    }
    if let Some(said) = extensions.smtputf8 {
        put(TAG_SMTPUTF8, &[1 | if said.header_8bit { HEADER_8BIT } else { 0 }]);
    }
    match extensions.ret {
        None => {}
        Some(Ret::Full) => put(TAG_RET, &[1]),
        Some(Ret::Headers) => put(TAG_RET, &[2]),
    }
    if !extensions.envid.is_empty() {
        put(TAG_ENVID, extensions.envid.as_bytes());
    }
    if let Transfer::Bdat { line_end_added } = extensions.transfer {
        put(TAG_BDAT, &[1 | if line_end_added { LINE_END_ADDED } else { 0 }]);
    }
    if let Some(tls) = extensions.tls {
        let [version, cipher_suite] = [tls.version.to_le_bytes(), tls.cipher_suite.to_le_bytes()];
        put(TAG_TLS, &[version, cipher_suite].concat());
    }
    if let Some(notice) = &extensions.notice {
        put(TAG_NOTICE, &notice.encode());
    }
    if let Some(original) = extensions.replay_of {
        put(TAG_REPLAY_OF, &original.0.to_le_bytes());
    }
}

/// An envelope, decoded in place.
#[derive(Clone, Debug)]
pub(super) struct Decoded<'a> {
    pub(super) reverse_path: &'a str,
    pub(super) recipients: Vec<&'a str>,
    pub(super) client: IpAddr,
    pub(super) helo: &'a str,
    pub(super) protocol: Protocol,
    pub(super) body_8bit: bool,
    pub(super) extensions: Extensions<'a>,
}

impl<'a> Decoded<'a> {
    /// The envelope in `octets`, with `recipients` recipients by what its record says.
    pub(super) fn decode(octets: &'a [u8], recipients: usize) -> Option<Self> {
        let mut this = Self {
            reverse_path: "",
            recipients: Vec::with_capacity(recipients.min(octets.len() / 4)),
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            helo: "",
            protocol: Protocol::Esmtp,
            body_8bit: false,
            extensions: Extensions::NONE,
        };
        let mut reader = Reader::new(octets);
        while !reader.rest().is_empty() {
            let tag = reader.u16()?;
            let length = reader.u16()?;
            this.take(tag, reader.take(length.into())?)?;
        }
        let dsn = this.extensions.recipients.len();
        if dsn > 0 && dsn < this.recipients.len() {
            this.extensions.recipients.resize_with(this.recipients.len(), RecipientDsn::default);
        }
        (this.recipients.len() == recipients).then_some(this)
    }

    fn take(&mut self, tag: u16, value: &'a [u8]) -> Option<()> {
        let text = core::str::from_utf8(value);
        match tag {
            TAG_REVERSE_PATH => self.reverse_path = text.ok()?,
            TAG_RECIPIENT => self.recipients.push(text.ok()?),
            TAG_CLIENT => self.client = decode_address(value)?,
            TAG_HELO => self.helo = text.ok()?,
            TAG_PROTOCOL => self.protocol = if value == [1] { Protocol::Smtp } else { Protocol::Esmtp },
            TAG_BODY_8BIT => self.body_8bit = true,
            TAG_SMTPUTF8 => {
                let header_8bit = value.first()? & HEADER_8BIT != 0;
                self.extensions.smtputf8 = Some(Smtputf8 { header_8bit });
            }
            TAG_RET => self.extensions.ret = Some(if value == [2] { Ret::Headers } else { Ret::Full }),
            TAG_ENVID => self.extensions.envid = Cow::Borrowed(text.ok()?),
            TAG_NOTIFY => self.dsn()?.notify = *value.first()?,
            TAG_ORCPT => self.dsn()?.orcpt = Cow::Borrowed(text.ok()?),
            TAG_BDAT => {
                let line_end_added = value.first()? & LINE_END_ADDED != 0;
                self.extensions.transfer = Transfer::Bdat { line_end_added };
            }
            TAG_TLS => {
                let mut numbers = Reader::new(value);
                let (version, cipher_suite) = (numbers.u16()?, numbers.u16()?);
                self.extensions.tls = Some(TlsFacts { version, cipher_suite });
            }
            TAG_NOTICE => self.extensions.notice = Some(NoticeOf::decode(value)?),
            TAG_REPLAY_OF => self.extensions.replay_of = Some(QueueId(Reader::new(value).u64()?)),
            _ => {}
        }
        Some(())
    }

    /// What is said about the recipient that was read last.
    fn dsn(&mut self) -> Option<&mut RecipientDsn<'a>> {
        let all = &mut self.extensions.recipients;
        all.resize_with(self.recipients.len(), RecipientDsn::default);
        all.last_mut()
    }
}

fn decode_address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(IpAddr::V4(octets.into()));
    }
    <[u8; 16]>::try_from(value).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
}
