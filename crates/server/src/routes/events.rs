//! Event streams, and the raw log.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt as _, stream};
use pointsman_api::{ErrorCode, LogPage, Problem};
use pointsman_broker::{JobStream, LogError, Viewer};
use pointsman_core::JobId;
use pointsman_store::Position;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    Errors,
    frames::{JobData, ViewData},
    job::find,
    jobs::limit,
    page::Page,
};
use crate::{
    access::Caller,
    app::App,
    extract::{Id, Params},
    parameter,
    refusal::{Answer, Refusal},
    streams::OpenStream,
    written::Written,
};

const DEFAULT_GROUPS: u32 = 1_000;
const MAX_GROUPS: u32 = 10_000;
/// Milliseconds.
const MAX_CONFLATE: u32 = 5_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// `EPOCH.SEQ`: go on after it. The header `Last-Event-ID` wins over it. Without either the
    /// stream begins with `full_state_snapshot`.
    after: Option<String>,
    /// Milliseconds, 0 to 5,000: what happens in that time is one group with the newest event of
    /// each record.
    #[param(maximum = 5000)]
    conflate: Option<u32>,
    /// What `pulse` tells after the first one; the whole unless given.
    #[param(inline)]
    pulse: Option<PulseForm>,
}

/// What the events named `pulse` tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PulseForm {
    /// Always of everybody.
    #[default]
    Whole,
    /// Of a large fleet only what has changed.
    Changes,
}

/// The view as it changes, as server-sent events.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events",
    params(EventsQuery, ("last-event-id" = Option<String>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = ViewData), Errors),
)]
pub(crate) async fn events(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Params(query): Params<EventsQuery>,
) -> Answer<Response> {
    let after = match headers.get("last-event-id") {
        Some(id) => Some(position(id.to_str().unwrap_or_default(), "Last-Event-ID")?),
        None => query.after.as_deref().map(|after| position(after, "?after")).transpose()?,
    };
    let conflate = query.conflate.unwrap_or(0);
    if conflate > MAX_CONFLATE {
        return Err(parameter::out_of_range("conflate", conflate, (0, MAX_CONFLATE)).into());
    }
    let open = app.streams.open(None)?;
    let viewer = app.broker.viewer(after, Duration::from_millis(conflate.into()));
    let viewer = match query.pulse.unwrap_or_default() {
        PulseForm::Whole => viewer,
        PulseForm::Changes => viewer.with_pulse_changes(),
    };
    let frames = stream::unfold((app.clone(), viewer, open), next_frame);
    Ok(server_sent(until_revoked(app, caller, frames)))
}

async fn next_frame(
    (app, mut viewer, open): (App, Viewer, OpenStream),
) -> Option<(Written, (App, Viewer, OpenStream))> {
    let frame = app.stopping.run_until_cancelled(viewer.next()).await??;
    Some((Written::new(frame.lines()), (app, viewer, open)))
}

/// One job: its record now, then its events and progress; ends with its last event.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/events", tag = "events",
    params(("id" = String, Path)),
    responses((status = 200, content_type = "text/event-stream", body = JobData), Errors),
)]
pub(crate) async fn job_events(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<JobId>,
) -> Answer<Response> {
    find(&app, &caller, id).await?;
    let open = app.streams.open(caller.customer())?;
    let gone = || Refusal::from(pointsman_core::Rejected::JobNotFound(id));
    let stream = app.broker.job_stream(id).await?.ok_or_else(gone)?;
    let frames = stream::unfold((app.clone(), stream, open), next_job_frame);
    Ok(server_sent(until_revoked(app, caller, frames)))
}

async fn next_job_frame(
    (app, mut stream, open): (App, JobStream, OpenStream),
) -> Option<(Written, (App, JobStream, OpenStream))> {
    let quiet = Duration::from_secs(5);
    let next = tokio::time::timeout(quiet, app.stopping.run_until_cancelled(stream.next()));
    let written = match next.await {
        Ok(frame) => Written::new(vec![frame??.line()]),
        Err(_) => Written::alive(),
    };
    Some((written, (app, stream, open)))
}

