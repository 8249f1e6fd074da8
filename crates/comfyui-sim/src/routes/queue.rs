use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;

/// `GET /queue`.
pub(super) async fn show(State(app): State<App>) -> Json<Value> {
    let queue = app.life.queue.lock();
    let running: Vec<Value> = queue.running.iter().map(|prompt| prompt.tuple()).collect();
    let pending: Vec<Value> = queue.pending().map(|prompt| prompt.tuple()).collect();
    Json(json!({ "queue_running": running, "queue_pending": pending }))
}

#[derive(Deserialize)]
struct Change {
    #[serde(default)]
    clear: bool,
    #[serde(default)]
    delete: Vec<String>,
}

/// `POST /queue`: always 200 and empty, whatever it did.
pub(super) async fn change(State(app): State<App>, body: Bytes) -> StatusCode {
    let Ok(change) = serde_json::from_slice::<Change>(&body) else {
        return StatusCode::INTERNAL_SERVER_ERROR;
    };
    if change.clear {
        let mut queue = app.life.queue.lock();
        queue.clear();
        app.life.send_status(&queue);
    }
    for id in &change.delete {
        app.life.delete(id);
    }
    StatusCode::OK
}

#[derive(Deserialize, Default)]
struct Whom {
    #[serde(default)]
    prompt_id: Option<String>,
}

/// `POST /interrupt`: whoever runs, or a prompt if it is the one that runs. Always 200 and empty.
pub(super) async fn interrupt(State(app): State<App>, body: Bytes) -> StatusCode {
    let whom: Whom = serde_json::from_slice(&body).unwrap_or_default();
    match whom.prompt_id {
        None => app.life.interrupt.want(),
        Some(id) => {
            let queue = app.life.queue.lock();
            if queue.is_running(&id) {
                app.life.log(&format!("Interrupting prompt {id}"));
                app.life.interrupt.want();
            } else {
                app.life.log(&format!("Prompt {id} is not currently running, skipping interrupt"));
            }
        }
    }
    StatusCode::OK
}
