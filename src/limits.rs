//! Every bound of the server in one place, with the minimum that the RFC asks for beside it.
//!
//! A bound is part of the promise P7: each says what happens when it is reached. Constants that depend on
//! each other are asserted at compile time at the end of this file.

mod admin;
mod appliance;
mod asking;
mod backup;
mod found;
mod greylisting;
mod metrics;
mod notices;
mod sealing;
mod space;
mod trace;

pub use admin::*;
pub use appliance::*;
pub use asking::*;
pub use backup::*;
use core::time::Duration;
pub use found::*;
pub use greylisting::*;
pub use metrics::*;
pub use notices::*;
pub use sealing::*;
pub use space::*;
pub use trace::*;

/// Longest command line in octets, CRLF included. RFC 5321 4.5.3.1.4 asks for 512; RFC 3461 and 6531
/// parameters add to it. Longer: `500 5.5.2`, the line is skipped.
pub const COMMAND_LINE_OCTETS_MAX: usize = 4096;
/// Longest XCLIENT or XFORWARD that our client says, CRLF included (RFC 5321 4.5.3.1.4: 512). Longer: without the HELO name.
pub const CLIENT_NAMING_OCTETS_MAX: usize = 512;
/// Longest reply line that a client accepts, CRLF included (RFC 5321 4.5.3.1.5: 512). Longer: the session ends.
pub const REPLY_LINE_OCTETS_MAX: usize = 4096;
/// Most lines of one reply that a client accepts; more: the session ends.
pub const REPLY_LINES_MAX: usize = 128;
/// Longest path in octets (RFC 5321 4.5.3.1.3: 256, with punctuation).
pub const PATH_OCTETS_MAX: usize = 256;
/// Longest local part in octets. RFC 5321 4.5.3.1.1 asks for 64; real senders (VERP, SRS) use more.
pub const LOCAL_PART_OCTETS_MAX: usize = 192;
/// Longest domain in octets (RFC 5321 4.5.3.1.2).
pub const DOMAIN_OCTETS_MAX: usize = 255;
/// Longest label of a domain in octets (RFC 1035 2.3.4).
pub const DOMAIN_LABEL_OCTETS_MAX: usize = 63;
/// Longest line of mail data that passes. RFC 5321 4.5.3.1.6 says 1,000 with CRLF; a backup MX that
/// refuses longer ones loses mail that the primary would take, so only the message size bounds a line.
pub const TEXT_LINE_OCTETS_MIN: usize = 1000;
/// Fewest recipients a transaction must be allowed (RFC 5321 4.5.3.1.8).
pub const RECIPIENTS_MIN: u32 = 100;
/// Most recipients that a configuration may allow; they must fit into one envelope.
pub const RECIPIENTS_MAX: u32 = 1000;
/// Longest ENVID in octets, as it is said (RFC 3461 4.4: 100 characters). Longer: `501 5.5.4`.
pub const ENVID_OCTETS_MAX: usize = 100;
/// Longest ORCPT in octets, its type among them (RFC 3461 4.2). Longer: `501 5.5.4`.
pub const ORCPT_OCTETS_MAX: usize = 500;
/// Octets of one stored envelope (paths and parameters of one transaction). Beyond: `452 4.5.3` at RCPT.
pub const ENVELOPE_OCTETS_MAX: usize = 320 * 1024;
/// Largest message that a configuration may allow, in octets.
pub const MESSAGE_OCTETS_MAX: u64 = 1 << 31;
/// Smallest allowed value of `max_message_size` (RFC 5321 4.5.3.1.7: 64 KiB).
pub const MESSAGE_OCTETS_MIN: u64 = 64 * 1024;

/// Longest line of a reply that we send, CRLF included (RFC 5321 4.5.3.1.5). Longer text goes on in a next line.
pub const REPLY_LINE_SENT_OCTETS_MAX: usize = 512;
/// Received fields in a message from which on it is taken for a loop: `554 5.4.6` (RFC 5321 6.3: at least 100).
pub const RECEIVED_FIELDS_MAX: usize = 100;
/// How often a message may have been here before: what one protected server forwards to the domain of another that is down comes
/// twice, and lists and aliases may repeat that. More: a loop, long before [`RECEIVED_FIELDS_MAX`].
pub const OWN_RECEIVED_FIELDS_MAX: usize = 4;

