//! The other end of a session's connection to a primary (`proxy`): connects, names the client, says what the session wants said.
//!
//! It ends with the session. A transaction that is given up before its data is forgotten by the next one's RSET; in the middle of its data
//! the connection is closed without the end, so the primary cannot have the message. A connection that the primary closed between two
//! messages is made anew. When a reply to the end of data is late the message becomes ours, and the connection keeps its 10 minutes (H21).

use super::acquaint;
use super::connect::Way;
use super::delivery::{Delivery, Naming, NoReply};
use super::late::late;
use crate::bridge::{EndSent, Snapshot};
use crate::limits::{PROXY_END_TIMEOUT, PROXY_IDLE_TIMEOUT, UPSTREAM_OUTCOME_TIMEOUT};
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
        let (shard, dialer) = (Rc::clone(&shard), dialer.clone());
        let carrier = Carrier { shard, dialer, wanted, open: None, phase: Phase::Idle, accepted: 0 };
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
    open: Option<Opened<N::Link, C, D>>,
    phase: Phase,
    /// Recipients that the primary took for this transaction.
    accepted: u64,
}

/// A connection, and the configuration that it was made by.
struct Opened<L, C, D: Disk> {
    delivery: Delivery<L, C, D>,
    snapshot: Arc<Snapshot>,
}

impl<D: Disk, C: Clock, N: Dialer> Carrier<D, C, N> {
    async fn run(mut self) {
        while let Some(command) = self.next().await {
            let mut sent = None;
            let (said, answer) = match command {
                Command::Sender(sender, until, answer) => (self.sender(&sender, until).await, answer),
                Command::Recipient(recipient, until, answer) => {
                    (self.recipient(&recipient, until).await, answer)
                }
                Command::Data(octets, until, answer) => (self.data(&octets, until).await, answer),
                Command::End(until, answer) => {
                    let usage = self.shard.snapshot.borrow().usage_of(&self.wanted.domain);
                    let said = if let Some(place) = EndSent::new(usage) {
                        sent = Some(place);
                        self.end(until).await
                    } else {
                        self.cut();
                        Answer::Unfit
                    };
                    (said, answer)
                }
                Command::Forget => {
                    self.forget();
                    continue;
                }
                // Its end was answered.
                Command::Ours(_) => continue,
            };
            let is_late = said == Answer::Late;
            // The session may have ended.
            let _ = answer.try_send(said);
            if let (true, Some(sent)) = (is_late, sent) {
                return self.hear_late(sent).await;
            }
        }
        self.close().await;
    }

    /// What is next; a connection that nobody uses is closed meanwhile, and made anew when it is wanted.
    async fn next(&mut self) -> Option<Command> {
        if self.phase == Phase::Idle && self.open.is_some() {
            let timeout = async {
                self.shard.clock.sleep(PROXY_IDLE_TIMEOUT).await;
                None
            };
            match or(async { Some(self.wanted.commands.recv().await) }, timeout).await {
                Some(command) => return command.ok(),
                None => self.close().await,
            }
        }
        self.wanted.commands.recv().await.ok()
    }

