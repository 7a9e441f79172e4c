//! A support bundle of the running server ([`crate::support`]): its own answers, the end of its log, and the machine.

use super::problem::Problem;
use super::{Api, alerts, machine, metrics, outages, status, update};
use crate::support::{Bundle, system};
use axum::body::to_bytes;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Octets of one answer.
const ANSWER_OCTETS_MAX: usize = 64 << 20;

/// What somebody who helps needs to see, in one file: no mail, no secrets, addresses without local parts
#[utoipa::path(
    get, path = "/api/v1/support", tag = "server",
    responses((status = 200, content_type = "application/zstd", body = Vec<u8>))
)]
pub(super) async fn bundle(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let (mut bundle, mut missing) = (Bundle::new(), Vec::new());
    let snapshot = api.current.get();
    let config = &snapshot.config;
    bundle.add("configuration.toml", config.effective().to_string().as_bytes());
    for (name, answer) in answers(&api).await {
        match answer {
            Ok(octets) => bundle.add(name, &octets),
            Err(error) => missing.push(format!("{name}: {error}")),
        }
    }
    let uptime_s = api.started.elapsed().as_secs();
    let (log, hostname, data_dir) =
        (Arc::clone(&api.process.log), config.hostname.clone(), config.data_dir.clone());
    let name = format!("{hostname}-support-{}.tar.zst", Timestamp::now().strftime("%Y%m%d-%H%M%S"));
    let work = move || {
        bundle.add("log.txt", &log.lines());
        system::add(&mut bundle, &data_dir, &mut missing);
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "hostname": hostname,
            "made_at": Timestamp::now().to_string(),
            "uptime_s": uptime_s,
            "running": true,
            "missing": missing,
        });
        bundle.add("about.json", format!("{about:#}\n").as_bytes());
        bundle.packed()
    };
    let packed = spawn_blocking(work).await.map_err(|_| Problem::internal())?;
    let packed = packed.map_err(|error| Problem::unavailable(&error.to_string()))?;
    let head = [
        (CONTENT_TYPE, "application/zstd".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((head, packed).into_response())
}

/// What the API answers, by the name of a file.
async fn answers(api: &Arc<Api>) -> Vec<(&'static str, Result<Vec<u8>, String>)> {
    let state = || State(Arc::clone(api));
    vec![
        ("status.json", octets(status::status(state()).await).await),
        ("metrics.txt", octets(metrics::metrics(state(), HeaderMap::new()).await).await),
        ("alerts.json", octets(alerts::list(state(), Ok(Query(Default::default()))).await).await),
        ("events.json", octets(alerts::events(state(), Ok(Query(Default::default()))).await).await),
        ("outages.json", octets(outages::list(state(), Ok(Query(Default::default()))).await).await),
        ("machine.json", octets(machine::show(state()).await).await),
        ("update.json", octets(update::show(state()).await).await),
    ]
}

async fn octets(answer: impl IntoResponse) -> Result<Vec<u8>, String> {
    let response = answer.into_response();
    let is_good = response.status().is_success();
    let body = to_bytes(response.into_body(), ANSWER_OCTETS_MAX).await.map_err(|error| error.to_string())?;
    if is_good { Ok(body.to_vec()) } else { Err(String::from_utf8_lossy(&body).into_owned()) }
}
