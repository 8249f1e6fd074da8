//! Workers, and what operators do with them.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use pointsman_core::{
    Command, Record, RecordKey, Rejected, WorkerId,
    command::Reconcile,
    record::{Orders, Worker},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Errors, fleet::seen, job::counted};
use crate::{app::App, extract::Id, refusal::Answer};

/// All workers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Workers {
    /// All that are known, also those that are offline.
    #[schema(value_type = Vec<Worker>)]
    workers: Vec<Arc<Worker>>,
}

/// All workers.
#[utoipa::path(
    get, path = "/api/v1/workers", tag = "fleet",
    responses((status = 200, body = Workers), Errors),
)]
pub(crate) async fn list(State(app): State<App>) -> Answer<Response> {
    counted(&app, &Workers { workers: seen(&app).await?.workers }).await
}

/// One worker.
#[utoipa::path(
    get, path = "/api/v1/workers/{id}", tag = "fleet",
    params(("id" = String, Path)),
    responses((status = 200, body = Worker), Errors),
)]
pub(crate) async fn get(State(app): State<App>, Id(id): Id<WorkerId>) -> Answer<Json<Arc<Worker>>> {
    let workers = seen(&app).await?.workers;
    let found = workers.into_iter().find(|worker| worker.id == id);
    Ok(Json(found.ok_or_else(|| Rejected::WorkerNotFound(id.to_string()))?))
}

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
