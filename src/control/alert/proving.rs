//! Outages that have ended are proved, one after the other, a while later: what the traces say of them is kept with them. One that cannot be
//! proved now is tried again.

use super::outage::Outage;
use super::proof::Gathering;
use super::watch::Watch;
use crate::auth::contained::Contained;
use crate::bridge::operator::{Request, TracePage, TraceWanted};
use crate::control::store::{alert as rows, now_s};
use crate::limits::{OUTAGE_PROOF_PAUSE, OUTAGE_PROVED_AFTER, WATCH_INTERVAL, WATCH_TIMEOUT};
use std::sync::Arc;
use tokio::time::{interval, sleep, timeout};

/// Proves what is due, until the runtime ends. A panic costs one try.
pub async fn run(watch: Arc<Watch>) {
    let mut ticks = interval(WATCH_INTERVAL);
    loop {
        ticks.tick().await;
        match Contained::new(prove_next(&watch)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!(error, "an outage is not proved yet; it is tried again"),
            None => tracing::error!("the proof of an outage panicked; it is tried again"),
        }
    }
}

async fn prove_next(watch: &Watch) -> Result<(), String> {
    if watch.current.get().config.storage.trace_retention.is_zero() {
        return Ok(());
    }
    let now_s = u64::try_from(now_s()).unwrap_or(0);
    let Some(id) = watch.unproven(now_s.saturating_sub(OUTAGE_PROVED_AFTER.as_secs())) else { return Ok(()) };
    let outage = watch.store.run(move |connection| rows::outage(connection, id)).await;
    let outage = outage.map_err(|error| error.to_string())?;
    let kept_since_s = now_s.saturating_sub(watch.current.get().config.storage.trace_retention.as_secs());
    // Of one that ended long ago nothing is left to look at.
    let is_provable = |outage: &Outage| outage.proof.is_none() && outage.ended_s > Some(kept_since_s);
    let Some(outage) = outage.filter(is_provable) else {
        watch.proven(id);
        return Ok(());
    };
    let mut wanted = TraceWanted {
        domain: Some(outage.domain.as_str().into()),
        since_s: outage.began_s,
        until_s: outage.ended_s.unwrap_or(now_s).saturating_add(1),
        ..TraceWanted::default()
    };
    let (mut gathering, mut unreadable) = (Gathering::default(), 0);
    loop {
        let turn = Arc::new(wanted.clone());
        let asked = watch.shards.ask(|answer| Request::Trace(Arc::clone(&turn), answer));
        let pages = timeout(WATCH_TIMEOUT, asked).await.map_err(|_| "a shard does not answer".to_owned())?;
        let pages = pages.map_err(|error| error.to_string())?;
        // As each shard wrote them: a clock that was set says nothing of their order.
        for page in pages.iter().filter(|page| !page.rows.is_empty()) {
            gathering.begin(page.shard);
            page.rows.iter().for_each(|row| gathering.take(row));
        }
        let (_, next, progress) = TracePage::merged(pages);
        unreadable += progress.unreadable;
        if next.is_none() {
            break;
        }
        wanted.after = next;
        sleep(OUTAGE_PROOF_PAUSE).await;
    }
    let proof = gathering.finish(outage.ledger().counts.ended(), unreadable);
    let kept = watch.store.run(move |connection| {
        let transaction = connection.transaction()?;
        if let Some(mut outage) = rows::outage(&transaction, id)? {
            outage.proof = Some(proof);
            rows::keep_outage(&transaction, Some(id), &outage)?;
        }
        transaction.commit()
    });
    kept.await.map_err(|error| error.to_string())?;
    watch.proven(id);
    Ok(())
}
