use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{App, python};

#[derive(Deserialize)]
pub(super) struct Page {
    max_items: Option<usize>,
    offset: Option<usize>,
}

/// `GET /history`.
pub(super) async fn list(
    State(app): State<App>,
    Query(page): Query<Page>,
) -> Json<Map<String, Value>> {
    Json(app.life.history.lock().list(page.max_items, page.offset))
}

/// `GET /history/{id}`: empty while the prompt has not ended, and when it is unknown.
pub(super) async fn one(State(app): State<App>, Path(id): Path<String>) -> Response {
    let entry = app.life.history.lock().get(&id);
    let entries: Map<_, _> = entry.map(|entry| (id, Value::clone(&entry))).into_iter().collect();
    let faults = app.sim.faults();
    match entries.is_empty() {
        false if faults.unreadable_history => Html("<html>").into_response(),
        false if faults.python_json => python::history(&entries).into_response(),
        _ => Json(entries).into_response(),
    }
}

#[derive(Deserialize)]
struct Change {
    #[serde(default)]
    clear: bool,
    #[serde(default)]
    delete: Vec<String>,
}

/// `POST /history`.
pub(super) async fn change(State(app): State<App>, body: Bytes) -> StatusCode {
    let Ok(change) = serde_json::from_slice::<Change>(&body) else {
        return StatusCode::INTERNAL_SERVER_ERROR;
    };
    let mut history = app.life.history.lock();
    if change.clear {
        history.clear();
    }
    change.delete.iter().for_each(|id| history.remove(id));
    StatusCode::OK
}
