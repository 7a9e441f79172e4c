//! Integration tests: one binary, many modules.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "tests use the machine as it is"
)]

#[path = "integration/admin/mod.rs"]
mod admin;
#[path = "integration/architecture/mod.rs"]
mod architecture;
#[path = "integration/authentication.rs"]
mod authentication;
#[path = "integration/bounces.rs"]
mod bounces;
#[path = "integration/certificates.rs"]
mod certificates;
#[path = "integration/check.rs"]
mod check;
#[path = "conversations.rs"]
mod conversations;
#[path = "integration/damage.rs"]
mod damage;
#[path = "integration/differential/mod.rs"]
mod differential;
#[path = "integration/edge.rs"]
mod edge;
#[path = "integration/extensions.rs"]
mod extensions;
#[path = "fuzz/mod.rs"]
mod fuzz;
#[path = "integration/harness/mod.rs"]
mod harness;
#[path = "integration/interop/mod.rs"]
mod interop;
#[path = "integration/outage/mod.rs"]
mod outage;
#[path = "integration/published.rs"]
mod published;
#[path = "integration/recipients.rs"]
mod recipients;
#[path = "integration/replies.rs"]
mod replies;
#[path = "integration/retention.rs"]
mod retention;
#[path = "integration/serve.rs"]
mod serve;