/// Errors of one session (5xx by the client's fault) before it is closed with `421 4.7.0`.
pub const SESSION_ERRORS_MAX: u32 = 20;
/// Commands that carry no mail (NOOP, RSET, HELO ...) in a row before the session is closed with `421 4.7.0`.
pub const SESSION_IDLE_COMMANDS_MAX: u32 = 100;
/// A server waits this long for the next command or block of data (RFC 5321 4.5.3.2.7: at least 5 minutes).
pub const SERVER_COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// Least mail data in octets that a client sends in [`DATA_PACE_WINDOW`], else `421 4.4.2`. 27 octets a second are less
/// than any link carries that mail is sent over (a modem of 300 bit/s has 30), also one that stalls half of the time;
/// a sender that means harm has to pay 16 KiB each ten minutes for a place.
pub const DATA_PACE_OCTETS_MIN: usize = 16 * 1024;
/// See [`DATA_PACE_OCTETS_MIN`]. Longer than RFC 5321 4.5.3.2.7's 5 minutes of silence, so that one such silence, which
/// every client may have, ends no session whose data comes else.
pub const DATA_PACE_WINDOW: Duration = Duration::from_secs(600);
/// Longest time of commands, from the greeting or the end of a message, until mail data comes: `421 4.4.2`. A thousand
/// RCPT one by one over a link with round trips of three seconds fit.
pub const COMMANDS_WITHOUT_DATA_TIMEOUT: Duration = Duration::from_secs(3600);
/// From the 220 to STARTTLS to the end of the handshake: two round trips and some packets. Longer: the link is closed.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// Client: connection and greeting (RFC 5321 4.5.3.2.1: 5 minutes).
pub const CLIENT_GREETING_TIMEOUT: Duration = Duration::from_secs(300);
/// Client: reply to MAIL and RCPT (RFC 5321 4.5.3.2.2 and .3: 5 minutes).
pub const CLIENT_COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// Client: reply to DATA (RFC 5321 4.5.3.2.4: 2 minutes).
pub const CLIENT_DATA_START_TIMEOUT: Duration = Duration::from_secs(120);
/// Client: one block of mail data (RFC 5321 4.5.3.2.5: 3 minutes).
pub const CLIENT_DATA_BLOCK_TIMEOUT: Duration = Duration::from_secs(180);
/// Client: reply to the final dot (RFC 5321 4.5.3.2.6: 10 minutes).
pub const CLIENT_DATA_END_TIMEOUT: Duration = Duration::from_secs(600);

