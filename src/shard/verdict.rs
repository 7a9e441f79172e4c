//! What is decided about senders and recipients: pure functions of the snapshot and the state of the shard.
//!
//! A recipient is taken if its domain is protected; `<postmaster>` and postmaster at our own name go to the
//! configured postmaster (RFC 5321 4.5.1, H27). A sender is refused while the disk is short of space, before
//! anything is sent in vain.

use crate::bridge::Snapshot;
use crate::smtp::path::{ForwardPath, Mailbox};
use crate::smtp::reply::{INSUFFICIENT_STORAGE_452, NOT_PROTECTED_550, Reply};
use crate::smtp::server::RecipientVerdict;

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
pub(super) fn recipient<'a>(candidate: ForwardPath<'_>, snapshot: &'a Snapshot) -> RecipientVerdict<'a> {
    let mailbox = match candidate {
        ForwardPath::Postmaster => return RecipientVerdict::AcceptAs(&snapshot.config.postmaster),
        ForwardPath::Mailbox(mailbox) => mailbox,
    };
    if is_our_postmaster(&mailbox, snapshot) {
        return RecipientVerdict::AcceptAs(&snapshot.config.postmaster);
    }
    match snapshot.domain(&mailbox.domain().to_ascii_lowercase()) {
        Some(_) => RecipientVerdict::Accept,
        None => RecipientVerdict::Refuse(NOT_PROTECTED_550),
    }
}

fn is_our_postmaster(mailbox: &Mailbox<'_>, snapshot: &Snapshot) -> bool {
    let protected = snapshot.domain(&mailbox.domain().to_ascii_lowercase()).is_some();
    !protected
        && mailbox.local_part().eq_ignore_ascii_case("postmaster")
        && mailbox.domain().eq_ignore_ascii_case(&snapshot.config.hostname)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn verdict(path: &str) -> String {
        let snapshot = Snapshot::new(Config::embedded());
        let (candidate, _) = ForwardPath::parse(path).expect("a path");
        format!("{:?}", recipient(candidate, &snapshot))
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
    fn never_an_open_relay() {
        assert_eq!(verdict("<a@EXAMPLE.test>"), "Accept");
        for path in ["<a@example.org>", "<a@sub.example.test>", "<a@[127.0.0.1]>", "<postmaster@example.org>"]
        {
            assert!(verdict(path).starts_with("Refuse"), "{path}");
        }
    }

    #[test]
    fn a_short_disk_refuses_before_the_data() {
        let snapshot = Snapshot::new(Config::embedded());
        let bound = snapshot.config.storage.min_free_space_bytes;
        assert!(sender(bound, &snapshot).is_ok());
        assert_eq!(sender(bound - 1, &snapshot), Err(INSUFFICIENT_STORAGE_452));
    }
}
