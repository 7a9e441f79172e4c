//! Which messages: the options that `dump` and `export` share.

use clap::Args;
use clap::builder::PossibleValuesParser;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use storage::inspect::Filter;
use stratamx::config::unit::parse_duration;
use stratamx_tools::clock::unix_us;

const STATES: [&str; 10] =
    ["queued", "held", "delivered", "bounced", "discarded", "expired", "deleted", "damaged", "void", "moved"];

/// All that is given must agree; domain, recipient and state with one and the same recipient.
#[derive(Args, Default)]
pub(crate) struct Selection {
    /// Only messages with a recipient in this domain
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Only messages for this mailbox
    #[arg(long, value_name = "MAILBOX")]
    recipient: Option<String>,
    /// Only the records of this message
    #[arg(long, value_name = "ID")]
    queue_id: Option<String>,
    /// Only messages of which a recipient is in this state
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(STATES))]
    state: Option<String>,
    /// Only what was received since then: RFC 3339 (2026-01-31T12:00:00Z), a date (UTC), or so long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,
    /// Only what was received before then, as --since
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,
}

impl Selection {
    pub(crate) fn filter(self) -> Filter {
        Filter {
            domain: self.domain,
            recipient: self.recipient.map(|mailbox| mailbox.trim_matches(['<', '>']).to_owned()),
            queue_id: self.queue_id,
            state: self.state,
            since_ms: self.since,
            until_ms: self.until,
        }
    }
}

/// A point in time, in milliseconds since 1970.
fn moment(text: &str) -> Result<u64, String> {
    moment_at(text, unix_us() / 1000)
}

fn moment_at(text: &str, now_ms: u64) -> Result<u64, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(now_ms.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)));
    }
    let date = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    let time = text.parse::<Timestamp>().ok().or_else(|| date().map(|date| date.timestamp()));
    let time = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
    time.ok_or_else(|| "neither a time as 2026-01-31T12:00:00Z, nor a date, nor a duration as 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_a_date_or_so_long_ago() {
        let now = 1_767_225_600_000;
        let table = [
            ("2h", Some(now - 7_200_000)),
            ("2026-01-01T00:00:00Z", Some(now)),
            ("2026-01-01T02:00:00.500+02:00", Some(now + 500)),
            ("2026-01-01", Some(now)),
            ("2026-01-01T00:00:01", Some(now + 1000)),
            ("1960-01-01T00:00:00Z", None),
            ("yesterday", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(moment_at(text, now).ok(), expected, "{text}");
        }
    }
}