/// Largest configuration file in octets. Larger: an error, nothing started.
pub const CONFIG_OCTETS_MAX: u64 = 16 << 20;
/// Most protected domains that a configuration may pin.
pub const DOMAINS_MAX: usize = 10_000;
/// Most hosts of one protected domain.
pub const PRIMARIES_MAX: usize = 16;
/// Most networks in one list.
pub const NETWORKS_MAX: usize = 1000;
/// Most addresses to listen on.
pub const LISTENERS_MAX: usize = 64;
/// Most name servers.
pub const NAMESERVERS_MAX: usize = 8;
/// Most shards, and so most cores in use.
pub const CORES_MAX: u32 = 1024;
/// Most connections that a configuration may allow, in all or from one address. Beyond: `421 4.7.0`.
pub const CONNECTIONS_MAX: u32 = 100_000;
/// Most certificates for STARTTLS; each handshake may look at all of them.
pub const CERTIFICATES_MAX: usize = 64;
/// Largest rate of one address a minute.
pub const RATE_A_MINUTE_MAX: u32 = 60_000_000;
/// Addresses (IPv4, or /64 of IPv6) of which rates and connections are remembered at a time, some 100 octets each. Beyond:
/// the oldest have to rest for a minute before further ones are bounded by anything but `max_connections`.
pub const ADDRESSES_MAX: usize = 1 << 18;
/// Most addresses of a list of recipients. More: an error, the list before stays.
pub const RECIPIENT_LIST_ADDRESSES_MAX: usize = 10_000_000;
/// Largest list of recipients in octets: as many addresses as that, at 64 octets each. Larger: an error as above.
pub const RECIPIENT_LIST_OCTETS_MAX: u64 = 640_000_000;
/// Longest line of such a list in octets; an address in quotes and U-labels has far less.
pub const RECIPIENT_LIST_LINE_OCTETS_MAX: usize = 2048;
/// Recipients of one domain that are remembered because its primary accepted them. Beyond: further ones are not, and are unknown in an outage.
pub const RECIPIENTS_ACCEPTED_A_DOMAIN_MAX: usize = 100_000;
/// The same of those that it refused: who tries names fills no more than this. Beyond: they are asked for again.
pub const RECIPIENTS_REFUSED_A_DOMAIN_MAX: usize = 10_000;
/// Recipients that a domain may have remembered whatever others have: nobody's outage, or spam, takes another's room.
pub const RECIPIENTS_A_DOMAIN_MIN: usize = 100;
/// Both, of all domains, some 100 octets each, beyond what each has for sure.
pub const RECIPIENTS_REMEMBERED_MAX: usize = 500_000;
/// How long a recipient that was accepted is known in an outage: who gets no mail for half a year may be gone.
pub const RECIPIENT_ACCEPTED_AGE: Duration = Duration::from_secs(180 * 86_400);
/// How long a refusal that was learned holds; then the primary is let judge again, with a message that it refuses.
pub const RECIPIENT_REFUSED_AGE: Duration = Duration::from_secs(7 * 86_400);
/// How far apart two refusals have to be, to be learned (H26): a directory that is broken for a night unlearns nobody.
pub const RECIPIENT_REFUSED_APART: Duration = Duration::from_secs(86_400);
/// How lately a primary has to have accepted anybody, that its refusals say something.
pub const DOMAIN_ACCEPTS_AGE: Duration = Duration::from_secs(86_400);
/// How long the answer to a callout that accepted is used while the primary is up: mailboxes go slowly.
pub const CALLOUT_ACCEPTED_AGE: Duration = Duration::from_secs(7 * 86_400);
/// The same of one that refused: a new mailbox is known after this at the latest.
pub const CALLOUT_REFUSED_AGE: Duration = Duration::from_secs(3 * 3600);
/// How long it is believed whether a primary accepts anybody.
pub const CATCH_ALL_AGE: Duration = Duration::from_secs(86_400);
/// How long a callout may take, connecting included: a sender waits for it, who has 5 minutes (RFC 5321 4.5.3.2.3).
pub const CALLOUT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nobody is asked after a callout that reached nobody.
pub const CALLOUT_PAUSE: Duration = Duration::from_secs(60);
/// Connections that carry mail through to primaries, of a shard. Beyond: mail is taken, and relayed.
pub const PROXIED_A_SHARD_MAX: usize = 256;
/// Those to one domain among them, so that sessions which say nothing leave room for others, here and at the primary.
pub const PROXIED_A_DOMAIN_MAX: usize = 32;
/// How long such a connection is kept without a transaction.
pub const PROXY_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a sender waits for the primary at RCPT, connecting included, before his mail is taken (RFC 5321 4.5.3.2.3: 5 minutes).
pub const PROXY_RCPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a piece of mail data may take on its way to the primary, DATA included.
pub const PROXY_DATA_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a sender waits for the primary's answer to the end of data (RFC 5321 4.5.3.2.6: 10 minutes).
pub const PROXY_END_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the primary may answer it after that (H21).
pub const UPSTREAM_OUTCOME_TIMEOUT: Duration = Duration::from_secs(600);
/// How long nothing is carried through after it went wrong once.
pub const PROXY_PAUSE: Duration = Duration::from_secs(60);
/// Distinct senders and recipients in a row that a primary put off: then its mail is taken (H23).
pub const PROXY_PUT_OFF_RUN: usize = 3;
/// Distinct recipients in a row whom it took before and refuses now: then its mail is taken (H22).
pub const PROXY_REFUSED_RUN: usize = 2;
/// How old a proof that a primary is up may be for `when_up = "defer"`; an older one is renewed by a connection.
pub const DEFER_PROOF_AGE: Duration = Duration::from_secs(30);
/// How long that connection may take.
pub const DEFER_PROOF_TIMEOUT: Duration = Duration::from_secs(10);
/// Senders whom `when_up = "defer"` sent away that are remembered, 40 octets each.
pub const DEFERRALS_MAX: usize = 1 << 16;
/// At this try a sender is taken who was sent away (H24).
pub const DEFERRAL_TRIES: u32 = 3;
/// So long after his first try too.
pub const DEFERRAL_PATIENCE: Duration = Duration::from_secs(600);
/// A try that comes sooner after the last one is none.
pub const DEFERRAL_GAP: Duration = Duration::from_secs(30);
/// How long he is remembered.
pub const DEFERRAL_AGE: Duration = Duration::from_secs(86_400);
/// Hosts whose fingerprints are remembered of a domain: the machines of a farm, some 500 octets each. Beyond: whoever was not met for longest
/// is forgotten.
pub const FINGERPRINTS_A_DOMAIN_MAX: usize = 16;
/// Hosts that are another than what was known, the same.
pub const STRANGERS_A_DOMAIN_MAX: usize = 4;
/// Keywords of a reply to EHLO that are remembered. More are understood, and not remembered.
pub const EHLO_KEYWORDS_MAX: usize = 64;
/// Longest of them. Longer ones are not remembered.
pub const EHLO_KEYWORD_OCTETS_MAX: usize = 32;
/// Keywords of EHLO that a fingerprint has, in their order. More say nothing: no server known offers half as many.
pub const FINGERPRINT_KEYWORDS_MAX: usize = 48;
const _: () = assert!(FINGERPRINT_KEYWORDS_MAX <= EHLO_KEYWORDS_MAX);
/// Longest name in a fingerprint, and word for software: a name in DNS (RFC 5321 4.5.3.1.2). What is longer is cut.
pub const FINGERPRINT_WORD_OCTETS_MAX: usize = 255;
/// How long after a session with a primary another host in its place is one of its farm: no rescue system comes up in less without an
/// outage that is seen.
pub const ACQUAINTANCE_AGE: Duration = Duration::from_secs(3600);
/// How long copies of what goes to another primary are kept, and how long it is another: in state up, if it shows no sooner (H41).
pub const STRANGER_AGE: Duration = Duration::from_secs(86_400);
/// Between two questions for a recipient that cannot exist while a primary comes and goes; while it is up they are [`CATCH_ALL_AGE`] apart.
pub const NOBODY_ASKED_PAUSE: Duration = Duration::from_secs(300);
/// Callouts of a shard at a time; further ones wait.
pub const CALLOUTS_A_SHARD_MAX: usize = 32;
/// Those to one domain among them, so that one that hangs leaves room.
pub const CALLOUTS_A_DOMAIN_MAX: usize = 4;
/// Callouts of a shard that wait. Beyond: nothing is known, and the recipient is accepted.
pub const CALLOUTS_WAITING_MAX: usize = 1024;
/// How often what primaries said about recipients is written down, if there is anything new.
pub const RECIPIENTS_KEPT_INTERVAL: Duration = Duration::from_secs(60);
/// Smallest segment: a group commit with its padding, many times over.
pub const SEGMENT_OCTETS_MIN: u64 = 4 << 20;
/// Largest segment: what one unlink frees, and what recovery scans at once.
pub const SEGMENT_OCTETS_MAX: u64 = 1 << 30;
/// A segment is a whole number of these: the unit of direct writes.
pub const SEGMENT_OCTETS_MULTIPLE: u64 = 4096;
/// Largest space that can be kept free.
pub const FREE_SPACE_OCTETS_MAX: u64 = 1 << 50;
/// Shortest interval between probes of a primary that is down.
pub const RETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Longest interval between probes of a primary that is down.
pub const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// Shortest time that mail may be kept, queued or held. Short ones are for trials; a day is too short for real use.
pub const RETENTION_MIN: Duration = Duration::from_secs(1);
/// Longest time that mail may be kept, queued or held: ten years.
pub const RETENTION_MAX: Duration = Duration::from_secs(3_650 * 86_400);
/// Longest time that delivered mail is kept, so that it can be sent once more.
pub const SAFETY_NET_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Free space below which copies are given up, in segments; or in multiples of `min_free_space`: mail is refused later than that.
pub const COPIES_FREE_SEGMENTS_MIN: u64 = 4;
/// See [`COPIES_FREE_SEGMENTS_MIN`].
pub const COPIES_FREE_SPACE_MULTIPLE: u64 = 2;
/// Percent of the room for mail that is taken when copies are given up for it; fair shares begin later, since mail comes meanwhile.
pub const COPIES_SHARE_FROM_PERCENT: u64 = 60;
/// How often a shard looks for mail that is past its time, at most: a quarter of the shortest time that any is kept.
pub const EXPIRY_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// See [`EXPIRY_INTERVAL_MAX`].
pub const EXPIRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Entries that are looked at before others of the same core have a turn.
pub const EXPIRY_ENTRIES_A_STEP: usize = 256;
/// Facts of expired mail in one write of the journal, or those of one message.
pub const EXPIRY_FACTS_A_WRITE: usize = 4096;
/// A jump of wall time against monotonic time from which on nothing expires (H5).
pub const CLOCK_JUMP_MAX: Duration = Duration::from_secs(3_600);
/// How long both must agree after a jump before mail expires again.
pub const CLOCK_AGREEMENT: Duration = Duration::from_secs(86_400);
/// How long both must agree after a start before any mail expires, where it is kept for long enough to wait.
pub const CLOCK_START_AGREEMENT_MAX: Duration = Duration::from_secs(3_600);
/// How full the disk is, in percent, when the fair share of a domain begins to count.
pub const FAIR_SHARE_FROM_PERCENT: u64 = 70;
/// Largest quota of a domain, in messages and in octets.
pub const QUOTA_MESSAGES_MAX: u32 = 1_000_000_000;
/// See [`QUOTA_MESSAGES_MAX`].
pub const QUOTA_OCTETS_MAX: u64 = 1 << 50;

