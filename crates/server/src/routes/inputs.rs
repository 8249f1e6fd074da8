//! Files that jobs bring.

use std::{io, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt as _, stream::try_unfold};
use pointsman_api::{ErrorCode, InputStored, Problem, Sha256Hex};
use tokio::sync::Mutex;

use super::Errors;
use crate::{
    app::App,
    body::{Incoming, Share},
    extract::{One, header_text},
    files::{ByteStream, RECEIVING},
    refusal::{Answer, Refusal},
};

/// What browsers and `curl -F` or `-d` wrap a file in.
const FORMS: [&str; 2] = ["multipart/form-data", "application/x-www-form-urlencoded"];

/// What is in memory of a file while it is taken in, however long that is.
pub(super) struct Upload(Arc<Mutex<Share>>);

impl Upload {
    pub fn new(app: &App) -> Self {
        Self(Arc::new(Mutex::new(app.bodies.share())))
    }

    /// The body of a request as the bytes of a file, for which there is room as they come.
    pub fn file_of(&self, body: Body) -> ByteStream {
        let next = |(mut body, share): (Incoming, Arc<Mutex<Share>>)| async {
            let Some(piece) = body.piece().await? else { return Ok(None) };
            let grown = share.lock().await.grow_to(body.read().min(RECEIVING)).await;
            grown.map_err(io::Error::other)?;
            Ok(Some((piece, (body, share))))
        };
        try_unfold((Incoming::new(body), self.0.clone()), next).boxed()
    }
}

/// A form is not the file in it: stored as it comes, it would be another file.
pub(super) fn check_form(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = header_text(headers, header::CONTENT_TYPE);
    let media_type =
        media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let form = FORMS.iter().find(|form| media_type.eq_ignore_ascii_case(form));
    let Some(form) = form else { return Ok(()) };
    let detail = format!("the Content-Type is {form}: the body of an upload is the file itself");
    Err(Problem::new(ErrorCode::WrongMediaType, detail).at("Content-Type"))
}

/// Upload a file of 1 byte to 4 GiB: the body is the file, not a form with it. The answer names it
/// by its content; a job names it in `inputs`.
#[utoipa::path(
    post, path = "/api/v1/inputs", tag = "inputs",
    request_body(content_type = "application/octet-stream"),
    responses((status = 201, body = InputStored), Errors),
)]
pub(crate) async fn upload(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, Json<InputStored>)> {
    check_form(&headers)?;
    let upload = Upload::new(&app);
    let stored = app.files.put_input(upload.file_of(body)).await?;
    let input = format!("sha256:{}", stored.sha256);
    Ok((StatusCode::CREATED, Json(InputStored { input, size: stored.size })))
}

/// An uploaded file.
#[utoipa::path(
    get, path = "/api/v1/inputs/{sha256}", tag = "inputs",
    params(("sha256" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream"), Errors),
)]
pub(crate) async fn get(State(app): State<App>, One(sha256): One) -> Answer<Response> {
    let sha256: Sha256Hex = sha256.parse().map_err(|problem: Problem| {
        problem
            .cure("name the file by the 64 hex digits of its SHA-256, as POST /api/v1/inputs did")
    })?;
    let none = || {
        let mut refusal = Refusal::new(ErrorCode::InputNotFound, format!("no input {sha256}"));
        refusal.0.status = StatusCode::NOT_FOUND.as_u16();
        refusal
    };
    let reader = app.files.input(&sha256).await?.ok_or_else(none)?;
    let stream = reader.read(None).await?.ok_or_else(none)?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, reader.size.to_string()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}
