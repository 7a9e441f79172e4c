//! Who a primary is, and what is known of how much it takes: a table. Pure.
//!
//! | primary | known by | connections | a recipient | 5xx that mean later |
//! |---|---|---|---|---|
//! | Microsoft 365 | a host below outlook.com or mx.microsoft | 10 | 900 at once, 2,700 an hour | 5.2.121, 5.2.122 |
//! | Exchange | "Microsoft ESMTP MAIL Service", elsewhere | 10 | - | 5.2.121, 5.2.122 |
//! | Google | a host below google.com or googlemail.com | 10 | 12 at once, 48 a minute | - |
//! | cPanel, Exim | "Exim" in the banner | 5 | - | - |
//! | Postfix | "Postfix" in the banner | 20 | - | - |
//! | other | | 10 | - | - |
//!
//! - *Connections* bound `max_connections` from above. Exchange refuses a source's 21st (MaxInboundConnectionPerSource), or one
//!   beyond 2 % of all, with 421 4.3.2; Postfix the 51st (smtpd_client_connection_count_limit), of all that are behind one address.
//! - *A recipient*: Microsoft 365 takes 3,600 an hour for a mailbox and says 554 5.2.122 beyond, 5.2.121 where a third of that
//!   comes from one sender; Google takes 60 a minute and 3,600 an hour and says 450 4.2.1. In any hour 900 + 2,700, in any minute
//!   12 + 48, of ours.
//! - The name by which the host was found counts before what it says: relays in front of it say what they like.

use crate::shard::backlog::Rate;
use crate::smtp::reply::{EnhancedCode, ReceivedReply};
use core::time::Duration;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Profile {
    Exchange,
    Exim,
    Google,
    Microsoft365,
    Other,
    Postfix,
}

/// What a primary shows of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    /// The name by which it was found; none: by its address.
    pub(super) host: Option<&'a str>,
    /// The text of its greeting, its own name first.
    pub(super) greeting: &'a str,
}

impl Profile {
    /// Who it is.
    pub(super) fn of(shown: Shown<'_>) -> Self {
        let own = shown.greeting.split_ascii_whitespace().next().unwrap_or_default();
        for name in shown.host.into_iter().chain([own]) {
            if is_below(name, &["outlook.com", "mx.microsoft"]) {
                return Self::Microsoft365;
            }
            if is_below(name, &["google.com", "googlemail.com"]) {
                return Self::Google;
            }
        }
        let says = |word| shown.greeting.contains(word);
        match () {
            () if says("Microsoft ESMTP MAIL Service") => Self::Exchange,
            () if says("Exim") => Self::Exim,
            () if says("Postfix") => Self::Postfix,
            () => Self::Other,
        }
    }

    /// Most connections at a time.
    pub(super) const fn connections_max(self) -> usize {
        match self {
            Self::Exim => 5,
            Self::Exchange | Self::Google | Self::Microsoft365 | Self::Other => 10,
            Self::Postfix => 20,
        }
    }

    /// Whether its hosts are thousands behind a few names, each with a name of its own.
    pub(super) const fn is_of_many(self) -> bool {
        matches!(self, Self::Google | Self::Microsoft365)
    }

    /// What a recipient may be sent.
    pub(super) const fn rate(self) -> Option<Rate> {
        match self {
            Self::Google => Some(Rate { burst: 12, interval: Duration::from_millis(1250) }),
            Self::Microsoft365 => Some(Rate { burst: 900, interval: Duration::from_nanos(1_333_333_334) }),
            Self::Exchange | Self::Exim | Self::Other | Self::Postfix => None,
        }
    }

    /// A 5xx of its that is over in time: a unit is put off by it, and never ends.
    pub(super) fn means_later(self, reply: &ReceivedReply) -> bool {
        let codes: &[(u16, u16)] = match self {
            Self::Exchange | Self::Microsoft365 => &[(2, 121), (2, 122)],
            Self::Exim | Self::Google | Self::Other | Self::Postfix => &[],
        };
        let Some(EnhancedCode { class: 5, subject, detail }) = reply.enhanced else { return false };
        codes.contains(&(subject, detail))
    }
}

/// A recipient is over his rate: 450 4.2.1 of Google, and what 5.2.12x are of Microsoft.
pub(super) fn is_over_rate(reply: &ReceivedReply) -> bool {
    let Some(EnhancedCode { subject: 2, detail, .. }) = reply.enhanced else { return false };
    matches!((reply.code / 100, detail), (4, 1) | (4 | 5, 121 | 122))
}

/// A reply to a whole transaction that says that we are too much for it: security and policy (4.7.x; but greylisting, which
/// says 4.7.1 to each sender and recipient once), its system (4.3.2), too many of us (4.4.2, 4.5.x are its own matter).
pub(super) fn is_too_much(reply: &ReceivedReply) -> bool {
    let Some(code) = reply.enhanced else { return reply.code == 421 };
    match (code.class, code.subject, code.detail) {
        (4, 7, 1) => reply.code == 421,
        (4, 7, _) | (4, 3, 2) => true,
        _ => reply.code == 421,
    }
}