/// Connections that the kernel may hold before they are accepted.
pub const LISTEN_BACKLOG: i32 = 1024;
/// How long connecting to a domain's primaries may take, all their addresses together.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an address has before the next one of the same host is tried beside it (RFC 8305 5 and 8).
pub const DIAL_STAGGER: Duration = Duration::from_millis(250);
/// How long a host has before the one behind it is tried beside it.
pub const HOST_STAGGER: Duration = Duration::from_secs(3);
/// How long a host that failed is not asked again on behalf of another domain; less than the first pause of a lane.
pub const HOST_FAILURE_AGE: Duration = Duration::from_secs(10);
/// Hosts that a shard remembers.
pub const HOSTS_MAX: usize = 65_536;
/// How long a primary may take to greet and to answer EHLO. RFC 5321 4.5.3.2.1 gives it 5 minutes; a host that
/// hangs would hold its domain for that long at every try, against P8, and the next try comes by itself.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a primary may take to answer a probe, once it serves us.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long we wait for the answer to QUIT.
pub const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a primary that served us and then ended the session is connected to again.
pub const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// Sessions with primaries that a shard has, or opens, at a time; further domains wait for a place.
pub const SESSIONS_A_SHARD_MAX: usize = 128;
/// The same for domains whose outage may be over. With 10,000 of them on one shard, and a connection that takes
/// [`DIAL_TIMEOUT`], each has its turn in 10,000 * 10 s / 384 = 260 s, which is within `retry_interval`'s 5 minutes (P8, H49);
/// those that accept and say nothing for [`OPEN_TIMEOUT`] take four times as long.
pub const PROBES_A_SHARD_MAX: usize = 384;
/// Descriptors that are kept for logs and the process itself, out of those that it may have; together with
/// [`DELIVERY_DESCRIPTORS_A_SHARD`] half of them at most.
pub const DESCRIPTORS_RESERVED: u64 = 512;
/// Descriptors that are kept for sessions with primaries, some of which connect to two addresses at a time.
pub const DELIVERY_DESCRIPTORS_A_SHARD: u64 =
    2 * (SESSIONS_A_SHARD_MAX + PROBES_A_SHARD_MAX + PROXIED_A_SHARD_MAX) as u64;
