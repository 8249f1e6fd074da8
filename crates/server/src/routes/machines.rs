//! Machines, and what operators do with them.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use pointsman_core::{
    Command, MachineId, Record, RecordKey, Rejected,
    command::Reconcile,
    record::{Machine, Orders},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Errors, fleet::seen, job::counted};
use crate::{app::App, extract::Id, refusal::Answer};

/// All machines.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Machines {
    /// All that are known, also those that are gone.
    #[schema(value_type = Vec<Machine>)]
    machines: Vec<Arc<Machine>>,
}

/// All machines.
#[utoipa::path(
    get, path = "/api/v1/machines", tag = "fleet",
    responses((status = 200, body = Machines), Errors),
)]
pub(crate) async fn list(State(app): State<App>) -> Answer<Response> {
    counted(&app, &Machines { machines: seen(&app).await?.machines }).await
}

/// One machine.
#[utoipa::path(
    get, path = "/api/v1/machines/{id}", tag = "fleet",
    params(("id" = String, Path)),
    responses((status = 200, body = Machine), Errors),
)]
pub(crate) async fn get(
    State(app): State<App>,
    Id(id): Id<MachineId>,
) -> Answer<Json<Arc<Machine>>> {
    let machines = seen(&app).await?.machines;
    let found = machines.into_iter().find(|machine| machine.id == id);
    Ok(Json(found.ok_or_else(|| Rejected::MachineNotFound(id.to_string()))?))
}

/// No worker of the machine takes more jobs, nor one that comes later; running ones end.
#[utoipa::path(
    post, path = "/api/v1/machines/{id}/drain", tag = "fleet",
    params(("id" = String, Path)),
    responses((status = 200, body = Machine), Errors),
)]
pub(crate) async fn drain(
    State(app): State<App>,
    Id(id): Id<MachineId>,
) -> Answer<Json<Arc<Machine>>> {
    order(&app, id, Orders { drain: true }).await
}

/// The machine's workers take jobs again, also those that were suspect or drained alone.
#[utoipa::path(
    post, path = "/api/v1/machines/{id}/resume", tag = "fleet",
    params(("id" = String, Path)),
    responses((status = 200, body = Machine), Errors),
)]
pub(crate) async fn resume(
    State(app): State<App>,
    Id(id): Id<MachineId>,
) -> Answer<Json<Arc<Machine>>> {
    order(&app, id, Orders { drain: false }).await
}

/// Mend whatever is wrong with the machine's record.
#[utoipa::path(
    post, path = "/api/v1/machines/{id}/repair", tag = "fleet",
    params(("id" = String, Path)),
    responses((status = 200, body = Machine), Errors),
)]
pub(crate) async fn repair(
    State(app): State<App>,
    Id(id): Id<MachineId>,
) -> Answer<Json<Arc<Machine>>> {
    app.broker.mend_machine(&id).await?;
    record(&app, id).await
}

/// Remove a machine that is gone, and whose workers are gone.
#[utoipa::path(
    delete, path = "/api/v1/machines/{id}", tag = "fleet",
    params(("id" = String, Path)),
    responses((status = 204), Errors),
)]
pub(crate) async fn remove(
    State(app): State<App>,
    Id(machine): Id<MachineId>,
) -> Answer<StatusCode> {
    app.broker.execute(Command::Reconcile(Reconcile::RemoveMachine { machine })).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn order(app: &App, machine: MachineId, orders: Orders) -> Answer<Json<Arc<Machine>>> {
    app.broker.execute(Command::SetMachineOrders { machine: machine.clone(), orders }).await?;
    record(app, machine).await
}

async fn record(app: &App, machine: MachineId) -> Answer<Json<Arc<Machine>>> {
    let records = app.broker.store().records(vec![RecordKey::Machine(machine.clone())]).await?;
    let found = records.into_iter().find_map(|record| match record {
        Record::Machine(machine) => Some(machine),
        _ => None,
    });
    Ok(Json(found.ok_or_else(|| Rejected::MachineNotFound(machine.to_string()))?))
}
