//! The HTTP routes and the websocket. Every route exists below `/api` too.

mod control;
mod files;
mod guard;
mod history;
mod info;
mod jobs;
mod prompt;
mod python;
mod queue;
mod socket;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, patch, post};

use crate::life::Life;
use crate::sim::Sim;

/// Larger bodies get 413 (recorded on both versions).
const MAX_BODY_BYTES: usize = 100 << 20;

/// What every handler works with: what lasts, and the process that answers.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) sim: Arc<Sim>,
    pub(crate) life: Arc<Life>,
}

pub(crate) fn router(sim: Arc<Sim>, life: Arc<Life>) -> Router {
    let app = App { sim, life };
    Router::new()
        .merge(comfyui())
        .nest("/api", comfyui().merge(jobs(&app)))
        .fallback(no_such_route)
        .method_not_allowed_fallback(|| async { StatusCode::METHOD_NOT_ALLOWED })
        .layer(from_fn_with_state(app.clone(), guard::guard))
        .merge(control())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

fn comfyui() -> Router<App> {
    Router::new()
        .route("/prompt", get(prompt::remaining).post(prompt::submit))
        .route("/queue", get(queue::show).post(queue::change))
        .route("/interrupt", post(queue::interrupt))
        .route("/history", get(history::list).post(history::change))
        .route("/history/{id}", get(history::one))
        .route("/free", post(info::free))
        .route("/system_stats", get(info::system_stats))
        .route("/features", get(info::features))
        .route("/object_info", get(info::object_info))
        .route("/object_info/{class}", get(info::object_info_of))
        .route("/models", get(info::model_folders))
        .route("/models/{folder}", get(info::models))
        .route("/embeddings", get(info::embeddings))
        .route("/upload/image", post(files::upload))
        .route("/view", get(files::view))
        .route("/internal/logs/raw", get(info::logs))
        .route("/internal/logs/subscribe", patch(info::subscribe_logs))
        .route("/ws", get(socket::open))
}

/// Newer versions only.
fn jobs(app: &App) -> Router<App> {
    if !app.sim.config.version.is_newer() {
        return Router::new();
    }
    Router::new()
        .route("/jobs", get(jobs::list))
        .route("/jobs/cancel", post(jobs::cancel_many))
        .route("/jobs/{id}", get(jobs::one))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
}

fn control() -> Router<App> {
    Router::new()
        .route("/sim/faults", get(control::faults).post(control::set_faults))
        .route("/sim/restart", post(control::restart))
}

/// ComfyUI serves its pages to any GET, so other methods are "not allowed" rather than "not found" (recorded on 0.3.64).
async fn no_such_route(method: Method) -> StatusCode {
    if method == Method::GET { StatusCode::NOT_FOUND } else { StatusCode::METHOD_NOT_ALLOWED }
}
