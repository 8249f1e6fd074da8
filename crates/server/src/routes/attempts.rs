//! The worker protocol for one attempt: thin wrappers of the exchange, and the attempt's files.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
};
use pointsman_api::{
    ArtifactStored, AttemptRef, ErrorCode, FinishRequest, Problem, ReleaseRequest, Sha256Hex,
    check_file_name,
};
use pointsman_broker::{MAX_PREVIEW, PreviewError};
use pointsman_core::{
    JobId, Rejected, Token,
    command::{Finish, Held, Op, OpAnswer, Outcome},
    record::Job,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Errors,
    inputs::{Upload, check_form},
    protocol::single,
};
use crate::{
    app::App,
    extract::{self, Id, Params, Two, collect, header_text, id},
    refusal::{Answer, Refusal},
};

/// The service took the job.
#[utoipa::path(
    post, path = "/api/v1/worker/start", tag = "worker",
    request_body = AttemptRef,
    responses((status = 200, body = OpAnswer), Errors),
)]
pub(crate) async fn start(
    State(app): State<App>,
    extract::Json(request, _share): extract::Json<AttemptRef>,
) -> Answer<Json<OpAnswer>> {
    single(&app, &request, Op::Start).await
}

/// The attempt ended: completed, failed, or cancelled as it was asked.
#[utoipa::path(
    post, path = "/api/v1/worker/finish", tag = "worker",
    request_body = FinishRequest,
    responses((status = 200, body = OpAnswer), Errors),
)]
pub(crate) async fn finish(
    State(app): State<App>,
    extract::Json(request, _share): extract::Json<FinishRequest>,
) -> Answer<Json<OpAnswer>> {
    let (attempt, finish) = request.split();
    single(&app, &attempt, Op::Finish(finish)).await
}

/// The attempt is given back: a loss, not a failure.
#[utoipa::path(
    post, path = "/api/v1/worker/release", tag = "worker",
    request_body = ReleaseRequest,
    responses((status = 200, body = OpAnswer), Errors),
)]
pub(crate) async fn release(
    State(app): State<App>,
    extract::Json(request, _share): extract::Json<ReleaseRequest>,
) -> Answer<Json<OpAnswer>> {
    let (attempt, release) = request.split();
    single(&app, &attempt, release).await
}

/// A finished result of an attempt that lost the job meanwhile. It is always kept; it wins only
/// while the run has not ended.
#[utoipa::path(
    post, path = "/api/v1/worker/late", tag = "worker",
    request_body = FinishRequest,
    responses((status = 200, body = OpAnswer), Errors),
)]
pub(crate) async fn late(
    State(app): State<App>,
    extract::Json(request, _share): extract::Json<FinishRequest>,
) -> Answer<Json<OpAnswer>> {
    let (attempt, finish) = request.split();
    single(&app, &attempt, Op::Late(finish)).await
}

