//! A session's end of its connection to a primary, and what passes between both: the other end is a task (`replay::proxied`) that lives
//! as long as the session, or as the primary owes a reply.

use crate::limits::{PROXIED_A_DOMAIN_MAX, PROXIED_A_SHARD_MAX};
use crate::smtp::Moment;
use crate::smtp::client::TrueClient;
use crate::smtp::dsn::{Notify, Ret};
use crate::smtp::reply::ReceivedReply;
use async_channel::{Receiver, Sender};
use core::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use storage::position::Stamp;

/// Connections that carry mail through, of a shard.
#[derive(Debug)]
pub(in crate::shard) struct Proxying {
    wanted: Sender<Wanted>,
    asked: Receiver<Wanted>,
    places_taken: Places,
}

/// A connection that a session wants.
#[derive(Debug)]
pub(in crate::shard) struct Wanted {
    /// A protected domain.
    pub(in crate::shard) domain: Arc<str>,
    /// Whom the primary is to take us for.
    pub(in crate::shard) client: TrueClient,
    /// What the session wants said. Closed: the session has ended, or wants no more.
    pub(in crate::shard) commands: Receiver<Command>,
    _place: Place,
}

/// By domain.
type Places = Rc<RefCell<HashMap<Arc<str>, usize>>>;

/// Given back when it is dropped.
#[derive(Debug)]
struct Place {
    places: Places,
    domain: Arc<str>,
}

/// What is to be said; each but the last two is answered.
#[derive(Debug)]
pub(in crate::shard) enum Command {
    /// MAIL.
    Sender(OwnedSender, Moment, Sender<Answer>),
    /// RCPT.
    Recipient(OwnedRecipient, Moment, Sender<Answer>),
    /// Mail data, as it is stored; DATA goes before the first of it.
    Data(Vec<u8>, Moment, Sender<Answer>),
    /// The end of the data.
    End(Moment, Sender<Answer>),
    /// The message whose end was answered by `Late` is ours now.
    Ours(Stamp),
    /// The transaction is given up.
    Forget,
}

/// What MAIL said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::shard) struct OwnedSender {
    pub(in crate::shard) reverse_path: String,
    pub(in crate::shard) declared_octets: Option<u64>,
    pub(in crate::shard) has_8bit: bool,
    pub(in crate::shard) smtputf8: bool,
    pub(in crate::shard) ret: Option<Ret>,
    pub(in crate::shard) envid: String,
}

/// What RCPT said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::shard) struct OwnedRecipient {
    pub(in crate::shard) mailbox: String,
    pub(in crate::shard) notify: Notify,
    pub(in crate::shard) orcpt: String,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Answer {
    /// No connection, or none any more.
    Gone,
    /// No reply in time.
    Late,
    /// The primary's.
    Reply(ReceivedReply),
    /// Nothing was said, since it cannot be said there, or too many wait there: nothing is wrong with the primary.
    Unfit,
    /// Data went.
    Written,
}

/// See the module.
#[derive(Debug)]
pub(in crate::shard) struct Upstream {
    pub(in crate::shard) domain: Arc<str>,
    pub(in crate::shard) client: TrueClient,
    commands: Sender<Command>,
}

impl Default for Proxying {
    fn default() -> Self {
        let (wanted, asked) = async_channel::bounded(PROXIED_A_SHARD_MAX);
        Self { wanted, asked, places_taken: Rc::default() }
    }
}

impl Proxying {
    /// What the next session wants.
    pub(in crate::shard) async fn next(&self) -> Option<Wanted> {
        self.asked.recv().await.ok()
    }

    /// A session's end of a new connection, if there is a place for one. It is made when something is to be said.
    pub(in crate::shard) fn open(&self, domain: &str, client: TrueClient) -> Option<Upstream> {
        let domain: Arc<str> = domain.into();
        let mut places = self.places_taken.borrow_mut();
        let taken = places.get(&domain).copied().unwrap_or(0);
        if taken >= PROXIED_A_DOMAIN_MAX || places.values().sum::<usize>() >= PROXIED_A_SHARD_MAX {
            return None;
        }
        places.insert(Arc::clone(&domain), taken + 1);
        drop(places);
        let place = Place { places: Rc::clone(&self.places_taken), domain: Arc::clone(&domain) };
        let (commands, received) = async_channel::bounded(2);
        let wanted =
            Wanted { domain: Arc::clone(&domain), client: client.clone(), commands: received, _place: place };
        // There is room for as many as there are places.
        self.wanted.try_send(wanted).ok()?;
        Some(Upstream { domain, client, commands })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.borrow_mut();
        let taken = places.get_mut(&self.domain).expect("this one is counted");
        *taken -= 1;
        if *taken == 0 {
            places.remove(&self.domain);
        }
    }
}

impl Upstream {
    /// Has something said, and waits for what comes of it.
    pub(in crate::shard) async fn ask(&self, command: impl FnOnce(Sender<Answer>) -> Command) -> Answer {
        let (answer, answered) = async_channel::bounded(1);
        if self.commands.send(command(answer)).await.is_err() {
            return Answer::Gone;
        }
        answered.recv().await.unwrap_or(Answer::Gone)
    }

    /// The transaction is given up. If the other end is busy it sees so by the end of the channel.
    pub(in crate::shard) fn forget(&self) -> bool {
        self.commands.try_send(Command::Forget).is_ok()
    }

    /// The message is ours, and the primary owes an answer.
    pub(in crate::shard) fn is_ours(&self, stamp: Stamp) {
        let _ = self.commands.try_send(Command::Ours(stamp));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    #[test]
    fn p7_places_have_a_bound_and_come_back() {
        let proxying = Proxying::default();
        let client = || TrueClient::new(IpAddr::from([192, 0, 2, 1]), "c", true).expect("it can be named");
        let domains = PROXIED_A_SHARD_MAX / PROXIED_A_DOMAIN_MAX;
        for number in 0..domains {
            let name = format!("{number}.test");
            let open: Vec<_> = core::iter::from_fn(|| proxying.open(&name, client())).collect();
            assert_eq!(open.len(), PROXIED_A_DOMAIN_MAX, "one domain leaves room for others");
        }
        assert!(proxying.open("more.test", client()).is_none());
        drop(proxying.asked.try_recv());
        assert!(proxying.open("more.test", client()).is_some(), "a task has ended");
        assert!(proxying.open("0.test", client()).is_none());
    }
}
