//! What is decided about senders and recipients: pure functions of the snapshot and the state of the shard.
//!
//! A recipient is taken if its domain is protected; `<postmaster>` and postmaster at our own name go to the
//! configured postmaster (RFC 5321 4.5.1, H27). A sender is refused while the disk is short of space, before
//! anything is sent in vain; a recipient, while its domain has reached its quota, or has more than its fair share of a
//! disk that is getting full (P7). U-labels and A-labels name the same domain (RFC 6531 3.2, RFC 5890); mail is stored
//! under its A-labels, so that it has one lane and one quota.

use crate::bridge::Snapshot;
use crate::config::{Quota, canonical_domain};
use crate::limits::FAIR_SHARE_FROM_PERCENT;
use crate::smtp::path::{ForwardPath, Mailbox};
use crate::smtp::reply::{CONFIGURATION_ERROR_451, INSUFFICIENT_STORAGE_452, NOT_PROTECTED_550, Reply};
use crate::smtp::server::RecipientVerdict;
use std::borrow::Cow;

/// The verdict about MAIL.
///
/// # Errors
/// `452 4.3.1` with less than `min_free_space`.
pub(super) fn sender(free_octets: u64, snapshot: &Snapshot) -> Result<(), Reply> {
    if free_octets < snapshot.config.storage.min_free_space_bytes {
        return Err(INSUFFICIENT_STORAGE_452);
    }
    Ok(())
}

/// The verdict about RCPT.
#[must_use]
pub(super) fn recipient<'a>(
    candidate: ForwardPath<'_>,
    free_octets: u64,
    snapshot: &'a Snapshot,
) -> RecipientVerdict<'a> {
    let (verdict, name) = match candidate {
        ForwardPath::Postmaster => to_postmaster(snapshot),
        ForwardPath::Mailbox(mailbox) => {
            let Some(name) = canonical_domain(mailbox.domain()) else {
                return RecipientVerdict::Refuse(NOT_PROTECTED_550);
            };
            if is_our_postmaster(&mailbox, &name, snapshot) {
                to_postmaster(snapshot)
            } else if mailbox.domain().is_ascii() {
                (RecipientVerdict::Accept, name.into_owned())
            } else {
                let mailbox = format!("{}@{name}", mailbox.local_part());
                (RecipientVerdict::AcceptAs(Cow::Owned(mailbox)), name.into_owned())
            }
        }
    };
    let Some(domain) = snapshot.domain(&name) else {
        // RFC 5321 4.5.1: postmaster is never unknown; his address is missing, and the operator can mend that.
        let is_postmaster = name == postmaster_domain(snapshot);
        return RecipientVerdict::Refuse(if is_postmaster {
            CONFIGURATION_ERROR_451
        } else {
            NOT_PROTECTED_550
        });
    };
    let usage = snapshot.usage_of(&name);
    let room = Room {
        messages: usage.messages(),
        octets: usage.octets(),
        all_octets: snapshot.usage.octets(),
        domains: snapshot.usage.domains(),
        writable_octets: free_octets.saturating_sub(snapshot.config.storage.min_free_space_bytes),
    };
    if room.is_left(domain.quota) { verdict } else { RecipientVerdict::Refuse(INSUFFICIENT_STORAGE_452) }
}

/// The configuration has it in lower case, at a protected domain as soon as there is any.
fn to_postmaster(snapshot: &Snapshot) -> (RecipientVerdict<'_>, String) {
    let postmaster = &*snapshot.config.postmaster;
    (RecipientVerdict::AcceptAs(Cow::Borrowed(postmaster)), postmaster_domain(snapshot).to_owned())
}

