//! `queue replay`: delivered mail whose copies are kept is queued once more, a page a request.

use super::actions::known;
use super::problem::Problem;
use super::queue::{body, domain_of};
use super::{Api, answered};
use crate::bridge::operator::{Copies, Copy, Delivered, Replayed, Request as Asked};
use axum::Json;
use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// What of a domain; instants in seconds since 1970.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReplayWanted)]
pub(super) struct Wanted {
    domain: String,
    since_s: u32,
    until_s: u32,
    recipient: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    again: bool,
    after: Option<u64>,
}

/// What was done, or would be; `next` is the `after` to go on with, null when all was done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReplayDone)]
pub(super) struct Done {
    messages: u64,
    units: u64,
    octets: u64,
    gone: u64,
    kept_since_s: Option<u32>,
    next: Option<u64>,
}

/// Queues delivered mail once more whose copies are kept, a page a request
#[utoipa::path(post, path = "/api/v1/queue/replay", tag = "queue", request_body = Wanted, responses((status = 200, body = Done)))]
pub(super) async fn replay(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Done>, Problem> {
    let Wanted { domain, since_s, until_s, recipient, dry_run, again, after } = body(request).await?;
    let domain = domain_of(&domain)?;
    known(&api, &domain)?;
    if since_s >= until_s {
        return Err(Problem::bad_request("until_s is not behind since_s"));
    }
    let after = after.unwrap_or(0);
    let wanted = Delivered { domain: Arc::clone(&domain), since_s, until_s, recipient, again, after };
    let pages = answered(&api, api.shards.ask(|answer| Asked::Copies(wanted.clone(), answer))).await?;
    let page = merged(pages);
    let mut done = Done {
        messages: page.copies.len() as u64,
        units: page.copies.iter().map(|copy| copy.ordinals.len() as u64).sum(),
        octets: page.copies.iter().map(|copy| copy.size).sum(),
        gone: page.unreadable,
        kept_since_s: page.kept_since_s,
        next: page.more,
    };
    if dry_run || page.copies.is_empty() {
        return Ok(Json(done));
    }
    let asked = api.shards.ask(|answer| Asked::Replay(Arc::clone(&domain), page.copies.clone(), answer));
    let answers = answered(&api, asked).await?;
    let Some(Replayed { messages, units, octets, gone, refused }) = answers.into_iter().flatten().next()
    else {
        return Err(Problem::unavailable("nobody owns this domain"));
    };
    if let Some(reason) = refused {
        return Err(Problem::unavailable(&format!(
            "{reason}; {messages} messages of this request were queued once more before that; repeat it to go on"
        )));
    }
    done.gone += gone;
    Ok(Json(Done { messages, units, octets, ..done }))
}

/// The pages of all shards as one, in the order of messages: no further than each of them is complete.
fn merged(pages: Vec<Copies>) -> Copies {
    let more = pages.iter().filter_map(|page| page.more).min();
    let unreadable = pages.iter().map(|page| page.unreadable).sum();
    let kept_since_s = pages.iter().filter_map(|page| page.kept_since_s).min();
    let mut copies: Vec<Copy> = pages.into_iter().flat_map(|page| page.copies).collect();
    copies.retain(|copy| more.is_none_or(|more| copy.stamp <= more));
    copies.sort_by_key(|copy| copy.stamp);
    Copies { copies, more, unreadable, kept_since_s }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(stamp: u64) -> Copy {
        Copy::sample(stamp, vec![0], core::time::Duration::ZERO)
    }

    #[test]
    fn pages_end_where_the_first_of_them_is_not_complete_any_more() {
        let page = |stamps: &[u64], more, kept_since_s| Copies {
            copies: stamps.iter().map(|stamp| copy(*stamp)).collect(),
            more,
            unreadable: 1,
            kept_since_s,
        };
        let all = merged(vec![
            page(&[3, 9], None, None),
            page(&[1, 5], Some(6), Some(7)),
            page(&[], None, Some(4)),
        ]);
        assert_eq!(all.copies.iter().map(|copy| copy.stamp).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!((all.more, all.unreadable, all.kept_since_s), (Some(6), 3, Some(4)));
        let all = merged(vec![page(&[3], None, None), page(&[2], None, None)]);
        assert_eq!(all.copies.iter().map(|copy| copy.stamp).collect::<Vec<_>>(), [2, 3]);
        assert_eq!((all.more, all.kept_since_s), (None, None));
    }
}
