//! A connection that carries a transaction through for a sender who waits: each wait has a patience of its own, shorter than
//! that of RFC 5321 4.5.3.2, since the sender's runs meanwhile.

use super::{Delivery, TERMINATOR};
use crate::limits::CLIENT_DATA_BLOCK_TIMEOUT;
use crate::shard::link::Link;
use crate::smtp::Moment;
use crate::smtp::client::{CarriedSender, ClientEvent, Standing, TrueClient};
use crate::smtp::dsn::RcptDsn;
use crate::smtp::reply::ReceivedReply;
use storage::clock::Clock;
use storage::disk::Disk;

use super::wire::News;

/// What became of a client's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Naming {
    /// The session is of no more use.
    Gone,
    /// The session speaks for it.
    Named,
    /// The primary refuses this client: what it says to him.
    Refused(ReceivedReply),
    /// It cannot be named; true: nobody can.
    Unfit(bool),
}

/// Why there is no reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum NoReply {
    /// The session is of no more use.
    Gone,
    /// Patience is at its end, or the shard shuts down; the reply may still come.
    Late,
}

impl<L: Link, C: Clock, D: Disk> Delivery<L, C, D> {
    /// Whether the primary lets us name clients by XCLIENT.
    pub(in crate::shard) fn offers_xclient(&self) -> bool {
        self.session.offers_xclient()
    }

    /// Whether addresses beyond ASCII may be said.
    pub(in crate::shard) fn offers_smtputf8(&self) -> bool {
        self.session.capabilities().smtputf8
    }

    /// The session speaks for this client from here on, or cannot.
    pub(in crate::shard) async fn speak_for(&mut self, client: &TrueClient, until: Moment) -> Naming {
        match self.session.standing(Some(client)) {
            // XFORWARD is not enough: what the primary decides it must decide about the client.
            Standing::Settled => return Naming::Unfit(true),
            Standing::Spent => return Naming::Gone,
            Standing::Unnamed => self.session.name_client(client, self.clock.now()),
        }
        while let Ok(event) = self.carried_event(until).await {
            match event {
                ClientEvent::Ready if self.session.names(client) => return Naming::Named,
                ClientEvent::ClientRefused(reply) => return Naming::Refused(reply),
                ClientEvent::NamingRefused(reply) => return Naming::Unfit(reply.code != 501),
                ClientEvent::Idle => {}
                _ => return Naming::Gone,
            }
        }
        Naming::Gone
    }

    /// Whether a transaction may begin.
    pub(in crate::shard) fn may_carry(&self) -> bool {
        self.is_alive() && !self.is_used_up() && self.session.is_ready() && !self.wire.has_unread()
    }

    /// MAIL, and its reply.
    pub(in crate::shard) async fn carry(
        &mut self,
        sender: &CarriedSender<'_>,
        until: Moment,
    ) -> Result<ReceivedReply, NoReply> {
        self.session.carry(sender, self.clock.now());
        self.carried_reply(until).await
    }

    /// RCPT, and its reply.
    pub(in crate::shard) async fn carry_recipient(
        &mut self,
        mailbox: &str,
        dsn: &RcptDsn<'_>,
        until: Moment,
    ) -> Result<ReceivedReply, NoReply> {
        self.expect_silence()?;
        let smtputf8 = self.offers_smtputf8();
        self.session.carry_recipient(mailbox, dsn, smtputf8, self.clock.now());
        self.carried_reply(until).await
    }

    /// DATA, and its reply: 354, or what refuses.
    pub(in crate::shard) async fn carry_data(&mut self, until: Moment) -> Result<ReceivedReply, NoReply> {
        self.expect_silence()?;
        self.session.carry_data(self.clock.now());
        self.carried_reply(until).await
    }

    /// Whoever speaks before he is asked is out of step: his next 250 would be taken for another's.
    fn expect_silence(&self) -> Result<(), NoReply> {
        let is_silent = self.session.may_carry_on() && !self.wire.has_unread();
        if is_silent { Ok(()) } else { Err(NoReply::Gone) }
    }

    /// Mail data, as it is stored.
    ///
    /// # Errors
    /// It did not go, or the primary said something in the middle of it.
    pub(in crate::shard) async fn carry_octets(
        &mut self,
        octets: &[u8],
        until: Moment,
    ) -> Result<(), NoReply> {
        self.wire.queue(octets);
        while self.wire.unsent() > 0 {
            let block = self.clock.now() + CLIENT_DATA_BLOCK_TIMEOUT;
            match self.wire.write(Some(until.min(block))).await {
                News::Written(_) => {}
                News::Ended | News::Read => return Err(NoReply::Gone),
                News::Late | News::Nothing => return Err(NoReply::Late),
            }
        }
        if self.wire.is_deaf() { Err(NoReply::Gone) } else { Ok(()) }
    }

    /// The end of the data. From its last octet on the primary may have the message.
    ///
    /// # Errors
    /// As [`Self::carry_octets`]: the primary cannot have the message.
    pub(in crate::shard) async fn carry_end(&mut self, until: Moment) -> Result<(), NoReply> {
        // The end is not sent: whatever was said by now is no answer to it.
        if self.wire.has_unread() {
            return Err(NoReply::Gone);
        }
        self.carry_octets(TERMINATOR, until).await?;
        self.session.carry_data_sent(self.clock.now());
        Ok(())
    }

    /// The transaction is given up; it had no data.
    pub(in crate::shard) fn carry_no_further(&mut self) {
        self.session.carry_no_further();
    }

    /// The reply to what was said last.
    pub(in crate::shard) async fn carried_reply(&mut self, until: Moment) -> Result<ReceivedReply, NoReply> {
        loop {
            match self.carried_event(until).await? {
                ClientEvent::Carried(reply) => return Ok(reply),
                ClientEvent::Idle => {}
                _ => {
                    self.is_broken = true;
                    return Err(NoReply::Gone);
                }
            }
        }
    }

    /// The next event, also none.
    async fn carried_event(&mut self, until: Moment) -> Result<ClientEvent, NoReply> {
        let step = self.session.handle_input(self.wire.input(), self.clock.now());
        self.wire.consume(step.consumed);
        if step.event != ClientEvent::Idle || step.consumed > 0 {
            return Ok(step.event);
        }
        self.queue_commands();
        let of_session = self.session.poll_timeout();
        let deadline = Some(of_session.map_or(until, |deadline| deadline.min(until)));
        let news = if self.wire.unsent() > 0 {
            self.wire.write(deadline).await
        } else {
            self.wire.read(deadline).await
        };
        match news {
            News::Written(_) | News::Read => Ok(ClientEvent::Idle),
            News::Ended => Ok(self.session.handle_disconnect()),
            News::Nothing if self.wire.is_deaf() => Ok(self.session.handle_disconnect()),
            News::Late if self.clock.now() < until => Ok(self.session.handle_timeout(self.clock.now())),
            News::Late | News::Nothing => Err(NoReply::Late),
        }
    }
}