/// Addresses of one primary that are tried in turn.
pub const ADDRESSES_A_PRIMARY_MAX: usize = 8;
/// Questions that wait for the lookup thread; further askers wait with theirs.
pub const LOOKUP_QUEUE: usize = 1024;
/// Names whose last answer is kept for the time that name servers are down.
pub const LAST_KNOWN_NAMES_MAX: usize = 20_000;
/// Mail exchangers of a domain that are tried.
pub const EXCHANGERS_MAX: usize = 8;
/// Questions under way at a time.
pub const LOOKUPS_AT_A_TIME: usize = 256;
/// Notes that wait for a shard; who has more waits.
pub const SHARD_INBOX: usize = 4096;
/// How often the files of certificates, and of recipients, are looked at for a change.
pub const FILES_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How long a session that said ETRN waits for the cores that own its domains to count their mail; then it is told
/// that the mail is being queued, without a number.
pub const ETRN_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often sessions are looked at for passed deadlines.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(2);
/// How often the free space is asked for while mail comes in.
pub const FREE_SPACE_INTERVAL: Duration = Duration::from_secs(1);
/// How long sessions and deliveries have to end at a shutdown; then the process leaves without them.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(8);
/// Pause before a failed disk operation of the housekeeping is tried again.
pub const DISK_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Octets of a session's receive buffer while it is idle.
pub const RECEIVE_OCTETS_MIN: usize = 4 * 1024;
/// Octets of a PROXY header, with fields behind its addresses; real ones have 28 to some hundred. Longer: closed.
pub const PROXY_HEADER_OCTETS_MAX: usize = 2048;
/// How long a load balancer may take to send one; it is the first thing that it does.
pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Octets of the peer that a TLS link holds while it is idle.
pub const TLS_INCOMING_OCTETS_MIN: usize = 4 * 1024;
/// The same while much comes in: a whole record (RFC 8446 5.2: 2^14 and 256, and its header).
pub const TLS_INCOMING_OCTETS_MAX: usize = 16 * 1024 + 512;
/// Plain text that becomes one or two records at a time.
pub const TLS_PLAIN_OCTETS_A_WRITE: usize = 16 * 1024;
/// TLS handshakes that a shard has at a time; beyond: `454 4.7.0`, and the mail may come in plain text.
pub const HANDSHAKES_A_SHARD_MAX: u32 = 512;
/// How long the end of a connection may take: what it still has to send.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Errors, or refused recipients, of one session that are answered at once; a list with some dead addresses has fewer.
pub const UNHURT_ERRORS_MAX: u32 = 5;
/// See [`UNHURT_ERRORS_MAX`].
pub const UNHURT_REFUSALS_MAX: u32 = 20;
/// How much later what was received with a further one is answered; looked at by the sweep, so up to [`SWEEP_INTERVAL`] more.
pub const TARPIT_PAUSE: Duration = Duration::from_secs(3);
/// Memory of all receive buffers of a shard. From three quarters of it on new connections get `421 4.3.1` and new mail
/// `452 4.3.1`; at it buffers stay at [`RECEIVE_OCTETS_PRESSED`], and large messages go to the log in smaller chunks.
pub const RECEIVE_OCTETS_A_SHARD: usize = 256 << 20;
/// Mail data that gathers in the receive buffer before it is appended as a chunk record. A message up to this size is one record, copied once.
pub const INLINE_DATA_OCTETS: usize = 256 * 1024;
/// Octets that a receive buffer may grow to: a chunk and what is read behind it.
pub const RECEIVE_OCTETS_MAX: usize = INLINE_DATA_OCTETS + 64 * 1024;
/// A buffer that grew beyond this is given back when its message is done.
pub const RECEIVE_OCTETS_KEPT: usize = 16 * 1024;
/// What a buffer may grow to while memory is short: chunks of that size still keep the list of chunks of the largest
/// default message far below a record.
pub const RECEIVE_OCTETS_PRESSED: usize = 64 * 1024;
/// Octets of the replies of a primary that wait to be parsed.
pub const CLIENT_INPUT_OCTETS: usize = 16 * 1024;
/// Octets of a journal segment.
pub const JOURNAL_SEGMENT_OCTETS: u64 = 4 << 20;
/// Segments of a journal for which room stays free when a segment for mail is made: on a full disk it is them who make room.
pub const JOURNALS_RESERVED: u64 = 4;

/// Journals of a shard, besides the one that it writes, before a checkpoint restates what they say.
pub const OLDER_JOURNALS_MAX: u32 = 4;
/// Shortest pause between two checkpoints.
pub const CHECKPOINT_PAUSE: Duration = Duration::from_secs(1);
/// How often a shard looks for segments that are worth a rewrite, and how long one must have been quiet for that.
pub const COMPACTION_INTERVAL: Duration = Duration::from_secs(60);
/// The same while space is short.
pub const COMPACTION_INTERVAL_PRESSED: Duration = Duration::from_secs(5);
/// Octets a second that a rewrite writes at most, beside mail that comes in.
pub const COMPACTION_OCTETS_A_SECOND: u64 = 32 << 20;
/// Units of a segment that must have ended, in percent, before its index is looked into for a rewrite.
pub const COMPACTION_ENDED_PERCENT: u64 = 25;

