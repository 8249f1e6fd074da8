//! Whether the store takes new work: closed before its export.

use std::sync::Arc;

use axum::{Json, extract::State};
use pointsman_api::{ErrorCode, IntakeState};
use pointsman_store::Transfer;

use super::Errors;
use crate::{
    app::App,
    refusal::{Answer, Refusal},
};

/// Whether the store takes new work, and what still runs.
#[utoipa::path(
    get, path = "/api/v1/intake", tag = "fleet",
    responses((status = 200, body = IntakeState), Errors),
)]
pub(crate) async fn get(State(app): State<App>) -> Answer<Json<IntakeState>> {
    state(&app).await
}

/// The store takes no submissions, retries and claims any more; what runs may end. It stays so
/// over restarts.
#[utoipa::path(
    post, path = "/api/v1/intake/close", tag = "fleet",
    responses((status = 200, body = IntakeState), Errors),
)]
pub(crate) async fn close(State(app): State<App>) -> Answer<Json<IntakeState>> {
    movable(&app)?.set_intake(false).await?;
    state(&app).await
}

/// The store takes new work again.
#[utoipa::path(
    post, path = "/api/v1/intake/open", tag = "fleet",
    responses((status = 200, body = IntakeState), Errors),
)]
pub(crate) async fn open(State(app): State<App>) -> Answer<Json<IntakeState>> {
    movable(&app)?.set_intake(true).await?;
    state(&app).await
}

fn movable(app: &App) -> Answer<Arc<dyn Transfer>> {
    let cannot = || Refusal::new(ErrorCode::InvalidState, "this kind of store cannot be moved");
    app.broker.store().clone().transfer().ok_or_else(cannot)
}

async fn state(app: &App) -> Answer<Json<IntakeState>> {
    let intake = movable(app)?.intake().await?;
    let counts = app.broker.store().queues(0).await?.counts;
    Ok(Json(IntakeState { intake, running: counts.assigned + counts.in_progress }))
}
