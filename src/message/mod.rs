//! Messages as octets: what is read from and written into them. Pure functions over borrowed bytes.
//!
//! Promise: whatever a message holds, nothing here panics or takes more than one pass, and nothing that a
//! sender wrote can break a field that we write. Nothing here knows SMTP, files or clocks: time comes in as
//! seconds since 1970.

pub mod authentication;
pub mod authentication_results;
pub mod dsn;
pub mod mta_sts;
pub mod received;
pub mod tls;
