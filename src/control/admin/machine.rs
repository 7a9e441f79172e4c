//! The appliance as a machine: what runs, how full it is, and the health of its disk. PID 1 tells it ([`crate::update::machine`]).

use super::Api;
use super::problem::Problem;
use super::update::blocking;
use crate::update::machine::Machine;
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// The appliance: what runs, how full it is, the health of its disk
#[utoipa::path(
    get, path = "/api/v1/machine", tag = "server",
    responses((status = 200, body = Machine), (status = 409, description = "This server is no appliance"))
)]
pub(super) async fn show(State(api): State<Arc<Api>>) -> Result<Json<Machine>, Problem> {
    let no_appliance = || {
        Problem::conflict("this is no appliance: its disk is watched by the system that it runs on (smartd)")
    };
    let machine = api.machine.clone().ok_or_else(no_appliance)?;
    blocking(move || machine.machine()).await.map(Json)
}
