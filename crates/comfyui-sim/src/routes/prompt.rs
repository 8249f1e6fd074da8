use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::App;
use crate::life::queue_info;
use crate::queue::Prompt;
use crate::validate::{Refusal, refusal, validate};
use crate::{Faults, clock};

/// The body of `POST /prompt`.
#[derive(Deserialize)]
struct Body {
    prompt: Option<Map<String, Value>>,
    prompt_id: Option<Value>,
    client_id: Option<String>,
    number: Option<f64>,
    #[serde(default)]
    front: bool,
    #[serde(default)]
    extra_data: Map<String, Value>,
    partial_execution_targets: Option<Vec<String>>,
}

/// `GET /prompt`.
pub(super) async fn remaining(State(app): State<App>) -> Json<Value> {
    Json(queue_info(&app.life.queue.lock()))
}

/// `POST /prompt`. What is not JSON is a fault of the server, as in ComfyUI.
pub(super) async fn submit(State(app): State<App>, body: Bytes) -> Response {
    let Ok(body) = serde_json::from_slice::<Body>(&body) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match accept(&app, body).await {
        Ok(reply) => Json(reply).into_response(),
        Err(refusal) => (StatusCode::BAD_REQUEST, Json(refusal)).into_response(),
    }
}

async fn accept(app: &App, body: Body) -> Result<Value, Refusal> {
    app.life.log("got prompt");
    let Some(mut graph) = body.prompt else {
        return Err(refuse("no_prompt", "No prompt provided", "No prompt provided"));
    };
    let (sim, newer) = (&app.sim, app.sim.config.version.is_newer());
    let id = prompt_id(body.prompt_id, newer)?;
    let own_faults = own_faults(&body.extra_data)?;
    let faults = own_faults.and(&sim.faults());
    if faults.slow_validation_ms > 0 {
        let _blocked = sim.event_loop.write().await;
        tokio::time::sleep(Duration::from_millis(faults.slow_validation_ms)).await;
    }
    let number = app.life.queue.lock().number(body.number, body.front);
    let targets = body.partial_execution_targets.as_deref();
    let valid = validate(&mut graph, targets, &sim.catalog, &sim.folders, sim.config.version)?;
    if faults.foreign_prompt_s > 0.0 {
        submit_foreign(app, faults.foreign_prompt_s);
    }
    let extra_data = extra_data(body.extra_data, body.client_id, newer);
    let reply = json!({ "prompt_id": id, "number": number, "node_errors": valid.node_errors });
    let outputs = valid.outputs;
    app.life.submit(Arc::new(Prompt {
        number,
        id,
        graph,
        extra_data,
        outputs,
        faults: own_faults,
    }));
    Ok(reply)
}

fn extra_data(
    mut given: Map<String, Value>,
    client_id: Option<String>,
    newer: bool,
) -> Map<String, Value> {
    if let Some(client_id) = client_id {
        given.insert("client_id".to_owned(), json!(client_id));
    }
    if newer {
        given.insert("create_time".to_owned(), json!(clock::now_ms()));
    }
    given
}

/// The faults that a submission asks for, for itself.
fn own_faults(extra_data: &Map<String, Value>) -> Result<Faults, Refusal> {
    let Some(wished) = extra_data.get("sim_faults") else { return Ok(Faults::default()) };
    Faults::deserialize(wished)
        .map_err(|error| refuse("invalid_sim_faults", "Unknown fault", &error.to_string()))
}

/// Queues a prompt of somebody else, before the one that is just coming.
fn submit_foreign(app: &App, seconds: f64) {
    let graph = json!({
        "1": { "class_type": "EmptyImage", "inputs": { "width": 16, "height": 16, "batch_size": 1, "color": 0 } },
        "2": { "class_type": "SimSleep", "inputs": { "value": ["1", 0], "seconds": seconds } },
        "3": { "class_type": "PreviewImage", "inputs": { "images": ["2", 0] } },
    });
    let prompt = Prompt {
        number: app.life.queue.lock().number(None, true),
        id: Uuid::new_v4().to_string(),
        graph: graph.as_object().cloned().unwrap_or_default(),
        extra_data: extra_data(
            Map::new(),
            Some("somebody-else".to_owned()),
            app.sim.config.version.is_newer(),
        ),
        outputs: vec!["3".to_owned()],
        faults: Faults::default(),
    };
    app.life.submit(Arc::new(prompt));
}

/// The id of a prompt: any text for the older version, only a lowercase UUID for the newer one.
fn prompt_id(wished: Option<Value>, newer: bool) -> Result<String, Refusal> {
    let Some(wished) = wished else { return Ok(Uuid::new_v4().to_string()) };
    let wished = wished.as_str().map_or_else(|| wished.to_string(), str::to_owned);
    let canonical = Uuid::parse_str(&wished).is_ok_and(|id| id.to_string() == wished);
    if canonical || !newer {
        return Ok(wished);
    }
    Err(refuse("invalid_prompt_id", "prompt_id must be a canonical lowercase UUID", &wished))
}

fn refuse(kind: &str, message: &str, details: &str) -> Refusal {
    refusal(kind, message, details, json!({}), json!({}))
}
