//! The whole picture, and what workers offer.

use std::sync::Arc;

use axum::{Json, extract::State, response::Response};
use pointsman_api::{ErrorCode, Problem};
use pointsman_broker::{Liveness, Snapshot};
use pointsman_core::{
    Rejected,
    matching::{Capabilities, CapabilitiesDigest},
};

use super::{Errors, health::readable, job::counted};
use crate::{
    app::App,
    extract::One,
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
