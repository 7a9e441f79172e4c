//! The control plane: its database, and what comes through the admin API.

use core::time::Duration;

/// Connections to the admin API at a time; further ones wait to be taken.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// From a connection to the admin API, or the end of its last request, to the end of a request's header.
pub const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest life of a connection to the admin API, however slowly its client reads.
pub const ADMIN_CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
/// Work on one request to the admin API, its body included; longer: 503. A message that is exported goes on after that.
pub const ADMIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Octets of a request's body; more: 413.
pub const ADMIN_BODY_OCTETS_MAX: usize = 64 * 1024;
/// Octets of a request's header section; more: 431.
pub const ADMIN_HEADER_OCTETS_MAX: usize = 16 * 1024;
/// Octets of a file with a token, and of a token that a request brings.
pub const ADMIN_TOKEN_OCTETS_MAX: usize = 1024;
/// Characters of a token at least: one that is made has more.
pub const ADMIN_TOKEN_CHARACTERS_MIN: usize = 20;
/// Longest wait of the operator's command for an answer.
pub const ADMIN_CLIENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Octets of an answer that the operator's command takes; an export is written as it comes.
pub const ADMIN_ANSWER_OCTETS_MAX: usize = 64 << 20;
/// Protected domains that the API may add to those of the configuration. More: 409.
pub const DOMAINS_PROVISIONED_MAX: usize = 10_000;
/// Work that waits for the database's thread. More: 503, at once.
pub const STORE_QUEUE: usize = 64;
/// How long the database's thread waits for a lock that another program holds. Longer: 503; mail never waits for it.
pub const STORE_LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Tokens that are in force. More: 409.
pub const TOKENS_MAX: usize = 1024;
/// Longest name of a token, or text of an entry, in octets. Longer: 400.
pub const TOKEN_NAME_OCTETS_MAX: usize = 64;
/// Recipients of one domain that are imported. More: 413.
pub const RECIPIENTS_PROVISIONED_MAX: usize = 1_000_000;
/// Largest import of recipients in octets. More: 413.
pub const ADMIN_IMPORT_OCTETS_MAX: usize = 32 << 20;
/// Imports at a time: each is in memory once. More: 503.
pub const ADMIN_IMPORTS_MAX: usize = 1;
/// Octets of a request's body that the audit log keeps; of a longer one it keeps the length.
pub const AUDIT_BODY_OCTETS_MAX: usize = 4096;
/// How long the audit log goes back.
pub const AUDIT_AGE: Duration = Duration::from_secs(400 * 86_400);
/// Entries of the audit log. More: the oldest go.
pub const AUDIT_ENTRIES_MAX: u64 = 1_000_000;
/// Looks at mail that are kept beside these; of further ones the oldest go.
pub const AUDIT_LOOKS_MAX: u64 = 100_000;
/// How long the answer to a request with an `Idempotency-Key` is kept.
pub const IDEMPOTENCY_AGE: Duration = Duration::from_secs(86_400);
/// Answers that are kept so. More: the oldest go.
pub const IDEMPOTENCY_ANSWERS_MAX: u64 = 10_000;
/// Longest `Idempotency-Key` in octets. Longer: 400.
pub const IDEMPOTENCY_KEY_OCTETS_MAX: usize = 255;
/// Largest answer that is kept, in octets; a larger one is not made twice alike.
pub const IDEMPOTENCY_ANSWER_OCTETS_MAX: usize = 64 * 1024;
/// Entries of a page of what the database keeps.
pub const STORE_PAGE_MAX: usize = 1000;
const _: () = assert!(STORE_LOCK_PATIENCE.as_secs() < ADMIN_REQUEST_TIMEOUT.as_secs());

