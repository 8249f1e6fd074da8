//! Whether the server runs, whether it takes work, and its figures.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use pointsman_api::ErrorCode;
use pointsman_broker::Liveness;
use pointsman_store::Health;

use super::Errors;
use crate::{
    app::App,
    refusal::{Answer, Refusal},
};

/// The process runs.
#[utoipa::path(get, path = "/livez", tag = "server", responses((status = 200, body = String)))]
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// The server serves: its store is reached, its view is true, and it is not stopping. A full store
/// takes no submissions, and is ready for all else.
#[utoipa::path(
    get, path = "/readyz", tag = "server",
    responses((status = 200, body = String), Errors),
)]
pub(crate) async fn readyz(State(app): State<App>) -> Answer<&'static str> {
    if app.stopping.is_cancelled() {
        return Err(Refusal::new(ErrorCode::NotReady, "the server is stopping"));
    }
    match app.broker.health() {
        Health::Ready | Health::Full(_) => {}
        Health::Failed(why) => return Err(Refusal::new(ErrorCode::StoreFailed, why)),
    }
    match app.broker.live() {
        Liveness::Live => Ok("ok\n"),
        Liveness::NotLive(why) => Err(Refusal::new(ErrorCode::NotReady, why.reason)),
    }
}

/// Figures for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"), Errors),
)]
pub(crate) async fn metrics(State(app): State<App>) -> Answer<Response> {
    let text = app.metrics.text(&app.broker).await;
    let text = text.map_err(|error| Refusal::new(ErrorCode::Internal, error.to_string()))?;
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, open_metrics)], text).into_response())
}