/// Frames to their end, or until the caller's token is revoked: then the last one says so.
fn until_revoked(
    app: App,
    caller: Caller,
    frames: impl Stream<Item = Written> + Send + 'static,
) -> impl Stream<Item = Written> + Send {
    stream::unfold(Some(Box::pin(frames)), move |frames| {
        let (app, caller) = (app.clone(), caller.clone());
        async move {
            let mut frames = frames?;
            tokio::select! {
                biased;
                problem = app.gate.revoked(&caller) => Some((Written::refused(&problem), None)),
                written = frames.next() => Some((written?, Some(frames))),
            }
        }
    })
}

fn position(text: &str, pointer: &str) -> Result<Position, Problem> {
    let bad = |error| {
        let shown: String = text.chars().take(60).collect();
        Problem::new(ErrorCode::BadPosition, format!("{shown:?} is {error}")).at(pointer)
    };
    text.parse().map_err(bad)
}

fn server_sent(frames: impl Stream<Item = Written> + Send + 'static) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies must not collect events before they pass them on.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let pieces = frames.flat_map(stream::iter).map(Ok::<_, Infallible>);
    (headers, Body::from_stream(pieces)).into_response()
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// `EPOCH.SEQ`: what comes after it. Without it, from the beginning of the current epoch.
    after: Option<String>,
    /// Changes of one seq are a group: groups at most, 1 to 10,000; 1,000 unless given. A page also
    /// ends with the group that brings it to 4 MiB.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<u32>,
}

/// The raw log: every event, unconflated, also of pending jobs; go on after `next` until it stays
/// the same. 410 with the oldest kept seq when what follows the position is no longer kept.
#[utoipa::path(
    get, path = "/api/v1/log", tag = "events",
    params(LogQuery),
    responses((status = 200, body = LogPage), Errors),
)]
pub(crate) async fn log(
    State(app): State<App>,
    Params(query): Params<LogQuery>,
) -> Answer<Response> {
    let limit = limit(query.limit, DEFAULT_GROUPS, MAX_GROUPS)?;
    let after = match &query.after {
        Some(after) => position(after, "?after")?,
        None => Position { epoch: app.broker.store().epoch(), seq: 0 },
    };
    let begin = format!("{{\"epoch\":\"{}\",\"events\":[", after.epoch);
    let mut page = Page::new(&app, begin, limit);
    let next = write_log(&app, after, &mut page).await?;
    Ok(page.ends(format_args!("],\"next\":\"{next}\"}}")))
}

/// Writes groups of the log, as many as a page has room for, and returns where the next one begins.
async fn write_log(app: &App, after: Position, page: &mut Page) -> Answer<Position> {
    let mut next = after;
    loop {
        let wanted = page.room();
        let groups = match app.broker.log(next.clone(), wanted).await {
            // Whoever goes on after this page is told.
            Err(_) if !page.is_empty() => return Ok(next),
            groups => groups.map_err(log_refusal)?,
        };
        for group in &groups {
            for event in &group.events {
                page.write(&event.to_json(group.seq, group.at)).await?;
            }
            next.seq = group.seq;
            if !page.goes_on() {
                return Ok(next);
            }
        }
        if groups.len() < wanted {
            return Ok(next);
        }
    }
}

fn log_refusal(error: LogError) -> Refusal {
    let oldest = match &error {
        LogError::Store(error) => return error.clone().into(),
        LogError::Cut { oldest } => Some(*oldest),
        LogError::OtherEpoch { .. } | LogError::BeyondHead => None,
    };
    let mut problem = Problem::new(ErrorCode::LogCut, error.to_string()).at("?after");
    problem.facts.oldest_seq = oldest;
    problem.into()
}