/// Most octets of a header section that are kept for signatures; a message with more has no verdict on them. Kept only for
/// mail that is larger than the receive buffer, and for what is being asked about.
pub const HEADER_KEPT_OCTETS_MAX: usize = 64 * 1024;
/// Octets of an MTA-STS policy (RFC 8461 3.3 suggests to take no more); a longer one is none.
pub const MTA_STS_POLICY_OCTETS_MAX: usize = 64 * 1024;
/// How long a policy may say that it is used, in seconds (RFC 8461 3.2).
pub const MTA_STS_MAX_AGE_S: u32 = 31_557_600;
/// How long a web server may take over all of a policy (RFC 8461 3.3 suggests a minute).
pub const MTA_STS_FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a policy that could not be fetched is not tried again (RFC 8461 3.3: five minutes or more).
pub const MTA_STS_FETCH_PAUSE: Duration = Duration::from_secs(300);
/// How old a policy is when it is fetched again though nothing says that there is another (RFC 8461 3.3).
/// One whose `max_age` is less than twice that is fetched at half of it.
pub const MTA_STS_REFRESH_AGE: Duration = Duration::from_secs(86_400);
/// Policies that are fetched again at a time; the others wait.
pub const MTA_STS_REFRESHES_AT_A_TIME: usize = 16;
/// How often policies are looked at for one that is as old.
pub const MTA_STS_REFRESH_INTERVAL: Duration = Duration::from_secs(600);
/// Policies that are kept; further ones are fetched and used, and forgotten.
pub const MTA_STS_POLICIES_MAX: usize = 20_000;
/// Questions about how hosts are to be secured that wait for the lookup thread; further askers wait with theirs.
pub const SECURITY_QUEUE: usize = 1024;
/// Such questions that are worked on at a time; further ones wait.
pub const SECURITY_AT_A_TIME: usize = 256;
/// Policies that are looked for at a time, beside these: each may wait for a web server. Further askers wait; a look whether one that is kept
/// is still the latest is left to the next asker.
pub const MTA_STS_LOOKS_AT_A_TIME: usize = 256;
/// How long all questions about how a domain's hosts are to be secured may take for one connection; beyond it the mail waits. Above
/// [`MTA_STS_FETCH_TIMEOUT`].
pub const SECURITY_TIMEOUT: Duration = Duration::from_secs(75);
/// TLSA records of a host that are looked at; a set with more is used up to there.
pub const TLSA_RECORDS_MAX: usize = 32;
/// Complaints about a domain's hosts that are remembered, so that each is told once; with one more all are told again.
pub const COMPLAINTS_MAX: usize = 32;
/// Questions about the origin of mail that wait for the lookup thread, each with a header section at most; more: the message has no verdict.
pub const AUTHENTICATION_QUEUE: usize = 256;
/// Such questions that are worked on at a time.
pub const AUTHENTICATIONS_AT_A_TIME: usize = 256;
/// Verdicts that wait for a shard; more are dropped.
pub const VERDICT_QUEUE: usize = 1024;
/// Verdicts that go to the journal in one frame, 16 octets each.
pub const VERDICTS_A_WRITE: usize = 1024;
/// Longest wait of a verdict for company on its way to the journal.
pub const VERDICT_PAUSE: Duration = Duration::from_millis(100);
/// All of SPF (RFC 7208 4.6.4: at least 20 s for those who wait; nobody waits for us, and a late answer helps nobody).
pub const SPF_BUDGET: Duration = Duration::from_secs(2);
/// All signatures of a message.
pub const DKIM_BUDGET: Duration = Duration::from_secs(5);
/// The author domain's policy.
pub const DMARC_BUDGET: Duration = Duration::from_secs(5);
/// Terms of SPF that ask DNS (RFC 7208 4.6.4).
pub const SPF_LOOKUPS_MAX: usize = 10;
/// Exchangers, or names of the client, that a term of SPF looks at (RFC 7208 4.6.4).
pub const SPF_NAMES_MAX: usize = 10;
/// Terms of SPF whose answer is empty (RFC 7208 4.6.4).
pub const SPF_VOID_LOOKUPS_MAX: usize = 2;

