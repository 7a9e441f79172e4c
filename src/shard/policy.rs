//! Whether a recipient of a protected domain is known there: a pure function of what the process knows.
//!
//! Postmaster is, whatever a list says (RFC 5321 4.5.1). `user+detail` is where `user` is. What a list does not have is
//! refused for good (`550 5.1.1`): whoever keeps a list answers for it.
//!
//! By `learn` and `verify` the primary judges, as long as there is no outage: whoever it accepted is known, whoever it refused is
//! not; `verify` asks about all others, `learn` takes them. In an outage known is who was accepted, and unknown who was
//! refused twice a day apart (H26); about all others the domain has decided beforehand (`unknown_during_outage`).

use crate::bridge::{DomainRecipients, Instants, Snapshot, folded, without_detail};
use crate::config::{Domain, Recipients, UnknownDuringOutage, canonical_domain};
use crate::limits::{CALLOUT_ACCEPTED_AGE, CALLOUT_REFUSED_AGE, RECIPIENT_ACCEPTED_AGE};
use crate::smtp::path::ForwardPath;
use crate::smtp::reply::{Reply, UNKNOWN_RECIPIENT_550, UNVERIFIED_RECIPIENT_450};

/// What is known about a recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It is taken.
    Known,
    /// It is not, and this is said.
    Refused(Reply),
    /// The primary is to be asked.
    Asked,
}

/// The standing of a recipient whom the verdict accepts.
#[must_use]
pub(super) fn standing(candidate: ForwardPath<'_>, snapshot: &Snapshot, at: Instants) -> Standing {
    let ForwardPath::Mailbox(mailbox) = candidate else { return Standing::Known };
    let name = canonical_domain(mailbox.domain()).unwrap_or_default();
    // Postmaster at our own name is in no protected domain.
    let (Some(domain), Some(known)) = (snapshot.domain(&name), snapshot.recipients_of(&name)) else {
        return Standing::Known;
    };
    let local_part = folded(mailbox.local_part());
    if local_part == "postmaster" {
        return Standing::Known;
    }
    judge(&local_part, domain, known, at)
}

/// Of whom nothing is known, while the primary cannot be asked.
#[must_use]
pub(super) fn unknown(domain: &Domain) -> Standing {
    match domain.recipients.unknown_during_outage {
        UnknownDuringOutage::Accept => Standing::Known,
        UnknownDuringOutage::Defer => Standing::Refused(UNVERIFIED_RECIPIENT_450),
        UnknownDuringOutage::Reject => Standing::Refused(UNKNOWN_RECIPIENT_550),
    }
}