fn is_below(name: &str, zones: &[&str]) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    zones
        .iter()
        .any(|zone| name.strip_suffix(zone).is_some_and(|before| before.is_empty() || before.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_is_known_by_where_it_is_and_by_what_it_says() {
        let exchange =
            "mail.example.com Microsoft ESMTP MAIL Service ready at Sat, 22 Nov 2025 16:00:00 +0000";
        for (host, greeting, expected) in [
            (Some("example-com.mail.protection.outlook.com"), exchange, Profile::Microsoft365),
            (Some("example-com.o-v1.mx.microsoft."), exchange, Profile::Microsoft365),
            (
                None,
                "AM1PEPF0001.mail.protection.outlook.com Microsoft ESMTP MAIL Service ready",
                Profile::Microsoft365,
            ),
            (Some("mail.example.com"), exchange, Profile::Exchange),
            (Some("ASPMX.L.GOOGLE.com"), "relay.example.com ESMTP Postfix", Profile::Google),
            (None, "mx.google.com ESMTP a640c23a62f3a-b76 - gsmtp", Profile::Google),
            (Some("notgoogle.com"), "notoutlook.com ESMTP ready", Profile::Other),
            (Some("cp1.example.net"), "cp1.example.net ESMTP Exim 4.98 #2 Sat, 22 Nov 2025", Profile::Exim),
            (None, "mx.example.org ESMTP Postfix (Debian)", Profile::Postfix),
            (None, "", Profile::Other),
        ] {
            assert_eq!(Profile::of(Shown { host, greeting }), expected, "{host:?} {greeting}");
        }
    }

    #[test]
    fn rates_stay_within_what_providers_take() {
        let google = Profile::Google.rate().expect("one");
        assert!(google.most_within(Duration::from_secs(60)) <= 60);
        assert!(google.most_within(Duration::from_secs(3600)) <= 3600);
        let microsoft = Profile::Microsoft365.rate().expect("one");
        assert!(microsoft.most_within(Duration::from_secs(3600)) <= 3600);
    }

    #[test]
    fn codes_that_say_5xx_and_mean_later_are_those_of_their_provider() {
        for line in [
            "554 5.2.122 The recipient has exceeded their limit for the number of messages",
            "554 5.2.121 RESOLVER.ADR.RecipientLimit; recipient thread limit exceeded by one sender",
        ] {
            assert!(
                Profile::Microsoft365.means_later(&ReceivedReply::of_line(line))
                    && Profile::Exchange.means_later(&ReceivedReply::of_line(line))
            );
            assert!(
                !Profile::Google.means_later(&ReceivedReply::of_line(line))
                    && !Profile::Other.means_later(&ReceivedReply::of_line(line))
            );
            assert!(is_over_rate(&ReceivedReply::of_line(line)));
        }
        assert!(
            !Profile::Microsoft365
                .means_later(&ReceivedReply::of_line("550 5.1.10 RESOLVER.ADR.RecipientNotFound"))
        );
        assert!(!Profile::Microsoft365.means_later(&ReceivedReply::of_line("554 no code")));
        assert!(is_over_rate(&ReceivedReply::of_line(
            "450 4.2.1 The user you are trying to contact is receiving mail at a rate"
        )));
        assert!(
            !is_over_rate(&ReceivedReply::of_line("452 4.2.2 mailbox full"))
                && !is_over_rate(&ReceivedReply::of_line("550 5.2.1 disabled"))
        );
    }

    #[test]
    fn what_is_too_much_is_about_us_and_not_about_one_message() {
        for (line, expected) in [
            ("421 4.7.28 Our system has detected an unusual rate of unsolicited mail", true),
            ("451 4.7.500 Server busy. Please try again later", true),
            ("432 4.3.2 STOREDRV; recipient thread limit exceeded", true),
            ("421 4.3.2 Service not active", true),
            ("421 4.4.2 Message submission rate for this client has exceeded the configured limit", true),
            ("421 too many", true),
            ("450 4.7.1 Greylisted", false),
            ("452 4.3.1 Insufficient system resources", false),
            ("450 4.2.1 rate of this mailbox", false),
            ("451 later", false),
        ] {
            assert_eq!(is_too_much(&ReceivedReply::of_line(line)), expected, "{line}");
        }
    }

    #[test]
    fn the_table_of_the_module_is_what_is_known() {
        let page = include_str!("profile.rs");
        let rows = page.lines().filter_map(|line| line.strip_prefix("//! | "));
        let numbers: Vec<usize> = rows.filter_map(|row| row.split('|').nth(2)?.trim().parse().ok()).collect();
        let all = [
            Profile::Microsoft365,
            Profile::Exchange,
            Profile::Google,
            Profile::Exim,
            Profile::Postfix,
            Profile::Other,
        ];
        assert_eq!(numbers, all.map(Profile::connections_max));
    }
}