/// Questions of the admin thread that wait for a shard; then the admin thread waits, and the request is answered 503.
pub const OPERATOR_QUEUE: usize = 16;
/// Domains that a shard is asked about at a time.
pub const OPERATOR_DOMAINS_A_REQUEST: usize = 256;
/// Messages of a page.
pub const OPERATOR_PAGE_MAX: usize = 100;
/// Lanes, or entries, that a shard looks at for the operator before others have a turn.
pub const OPERATOR_STEP: usize = 64;
/// Messages that a search for a queue id looks at before others have a turn.
pub const OPERATOR_FIND_STEP: usize = 512;
/// Longest search for a queue id; longer: the request is answered 503.
pub const OPERATOR_FIND_TIMEOUT: Duration = Duration::from_secs(20);
/// Kept records that one request looks for, or queues once more.
pub const OPERATOR_COPIES_A_REQUEST: usize = 256;
/// As many of these are on their way to the disk: what a repeated command queues twice behind a crash. P4's bound.
pub const OPERATOR_REPLAYS_OUTSTANDING: usize = 16;
const _: () = assert!(OPERATOR_REPLAYS_OUTSTANDING as u64 <= OUTSTANDING_MAX as u64);
/// How long an owner remembers what was queued once more when its keepers know: pages from before are on their way for two requests.
pub const OPERATOR_REPLAYED_AGE: Duration = Duration::from_secs(2 * ADMIN_REQUEST_TIMEOUT.as_secs());
/// Units that it remembers for that long; further ones drive out the oldest, and pages from before they were known are refused.
pub const OPERATOR_REPLAYED_UNITS_MAX: usize = 1 << 18;
/// Messages that one request does something to; a further request goes on behind them.
pub const OPERATOR_MESSAGES_A_REQUEST: usize = 1024;
/// Longest maintenance that an operator may order: mail that waits longer than its retention expires.
pub const MAINTENANCE_MAX: Duration = Duration::from_secs(30 * 86_400);
/// How long a lane under an order sleeps before it looks at the wall clock again, which may have been set.
pub const ORDER_LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Hosts of a redirect.
pub const REDIRECT_HOSTS_MAX: usize = 8;
/// Octets of who orders something, and of why.
pub const ORDER_TEXT_OCTETS_MAX: usize = 255;
/// A test message from the first connection to the last reply; longer: it is not taken. Less than a request may take.
pub const TRIAL_TIMEOUT: Duration = Duration::from_secs(25);
/// Exports of a shard at a time, and as many searches, and test messages; further ones are refused.
pub const OPERATOR_EXPORTS_MAX: u32 = 4;
/// Longest time of an export in a shard: a client that reads too slowly loses it.
pub const OPERATOR_EXPORT_TIMEOUT: Duration = Duration::from_secs(300);
/// Parts of an export that wait for its client.
pub const OPERATOR_EXPORT_PARTS: usize = 2;

/// How long a message may wait for what SPF and DKIM say of it before its reverse-path counts as unproven.
pub const AUTHENTICATION_WAIT: Duration = Duration::from_secs(60);

/// Settlements of one domain that may be on their way to the journal: what a crash may repeat (P4).
pub const OUTSTANDING_MAX: u32 = 16;
/// Most connections that a configuration may allow to one domain's primary at a time.
pub const DOMAIN_CONNECTIONS_MAX: u32 = 50;
/// Of [`SESSIONS_A_SHARD_MAX`] so many are for a lane's first connection: no lane opens another one while fewer are free, and who
/// has more than one gives one back when somebody waits.
pub const FIRST_SESSIONS_A_SHARD: usize = SESSIONS_A_SHARD_MAX / 2;
/// Messages of a domain that are taken from its queue and cannot go yet: others before them are for the same recipients, or these
/// had their share. More: the rest waits in the queue, also what could go.
pub const READ_AHEAD_MAX: usize = 1024;
/// So many are read before a connection looks again at what it has in flight.
pub const READ_AHEAD_STEP: usize = 8;
/// Octets of them in memory. More: what does not fit is read again when it can go.
pub const READ_AHEAD_OCTETS: usize = 1024 * 1024;
/// Recipients of them that are counted by their rate. More: as with [`READ_AHEAD_MAX`].
pub const READ_AHEAD_KEYS_MAX: usize = 16 * 1024;
/// Recipients of a domain whose rate is remembered. More: the busy half of them is.
pub const PACED_RECIPIENTS_MAX: usize = 8192;
/// A recipient whom the primary put off for his rate is sent nothing for so long.
pub const PACED_RECIPIENT_PAUSE: Duration = Duration::from_secs(60);
/// So long a lane opens no further connection when the primary had too much of it.
pub const PACE_PAUSE: Duration = Duration::from_secs(15);
/// The same when the primary refused a further one.
pub const PACE_REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// Transactions in flight on one connection to a primary; what a lost connection leaves unknown is among
/// [`OUTSTANDING_MAX`]. Further ones wait in the queue.
pub const WINDOW_MAX: usize = OUTSTANDING_MAX as usize;
/// Up to here the window doubles each round trip; beyond it grows by one.
pub const WINDOW_DOUBLING_MAX: usize = 12;
/// Octets that gather for one connection to a primary before nothing more is added. A message, or a chunk of a large
/// one, is added whole, so together with one message whose data is not due yet and one that is next it is four records at most.
pub const REPLAY_OCTETS: usize = 256 * 1024;
/// How long a host that does not keep in step with a refused chunk is sent none: it is mended, or replaced, now and then.
pub const DISTRUSTED_AGE: Duration = Duration::from_secs(86_400);
/// Settlements that gather for one write of the journal, while as many may be on their way: a block of the journal serves several messages.
pub const SETTLEMENTS_A_WRITE: usize = 8;
/// Longest wait of a settlement for company.
pub const SETTLEMENT_PAUSE: Duration = Duration::from_millis(20);
/// First pause before a primary that is down is tried again; doubles up to `retry_interval`.
pub const PROBE_INTERVAL_MIN: Duration = Duration::from_secs(15);
/// How long a served session of a host makes a 421 to another one pacing rather than an outage.
pub const PACED_AGE: Duration = Duration::from_secs(60);
/// Recipients that a probe of a lane asks for, at most.
pub const PROBED_RECIPIENTS_MAX: usize = 3;
/// How long after an outage a refusal of a recipient that was good before is not believed.
pub const GUARD_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Names of recipients that the bounce guard of a lane keeps, taken and refused each; with more it counts no further ones.
pub const GUARD_NAMES_MAX: usize = 64;
/// Longest pause before a deferred message is tried again.
pub const DEFERRED_GAP_MAX: Duration = Duration::from_secs(4 * 3600);
/// First pause before a deferred message is tried again, or `retry_interval` if that is shorter.
pub const DEFERRED_GAP_MIN: Duration = Duration::from_secs(300);
/// Messages to distinct recipients deferred in a row that make a primary impaired.
pub const IMPAIRED_RUN: usize = 3;
/// Recipients of a damaged record that the log names.
pub const DAMAGED_RECIPIENTS_SHOWN: usize = 20;
/// Longest sleep while the frontier holds a lane back.
pub const FRONTIER_PAUSE_MAX: Duration = Duration::from_millis(100);

