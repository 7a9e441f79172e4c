//! Whether a recipient of a protected domain is known there: a pure function of what the process knows.
//!
//! Postmaster is, whatever a list says (RFC 5321 4.5.1). `user+detail` is where `user` is. What a list does not have is
//! refused for good (`550 5.1.1`): whoever keeps a list answers for it.

use crate::bridge::{DomainRecipients, Snapshot, folded, without_detail};
use crate::config::{Domain, Recipients, canonical_domain};
use crate::smtp::path::ForwardPath;
use crate::smtp::reply::{Reply, UNKNOWN_RECIPIENT_550};

/// What is known about a recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It is taken.
    Known,
    /// It is not, and this is said.
    Refused(Reply),
}

/// The standing of a recipient whom the verdict accepts.
#[must_use]
pub(super) fn standing(candidate: ForwardPath<'_>, snapshot: &Snapshot) -> Standing {
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
    judge(&local_part, domain, known)
}

fn judge(local_part: &str, domain: &Domain, known: &DomainRecipients) -> Standing {
    let policy = &domain.recipients;
    let user = without_detail(local_part, policy.subaddress_delimiter);
    match policy.recipients {
        Recipients::Any => Standing::Known,
        Recipients::List => {
            let list = known.list();
            let is_listed = list.contains(local_part) || user.is_some_and(|user| list.contains(user));
            if is_listed { Standing::Known } else { Standing::Refused(UNKNOWN_RECIPIENT_550) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::RecipientListBuilder;
    use crate::config::Config;
    use std::path::PathBuf;
    use std::sync::Arc;

    fn is_known(path: &str, snapshot: &Snapshot) -> bool {
        let (candidate, _) = ForwardPath::parse(path).expect("a path");
        standing(candidate, snapshot) == Standing::Known
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
        let mut config = snapshot.config.clone();
        config.domains[0].recipients.recipients = Recipients::Any;
        assert!(is_known("<users@example.test>", &Snapshot::new(config, Arc::default())));
    }
}