    async fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.delivery.close().await;
        }
    }

    async fn sender(&mut self, sender: &OwnedSender, until: Moment) -> Answer {
        let is_current = |open: &Opened<_, _, _>| Arc::ptr_eq(&open.snapshot, &self.shard.snapshot.borrow());
        if !self.open.as_ref().is_some_and(|open| is_current(open) && open.delivery.may_carry()) {
            // With another configuration it may be another's (or none: H14).
            self.close().await;
        }
        let was_used = self.open.is_some();
        let answer = self.say_sender(sender, until).await;
        // Between two messages a primary may have closed.
        if answer == Answer::Gone && was_used { self.say_sender(sender, until).await } else { answer }
    }

    async fn say_sender(&mut self, sender: &OwnedSender, until: Moment) -> Answer {
        if self.open.is_none() {
            match self.connect(until).await {
                Ok(open) => self.open = Some(open),
                Err(answer) => return answer,
            }
        }
        let Some(Opened { delivery, .. }) = &mut self.open else { return Answer::Gone };
        if sender.smtputf8 && !delivery.offers_smtputf8() {
            return Answer::Unfit;
        }
        let carried = CarriedSender {
            reverse_path: &sender.reverse_path,
            declared_octets: sender.declared_octets,
            has_8bit: sender.has_8bit,
            smtputf8: sender.smtputf8,
            dsn: MailDsn { ret: sender.ret, envid: &sender.envid },
        };
        let reply = delivery.carry(&carried, until).await;
        (self.phase, self.accepted) = (Phase::Envelope, 0);
        self.answer(reply)
    }

    async fn recipient(&mut self, recipient: &OwnedRecipient, until: Moment) -> Answer {
        let Some(Opened { delivery, .. }) = &mut self.open else { return Answer::Gone };
        let dsn = RcptDsn { notify: recipient.notify, orcpt: &recipient.orcpt };
        let reply = delivery.carry_recipient(&recipient.mailbox, &dsn, until).await;
        self.accepted += u64::from(reply.as_ref().is_ok_and(ReceivedReply::is_positive));
        self.answer(reply)
    }

    async fn data(&mut self, octets: &[u8], until: Moment) -> Answer {
        let Some(Opened { delivery, .. }) = &mut self.open else { return Answer::Gone };
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
        let Some(Opened { delivery, .. }) = &mut self.open else { return Answer::Gone };
        if delivery.carry_end(until).await.is_err() {
            return self.cut();
        }
        let patience = self.shard.clock.now() + PROXY_END_TIMEOUT;
        match delivery.carried_reply(patience).await {
            Ok(reply) => {
                self.phase = Phase::Idle;
                self.count(&reply);
                Answer::Reply(reply)
            }
            Err(NoReply::Late) => Answer::Late,
            Err(NoReply::Gone) => self.cut(),
        }
    }

    /// What the primary took, it took through this.
    fn count(&self, reply: &ReceivedReply) {
        let (Some(open), true) = (&self.open, reply.is_positive()) else { return };
        let usage = self.shard.snapshot.borrow().usage_of(&self.wanted.domain);
        usage.take(open.delivery.transport(), self.accepted);
        let (domain, host, tls) = (&self.wanted.domain, open.delivery.host(), open.delivery.tls());
        tracing::info!(%domain, %host, tls, units = self.accepted, "the primary took a message that was carried through");
    }

    /// A reply, or the end of the connection: before the end of data nobody waits for a late one.
    fn answer(&mut self, reply: Result<ReceivedReply, NoReply>) -> Answer {
        match reply {
            Ok(reply) => Answer::Reply(reply),
            Err(_) => self.cut(),
        }
    }

    fn cut(&mut self) -> Answer {
        (self.open, self.phase) = (None, Phase::Idle);
        Answer::Gone
    }

    fn forget(&mut self) {
        match (self.phase, &mut self.open) {
            (Phase::Envelope, Some(open)) => open.delivery.carry_no_further(),
            (Phase::Data, _) => self.open = None,
            _ => {}
        }
        self.phase = Phase::Idle;
    }

    /// The reply to the end of the data, for a message that is ours meanwhile.
    async fn hear_late(mut self, place: EndSent) {
        let Some(Opened { delivery, .. }) = &mut self.open else { return };
        if self.shard.is_shutting_down() {
            return;
        }
        let until = self.shard.clock.now() + UPSTREAM_OUTCOME_TIMEOUT;
        let reply = delivery.carried_reply(until).await;
        let host = delivery.host();
        let through = delivery.transport();
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
        if reply.as_ref().is_ok_and(ReceivedReply::is_positive) {
            self.shard.snapshot.borrow().usage_of(&self.wanted.domain).take(through, self.accepted);
        }
        late(&self.shard, &self.wanted.domain, stamp, reply.ok(), Some(place)).await;
    }

    async fn connect(&self, until: Moment) -> Result<Opened<N::Link, C, D>, Answer> {
        let snapshot = Arc::clone(&self.shard.snapshot.borrow());
        let Some(domain) = snapshot.domain(&self.wanted.domain) else { return Err(Answer::Unfit) };
        let (shard, dialer) = (&*self.shard, &self.dialer);
        let way = Way { shard, dialer, domain, lane: None, insists: false, window: Window::cautious() };
        let now = self.shard.clock.now();
        let connecting = async { way.connect().await.ok() };
        let timeout = async {
            self.shard.clock.sleep(until.saturating_sub(now)).await;
            None
        };
        let mut delivery = or(connecting, timeout).await.ok_or(Answer::Gone)?;
        let usage = snapshot.usage_of(&domain.name);
        let met = acquaint::meet(shard, domain, &usage, &delivery, None, true);
        if met.is_stranger {
            // H41: what he took live nobody would have a copy of.
            delivery.close().await;
            return Err(Answer::Unfit);
        }
        acquaint::learn(shard, domain, &usage, &met.shown, None);
        let answer = match delivery.speak_for(&self.wanted.client, until).await {
            Naming::Named => return Ok(Opened { delivery, snapshot }),
            Naming::Refused(reply) => Answer::Reply(reply),
            Naming::Unfit(is_for_all) => {
                if is_for_all {
                    snapshot.usage_of(&self.wanted.domain).passage.set_trusted(false);
                }
                Answer::Unfit
            }
            Naming::Gone => Answer::Gone,
        };
        delivery.close().await;
        Err(answer)
    }
}