/// Between two looks at all domains for outages and alerts.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// How long the shards are waited for; longer is a condition itself.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(20);
/// Samples that an outage keeps for its plots; one more, and every second one goes.
pub const OUTAGE_SAMPLES_MAX: usize = 240;
/// Characters that are kept of what a server said.
pub const OUTAGE_REASON_CHARACTERS_MAX: usize = 300;
/// Outages that one look writes, of those that go on; the others have their turn at the next.
pub const OUTAGES_KEPT_A_LOOK: usize = 32;
/// Events that one transaction keeps.
pub const EVENTS_KEPT_A_LOOK: usize = 200;
/// Events that wait for the database; more: the oldest go, and the log has them.
pub const EVENTS_UNKEPT_MAX: usize = 20_000;
/// Events that are kept. More: the oldest go.
pub const EVENTS_MAX: u64 = 200_000;
/// Between two writes of an outage that goes on: what its plot may miss behind a crash.
pub const OUTAGE_KEPT_INTERVAL: Duration = Duration::from_secs(600);
/// From the end of an outage to the look at its traces: what ended last is told there by then.
pub const OUTAGE_PROVED_AFTER: Duration = Duration::from_secs(10);
/// Outages that wait for that after a start.
pub const OUTAGES_UNPROVED_MAX: usize = 100;
/// Messages of an outage that its hash is made over; with more of them nothing is proved.
pub const OUTAGE_MESSAGES_PROVED_MAX: usize = 2_000_000;
/// Between two turns of a shard at reading traces for that.
pub const OUTAGE_PROOF_PAUSE: Duration = Duration::from_millis(20);
/// How long outages and events are kept.
pub const EVENT_AGE: Duration = Duration::from_secs(400 * 86_400);
/// Mail that expires sooner is told.
pub const EXPIRY_WARNING: Duration = Duration::from_secs(3 * 86_400);
/// Held mail whose end is nearer than these is told, each time a degree louder.
pub const HELD_EXPIRY_MARKS: [Duration; 3] =
    [Duration::from_secs(86_400), Duration::from_secs(3 * 86_400), Duration::from_secs(7 * 86_400)];
/// A disk that is full sooner than this is told, whatever fills it.
pub const SPOOL_FORECAST: Duration = Duration::from_secs(86_400);
/// Marks of the room for mail that is used.
pub const SPOOL_WARNING_PERCENT: u64 = 50;
/// See [`SPOOL_WARNING_PERCENT`].
pub const SPOOL_CRITICAL_PERCENT: u64 = 80;
/// See [`SPOOL_WARNING_PERCENT`].
pub const SPOOL_FULL_PERCENT: u64 = 95;
/// Longest time that an operator may want to wait before he is told that a mail server is down.
pub const ALERT_AFTER_MAX: Duration = Duration::from_secs(86_400);
/// How long a condition is gone before it is over.
pub const ALERT_OVER_AFTER: Duration = Duration::from_secs(60);
/// How often one is told again that nobody acknowledged.
pub const ALERT_REPEAT: Duration = Duration::from_secs(6 * 3600);
/// How often one may open in [`ALERT_CALM`]; more: it is flapping.
pub const ALERT_FLAPS: usize = 3;
/// See [`ALERT_FLAPS`].
pub const ALERT_CALM: Duration = Duration::from_secs(3600);
/// What is to be told is gathered for so long, so that what happens together is one message.
pub const ALERT_DIGEST: Duration = Duration::from_secs(10);
/// Lines of one message; more are counted.
pub const ALERT_LINES_MAX: usize = 50;
/// Longest look at one thing about a domain that is examined.
pub const DOCTOR_LOOKUP_TIMEOUT: Duration = Duration::from_secs(8);
/// Hosts of a domain's MX records that are looked at when it is examined.
pub const DOCTOR_HOSTS_MAX: usize = 16;
/// Contacts that are told. More: 409.
pub const CONTACTS_MAX: usize = 256;
/// Lines that wait for a contact. More: the oldest go, and the log says so.
pub const OUTBOX_MAX: u64 = 2_000;
/// Messages that are sent at a time.
pub const OUTBOX_SENT_MAX: usize = 16;
/// How often a line is tried: for about three days.
pub const OUTBOX_TRIES_MAX: u32 = 80;
/// One try of a sink.
pub const SINK_TIMEOUT: Duration = Duration::from_secs(25);
/// Octets of an answer of a sink that are looked at.
pub const SINK_ANSWER_OCTETS_MAX: usize = 16 * 1024;
/// Characters of a short message: three parts of GSM 03.38.
pub const SMS_CHARACTERS_MAX: usize = 459;
const _: () = assert!(WATCH_TIMEOUT.as_secs() < ALERT_OVER_AFTER.as_secs());
