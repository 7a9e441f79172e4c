//! A test message: what hosts that an operator is about to send a domain's mail to say to one of ours, before any of it goes there.
//!
//! It goes as the domain's mail does, by the same TLS, from the null reverse-path, so that it can come back to nobody; in a session of
//! its own, by the first of the hosts that serves us. It is nobody's mail: no record is made of it, and nothing is learned.

use super::connect::Way;
use super::delivery::{Delivery, NoReply};
use crate::config::{Primaries, Primary};
use crate::limits::TRIAL_TIMEOUT;
use crate::message::received::push_date;
use crate::shard::backlog::Lanes;
use crate::shard::link::{Dialer, Link, Spawn};
use crate::shard::state::Shard;
use crate::smtp::Moment;
use crate::smtp::client::{CarriedSender, Window};
use crate::smtp::dsn::{MailDsn, RcptDsn};
use crate::smtp::reply::ReceivedReply;
use futures_lite::future::or;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// See the module. What the host said to the message.
///
/// # Errors
/// Why it was not taken, for the operator.
pub(in crate::shard) async fn test_message<D: Disk, C: Clock, N: Dialer, S: Spawn>(
    shard: &Shard<D, C>,
    dialer: &N,
    spawn: &S,
    domain: &str,
    hosts: Vec<Primary>,
    recipient: &str,
) -> Result<String, String> {
    let snapshot = Arc::clone(&shard.snapshot.borrow());
    let Some(configured) = snapshot.domain(domain) else {
        return Err("the domain is not configured: its mail waits until it is".to_owned());
    };
    let mut domain = configured.clone();
    domain.primaries = Primaries::Hosts(hosts);
    let until = shard.clock.now() + TRIAL_TIMEOUT;
    let lane = Lanes::stray();
    let trial = async {
        let window = Window::cautious();
        let way = Way { shard, dialer, domain: &domain, lane: Some(&lane), insists: true, window };
        let Ok(mut delivery) = way.connect().await else {
            let failure = lane.failure.take().map(|failure| failure.reason);
            return Err(failure.unwrap_or_else(|| "no host serves us".to_owned()));
        };
        let message = written(shard, &snapshot.config.hostname, &domain.name, recipient);
        let host = delivery.host();
        let said = send(&mut delivery, recipient, &message, until).await;
        spawn.spawn(delivery.close());
        said.map(|reply| format!("{host} took it: {}", told(&reply)))
            .map_err(|error| format!("{host} {error}"))
    };
    let late = async {
        shard.clock.sleep(TRIAL_TIMEOUT).await;
        Err(lane.failure.take().map_or_else(|| "no answer in time".to_owned(), |failure| failure.reason))
    };
    or(trial, late).await
}

async fn send<L: Link, C: Clock, D: Disk>(
    delivery: &mut Delivery<L, C, D>,
    recipient: &str,
    message: &[u8],
    until: Moment,
) -> Result<ReceivedReply, String> {
    let silent = |why: NoReply| match why {
        NoReply::Gone => "ended the session".to_owned(),
        NoReply::Late => "did not answer in time".to_owned(),
    };
    let refused = |at: &str, reply: &ReceivedReply| format!("refused it at {at}: {}", told(reply));
    let (declared_octets, has_8bit, smtputf8) = (Some(message.len() as u64), false, false);
    let sender =
        CarriedSender { reverse_path: "", declared_octets, has_8bit, smtputf8, dsn: MailDsn::default() };
    let reply = delivery.carry(&sender, until).await.map_err(silent)?;
    if !reply.is_positive() {
        return Err(refused("MAIL", &reply));
    }
    let reply = delivery.carry_recipient(recipient, &RcptDsn::default(), until).await.map_err(silent)?;
    if !reply.is_positive() {
        return Err(refused("RCPT", &reply));
    }
    let reply = delivery.carry_data(until).await.map_err(silent)?;
    if reply.code != 354 {
        return Err(refused("DATA", &reply));
    }
    delivery.carry_octets(message, until).await.map_err(silent)?;
    delivery.carry_end(until).await.map_err(silent)?;
    let reply = delivery.carried_reply(until).await.map_err(silent)?;
    if reply.is_positive() { Ok(reply) } else { Err(refused("the end of data", &reply)) }
}

fn told(reply: &ReceivedReply) -> String {
    let enhanced = reply.enhanced.map(|code| format!("{code} ")).unwrap_or_default();
    format!("{} {enhanced}{}", reply.code, reply.text)
}

/// No line of it begins with a dot.
fn written<D: Disk, C: Clock>(shard: &Shard<D, C>, hostname: &str, domain: &str, recipient: &str) -> Vec<u8> {
    let mut date = String::new();
    push_date(&mut date, i64::from(shard.wall_s()));
    let id = shard.next_queue_id();
    format!(
        "Date: {date}\r\nFrom: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\nTo: <{recipient}>\r\n\
         Subject: Test before mail of {domain} is redirected here\r\nMessage-ID: <{id}@{hostname}>\r\n\
         Auto-Submitted: auto-generated\r\n\r\n\
         This is the mail server {hostname}. It keeps mail for {domain}, and its operator\r\n\
         is about to send that mail to this server. This message tests whether it is taken.\r\n\
         Nobody needs to answer it.\r\n"
    )
    .into_bytes()
}
