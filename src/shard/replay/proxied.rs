//! The other end of a session's connection to a primary (`proxy`): connects, names the client, says what the session wants said.
//!
//! It ends with the session. A transaction that is given up before its data is forgotten by the next one's RSET; in the middle of its data
//! the connection is closed without the end, so the primary cannot have the message. A connection that the primary closed between two
//! messages is made anew. When a reply to the end of data is late the message becomes ours, and the connection keeps its 10 minutes (H21).

use super::connect::Way;
use super::delivery::{Delivery, NoReply};
use super::late::late;
use crate::limits::{PROXY_END_TIMEOUT, UPSTREAM_OUTCOME_TIMEOUT};
use crate::shard::link::{Dialer, Spawn};
use crate::shard::state::Shard;
use crate::shard::upstream::{Answer, Command, OwnedRecipient, OwnedSender, Wanted};
use crate::smtp::Moment;
use crate::smtp::client::{CarriedSender, Window};
use crate::smtp::dsn::{MailDsn, RcptDsn};
use crate::smtp::reply::ReceivedReply;
use futures_lite::future::or;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// Serves what sessions want, until the shard ends.
pub(in crate::shard) async fn carry<D: Disk, C: Clock, N: Dialer, S: Spawn>(
    shard: Rc<Shard<D, C>>,
    dialer: N,
    spawn: S,
) {
    while let Some(wanted) = shard.proxying.next().await {
        let carrier = Carrier {
            shard: Rc::clone(&shard),
            dialer: dialer.clone(),
            wanted,
            delivery: None,
            phase: Phase::Idle,
        };
        spawn.spawn(carrier.run());
    }
}

/// Where a transaction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    Envelope,
    Data,
}

struct Carrier<D: Disk, C: Clock, N: Dialer> {
    shard: Rc<Shard<D, C>>,
    dialer: N,
    wanted: Wanted,
    delivery: Option<Delivery<N::Link, C, D>>,
    phase: Phase,
}

impl<D: Disk, C: Clock, N: Dialer> Carrier<D, C, N> {
    async fn run(mut self) {
        while let Ok(command) = self.wanted.commands.recv().await {
            let (said, answer) = match command {
                Command::Sender(sender, until, answer) => (self.sender(&sender, until).await, answer),
                Command::Recipient(recipient, until, answer) => {
                    (self.recipient(&recipient, until).await, answer)
                }
                Command::Data(octets, until, answer) => (self.data(&octets, until).await, answer),
                Command::End(until, answer) => (self.end(until).await, answer),
                Command::Forget => {
                    self.forget();
                    continue;
                }
                // Its end was answered.
                Command::Ours(_) => continue,
            };
            let is_late = said == Answer::Late && self.delivery.is_some();
            // The session may have ended.
            let _ = answer.try_send(said);
            if is_late {
                return self.hear_late().await;
            }
        }
        if let Some(delivery) = self.delivery {
            delivery.close().await;
        }
    }

    async fn sender(&mut self, sender: &OwnedSender, until: Moment) -> Answer {
        let was_used = self.delivery.is_some();
        let answer = self.say_sender(sender, until).await;
        // Between two messages a primary may have closed.
        if answer == Answer::Gone && was_used { self.say_sender(sender, until).await } else { answer }
    }

    async fn say_sender(&mut self, sender: &OwnedSender, until: Moment) -> Answer {
        if self.delivery.is_none() {
            self.delivery = self.connect(until).await;
        }
        let Some(delivery) = &mut self.delivery else { return Answer::Gone };
        if sender.smtputf8 && !delivery.offers_smtputf8() {
            return Answer::Gone;
        }
        let carried = CarriedSender {
            reverse_path: &sender.reverse_path,
            declared_octets: sender.declared_octets,
            has_8bit: sender.has_8bit,
            smtputf8: sender.smtputf8,
            dsn: MailDsn { ret: sender.ret, envid: &sender.envid },
        };
        let reply = delivery.carry(&carried, until).await;
        self.phase = Phase::Envelope;
        self.answer(reply)
    }