fn judge(local_part: &str, domain: &Domain, known: &DomainRecipients, at: Instants) -> Standing {
    let policy = &domain.recipients;
    let user = without_detail(local_part, policy.subaddress_delimiter);
    match policy.recipients {
        Recipients::Any => Standing::Known,
        Recipients::List => {
            let list = known.list();
            // A list that was read has somebody on it. An empty one is none: the configuration is just changing.
            let is_listed =
                list.is_empty() || list.contains(local_part) || user.is_some_and(|user| list.contains(user));
            if is_listed { Standing::Known } else { Standing::Refused(UNKNOWN_RECIPIENT_550) }
        }
        // Neither what it accepted nor what it refused means anything.
        Recipients::Learn | Recipients::Verify if known.accepts_all(at.now) == Some(true) => Standing::Known,
        Recipients::Learn if !known.is_outage() => {
            let is_unknown = known.is_learned_refused(local_part, at);
            if is_unknown { Standing::Refused(UNKNOWN_RECIPIENT_550) } else { Standing::Known }
        }
        Recipients::Verify if known.can_be_asked(at.now) => {
            if known.was_refused_when_asked(local_part, at, CALLOUT_REFUSED_AGE) {
                Standing::Refused(UNKNOWN_RECIPIENT_550)
            } else if known.is_accepted(local_part, policy.subaddress_delimiter, at, CALLOUT_ACCEPTED_AGE) {
                Standing::Known
            } else {
                Standing::Asked
            }
        }
        Recipients::Learn | Recipients::Verify => {
            if known.is_learned_refused(local_part, at) {
                Standing::Refused(UNKNOWN_RECIPIENT_550)
            } else if known.is_accepted(local_part, policy.subaddress_delimiter, at, RECIPIENT_ACCEPTED_AGE) {
                Standing::Known
            } else {
                unknown(domain)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{RecipientListBuilder, Source};
    use crate::config::Config;
    use core::time::Duration;
    use std::path::PathBuf;
    use std::sync::Arc;

    fn is_known(path: &str, snapshot: &Snapshot) -> bool {
        let (candidate, _) = ForwardPath::parse(path).expect("a path");
        standing(candidate, snapshot, at(1_000_000)) == Standing::Known
    }

    fn at(wall_s: u32) -> Instants {
        Instants { wall_s, now: Duration::from_secs(wall_s.into()) }
    }

    /// What is said about `good`, whom the primary accepted, `bad`, refused twice, `once`, refused once, and `new`. The
    /// refusals were answers to callouts.
    fn said(policy: Recipients, unknown: UnknownDuringOutage, outage: bool, age_s: u32) -> [String; 4] {
        let mut config = Config::embedded();
        config.domains[0].recipients.recipients = policy;
        config.domains[0].recipients.unknown_during_outage = unknown;
        let snapshot = Snapshot::new(config, Arc::default());
        let known = snapshot.recipients_of("example.test").expect("a protected domain");
        known.accept("good", Some('+'), Source::Delivery, at(1_000_000));
        known.refuse("bad", Source::Callout, at(1_000_000));
        known.refuse("bad", Source::Callout, at(1_086_400));
        known.refuse("once", Source::Callout, at(1_086_400));
        known.set_outage(outage);
        ["good+x", "bad", "once", "new"].map(|name| {
            let path = format!("<{name}@example.test>");
            let (candidate, _) = ForwardPath::parse(&path).expect("a path");
            match standing(candidate, &snapshot, at(1_086_400 + age_s)) {
                Standing::Known => "known".to_owned(),
                Standing::Asked => "asked".to_owned(),
                Standing::Refused(reply) => reply.code().to_string(),
            }
        })
    }

    #[test]
    fn h26_a_primary_judges_while_it_is_up_and_what_it_said_counts_while_it_is_down() {
        use Recipients::{Learn, Verify};
        use UnknownDuringOutage::{Accept, Defer, Reject};
        for (policy, unknown, outage, age_s, expected) in [
            (Learn, Reject, false, 0, ["known", "550", "known", "known"]),
            (Learn, Reject, true, 0, ["known", "550", "550", "550"]),
            (Learn, Accept, true, 0, ["known", "550", "known", "known"]),
            (Verify, Reject, false, 0, ["known", "550", "550", "asked"]),
            (Verify, Reject, false, 4 * 3600, ["known", "asked", "asked", "asked"]),
            (Verify, Defer, true, 0, ["known", "550", "450", "450"]),
            (Verify, Accept, true, 0, ["known", "550", "known", "known"]),
            // Months later the refusals are forgotten, then whom it accepted too.
            (Verify, Defer, true, 100 * 86_400, ["known", "450", "450", "450"]),
            (Learn, Defer, true, 200 * 86_400, ["450", "450", "450", "450"]),
            (Learn, Defer, false, 200 * 86_400, ["known", "known", "known", "known"]),
        ] {
            assert_eq!(said(policy, unknown, outage, age_s), expected, "{policy} {unknown} {outage} {age_s}");
        }
    }

    /// Whom the primary blocks cannot have a recipient refused for others: a delivery names its sender.
    #[test]
    fn what_a_delivery_was_refused_is_asked_about_by_verify() {
        let mut config = Config::embedded();
        config.domains[0].recipients.recipients = Recipients::Verify;
        let snapshot = Snapshot::new(config, Arc::default());
        let known = snapshot.recipients_of("example.test").expect("a protected domain");
        known.anybody_accepted(at(1_000_000));
        let standing = || {
            let (candidate, _) = ForwardPath::parse("<boss@example.test>").expect("a path");
            standing(candidate, &snapshot, at(1_000_000))
        };
        known.refuse("boss", Source::Delivery, at(1_000_000));
        assert_eq!(standing(), Standing::Asked);
        known.refuse("boss", Source::Callout, at(1_000_000));
        assert_eq!(standing(), Standing::Refused(UNKNOWN_RECIPIENT_550));
    }

    #[test]
    fn a_list_decides_and_postmaster_is_on_every_list() {
        let mut config = Config::embedded();
        let policy = &mut config.domains[0].recipients;
        policy.recipients = Recipients::List;
        policy.list = Some(PathBuf::from("list"));
        let snapshot = Snapshot::new(config, Arc::default());
        let mut list = RecipientListBuilder::default();
        for name in ["user", "a+b", "jürgen"] {
            list.add(&format!("{name}@example.test"), "example.test").expect("it fits");
        }
        let known = snapshot.recipients_of("example.test").expect("a protected domain");
        known.use_list(Arc::new(list.finish()));
        for path in [
            "<user@example.test>",
            "<USER@Example.Test>",
            "<\"user\"@example.test>",
            "<User+detail@example.test>",
            "<user+a+b@example.test>",
            "<a+b@example.test>",
            "<JU\u{308}RGEN@example.test>",
            "<PostMaster@example.test>",
            "<postmaster>",
        ] {
            assert!(is_known(path, &snapshot), "{path}");
        }
        for path in ["<users@example.test>", "<a@example.test>", "<a+c@example.test>", "<+user@example.test>"]
        {
            assert!(!is_known(path, &snapshot), "{path}");
        }
        known.use_list(Arc::default());
        assert!(is_known("<users@example.test>", &snapshot), "no list is there");
        let mut config = snapshot.config.clone();
        config.domains[0].recipients.recipients = Recipients::Any;
        assert!(is_known("<users@example.test>", &Snapshot::new(config, Arc::default())));
    }
}
