//! One job: what it is, and cancel and retry.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use pointsman_api::{
    Attempts, CurrentProgress, ErrorCode, Explained, Problem, RetryRequest, read_json,
};
use pointsman_core::{
    Command, JobId, Rejected,
    record::{Job, JobRecord},
    to_json,
};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::Errors;
use crate::{
    access::{Caller, Permission},
    app::App,
    body::{Share, to_send},
    explain,
    extract::{Id, Params, Whole},
    files::{bound_token, late},
    refusal::{Answer, Refusal},
};

/// The job, if the caller may know of it.
pub(super) async fn find(app: &App, caller: &Caller, id: JobId) -> Answer<Arc<Job>> {
    let job = app.broker.job(id).await?.filter(|job| caller.sees(job));
    job.ok_or_else(|| Rejected::JobNotFound(id).into())
}

/// The job's record.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 200, body = JobRecord), Errors),
)]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<JobId>,
) -> Answer<Response> {
    counted(&app, &*find(&app, &caller, id).await?).await
}

/// Every attempt at the job.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/attempts", tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 200, body = Attempts), Errors),
)]
pub(crate) async fn attempts(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<JobId>,
) -> Answer<Json<Attempts>> {
    let record = JobRecord::from(&*find(&app, &caller, id).await?);
    Ok(Json(Attempts {
        run: record.run,
        attempt: record.attempt,
        status: record.status,
        worker_id: record.worker_id,
        past: record.past_attempts,
        late_results: record.late_results,
    }))
}

/// How far the job is, for a client that asks now and then in place of following its events.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/progress", tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 200, body = CurrentProgress), Errors),
)]
pub(crate) async fn progress(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<JobId>,
) -> Answer<Json<CurrentProgress>> {
    let job = find(&app, &caller, id).await?;
    let (at, progress) = (app.broker.store().now(), app.broker.progress(&job));
    let known = progress.is_some() || app.broker.has_listened(&job);
    Ok(Json(CurrentProgress { job: id, status: job.status(), at, progress, known }))
}

/// Why the job waits: rule by rule, how many workers pass or fail it, and which; a customer's token
/// is told how many.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/explain", tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 200, body = Explained), Errors),
)]
pub(crate) async fn explain(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<JobId>,
) -> Answer<Json<Explained>> {
    let job = find(&app, &caller, id).await?;
    let (mut explanation, ahead) =
        app.broker.store().explain(id).await?.ok_or(Refusal::from(Rejected::JobNotFound(id)))?;
    if !caller.may(Permission::Fleet) {
        explanation.forget_workers();
    }
    let progress = app.broker.progress(&job).map(|progress| {
        let heard = progress.last_event_at.filter(|_| job.started_at().is_some());
        let age = heard.map(|at| app.broker.store().now().since(at));
        (progress, age)
    });
    Ok(Json(Explained {
        job: id,
        status: job.status(),
        hold: job.hold(),
        answer: explain::sentence(&job, &explanation, ahead, progress),
        ahead: ahead.map(|ahead| ahead as u64),
        explanation,
    }))
}