/// A cancel was asked for, and the service has confirmed that the job is gone.
#[utoipa::path(
    post, path = "/api/v1/worker/cancel-ack", tag = "worker",
    request_body = AttemptRef,
    responses((status = 200, body = OpAnswer), Errors),
)]
pub(crate) async fn cancel_ack(
    State(app): State<App>,
    extract::Json(request, _share): extract::Json<AttemptRef>,
) -> Answer<Json<OpAnswer>> {
    let finish = Finish { outcome: Outcome::Cancelled, last_progress: None };
    single(&app, &request, Op::Finish(finish)).await
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AttemptQuery {
    #[param(value_type = String)]
    job: JobId,
    attempt: u32,
}

/// Store a result file under the attempt's token, before its end is handed in. An exact repeat
/// gets the same answer; other content under the same name is refused.
#[utoipa::path(
    put, path = "/api/v1/worker/attempts/{token}/artifacts/{name}", tag = "worker",
    params(
        ("token" = String, Path),
        ("name" = String, Path, description = "`{node}-{index}-{file}`"),
        AttemptQuery,
        ("x-content-sha256" = Option<String>, Header, description = "Lowercase hex; checked"),
    ),
    request_body(content_type = "application/octet-stream"),
    responses((status = 200, body = ArtifactStored), Errors),
)]
pub(crate) async fn put_artifact(
    State(app): State<App>,
    Two(token, name): Two,
    Params(query): Params<AttemptQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ArtifactStored>> {
    check_file_name(&name)?;
    check_form(&headers)?;
    let held = Held { job: query.job, attempt: query.attempt, token: id(&token)? };
    let expected = expected_digest(&headers)?;
    check_may_store(&*find(&app, held.job).await?, held)?;
    let upload = Upload::new(&app);
    let file = upload.file_of(body);
    let stored = app.files.put_artifact(held, &name, file, expected.as_ref()).await?;
    Ok(Json(ArtifactStored { name, size: stored.size, sha256: stored.sha256.to_string() }))
}

fn expected_digest(headers: &HeaderMap) -> Result<Option<Sha256Hex>, Problem> {
    let Some(value) = headers.get("x-content-sha256") else { return Ok(None) };
    let digest = value.to_str().unwrap_or_default().parse::<Sha256Hex>();
    digest.map(Some).map_err(|problem| {
        problem
            .at("X-Content-Sha256")
            .cure("send the SHA-256 of the body as 64 lowercase hex digits")
    })
}

async fn find(app: &App, id: JobId) -> Answer<Arc<Job>> {
    app.broker.job(id).await?.ok_or_else(|| Rejected::JobNotFound(id).into())
}

/// An attempt stores files while it has the job; one that lost it, for its late result; and one
/// that has handed in its end may repeat what it did.
fn check_may_store(job: &Job, held: Held) -> Result<(), Rejected> {
    let is_last = job.attempt == held.attempt && job.token == Some(held.token);
    let was = job.past.iter().any(|past| (past.attempt, past.token) == (held.attempt, held.token));
    match is_last || was {
        true => Ok(()),
        false if held.attempt < job.attempt => {
            Err(Rejected::StaleAttempt { job: job.id, current: job.attempt })
        }
        false => Err(Rejected::UnknownAttempt(job.id)),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PreviewQuery {
    #[param(value_type = String)]
    job: JobId,
    attempt: u32,
    /// Counts the attempt's pictures up from 1; an older one is old news.
    n: u32,
}

/// Pass on what the job looks like now: PNG, JPEG, WebP or GIF, at most 4 MiB.
#[utoipa::path(
    put, path = "/api/v1/worker/attempts/{token}/preview", tag = "worker",
    params(("token" = String, Path), PreviewQuery),
    request_body(content_type = "image/*"),
    responses((status = 204), Errors),
)]
pub(crate) async fn put_preview(
    State(app): State<App>,
    Id(token): Id<Token>,
    Params(query): Params<PreviewQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let media_type = picture_type(&headers)?;
    let job = find(&app, query.job).await?;
    if job.token != Some(token) || job.attempt != query.attempt || !job.is_running() {
        return Err(Rejected::StaleAttempt { job: job.id, current: job.attempt }.into());
    }
    let mut share = app.bodies.share();
    let bytes = collect(body, MAX_PREVIEW, 2 * MAX_PREVIEW, &mut share).await;
    let bytes = bytes.map_err(|problem| match problem.is(ErrorCode::BodyTooLarge) {
        true => Problem::new(ErrorCode::FileTooLarge, problem.detail.clone()),
        false => problem,
    })?;
    match app.broker.set_preview(job.id, query.attempt, query.n, bytes, media_type).await {
        // An older picture than the one that is here is dropped, like a repeat.
        Ok(()) | Err(PreviewError::OldNews) => Ok(StatusCode::NO_CONTENT),
        // The record is ahead of the view for a moment: the next picture will be shown.
        Err(PreviewError::NotRunning) => Ok(StatusCode::NO_CONTENT),
        Err(error @ PreviewError::TooLarge(_)) => {
            Err(Refusal::new(ErrorCode::FileTooLarge, error.to_string()))
        }
    }
}

fn picture_type(headers: &HeaderMap) -> Result<String, Problem> {
    let given = header_text(headers, header::CONTENT_TYPE);
    let known = ["image/png", "image/jpeg", "image/webp", "image/gif"];
    given.filter(|given| known.contains(given)).map(str::to_owned).ok_or_else(|| {
        Problem::new(ErrorCode::WrongType, "a preview is a PNG, JPEG, WebP or GIF")
            .at("Content-Type")
            .cure("send Content-Type: image/png, image/jpeg, image/webp or image/gif")
    })
}
