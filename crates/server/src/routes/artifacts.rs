//! Result files, with ranges.

use std::ops::Range;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pointsman_api::{ErrorCode, Problem, check_file_name};
use pointsman_core::{JobId, record::Artifact};

use super::{
    Errors,
    job::{LateQuery, find},
};
use crate::{
    access::Caller,
    app::App,
    extract::{Params, Two, header_text, id},
    files::FileReader,
    refusal::{Answer, Refusal},
};

/// Files are shown, never run: a page among them must not act as this server's own.
const SANDBOX: &str =
    "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'";

/// A result file of the job, or of an attempt's late result, under its own media type. A range of
/// bytes (`Range`, with `If-Range`) is answered with 206, a file that is known already
/// (`If-None-Match`) with 304.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/artifacts/{name}", tag = "jobs",
    params(
        ("id" = String, Path),
        ("name" = String, Path),
        LateQuery,
        ("range" = Option<String>, Header, description = "Such as `bytes=0-1023`: one range"),
        ("if-range" = Option<String>, Header, description = "The `ETag` that the range is of"),
        ("if-none-match" = Option<String>, Header, description = "The `ETag` of what is known"),
    ),
    responses(
        (
            status = 200, content_type = "*/*",
            headers(("etag" = String, description = "The file's SHA-256, in quotes")),
        ),
        (status = 206, content_type = "*/*"),
        (status = 304, description = "It is the one that `If-None-Match` names"),
        Errors,
    ),
)]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Two(job, name): Two,
    Params(LateQuery { attempt }): Params<LateQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let job_id: JobId = id(&job)?;
    check_file_name(&name)?;
    let job = find(&app, &caller, job_id).await?;
    let (artifact, reader) = app
        .files
        .artifact(&job, attempt, &name)
        .ok_or_else(|| not_listed(job_id, attempt, &name))?;
    let etag = format!("\"{}\"", artifact.sha256);
    if header_text(&headers, header::IF_NONE_MATCH).is_some_and(|known| matches_etag(known, &etag))
    {
        return Ok((StatusCode::NOT_MODIFIED, describe(&artifact, &etag)).into_response());
    }
    // The record lists it.
    let gone = || Refusal::new(ErrorCode::ArtifactGone, app.files.missing(&name));
    let range = header_text(&headers, header::RANGE);
    let range =
        range.filter(|_| header_text(&headers, header::IF_RANGE).is_none_or(|known| known == etag));
    match range.map_or(Asked::Whole, |range| asked(range, reader.size)) {
        Asked::Whole => {
            let body = read(&reader, None).await?.ok_or_else(gone)?;
            let mut response = (describe(&artifact, &etag), body).into_response();
            response.headers_mut().insert(header::CONTENT_LENGTH, reader.size.into());
            Ok(response)
        }
        Asked::Part(part) => {
            let body = read(&reader, Some(part.clone())).await?.ok_or_else(gone)?;
            let shown = format!("bytes {}-{}/{}", part.start, part.end - 1, reader.size);
            Ok(partial(describe(&artifact, &etag), body, &shown, part.end - part.start))
        }
        Asked::Outside => {
            let detail = format!("the file has {} bytes", reader.size);
            let refusal = Refusal::new(ErrorCode::RangeNotSatisfiable, detail);
            let mut response = refusal.into_response();
            insert(
                response.headers_mut(),
                header::CONTENT_RANGE,
                &format!("bytes */{}", reader.size),
            );
            Ok(response)
        }
    }
}

/// The record lists no such file.
fn not_listed(job: JobId, attempt: Option<u32>, name: &str) -> Problem {
    let code = ErrorCode::ArtifactNotFound;
    match attempt {
        None => Problem::new(code, format!("job {job} has no artifact {name:?}")),
        Some(attempt) => {
            Problem::new(code, format!("attempt {attempt} of job {job} handed in no {name:?} late"))
                .at("?attempt")
                .cure(
                    "see `late_artifacts` of the record's `past_attempts`; what ended the job is \
                     asked for without `attempt`",
                )
        }
    }
}

async fn read(reader: &FileReader, range: Option<Range<u64>>) -> Answer<Option<Body>> {
    Ok(reader.read(range).await?.map(Body::from_stream))
}

fn partial(headers: HeaderMap, body: Body, range: &str, length: u64) -> Response {
    let mut response = (StatusCode::PARTIAL_CONTENT, headers, body).into_response();
    insert(response.headers_mut(), header::CONTENT_RANGE, range);
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

fn describe(artifact: &Artifact, etag: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    insert(&mut headers, header::CONTENT_TYPE, &artifact.media_type);
    insert(&mut headers, header::ETAG, etag);
    for (name, value) in [
        (header::ACCEPT_RANGES, "bytes"),
        // What is bound to a job never changes; but who may see it can.
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, SANDBOX),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    let value = HeaderValue::try_from(value);
    headers.insert(name, value.unwrap_or(HeaderValue::from_static("application/octet-stream")));
}

fn matches_etag(known: &str, etag: &str) -> bool {
    known.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == etag)
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Part(Range<u64>),
    Outside,
}

/// What a `Range` header asks of a file of `size` bytes. Several ranges, or other units, are
/// answered with the whole.
fn asked(range: &str, size: u64) -> Asked {
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .filter(|spec| !spec.contains(','))
        .and_then(|spec| spec.trim().split_once('-'))
    else {
        return Asked::Whole;
    };
    // Digits alone (RFC 9110, 14.1.1): a sign is none.
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    let (start, end) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(size)),
        (Some(first), None) if last.is_empty() => (first, size),
        (None, Some(suffix)) if first.is_empty() => (size.saturating_sub(suffix), size),
        _ => return Asked::Whole,
    };
    if start < end { Asked::Part(start..end) } else { Asked::Outside }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        for (range, expected) in [
            ("bytes=0-9", Asked::Part(0..10)),
            ("bytes=90-", Asked::Part(90..100)),
            ("bytes=-10", Asked::Part(90..100)),
            ("bytes=-1000", Asked::Part(0..100)),
            ("bytes=50-1000", Asked::Part(50..100)),
            ("bytes=+5-10", Asked::Whole),
            ("bytes=5-+10", Asked::Whole),
            ("bytes=100-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=0-1,5-6", Asked::Whole),
            ("bytes=9-3", Asked::Whole),
            ("bytes=x-y", Asked::Whole),
            ("lines=1-2", Asked::Whole),
        ] {
            assert_eq!(asked(range, 100), expected, "{range}");
        }
        assert_eq!(asked("bytes=0-", 0), Asked::Outside);
    }
}