fn postmaster_domain(snapshot: &Snapshot) -> &str {
    snapshot.config.postmaster.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// What a domain has stored beside all others. Senders that come at once see the same, so a quota may be passed by as
/// many messages as are on their way.
#[derive(Clone, Copy, Debug, Default)]
struct Room {
    /// Of the domain.
    messages: u64,
    /// Of the domain.
    octets: u64,
    /// Of all domains.
    all_octets: u64,
    /// Domains that have something stored.
    domains: u64,
    /// What the disk takes before `min_free_space` is reached.
    writable_octets: u64,
}

impl Room {
    /// Whether the domain may have more.
    fn is_left(&self, quota: Quota) -> bool {
        let within = |used: u64, most: u64| most == 0 || used < most;
        within(self.messages, quota.messages.into())
            && within(self.octets, quota.octets)
            && !(self.is_getting_full() && self.octets > self.fair_share())
    }

    const fn capacity(&self) -> u64 {
        self.all_octets.saturating_add(self.writable_octets)
    }

    fn is_getting_full(&self) -> bool {
        u128::from(self.all_octets) * 100 > u128::from(self.capacity()) * u128::from(FAIR_SHARE_FROM_PERCENT)
    }

    /// Who has nothing stored takes nobody's room and does not count.
    fn fair_share(&self) -> u64 {
        self.capacity() / self.domains.max(1)
    }
}

fn is_our_postmaster(mailbox: &Mailbox<'_>, domain: &str, snapshot: &Snapshot) -> bool {
    snapshot.domain(domain).is_none()
        && mailbox.local_part().eq_ignore_ascii_case("postmaster")
        && domain == snapshot.config.hostname
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::sync::Arc;

    fn snapshot() -> Snapshot {
        Snapshot::new(Config::embedded(), Arc::default())
    }

    fn verdict(path: &str) -> String {
        verdict_of(path, u64::MAX, &snapshot())
    }

    fn verdict_of(path: &str, free_octets: u64, snapshot: &Snapshot) -> String {
        let (candidate, _) = ForwardPath::parse(path).expect("a path");
        format!("{:?}", recipient(candidate, free_octets, snapshot))
    }

    #[test]
    fn p7_who_has_more_than_his_share_of_a_full_disk_waits_first() {
        const MIB: u64 = 1 << 20;
        let none = Quota::default();
        let quota = |messages, octets| Quota { messages, octets };
        // Messages and octets of the domain, octets of all, domains, room on the disk, quota: is there room?
        for (messages, octets, all_octets, domains, writable_octets, quota, expected) in [
            (0, 0, 0, 0, 0, none, true),
            (9, 9, 9, 1, MIB, quota(10, 0), true),
            (10, 9, 9, 1, MIB, quota(10, 0), false),
            (10, 9, 9, 1, MIB, quota(0, 10), true),
            (10, 10, 10, 1, MIB, quota(0, 10), false),
            // 70 of 100 is not above 70 percent, 71 is: the share of two is 50.
            (1, 60, 70, 2, 30, none, true),
            (1, 60, 71, 2, 29, none, false),
            (1, 50, 71, 2, 29, none, true),
            (1, 11, 71, 2, 29, none, true),
            // Alone he may fill it; the sender's verdict ends that.
            (1, 99, 99, 1, 1, none, true),
            // Of ten each has a tenth.
            (1, 11, 80, 10, 20, none, false),
            (1, 10, 80, 10, 20, none, true),
            (1, 0, 80, 10, 20, none, true),
            (1, u64::MAX / 2, u64::MAX, 3, u64::MAX, none, false),
        ] {
            let room = Room { messages, octets, all_octets, domains, writable_octets };
            assert_eq!(room.is_left(quota), expected, "{room:?} {quota:?}");
        }
    }

    #[test]
    fn p7_a_quota_is_told_by_452_also_to_the_postmaster() {
        let mut config = Config::embedded();
        config.domains[0].quota.messages = 1;
        let snapshot = Snapshot::new(config, Arc::default());
        for path in ["<a@example.test>", "<postmaster>"] {
            assert!(verdict_of(path, u64::MAX, &snapshot).starts_with("Accept"), "{path}");
        }
        snapshot.usage_of("example.test").raise(1);
        for path in ["<a@example.test>", "<postmaster>"] {
            assert!(verdict_of(path, u64::MAX, &snapshot).contains("452"), "{path}");
        }
        // Another configuration, the same counts.
        let reloaded = Snapshot::new(Config::embedded(), Arc::clone(&snapshot.usage));
        assert!(verdict_of("<a@example.test>", u64::MAX, &reloaded).starts_with("Accept"));
        assert_eq!(reloaded.usage_of("example.test").messages(), 1);
    }

    #[test]
    fn h27_every_postmaster_has_a_destination() {
        let hostname = Config::embedded().hostname;
        for path in ["<postmaster>".to_owned(), "<PostMaster>".to_owned(), format!("<postmaster@{hostname}>")]
        {
            assert!(verdict(&path).contains("AcceptAs(\"postmaster@example.test\")"), "{path}");
        }
    }

    #[test]
    fn u_labels_and_a_labels_are_one_domain_that_is_stored_as_a_labels() {
        let mut config = Config::embedded();
        config.domains[0].name = "xn--bcher-kva.example".to_owned();
        let snapshot = Snapshot::new(config, Arc::default());
        let verdict = |path: &str| verdict_of(path, u64::MAX, &snapshot);
        for path in ["<a@XN--bcher-kva.example>", "<ü@xn--bcher-kva.EXAMPLE>"] {
            assert_eq!(verdict(path), "Accept", "{path}");
        }
        for domain in ["bücher.example", "BÜCHER.example", "bu\u{308}cher.example", "bücher。example"] {
            assert_eq!(
                verdict(&format!("<Ü.a@{domain}>")),
                "AcceptAs(\"Ü.a@xn--bcher-kva.example\")",
                "{domain}"
            );
        }
        for path in [
            "<a@bucher.example>",
            "<a@xn--bcher.example>",
            "<a@b\u{200b}\u{fffd}.example>",
            "<a@bücher..example>",
        ] {
            let Ok((candidate, _)) = ForwardPath::parse(path) else { continue };
            assert!(
                matches!(recipient(candidate, u64::MAX, &snapshot), RecipientVerdict::Refuse(_)),
                "{path}"
            );
        }
    }

    #[test]
    fn never_an_open_relay() {
        assert_eq!(verdict("<a@EXAMPLE.test>"), "Accept");
        for path in ["<a@example.org>", "<a@sub.example.test>", "<a@[127.0.0.1]>", "<postmaster@example.org>"]
        {
            assert!(verdict(path).starts_with("Refuse"), "{path}");
        }
    }

    #[test]
    fn a_short_disk_refuses_before_the_data() {
        let snapshot = snapshot();
        let bound = snapshot.config.storage.min_free_space_bytes;
        assert!(sender(bound, &snapshot).is_ok());
        assert_eq!(sender(bound - 1, &snapshot), Err(INSUFFICIENT_STORAGE_452));
    }
}
