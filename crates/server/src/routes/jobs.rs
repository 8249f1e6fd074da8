//! Lists of jobs.

use axum::{Json, extract::State};
use pointsman_api::{ErrorCode, JobsPage, JobsQuery, Problem};
use pointsman_core::record::JobRecord;
use pointsman_store::JobFilter;

use super::Errors;
use crate::{access::Caller, app::App, extract::Params, refusal::Answer};

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

/// List jobs, newest first. Payloads and results are not in lists.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "jobs",
    params(JobsQuery),
    responses((status = 200, body = JobsPage), Errors),
)]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Params(query): Params<JobsQuery>,
) -> Answer<Json<JobsPage>> {
    let limit = limit(query.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let before = query.cursor.as_deref().map(cursor).transpose()?;
    let filter = JobFilter {
        status: query.status,
        service: query.service,
        customer: own_customer(&caller, query.customer)?,
        worker: query.worker,
    };
    let page = app.broker.jobs(filter, before, limit).await?;
    Ok(Json(JobsPage {
        jobs: page.jobs.iter().map(|job| JobRecord::from(&**job)).collect(),
        next_cursor: page.next.map(|id| id.to_string()),
    }))
}

fn cursor(text: &str) -> Result<pointsman_core::JobId, Problem> {
    let bad = |_| {
        let shown: String = text.chars().take(40).collect();
        Problem::new(ErrorCode::BadCursor, format!("{shown:?} is not a cursor")).at("?cursor")
    };
    text.parse().map_err(bad)
}

/// A limit from a query, within its range.
pub(super) fn limit(given: Option<u32>, default: u32, max: u32) -> Result<usize, Problem> {
    let limit = given.unwrap_or(default);
    if (1..=max).contains(&limit) {
        return Ok(limit as usize);
    }
    let detail = format!("{limit} is out of range: use 1 to {max}");
    Err(Problem::new(ErrorCode::InvalidQuery, detail).at("?limit"))
}

fn own_customer(
    caller: &Caller,
    asked: Option<pointsman_core::CustomerId>,
) -> Result<Option<pointsman_core::CustomerId>, Problem> {
    match (caller.customer(), asked) {
        (Some(own), Some(other)) if *own != other => {
            let detail = format!("this token sees jobs of {own}, not of {other}");
            Err(Problem::new(ErrorCode::Forbidden, detail).at("?customer"))
        }
        (Some(own), _) => Ok(Some(own.clone())),
        (None, asked) => Ok(asked),
    }
}