    async fn recipient(&mut self, recipient: &OwnedRecipient, until: Moment) -> Answer {
        let Some(delivery) = &mut self.delivery else { return Answer::Gone };
        let dsn = RcptDsn { notify: recipient.notify, orcpt: &recipient.orcpt };
        let reply = delivery.carry_recipient(&recipient.mailbox, &dsn, until).await;
        self.answer(reply)
    }

    async fn data(&mut self, octets: &[u8], until: Moment) -> Answer {
        let Some(delivery) = &mut self.delivery else { return Answer::Gone };
        if self.phase == Phase::Envelope {
            match delivery.carry_data(until).await {
                Ok(reply) if reply.code == 354 => self.phase = Phase::Data,
                refusal => {
                    self.phase = Phase::Idle;
                    return self.answer(refusal);
                }
            }
        }
        match delivery.carry_octets(octets, until).await {
            Ok(()) => Answer::Written,
            Err(_) => self.cut(),
        }
    }

    async fn end(&mut self, until: Moment) -> Answer {
        let Some(delivery) = &mut self.delivery else { return Answer::Gone };
        if delivery.carry_end(until).await.is_err() {
            return self.cut();
        }
        let patience = self.shard.clock.now() + PROXY_END_TIMEOUT;
        match delivery.carried_reply(patience).await {
            Ok(reply) => {
                self.phase = Phase::Idle;
                Answer::Reply(reply)
            }
            Err(NoReply::Late) => Answer::Late,
            Err(NoReply::Gone) => self.cut(),
        }
    }

    /// A reply, or the end of the connection: before the end of data nobody waits for a late one.
    fn answer(&mut self, reply: Result<ReceivedReply, NoReply>) -> Answer {
        match reply {
            Ok(reply) => Answer::Reply(reply),
            Err(_) => self.cut(),
        }
    }

    fn cut(&mut self) -> Answer {
        (self.delivery, self.phase) = (None, Phase::Idle);
        Answer::Gone
    }

    fn forget(&mut self) {
        match (self.phase, &mut self.delivery) {
            (Phase::Envelope, Some(delivery)) => delivery.carry_no_further(),
            (Phase::Data, _) => self.delivery = None,
            _ => {}
        }
        self.phase = Phase::Idle;
    }

    /// The reply to the end of the data, for a message that is ours meanwhile.
    async fn hear_late(mut self) {
        let Some(delivery) = &mut self.delivery else { return };
        let until = self.shard.clock.now() + UPSTREAM_OUTCOME_TIMEOUT;
        let reply = delivery.carried_reply(until).await;
        let host = delivery.host();
        let mut ours = None;
        // The session says so when the message is durable, and ends the channel.
        while let Ok(command) = self.wanted.commands.recv().await {
            if let Command::Ours(stamp) = command {
                ours = Some(stamp);
            }
        }
        let Some(stamp) = ours else { return };
        tracing::info!(
            domain = %self.wanted.domain, %host, reply = reply.as_ref().ok().map(ToString::to_string),
            "the primary's late answer to a message that was taken meanwhile"
        );
        late(&self.shard, &self.wanted.domain, stamp, reply.ok()).await;
    }

    async fn connect(&self, until: Moment) -> Option<Delivery<N::Link, C, D>> {
        let snapshot = Arc::clone(&self.shard.snapshot.borrow());
        let domain = snapshot.domain(&self.wanted.domain)?;
        let (shard, dialer) = (&*self.shard, &self.dialer);
        let way = Way { shard, dialer, domain, lane: None, insists: false, window: Window::cautious() };
        let now = self.shard.clock.now();
        let connecting = async { way.connect().await.ok() };
        let timeout = async {
            self.shard.clock.sleep(until.saturating_sub(now)).await;
            None
        };
        let mut delivery = or(connecting, timeout).await?;
        if delivery.speak_for(&self.wanted.client, until).await {
            return Some(delivery);
        }
        let usage = snapshot.usage_of(&self.wanted.domain);
        if !delivery.offers_xclient() {
            usage.passage.set_trusted(false);
        }
        delivery.close().await;
        None
    }
}
