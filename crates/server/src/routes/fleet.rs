//! The whole picture, and what workers offer.

use std::sync::Arc;

use axum::{Json, extract::State, response::Response};
use pointsman_api::{ErrorCode, Problem};
use pointsman_broker::{Liveness, Snapshot};
use pointsman_core::{
    Rejected, WorkerId,
    matching::{Capabilities, CapabilitiesDigest},
    record::Worker,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Errors, health::readable, job::counted};
use crate::{
    app::App,
    extract::{Id, One},
    refusal::{Answer, Refusal},
};

/// The view, while it is known to be the store's: an old picture under a new time would be a lie.
pub(super) async fn seen(app: &App) -> Answer<Snapshot> {
    readable(app)?;
    if let Liveness::NotLive(why) = app.broker.live() {
        return Err(Refusal::new(ErrorCode::StoreFailed, why.reason));
    }
    Ok(app.broker.snapshot().await)
}

/// The view and the lanes at one position.
#[utoipa::path(
    get, path = "/api/v1/snapshot", tag = "events",
    responses((status = 200, body = Snapshot), Errors),
)]
pub(crate) async fn snapshot(State(app): State<App>) -> Answer<Response> {
    counted(&app, &seen(&app).await?).await
}

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
pub(crate) async fn workers(State(app): State<App>) -> Answer<Response> {
    counted(&app, &Workers { workers: seen(&app).await?.workers }).await
}

/// One worker.
#[utoipa::path(
    get, path = "/api/v1/workers/{id}", tag = "fleet",
    params(("id" = String, Path)),
    responses((status = 200, body = Worker), Errors),
)]
pub(crate) async fn worker(
    State(app): State<App>,
    Id(id): Id<WorkerId>,
) -> Answer<Json<Arc<Worker>>> {
    let workers = seen(&app).await?.workers;
    let found = workers.into_iter().find(|worker| worker.id == id);
    Ok(Json(found.ok_or_else(|| Rejected::WorkerNotFound(id.to_string()))?))
}

/// What the workers with this digest offer.
#[utoipa::path(
    get, path = "/api/v1/capabilities/{digest}", tag = "fleet",
    params(("digest" = String, Path)),
    responses((status = 200, body = Capabilities), Errors),
)]
pub(crate) async fn capabilities(
    State(app): State<App>,
    One(digest): One,
) -> Answer<Json<Arc<Capabilities>>> {
    let none = || Rejected::NotFound(format!("capabilities {digest}"));
    let digest: CapabilitiesDigest = digest.parse().map_err(|_| {
        let detail = format!("{digest:?} is not a digest");
        Problem::new(ErrorCode::InvalidId, detail).cure("copy `capabilities_digest` of a worker")
    })?;
    Ok(Json(app.broker.store().capabilities(digest).await?.ok_or_else(none)?))
}
