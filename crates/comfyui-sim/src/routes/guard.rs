use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::App;

/// What happens before every request: foreign pages are refused, a stalled server stalls, a blocked event loop blocks.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    app.sim.count_request();
    if is_foreign(request.headers(), app.sim.config.version.is_newer()) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let stall = app.sim.faults().http_stall_ms;
    if stall > 0 {
        tokio::time::sleep(Duration::from_millis(stall)).await;
    }
    drop(app.sim.event_loop.read().await);
    next.run(request).await
}

/// Whether a page of another site asks (ComfyUI source: create_origin_only_middleware).
fn is_foreign(headers: &HeaderMap, newer: bool) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if newer && text(header::HeaderName::from_static("sec-fetch-site")) == Some("cross-site") {
        return true;
    }
    let (Some(host), Some(origin)) = (text(header::HOST), text(header::ORIGIN)) else {
        return false;
    };
    let is_loopback =
        ["127.", "localhost", "[::1]"].iter().any(|loopback| host.starts_with(loopback));
    is_loopback && origin.split_once("://").is_none_or(|(_, origin_host)| origin_host != host)
}
