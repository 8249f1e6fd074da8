//! Lists of jobs.

use std::str::FromStr;

use axum::{Json, extract::State};
use pointsman_api::{ErrorCode, JobsOrder, JobsPage, JobsQuery, Problem};
use pointsman_core::record::JobRecord;
use pointsman_store::JobFilter;

use super::Errors;
use crate::{access::Caller, app::App, extract::Params, refusal::Answer};

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

/// List jobs, the last submitted first, or the last ended. Payloads and results are not in lists.
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
    let order = query.order.unwrap_or_default();
    if let (JobsOrder::Ended, Some(status)) = (order, query.status.filter(|s| !s.is_ended())) {
        let detail = format!("a job that is {} has not ended", status.as_str());
        return Err(Problem::new(ErrorCode::InvalidQuery, detail).at("?status").into());
    }
    let filter = JobFilter {
        status: query.status,
        service: query.service,
        customer: caller.own_customer(query.customer, "sees", "?customer")?,
        worker: query.worker,
    };
    let (text, store) = (query.cursor.as_deref(), app.broker.store());
    let (jobs, next_cursor) = match order {
        JobsOrder::Submitted => {
            let page = store.jobs(filter, cursor(text)?, limit).await?;
            (page.jobs, page.next.map(|id| id.to_string()))
        }
        JobsOrder::Ended => {
            let page = store.ended_jobs(filter, cursor(text)?, limit).await?;
            (page.jobs, page.next.map(|ended_no| ended_no.to_string()))
        }
    };
    let jobs = jobs.iter().map(|job| JobRecord::from(&**job)).collect();
    Ok(Json(JobsPage { jobs, next_cursor }))
}

fn cursor<T: FromStr>(text: Option<&str>) -> Result<Option<T>, Problem> {
    let bad = |text: &str| {
        let shown: String = text.chars().take(40).collect();
        let detail = format!("{shown:?} is not a cursor of a list in this order");
        Problem::new(ErrorCode::BadCursor, detail).at("?cursor")
    };
    text.map(|text| text.parse().map_err(|_| bad(text))).transpose()
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