// A frame of facts, 16 octets each, is far below a batch of the journal, also with those of one message more.
const _: () = assert!((EXPIRY_FACTS_A_WRITE + RECIPIENTS_MAX as usize) * 16 <= 1 << 18);
const _: () = assert!(TRIAL_TIMEOUT.as_secs() < ADMIN_REQUEST_TIMEOUT.as_secs());
// Nobody waits beyond the time of RFC 5321 4.5.3.2: MAIL and RCPT 5 minutes, the end of data 10.
const _: () =
    assert!(PROXY_RCPT_TIMEOUT.as_secs() * 2 + CALLOUT_TIMEOUT.as_secs() < CLIENT_COMMAND_TIMEOUT.as_secs());
const _: () = assert!(
    PROXY_DATA_TIMEOUT.as_secs() * 2 + PROXY_END_TIMEOUT.as_secs() < CLIENT_DATA_END_TIMEOUT.as_secs()
);
// A sender waits for a callout, and for the place that it needs, far less than RFC 5321 lets him.
const _: () = assert!(CALLOUT_TIMEOUT.as_secs() * 2 < CLIENT_COMMAND_TIMEOUT.as_secs());
const _: () = assert!(SETTLEMENTS_A_WRITE as u64 * 2 <= OUTSTANDING_MAX as u64);
const _: () = assert!(WINDOW_DOUBLING_MAX > 1 && WINDOW_DOUBLING_MAX < WINDOW_MAX);
const _: () = assert!(RECEIVE_OCTETS_MAX > INLINE_DATA_OCTETS + COMMAND_LINE_OCTETS_MAX);
// The largest record, envelope, trace field and data, fits a batch of the log.
const _: () = assert!(ENVELOPE_OCTETS_MAX + RECEIVE_OCTETS_MAX + 64 * 1024 <= 1 << 20);
const _: () = assert!(COMMAND_LINE_OCTETS_MAX >= 512 + PATH_OCTETS_MAX + ENVID_OCTETS_MAX + ORCPT_OCTETS_MAX);
const _: () = assert!(LOCAL_PART_OCTETS_MAX >= 64 && DOMAIN_OCTETS_MAX >= 255);
const _: () = assert!(REPLY_LINE_SENT_OCTETS_MAX <= REPLY_LINE_OCTETS_MAX && RECEIVED_FIELDS_MAX >= 100);
const _: () = assert!(RECIPIENTS_MAX >= RECIPIENTS_MIN);
const _: () = assert!(RECIPIENTS_MAX as usize * (PATH_OCTETS_MAX + 64) <= ENVELOPE_OCTETS_MAX);
const _: () = assert!(SERVER_COMMAND_TIMEOUT.as_secs() >= 300);
const _: () = assert!(CLIENT_DATA_END_TIMEOUT.as_secs() >= 600);
const _: () = assert!(PROXY_HEADER_OCTETS_MAX < RECEIVE_OCTETS_MIN);
const _: () = assert!(
    RECEIVE_OCTETS_PRESSED > 4 * COMMAND_LINE_OCTETS_MAX && RECEIVE_OCTETS_PRESSED < INLINE_DATA_OCTETS
);
const _: () = assert!(DATA_PACE_WINDOW.as_secs() > SERVER_COMMAND_TIMEOUT.as_secs());
const _: () = assert!(SEGMENT_OCTETS_MIN.is_multiple_of(SEGMENT_OCTETS_MULTIPLE));
const _: () = assert!(SEGMENT_OCTETS_MAX.is_multiple_of(SEGMENT_OCTETS_MULTIPLE));
const _: () = assert!(ENVELOPE_OCTETS_MAX as u64 * 4 <= SEGMENT_OCTETS_MIN);
