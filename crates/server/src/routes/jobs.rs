//! Lists of jobs.

use std::{fmt, str::FromStr, sync::Arc};

use axum::{extract::State, response::Response};
use pointsman_api::{ErrorCode, JobsOrder, JobsPage, JobsQuery, Problem};
use pointsman_core::{JobId, record::Job, to_json};
use pointsman_store::JobFilter;

use super::{Errors, page::Page};
use crate::{access::Caller, app::App, extract::Params, parameter, refusal::Answer};

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
) -> Answer<Response> {
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
    let text = query.cursor.as_deref();
    let before = match order {
        JobsOrder::Submitted => Before::Id(cursor(text)?),
        JobsOrder::Ended => Before::End(cursor(text)?),
    };
    let mut page = Page::new(&app, "{\"jobs\":[".to_owned(), limit);
    let next = write_jobs(&app, &filter, before, &mut page).await?;
    let next = next.map_or("null".to_owned(), |next| format!("\"{next}\""));
    Ok(page.ends(format_args!("],\"next_cursor\":{next}}}")))
}

/// Writes jobs, as many as a page has room for, and returns before what the next one begins.
async fn write_jobs(
    app: &App,
    filter: &JobFilter,
    mut before: Before,
    page: &mut Page,
) -> Answer<Option<Before>> {
    loop {
        let wanted = page.room();
        let (jobs, next) = before.read(app, filter.clone(), wanted).await?;
        for (n, job) in jobs.iter().enumerate() {
            page.write(&to_json(&**job)).await?;
            if !page.goes_on() {
                let is_last = n + 1 == jobs.len() && next.is_none();
                return Ok(before.after(job).filter(|_| !is_last));
            }
        }
        match next {
            // The store has looked at as many as it does at once.
            Some(_) if jobs.len() < wanted => return Ok(next),
            Some(next) => before = next,
            None => return Ok(None),
        }
    }
}

/// Before what a page begins, in either order.
#[derive(Clone, Copy)]
enum Before {
    Id(Option<JobId>),
    /// The number of an ending.
    End(Option<u64>),
}

impl Before {
    /// Jobs, and before what the next ones begin.
    async fn read(
        self,
        app: &App,
        filter: JobFilter,
        limit: usize,
    ) -> Answer<(Vec<Arc<Job>>, Option<Self>)> {
        Ok(match self {
            Self::Id(before) => {
                let page = app.broker.store().jobs(filter, before, limit).await?;
                (page.jobs, page.next.map(|id| Self::Id(Some(id))))
            }
            Self::End(before) => {
                let page = app.broker.store().ended_jobs(filter, before, limit).await?;
                (page.jobs, page.next.map(|no| Self::End(Some(no))))
            }
        })
    }

    /// Where it goes on after this job.
    fn after(self, job: &Job) -> Option<Self> {
        Some(match self {
            Self::Id(_) => Self::Id(Some(job.id)),
            Self::End(_) => Self::End(Some(job.ended()?.ended_no)),
        })
    }
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(Some(id)) => id.fmt(f),
            Self::End(Some(no)) => no.fmt(f),
            Self::Id(None) | Self::End(None) => Ok(()),
        }
    }
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
    Err(parameter::out_of_range("limit", limit, (1, max)))
}
