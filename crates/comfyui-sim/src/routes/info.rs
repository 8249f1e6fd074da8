use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, python};

const GIB: u64 = 1 << 30;

/// `GET /system_stats`, of a machine with one made-up GPU.
pub(super) async fn system_stats(State(app): State<App>) -> Json<Value> {
    let version = app.sim.config.version;
    let mut system = json!({
        "os": if version.is_newer() { "linux" } else { "posix" }, "ram_total": 64 * GIB, "ram_free": 48 * GIB,
        "comfyui_version": version.as_str(), "required_frontend_version": "1.45.20",
        "installed_templates_version": "0.11.9", "required_templates_version": "0.11.9",
        "python_version": "3.11.7 (simulated)", "pytorch_version": "2.15.0+cu132", "embedded_python": false,
        "argv": ["main.py"],
    });
    if version.is_newer() {
        let frontend = json!({ "name": "comfyui-frontend-package", "installed": "1.45.20", "required": "1.45.20" });
        system["comfy_package_versions"] = json!([frontend]);
        system["deploy_environment"] = json!("local-git");
    }
    let device = json!({
        "name": "cuda:0 Simulated GPU", "type": "cuda", "index": 0, "vram_total": 24 * GIB, "vram_free": 20 * GIB,
        "torch_vram_total": 2 * GIB, "torch_vram_free": GIB,
    });
    Json(json!({ "system": system, "devices": [device] }))
}

/// `GET /features`.
pub(super) async fn features(State(app): State<App>) -> Json<Value> {
    Json(server_features(app.sim.config.version.is_newer()))
}

/// What the server can do (recording routes.json).
pub(super) fn server_features(newer: bool) -> Value {
    let mut features =
        json!({ "supports_preview_metadata": true, "max_upload_size": super::MAX_BODY_BYTES });
    if newer {
        features["supports_model_type_tags"] = json!(true);
        features["extension"] = json!({ "manager": { "supports_v4": true } });
        features["node_replacements"] = json!(true);
        features["assets"] = json!(false);
    }
    features
}

/// `GET /object_info`.
pub(super) async fn object_info(State(app): State<App>) -> Response {
    let classes = app.sim.catalog.object_info(None, &app.sim.folders.input_images());
    match app.sim.faults().python_json {
        true => python::classes(&classes).into_response(),
        false => Json(classes).into_response(),
    }
}

/// `GET /object_info/{class}`: empty for an unknown one.
pub(super) async fn object_info_of(
    State(app): State<App>,
    Path(class): Path<String>,
) -> Json<Value> {
    Json(app.sim.catalog.object_info(Some(&class), &app.sim.folders.input_images()))
}

/// `GET /models`.
pub(super) async fn model_folders() -> Json<Value> {
    Json(json!([
        "checkpoints",
        "loras",
        "vae",
        "text_encoders",
        "diffusion_models",
        "embeddings",
        "controlnet"
    ]))
}

/// `GET /models/{folder}`.
pub(super) async fn models(
    State(app): State<App>,
    Path(folder): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    match folder.as_str() {
        "checkpoints" => Ok(Json(json!(app.sim.config.checkpoints))),
        "loras" | "vae" | "text_encoders" | "diffusion_models" | "embeddings" | "controlnet" => {
            Ok(Json(json!([])))
        }
        _ => Err(StatusCode::NOT_FOUND),
    }
}

/// `GET /embeddings`.
pub(super) async fn embeddings() -> Json<Value> {
    Json(json!([]))
}

#[derive(Deserialize, Default)]
struct Free {
    #[serde(default)]
    free_memory: bool,
}

/// `POST /free`: only leaves a wish, which is fulfilled between prompts.
pub(super) async fn free(State(app): State<App>, body: Bytes) -> StatusCode {
    let wish: Free = serde_json::from_slice(&body).unwrap_or_default();
    if wish.free_memory {
        app.life.free_cache.store(true, Ordering::SeqCst);
        app.life.work.notify_one();
    }
    StatusCode::OK
}

/// `GET /internal/logs/raw`.
pub(super) async fn logs(State(app): State<App>) -> Json<Value> {
    Json(json!({ "entries": app.life.logs(), "size": { "cols": 80, "rows": 24 } }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subscribe {
    client_id: String,
    enabled: bool,
}

/// `PATCH /internal/logs/subscribe`.
pub(super) async fn subscribe_logs(
    State(app): State<App>,
    Json(wish): Json<Subscribe>,
) -> StatusCode {
    app.life.hub.subscribe_logs(&wish.client_id, wish.enabled);
    StatusCode::OK
}
