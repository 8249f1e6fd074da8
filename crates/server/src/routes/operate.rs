//! What operators do with workers.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use pointsman_core::{
    Command, RecordKey, Rejected, WorkerId,
    command::Reconcile,
    event::Record,
    record::{Orders, Worker},
};

use super::Errors;
use crate::{app::App, extract::Id, refusal::Answer};

/// The worker takes no more jobs; running ones go on to their end. The order outlives restarts.
#[utoipa::path(
    post, path = "/api/v1/workers/{id}/drain", tag = "fleet",
    params(("id" = String, Path)),
    responses((status = 200, body = Worker), Errors),
)]
pub(crate) async fn drain(
    State(app): State<App>,
    Id(worker): Id<WorkerId>,
) -> Answer<Json<Arc<Worker>>> {
    order(&app, worker, Orders { drain: true }).await
}

/// The worker takes jobs again, also one that was suspect.
#[utoipa::path(
    post, path = "/api/v1/workers/{id}/resume", tag = "fleet",
    params(("id" = String, Path)),
    responses((status = 200, body = Worker), Errors),
)]
pub(crate) async fn resume(
    State(app): State<App>,
    Id(worker): Id<WorkerId>,
) -> Answer<Json<Arc<Worker>>> {
    order(&app, worker, Orders { drain: false }).await
}

/// Mend whatever is wrong with the records of the worker and its connectors.
#[utoipa::path(
    post, path = "/api/v1/workers/{id}/repair", tag = "fleet",
    params(("id" = String, Path)),
    responses((status = 200, body = Worker), Errors),
)]
pub(crate) async fn repair(
    State(app): State<App>,
    Id(worker): Id<WorkerId>,
) -> Answer<Json<Arc<Worker>>> {
    app.broker.mend_worker(&worker).await?;
    record(&app, worker).await
}

/// Remove a worker that is gone.
#[utoipa::path(
    delete, path = "/api/v1/workers/{id}", tag = "fleet",
    params(("id" = String, Path)),
    responses((status = 204), Errors),
)]
pub(crate) async fn remove(State(app): State<App>, Id(worker): Id<WorkerId>) -> Answer<StatusCode> {
    app.broker.execute(Command::Reconcile(Reconcile::RemoveWorker { worker })).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn order(app: &App, worker: WorkerId, orders: Orders) -> Answer<Json<Arc<Worker>>> {
    app.broker.execute(Command::SetOrders { worker: worker.clone(), orders }).await?;
    record(app, worker).await
}

async fn record(app: &App, worker: WorkerId) -> Answer<Json<Arc<Worker>>> {
    let records = app.broker.store().records(vec![RecordKey::Worker(worker.clone())]).await?;
    let found = records.into_iter().find_map(|record| match record {
        Record::Worker(worker) => Some(worker),
        _ => None,
    });
    Ok(Json(found.ok_or_else(|| Rejected::WorkerNotFound(worker.to_string()))?))
}
