//! Routes that no ComfyUI has: faults on demand.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;

use super::App;
use crate::Faults;
use crate::life::Ending;

/// How long an answer has to get out before its connection is cut.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// `GET /sim/faults`.
pub(super) async fn faults(State(app): State<App>) -> Json<Faults> {
    Json(app.sim.faults())
}

/// `POST /sim/faults`: replaces all of them; 400 with the reason when one is unknown.
pub(super) async fn set_faults(
    State(app): State<App>,
    body: Bytes,
) -> Result<Json<Faults>, (StatusCode, String)> {
    let faults: Faults = serde_json::from_slice(&body)
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    app.sim.set_faults(faults.clone());
    Ok(Json(faults))
}

/// `POST /sim/restart`: answers, then restarts.
pub(super) async fn restart(State(app): State<App>) -> StatusCode {
    let life = app.life.clone();
    tokio::spawn(async move {
        tokio::time::sleep(LAST_WORDS).await;
        life.end(Ending::Restart);
    });
    StatusCode::ACCEPTED
}
