//! `/api/jobs`, in newer versions only: what queue and history know, under one roof.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use crate::life::Life;
use crate::queue::Prompt;

#[derive(Deserialize)]
pub(super) struct Filter {
    /// Several with commas between them.
    status: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

/// `GET /api/jobs`, newest first.
pub(super) async fn list(State(app): State<App>, Query(filter): Query<Filter>) -> Json<Value> {
    let wanted = |job: &Value| {
        let status = job["status"].as_str().unwrap_or_default();
        filter.status.as_ref().is_none_or(|wanted| wanted.split(',').any(|wanted| wanted == status))
    };
    let mut jobs: Vec<Value> = all(&app.life).into_iter().filter(wanted).collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job["create_time"].as_i64()));
    let total = jobs.len();
    let limit = filter.limit.unwrap_or(usize::MAX);
    let page: Vec<Value> = jobs.into_iter().skip(filter.offset).take(limit).collect();
    let has_more = filter.offset + page.len() < total;
    let pagination = json!({ "offset": filter.offset, "limit": filter.limit, "total": total, "has_more": has_more });
    Json(json!({ "jobs": page, "pagination": pagination }))
}

/// `GET /api/jobs/{id}`.
pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> (StatusCode, Json<Value>) {
    match all(&app.life).into_iter().find(|job| job["id"] == id) {
        Some(mut job) => {
            if let Some(entry) = app.life.history.lock().get(&id) {
                job["outputs"] = entry["outputs"].clone();
                job["execution_status"] = entry["status"].clone();
                job["workflow"] =
                    json!({ "prompt": entry["prompt"][2], "extra_data": entry["prompt"][3] });
            }
            (StatusCode::OK, Json(job))
        }
        None => (StatusCode::NOT_FOUND, Json(json!({ "error": "Job not found" }))),
    }
}

/// `POST /api/jobs/{id}/cancel`: looks and acts in one step.
pub(super) async fn cancel(State(app): State<App>, Path(id): Path<String>) -> Json<Value> {
    Json(json!({ "cancelled": cancel_one(&app.life, &id) }))
}

#[derive(Deserialize)]
pub(super) struct Several {
    job_ids: Vec<String>,
}

/// `POST /api/jobs/cancel`.
pub(super) async fn cancel_many(
    State(app): State<App>,
    Json(several): Json<Several>,
) -> Json<Value> {
    let cancelled = several.job_ids.iter().filter(|id| cancel_one(&app.life, id)).count();
    Json(json!({ "cancelled": cancelled > 0 }))
}

fn cancel_one(life: &Life, id: &str) -> bool {
    if life.delete(id) {
        return true;
    }
    let queue = life.queue.lock();
    let running = queue.is_running(id);
    if running {
        life.interrupt.want();
    }
    running
}

fn all(life: &Life) -> Vec<Value> {
    let queue = life.queue.lock();
    let history = life.history.lock();
    let running = queue.running.iter().map(|prompt| queued(prompt, "in_progress"));
    let pending = queue.pending().map(|prompt| queued(prompt, "pending"));
    running.chain(pending).chain(history.iter().map(|(id, entry)| ended(id, entry))).collect()
}

fn queued(prompt: &Prompt, status: &str) -> Value {
    json!({
        "id": prompt.id, "status": status, "priority": prompt.number, "create_time": prompt.extra_data.get("create_time"),
        "outputs_count": 0,
    })
}

fn ended(id: &str, entry: &Value) -> Value {
    let messages = entry["status"]["messages"].as_array();
    let data = |kinds: &[&str]| {
        let mut found = messages
            .into_iter()
            .flatten()
            .filter(|message| kinds.iter().any(|kind| message[0] == *kind));
        found.next().map(|message| &message[1])
    };
    let status = match (entry["status"]["status_str"].as_str(), data(&["execution_interrupted"])) {
        (_, Some(_)) => "cancelled",
        (Some("error"), None) => "failed",
        _ => "completed",
    };
    let ends = data(&["execution_success", "execution_error", "execution_interrupted"]);
    let mut job = json!({
        "id": id, "status": status, "priority": entry["prompt"][0], "create_time": entry["prompt"][3]["create_time"],
        "execution_start_time": data(&["execution_start"]).map(|data| &data["timestamp"]),
        "execution_end_time": ends.map(|data| &data["timestamp"]),
        "outputs_count": entry["outputs"].as_object().map(|nodes| pointsman_comfyui::output_files(nodes).len()),
    });
    if let Some(error) = data(&["execution_error"]) {
        job["execution_error"] = error.clone();
    }
    job
}
