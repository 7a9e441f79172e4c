//! Bounds of what makes senders come here and trust us: certificates of authorities (RFC 8555), and domains' records.

use core::time::Duration;

/// Names of one certificate.
pub const ACME_NAMES_MAX: usize = 100;
/// Octets of an authority's answer: chains of certificates are the longest.
pub const ACME_ANSWER_OCTETS_MAX: usize = 1 << 20;
/// Longest wait for one answer.
pub const ACME_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest order, from the account to the certificate.
pub const ACME_ORDER_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest wait for an authority's verdict on our names, and then for the certificate.
pub const ACME_VERDICT_TIMEOUT: Duration = Duration::from_secs(180);
/// Between two looks at whether a certificate is due.
pub const ACME_LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// From one that failed to the next: Let's Encrypt allows five failures of a name an hour.
pub const ACME_PAUSE_FIRST: Duration = Duration::from_secs(15 * 60);
/// It doubles up to this.
pub const ACME_PAUSE_MAX: Duration = Duration::from_secs(6 * 3600);
/// Connections that ask whether a name is ours.
pub const ACME_VISITORS_MAX: usize = 32;
/// Longest such connection.
pub const ACME_VISIT_TIMEOUT: Duration = Duration::from_secs(10);
/// An alert tells of a certificate so long before its end.
pub const CERTIFICATE_WARNING: Duration = Duration::from_secs(14 * 24 * 3600);
/// From here on it is urgent.
pub const CERTIFICATE_CRITICAL: Duration = Duration::from_secs(3 * 24 * 3600);
/// Each domain's records are looked at so often.
pub const DRIFT_LOOK_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// Between two looks, however many domains there are.
pub const DRIFT_PAUSE_MIN: Duration = Duration::from_secs(1);
/// However few there are.
pub const DRIFT_PAUSE_MAX: Duration = Duration::from_secs(15 * 60);
/// Longest look.
pub const DRIFT_LOOK_TIMEOUT: Duration = Duration::from_secs(90);
/// Longest handshake of the admin API.
pub const ADMIN_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
