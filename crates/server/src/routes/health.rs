//! Whether the server runs, whether it takes work, and its figures.

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
use pointsman_api::ErrorCode;
use pointsman_broker::Liveness;
use pointsman_store::{Health, TransferError};

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

/// The server serves: its store is reached and no import fills it, its view is true, and it is not
/// stopping. A full store takes no submissions, and is ready for all else.
#[utoipa::path(
    get, path = "/readyz", tag = "server",
    responses((status = 200, body = String), Errors),
)]
pub(crate) async fn readyz(State(app): State<App>) -> Answer<&'static str> {
    if app.stopping.is_cancelled() {
        return Err(Refusal::new(ErrorCode::NotReady, "the server is stopping"));
    }
    readable(&app)?;
    match app.broker.live() {
        Liveness::Live => Ok("ok\n"),
        Liveness::NotLive(why) => Err(Refusal::new(ErrorCode::NotReady, why.reason)),
    }
}

/// Whether the store can be read, and is whole.
pub(super) fn readable(app: &App) -> Answer<()> {
    match app.broker.health() {
        Health::Ready | Health::Full(_) => Ok(()),
        Health::Importing => Err(importing()),
        Health::Failed(why) => Err(Refusal::new(ErrorCode::StoreFailed, why)),
        Health::Newer(why) => Err(Refusal::new(ErrorCode::StoreNewer, why)),
    }
}

/// While an import fills the store, what is there is a part, and no answer.
pub(crate) async fn only_whole(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Answer<Response> {
    let path = request.uri().path();
    let is_of_store = path.starts_with("/api/v1/") && !path.starts_with("/api/v1/intake");
    match is_of_store && app.broker.health() == Health::Importing {
        true => Err(importing()),
        false => Ok(next.run(request).await),
    }
}

fn importing() -> Refusal {
    Refusal::new(ErrorCode::Importing, TransferError::Importing.to_string())
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
