use std::path::Path;
use std::str::FromStr as _;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::{Multipart, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, python};
use crate::folders::Root;

#[derive(Deserialize)]
pub(super) struct Which {
    filename: Option<String>,
    #[serde(default)]
    subfolder: String,
    #[serde(default, rename = "type")]
    root: Option<String>,
}

/// `GET /view`. A path that leads outside is 400, a file that is not there 404 (recording routes.json).
pub(super) async fn view(State(app): State<App>, Query(which): Query<Which>) -> Response {
    let root = Root::from_str(which.root.as_deref().unwrap_or("output"));
    let (Some(filename), Ok(root)) = (which.filename, root) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Ok(path) = app.sim.folders.resolve(root, &which.subfolder, &filename) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if app.sim.faults().file_refused {
        return StatusCode::FORBIDDEN.into_response();
    }
    let tag = etag(&path).await.unwrap_or_default();
    match tokio::fs::read(path).await {
        Ok(bytes) => {
            let headers = [
                (header::CONTENT_TYPE, media_type(&filename).to_owned()),
                (header::CONTENT_DISPOSITION, format!("filename=\"{filename}\"")),
                (header::ETAG, tag),
            ];
            (headers, bytes).into_response()
        }
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// As aiohttp makes it: the time of the last change, and the size.
async fn etag(path: &Path) -> Option<String> {
    let file = tokio::fs::metadata(path).await.ok()?;
    let changed = file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("\"{:x}-{:x}\"", changed.as_nanos(), file.len()))
}

fn media_type(filename: &str) -> &'static str {
    match filename.rsplit('.').next().unwrap_or_default() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        _ => "application/octet-stream",
    }
}

/// `POST /upload/image`.
pub(super) async fn upload(
    State(app): State<App>,
    form: Multipart,
) -> Result<Json<Value>, StatusCode> {
    let upload = read(form).await?;
    let Some((name, bytes)) = upload.image else { return Err(StatusCode::BAD_REQUEST) };
    let saved = app.sim.folders.upload(&upload.subfolder, &name, &bytes, upload.overwrite);
    let name = saved.map_err(|error| match error.raw_os_error() {
        Some(errno) => {
            app.life.log(&python::traceback(errno, &error));
            StatusCode::INTERNAL_SERVER_ERROR
        }
        None => StatusCode::BAD_REQUEST,
    })?;
    Ok(Json(json!({ "name": name, "subfolder": upload.subfolder, "type": "input" })))
}

#[derive(Default)]
struct Upload {
    image: Option<(String, bytes::Bytes)>,
    subfolder: String,
    overwrite: bool,
}

async fn read(mut form: Multipart) -> Result<Upload, StatusCode> {
    let mut upload = Upload::default();
    while let Some(field) = form.next_field().await.map_err(|error| error.status())? {
        match field.name() {
            Some("image") => {
                let name = field.file_name().unwrap_or_default().to_owned();
                upload.image = Some((name, field.bytes().await.map_err(|error| error.status())?));
            }
            Some("subfolder") => {
                upload.subfolder = field.text().await.map_err(|error| error.status())?
            }
            Some("overwrite") => {
                let wish = field.text().await.map_err(|error| error.status())?;
                upload.overwrite = wish == "true" || wish == "1";
            }
            _ => {}
        }
    }
    Ok(upload)
}