/// The payload as it was submitted.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/payload", tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 200, body = Object), Errors),
)]
pub(crate) async fn payload(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<JobId>,
) -> Answer<Response> {
    let job = find(&app, &caller, id).await?;
    let share = app.answers.share_of(job.spec.payload_bytes).await?;
    let payload = app.broker.payload(id).await?.ok_or_else(|| payload_gone(id))?;
    Ok(json_text(payload, share))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LateQuery {
    /// Of the late result that this attempt handed in, and not of what ended the job.
    pub attempt: Option<u32>,
}

/// The service's own outputs.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/result", tag = "jobs",
    params(("id" = String, Path), LateQuery),
    responses((status = 200, body = Object), Errors),
)]
pub(crate) async fn result(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<JobId>,
    Params(LateQuery { attempt }): Params<LateQuery>,
) -> Answer<Response> {
    let job = find(&app, &caller, id).await?;
    let none = || {
        let whose = attempt.map(|attempt| format!("attempt {attempt} of ")).unwrap_or_default();
        let late = if attempt.is_some() { "late " } else { "" };
        Refusal::new(ErrorCode::ResultNotFound, format!("{whose}job {id} has no {late}result"))
    };
    let token = match attempt {
        None => bound_token(&job).filter(|_| job.is_ended()),
        Some(attempt) => late(&job, attempt).map(|past| past.token),
    };
    let token = token.ok_or_else(none)?;
    let share = app.answers.share_of(job.result_bytes).await?;
    let result = app.broker.store().result(id, Some(token)).await?.ok_or_else(none)?;
    Ok(json_text(result, share))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PictureQuery {
    /// The progress's `preview_n`: for a page, which has the next picture under another address. The
    /// newest comes in any case.
    #[serde(rename = "n")]
    _n: Option<u32>,
}

/// The newest picture of the running job.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/preview", tag = "jobs",
    params(("id" = String, Path), PictureQuery),
    responses((status = 200, content_type = "image/*"), Errors),
)]
pub(crate) async fn preview(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<JobId>,
    Params(_): Params<PictureQuery>,
) -> Answer<Response> {
    find(&app, &caller, id).await?;
    let none = || Refusal::new(ErrorCode::PreviewNotFound, format!("job {id} shows no preview"));
    let preview = app.broker.preview(id).await?.ok_or_else(none)?;
    let headers = [
        (header::CONTENT_TYPE, preview.media_type.as_str()),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let share = app.answers.share_of(preview.bytes.len() as u64).await?;
    Ok((headers, to_send(preview.bytes, share)).into_response())
}

/// Cancel the job. A pending one ends at once (200); a running one is asked to stop (202), and
/// shows `cancel_requested_at` until its worker has confirmed it.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = JobRecord, description = "It is cancelled"),
        (status = 202, body = JobRecord, description = "Cancelling"),
        Errors,
    ),
)]
pub(crate) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<JobId>,
) -> Answer<Response> {
    find(&app, &caller, id).await?;
    let job = act(&app, id, Command::Cancel { job: id }).await?;
    let status = if job.is_ended() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(&*job)).into_response())
}

/// Start a new run of the ended job.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/retry", tag = "jobs",
    params(("id" = String, Path)),
    request_body = Option<RetryRequest>,
    responses((status = 200, body = JobRecord), Errors),
)]
pub(crate) async fn retry(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<JobId>,
    Whole(body, _share): Whole,
) -> Answer<Response> {
    let RetryRequest { run } = match &body[..] {
        b"" | b"null" => RetryRequest::default(),
        body => read_json(body)?,
    };
    let ended = find(&app, &caller, id).await?;
    if app.broker.payload(id).await?.is_none() {
        return Err(payload_gone(id));
    }
    // A new run waits as a new job does.
    let begins = ended.is_ended() && run.is_none_or(|run| run == ended.run + 1);
    let _entering = match begins {
        true => Some(app.waiting.admit(&**app.broker.store()).await?),
        false => None,
    };
    let job = act(&app, id, Command::Retry { job: id, run }).await;
    let job = job.map_err(|refusal| match run {
        Some(_) if refusal.0.is(ErrorCode::InvalidState) => wrong_run(refusal.0),
        Some(_) => refusal,
        None => refusal.unrepeatable("look at the job's `run`, and retry with {\"run\": N}"),
    });
    Ok(Json(&*job?).into_response())
}

/// Carries the command out; answers with the job as it is then.
async fn act(app: &App, id: JobId, command: Command) -> Answer<Arc<Job>> {
    let done = app.broker.execute(command).await?;
    if let Some(job) = done.group.as_ref().and_then(|group| group.job(&id)) {
        return Ok(job.clone());
    }
    app.broker.job(id).await?.ok_or_else(|| Rejected::JobNotFound(id).into())
}

fn wrong_run(problem: Problem) -> Refusal {
    let cure = "look at the job: if it is to be run once more, send its `run` and one more";
    problem.at("/run").cure(cure).into()
}

fn payload_gone(id: JobId) -> Refusal {
    let detail = format!("the payload of job {id} is no longer kept");
    Problem::new(ErrorCode::PayloadGone, detail).into()
}

/// An answer that may be large, with its share of the room.
pub(super) async fn counted(app: &App, answer: &impl Serialize) -> Answer<Response> {
    let json = to_json(answer);
    let share = app.answers.share_of(json.len() as u64).await?;
    Ok(json_text(json, share))
}

/// An answer that may be large: its share of the room is held until it is sent.
pub(super) fn json_text(json: impl AsRef<[u8]> + Send + 'static, share: Share) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], to_send(json, share)).into_response()
}
