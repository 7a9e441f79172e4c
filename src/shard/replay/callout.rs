//! A callout: the primary is asked by MAIL FROM:<> and RCPT whether it knows a recipient; no data is sent.
//!
//! Two more recipients are asked for once a day, and after an outage: one that cannot exist, and postmaster. A primary that accepts the first
//! accepts anybody, and its answers say nothing. One that refuses postmaster, whom every host has to accept (RFC 5321 4.5.1),
//! and has accepted nobody for a day may be refusing us: its refusals say nothing either. A 4xx, a refused MAIL FROM:<> and
//! refusals for other reasons than the address (policy, a full mailbox) say nothing; then the recipient is accepted, since
//! the mail is kept and the primary decides when it comes.

use super::acquaint;
use super::connect::Way;
use crate::bridge::{Answer, DomainRecipients, Source, folded};
use crate::config::Domain;
use crate::limits::CALLOUT_TIMEOUT;
use crate::shard::callouts::{Question, Said};
use crate::shard::link::{Dialer, Spawn};
use crate::shard::state::Shard;
use crate::smtp::client::{RecipientOutcome, Window};
use futures_lite::future::or;
use std::rc::Rc;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;

/// Starts callouts as places allow, until the shard ends.
pub(in crate::shard) async fn answer<D: Disk, C: Clock, N: Dialer, S: Spawn>(
    shard: Rc<Shard<D, C>>,
    dialer: N,
    spawn: S,
) {
    loop {
        let question = shard.callouts.next().await;
        let (shard, dialer, beside) = (Rc::clone(&shard), dialer.clone(), spawn.clone());
        spawn.spawn(async move {
            let timeout = async {
                shard.clock.sleep(CALLOUT_TIMEOUT).await;
                None
            };
            let said = or(async { Some(ask(&shard, &dialer, &beside, &question).await) }, timeout).await;
            if said.is_none() {
                note_reached(&shard, &question.domain, false);
            }
            shard.callouts.done(&question.domain);
            // The session may have ended.
            let _ = question.answer.try_send(said.unwrap_or(Said::Unreachable));
        });
    }
}

fn note_reached<D: Disk, C: Clock>(shard: &Shard<D, C>, domain: &str, reached: bool) {
    if let Some(known) = shard.snapshot.borrow().recipients_of(domain) {
        known.set_reached(reached, shard.clock.now());
    }
}

async fn ask<D: Disk, C: Clock, N: Dialer, S: Spawn>(
    shard: &Shard<D, C>,
    dialer: &N,
    spawn: &S,
    question: &Question,
) -> Said {
    let snapshot = Arc::clone(&shard.snapshot.borrow());
    let (Some(domain), Some(known)) =
        (snapshot.domain(&question.domain), snapshot.recipients_of(&question.domain))
    else {
        return Said::Nothing;
    };
    // It may have waited for its place until others knew better.
    let usage = snapshot.usage_of(&question.domain);
    let (wall_s, now) = (u64::from(shard.wall_s()), shard.clock.now());
    if usage.resumes(wall_s, now).is_some() {
        // Nobody knows who it is behind a maintenance (H22).
        return Said::Nothing;
    }
    if usage.orders.get().held_for(wall_s).is_some() || !known.can_be_asked(shard.clock.now()) {
        return Said::Unreachable;
    }
    let way = Way { shard, dialer, domain, lane: None, insists: true, window: Window::default() };
    let Ok(mut delivery) = way.connect().await else {
        known.set_reached(false, shard.clock.now());
        return Said::Unreachable;
    };
    usage.passage.prove(shard.clock.now());
    let met = acquaint::meet(shard, domain, &usage, &delivery, None, true);
    if met.is_stranger {
        // What he says of recipients is not what the primary would say (H26).
        spawn.spawn(delivery.close());
        return Said::Nothing;
    }
    let at = shard.instants();
    let try_all = known.accepts_all(at.now).is_none() || !known.accepts_anybody(at);
    let nobody = acquaint::nobody(shard, domain);
    let postmaster = format!("postmaster@{}", domain.name);
    let all = [question.mailbox.as_str(), &nobody, &postmaster];
    let outcomes = delivery.probe(if try_all { &all } else { &all[..1] }).await;
    spawn.spawn(delivery.close());
    let Some(outcomes) = outcomes else { return Said::Nothing };
    known.set_reached(true, shard.clock.now());
    // What a primary says that went down meanwhile, or comes up again, says nothing.
    if known.is_outage() {
        return Said::Nothing;
    }
    let answer = outcomes.get(1).and_then(acquaint::answered);
    acquaint::learn(shard, domain, &usage, &met.shown, answer);
    weigh(shard, domain, known, question, &outcomes)
}

fn weigh<D: Disk, C: Clock>(
    shard: &Shard<D, C>,
    domain: &Domain,
    known: &DomainRecipients,
    question: &Question,
    outcomes: &[RecipientOutcome],
) -> Said {
    let at = shard.instants();
    let meant = said(&outcomes[0]);
    if let [_, nobody, postmaster] = outcomes {
        if said(postmaster) == Said::Accepted {
            known.anybody_accepted(at);
        }
        if let Some(answer) = acquaint::answered(nobody) {
            acquaint::note_answer(shard, domain, known, answer);
        }
    }
    let local_part = question.mailbox.rsplit_once('@').map_or("", |(local_part, _)| local_part);
    let name = folded(local_part);
    let accepts_all = known.accepts_all(at.now);
    let said = match meant {
        // Whether it accepts anybody is not known, as long as it greylists what does not exist.
        Said::Accepted if accepts_all != Some(false) => Said::Nothing,
        Said::Accepted => {
            known.accept(&name, domain.recipients.subaddress_delimiter, Source::Callout, at);
            Said::Accepted
        }
        Said::Refused if accepts_all != Some(true) && known.refuse(&name, Source::Callout, at) => {
            Said::Refused
        }
        Said::Refused | Said::Nothing | Said::Unreachable => Said::Nothing,
    };
    tracing::debug!(domain = %domain.name, ?said, "callout");
    said
}

fn said(outcome: &RecipientOutcome) -> Said {
    match acquaint::answered(outcome) {
        Some(Answer::Accepts) => Said::Accepted,
        Some(Answer::Refuses) => Said::Refused,
        None => Said::Nothing,
    }
}
