//! Submissions.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pointsman_api::{Batch, BatchItem, BatchResult, ErrorCode, Submission};
use pointsman_broker::{BrokerError, Submitted};
use pointsman_core::record::JobRecord;
use pointsman_store::StoreError;

use super::Errors;
use crate::{
    access::Caller,
    app::App,
    extract::Whole,
    refusal::{Answer, Refusal},
    submission::{Admitted, admit},
};

const LOOK_FIRST: &str = "look for it with GET /api/v1/jobs, and submit with an `idempotency_key`, \
                          which may be repeated";

/// Submit a job. The answer is its record.
#[utoipa::path(
    post, path = "/api/v1/jobs", tag = "jobs",
    request_body = Submission,
    responses(
        (status = 201, body = JobRecord, description = "It is taken"),
        (status = 200, body = JobRecord, description = "The same submission was here before"),
        Errors,
    ),
)]
pub(crate) async fn one(State(app): State<App>, caller: Caller, body: Whole) -> Answer<Response> {
    let submitted = match admit(&app, &caller, &body.0).await? {
        Admitted::Known(job) => Submitted { job, existed: true },
        Admitted::New(submit) => {
            let has_key = submit.idempotency.is_some();
            let refused = |error: BrokerError| refusal(error, has_key);
            let taken = app.broker.submit(vec![submit]).await;
            let mut taken = taken.map_err(|error| refused(error.into()))?;
            let lost = || Refusal::new(ErrorCode::Internal, "the store did not answer");
            taken.pop().ok_or_else(lost)?.map_err(refused)?
        }
    };
    let status = if submitted.existed { StatusCode::OK } else { StatusCode::CREATED };
    let location = format!("/api/v1/jobs/{}", submitted.job.id);
    let mut response = (status, Json(&*submitted.job)).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Submit up to 1,000 jobs. Each is taken or refused by itself; the results come in their order. A
/// `problem` with the code `outcome_unknown` says that it is not known of this job: repeat those.
#[utoipa::path(
    post, path = "/api/v1/jobs/batch", tag = "jobs",
    request_body = Batch,
    responses((status = 200, body = BatchResult), Errors),
)]
pub(crate) async fn batch(
    State(app): State<App>,
    caller: Caller,
    body: Whole,
) -> Answer<axum::Json<BatchResult>> {
    let batch = Batch::read(&body.0)?;
    // What became of each job, but of those that go to the store.
    let mut settled: Vec<Option<BatchItem>> = Vec::with_capacity(batch.jobs.len());
    let mut submits = Vec::with_capacity(batch.jobs.len());
    for (index, job) in batch.jobs.iter().enumerate() {
        settled.push(match admit(&app, &caller, job.get().as_bytes()).await {
            Ok(Admitted::New(submit)) => {
                submits.push(submit);
                None
            }
            Ok(Admitted::Known(job)) => Some(accepted(&Submitted { job, existed: true })),
            Err(Refusal(problem)) => {
                Some(BatchItem::Refused { problem: problem.within(&format!("/jobs/{index}")) })
            }
        });
    }
    let have_keys: Vec<bool> = submits.iter().map(|submit| submit.idempotency.is_some()).collect();
    let have_all = have_keys.iter().all(|has_key| *has_key);
    let taken = match app.broker.submit(submits).await {
        Ok(taken) => taken,
        // What was settled before is known all the same.
        Err(error @ StoreError::Unknown(_)) => vec![Err(error.into()); have_keys.len()],
        Err(error) => return Err(error.into()),
    };
    let mut taken = taken.into_iter().zip(have_keys);
    let results = settled.into_iter().map(|settled| match settled {
        Some(item) => Ok(item),
        None => match taken.next() {
            Some((Ok(submitted), _)) => Ok(accepted(&submitted)),
            Some((Err(error), has_key)) => {
                Ok(BatchItem::Refused { problem: refusal(error, has_key).0 })
            }
            None => Err(Refusal::new(ErrorCode::Internal, "the store did not answer")),
        },
    });
    let results = results.collect::<Answer<Vec<_>>>()?;
    // Where nothing is known of any, they are repeated as a whole.
    let is_unknown = |item: &BatchItem| matches!(item, BatchItem::Refused { problem } if problem.is(ErrorCode::OutcomeUnknown));
    match &results[..] {
        [BatchItem::Refused { problem }, ..] if results.iter().all(is_unknown) => {
            let refusal = Refusal::new(ErrorCode::OutcomeUnknown, problem.detail.clone());
            Err(if have_all { refusal } else { refusal.unrepeatable(LOOK_FIRST) })
        }
        _ => Ok(Json(BatchResult { results })),
    }
}

/// Why it was not taken, or may not have been.
fn refusal(error: BrokerError, has_key: bool) -> Refusal {
    match has_key {
        true => error.into(),
        false => Refusal::from(error).unrepeatable(LOOK_FIRST),
    }
}

fn accepted(submitted: &Submitted) -> BatchItem {
    let job = Box::new(JobRecord::from(&*submitted.job));
    BatchItem::Accepted { job, existed: submitted.existed }
}
