//! Submissions.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pointsman_api::{Batch, BatchItem, BatchResult, ErrorCode, Problem, Submission};
use pointsman_broker::{BrokerError, Submitted};
use pointsman_core::{record::JobRecord, to_json};
use pointsman_store::StoreError;

use super::{Errors, job::json_text};
use crate::{
    access::Caller,
    app::App,
    body::Share,
    extract::Whole,
    refusal::{Answer, Refusal},
    submission::{Admitted, admit},
};

/// Bytes of a job's record beside what was submitted, about.
const RECORD: usize = 1 << 10;
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
    let submitted = match admit(&app, &caller, body.0.clone()).await? {
        Admitted::Known(job) => Submitted { job, existed: true },
        Admitted::New(submit, _entering) => {
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
    Whole(body, _share): Whole,
) -> Answer<Response> {
    let size = body.len();
    let batch = app.reading.of(size, move || Batch::read(&body)).await??;
    // About as much as the records of its jobs have.
    let answers = app.answers.share_of((size + batch.jobs.len() * RECORD) as u64).await?;
    // What became of each job, but of those that go to the store.
    let mut settled: Vec<Option<BatchItem>> = Vec::with_capacity(batch.jobs.len());
    let (mut submits, mut all_entering) = (Vec::with_capacity(batch.jobs.len()), Vec::new());
    for (index, job) in batch.jobs.into_iter().enumerate() {
        let job = String::from(Box::<str>::from(job));
        settled.push(match admit(&app, &caller, job.into()).await {
            Ok(Admitted::New(submit, entering)) => {
                submits.push(submit);
                all_entering.push(entering);
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
    drop(all_entering);
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
    batch_answer(results.collect::<Answer<_>>()?, have_all, answers).await
}

/// What became of each job. Where it is known of none, that is the answer: they are repeated as a
/// whole.
async fn batch_answer(
    results: Vec<BatchItem>,
    have_keys: bool,
    mut answers: Share,
) -> Answer<Response> {
    let unknown = |why: &Problem| {
        let refusal = Refusal::new(ErrorCode::OutcomeUnknown, why.detail.clone());
        if have_keys { refusal } else { refusal.unrepeatable(LOOK_FIRST) }
    };
    let is_unknown = |item: &BatchItem| match item {
        BatchItem::Refused { problem } => problem.is(ErrorCode::OutcomeUnknown),
        BatchItem::Accepted { .. } => false,
    };
    if let [BatchItem::Refused { problem }, ..] = &results[..]
        && results.iter().all(is_unknown)
    {
        return Err(unknown(problem));
    }
    let json = to_json(&BatchResult { results });
    answers.grow_to(json.len()).await.map_err(|full| unknown(&full))?;
    Ok(json_text(json, answers))
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
