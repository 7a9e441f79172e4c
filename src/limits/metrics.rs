//! What is shown to whoever measures the server, and who may ask without a token.

use super::ADMIN_CONNECTIONS_MAX;

/// Domains that have series of their own at `/metrics`, some thirty each: the first of the configuration, then those that only have mail.
/// Further ones are added up under `domain=""`.
pub const METRICS_DOMAINS_MAX: usize = 1_000;
/// Domains that a shard measures before others have a turn.
pub const METRICS_STEP: usize = 1024;
/// Connections to the admin API, of [`ADMIN_CONNECTIONS_MAX`], that have brought no good token. With one more the oldest of them is
/// closed, so that whoever has none, as a probe of `/healthz`, keeps nobody out who has one.
pub const ADMIN_STRANGERS_MAX: usize = 32;
const _: () = assert!(ADMIN_STRANGERS_MAX * 2 <= ADMIN_CONNECTIONS_MAX);
