//! The worker protocol: registration, renewal, and the exchange that carries everything else.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use pointsman_api::{
    ClaimRequest, ClaimedJob, ErrorCode, ExchangeRequest, Exchanged, LeaveRequest, MAX_CLAIM,
    MAX_OFFERS, MAX_OPS, MAX_WAIT_S, OpResult, Problem, RegisterRequest, Registered, RenewRequest,
    Renewed,
};
use pointsman_broker::{BrokerError, Claimed, running_jobs};
use pointsman_core::{
    Answer as StoreAnswer, Command, Rejected, ServiceName,
    command::{AttemptOp, Claim, Exchange, Register, Renew},
    matching::RequirementErrorCode,
    pointer_token,
    record::ServiceSlots,
    to_json,
};
use serde::Serialize;

use super::{Errors, job::json_text};
use crate::{
    access::Caller,
    app::App,
    extract,
    finish::{Checked, check_ops, check_percent, check_texts},
    refusal::{Answer, Refusal},
};

/// Services of one worker at most.
const MAX_SERVICES: usize = 100;

/// Register this process as the worker, or change what it offers. The newest process of an id
/// wins; the one before is superseded. The answer lists the attempts that the store says this
/// worker runs, from before a restart.
#[utoipa::path(
    post, path = "/api/v1/worker/register", tag = "worker",
    request_body = RegisterRequest,
    responses((status = 200, body = Registered), Errors),
)]
pub(crate) async fn register(
    State(app): State<App>,
    extract::Json(request, _share): extract::Json<RegisterRequest, MAX_OFFERS>,
) -> Answer<Response> {
    check_registration(&request)?;
    let mut register = Register {
        worker: request.worker_id,
        machine: request.machine_id,
        incarnation: request.incarnation,
        services: request.services,
        capabilities: request.capabilities,
        summary: request.summary,
    };
    check_texts(&mut register)?;
    app.services.remember(register.services.iter().map(|slots| &slots.name));
    let done = app.broker.execute(Command::Register(register)).await?;
    let StoreAnswer::Registered { running } = done.answer else {
        return Err(Refusal::new(ErrorCode::Internal, "an odd answer to a registration"));
    };
    let running = running_jobs(&**app.broker.store(), &running, &|| {}).await?;
    let running = claimed_jobs(running)?;
    let payloads = payload_bytes(&running);
    let (epoch, store_id) = (epoch(&app), Some(app.store_id.clone()));
    with_payloads(&app, Registered { epoch, store_id, running }, payloads).await
}

fn payload_bytes(jobs: &[ClaimedJob]) -> u64 {
    jobs.iter().map(|job| job.payload.get().len() as u64).sum()
}

/// An answer with payloads, of so many bytes. One for which there is no room is as good as lost on
/// its way: it was done, and an exact repeat gets the same.
async fn with_payloads(app: &App, answer: impl Serialize, payloads: u64) -> Answer<Response> {
    let share = app.answers.share_of(payloads).await;
    let share = share.map_err(|full| Refusal::new(ErrorCode::OutcomeUnknown, &*full.detail))?;
    Ok(json_text(to_json(&answer), share))
}

/// Read after what it goes with was answered: so an answer that was given in a new epoch never goes
/// out under the old one.
fn epoch(app: &App) -> String {
    app.broker.store().epoch().to_string()
}

fn check_registration(request: &RegisterRequest) -> Result<(), Problem> {
    check_count(request.services.len(), MAX_SERVICES, "/services")?;
    let place = |index: usize| format!("/services/{index}/slots");
    for (index, service) in request.services.iter().enumerate() {
        if !(1..=1_024).contains(&service.slots) {
            let detail = format!("{} slots: a service has 1 to 1024", service.slots);
            return Err(Problem::new(ErrorCode::OutOfRange, detail).at(place(index)));
        }
        if request.services[..index].iter().any(|other| other.name == service.name) {
            let detail = format!("the service {} stands twice", service.name);
            let problem = Problem::new(ErrorCode::WrongType, detail);
            return Err(problem.at(format!("/services/{index}/name")).cure("name it once"));
        }
    }
    if request.services.is_empty() {
        let problem = Problem::new(ErrorCode::MissingField, "a worker has at least one service");
        return Err(problem.at("/services"));
    }
    request.capabilities.check().map_err(|error| {
        let code = match error.code {
            RequirementErrorCode::OutOfRange => ErrorCode::OutOfRange,
            RequirementErrorCode::TooLarge => ErrorCode::TooLong,
            RequirementErrorCode::Malformed | RequirementErrorCode::Contradictory => {
                ErrorCode::WrongType
            }
        };
        Problem::new(code, error.message).at(format!("/capabilities{}", error.pointer))
    })?;
    let known = &request.capabilities.services;
    let missing = request.services.iter().find(|slots| !known.contains_key(&slots.name));
    missing.map_or(Ok(()), |ServiceSlots { name, .. }| {
        let detail = format!("{name} is not among the capabilities: no job would match it");
        Err(Problem::new(ErrorCode::MissingField, detail)
            .at(format!("/capabilities/services/{}", pointer_token(name.as_str())))
            .cure("say what the service can do, {} at the least"))
    })
}

fn claimed_jobs(claimed: Vec<Claimed>) -> Answer<Vec<ClaimedJob>> {
    let claimed = claimed.into_iter().map(|Claimed { job, payload }| {
        Ok(ClaimedJob { job, payload: serde_json::from_slice(&payload)? })
    });
    claimed.collect::<Result<_, serde_json::Error>>().map_err(|why| {
        Refusal::new(ErrorCode::Internal, format!("a claimed job's payload is not JSON: {why}"))
    })
}

/// Hand in operations and claim jobs, in one step: so a busy worker does not flicker idle. Each
/// operation is accepted or refused by itself.
#[utoipa::path(
    post, path = "/api/v1/worker/exchange", tag = "worker",
    request_body = ExchangeRequest,
    responses((status = 200, body = Exchanged), Errors),
)]
pub(crate) async fn exchange(
    State(app): State<App>,
    caller: Caller,
    extract::Json(request, _share): extract::Json<ExchangeRequest>,
) -> Answer<Response> {
    exchanged(&app, run_until_revoked(&app, &caller, request).await?).await
}

async fn exchanged(app: &App, exchanged: Exchanged) -> Answer<Response> {
    let payloads = payload_bytes(&exchanged.claimed);
    with_payloads(app, exchanged, payloads).await
}

/// Claim jobs: one for each token at most, and no more once their payloads come to 16 MiB. Waits up to `wait_s` while there is none.
#[utoipa::path(
    post, path = "/api/v1/worker/claim", tag = "worker",
    request_body = ClaimRequest,
    responses((status = 200, body = Exchanged), Errors),
)]
pub(crate) async fn claim(
    State(app): State<App>,
    caller: Caller,
    extract::Json(request, _share): extract::Json<ClaimRequest>,
) -> Answer<Response> {
    let ClaimRequest { worker_id, incarnation, tokens, services, wait_s } = request;
    let claim = Some(Claim { tokens, services });
    let request = ExchangeRequest { worker_id, incarnation, ops: Vec::new(), claim, wait_s };
    let claimed = run_until_revoked(&app, &caller, request).await;
    // Here the tokens are not within a claim.
    let claimed = claimed.map_err(|Refusal(mut problem)| {
        problem.pointer = problem.pointer.take().map(|place| place.replace("/claim/", "/"));
        Refusal(problem)
    });
    exchanged(&app, claimed?).await
}

/// Carries an exchange out; a mere claim, which may wait, only as long as its token is not revoked.
async fn run_until_revoked(
    app: &App,
    caller: &Caller,
    request: ExchangeRequest,
) -> Answer<Exchanged> {
    if !request.ops.is_empty() {
        return run(app, request).await;
    }
    tokio::select! {
        biased;
        problem = app.gate.revoked(caller) => Err(problem.into()),
        exchanged = run(app, request) => exchanged,
    }
}

/// Carries an exchange out.
pub(super) async fn run(app: &App, request: ExchangeRequest) -> Answer<Exchanged> {
    check_exchange(&request)?;
    let wait = match request.ops.is_empty() {
        true => Duration::try_from_secs_f64(request.wait_s).unwrap_or_default(),
        false => Duration::ZERO,
    };
    let Checked { ops, refused } = check_ops(app, request.ops).await?;
    let exchange = Exchange {
        worker: request.worker_id,
        incarnation: request.incarnation,
        ops,
        claim: request.claim,
    };
    let claimed_of = exchange.claim.iter().flat_map(|claim| &claim.services).cloned();
    let claimed_of: Vec<_> = claimed_of.collect();
    let at_service = |why| at_service(why, &claimed_of, |index| format!("/claim/services/{index}"));
    let exchanged = app.broker.exchange(exchange, wait, &|| {});
    let Some(exchanged) = app.stopping.run_until_cancelled(exchanged).await else {
        return Err(Refusal::new(ErrorCode::NotReady, "the server is stopping"));
    };
    let exchanged = match exchanged {
        // Beside operations that were refused before the store was asked the claim is one of several.
        Err(BrokerError::Rejected(why @ Rejected::ServiceNotRegistered { .. }))
            if !refused.is_empty() =>
        {
            let claim_refused = Some(why);
            pointsman_broker::Exchanged { claim_refused, ..Default::default() }
        }
        Err(BrokerError::Rejected(why)) => return Err(at_service(why).into()),
        exchanged => exchanged?,
    };
    let mut accepted = exchanged.ops.into_iter();
    let results = refused.into_iter().map(|refused| match refused {
        Some(problem) => OpResult::Refused { refused: problem },
        None => match accepted.next() {
            Some(Ok(answer)) => OpResult::Answer(answer),
            Some(Err(rejected)) => OpResult::Refused { refused: rejected.into() },
            None => OpResult::Refused {
                refused: Problem::new(ErrorCode::Internal, "the store did not answer"),
            },
        },
    });
    let ops = results.collect();
    let claimed = claimed_jobs(exchanged.claimed)?;
    let unconfirmed = exchanged.unconfirmed.map(|why| why.to_string());
    let claim_refused = exchanged.claim_refused.map(at_service);
    Ok(Exchanged { ops, claimed, claim_refused, unconfirmed })
}

/// With the place of the service that it is about, where that is among these.
fn at_service(why: Rejected, services: &[ServiceName], place: impl Fn(usize) -> String) -> Problem {
    let index = match &why {
        Rejected::ServiceNotRegistered { service, .. } => {
            services.iter().position(|s| s == service)
        }
        _ => None,
    };
    let problem = Problem::from(why);
    match index {
        Some(index) => problem.at(place(index)),
        None => problem,
    }
}

fn check_exchange(request: &ExchangeRequest) -> Result<(), Problem> {
    check_count(request.ops.len(), MAX_OPS, "/ops")?;
    let tokens = request.claim.as_ref().map_or(0, |claim| claim.tokens.len());
    check_count(tokens, MAX_CLAIM, "/claim/tokens")?;
    let services = request.claim.as_ref().map_or(0, |claim| claim.services.len());
    check_count(services, MAX_SERVICES, "/claim/services")?;
    if !(0.0..=MAX_WAIT_S).contains(&request.wait_s) {
        let detail = format!("{} is out of range: use 0 to {MAX_WAIT_S} seconds", request.wait_s);
        return Err(Problem::new(ErrorCode::OutOfRange, detail).at("/wait_s"));
    }
    Ok(())
}

fn check_count(count: usize, most: usize, place: &str) -> Result<(), Problem> {
    if count <= most {
        return Ok(());
    }
    let detail = format!("{count} entries are too many: {most} is the most");
    Err(Problem::new(ErrorCode::TooLong, detail).at(place))
}

/// A sign of life: renews the leases of the listed attempts, and confirms connector statuses. The
/// answer says which attempts are lost, which this worker seems not to know of, and what it is
/// ordered to do.
#[utoipa::path(
    post, path = "/api/v1/worker/renew", tag = "worker",
    request_body = RenewRequest,
    responses((status = 200, body = Renewed), Errors),
)]
pub(crate) async fn renew(
    State(app): State<App>,
    extract::Json(request, _share): extract::Json<RenewRequest>,
) -> Answer<Json<Renewed>> {
    let RenewRequest { worker_id, incarnation, held, stopping, .. } = request;
    let RenewRequest { mut connectors, mut progress, .. } = request;
    check_count(held.len(), MAX_OPS, "/held")?;
    check_count(connectors.len(), MAX_OPS, "/connectors")?;
    check_count(progress.len(), MAX_OPS, "/progress")?;
    for (index, report) in connectors.iter_mut().enumerate() {
        let place = |problem: Problem| problem.within(&format!("/connectors/{index}"));
        check_texts(report).map_err(place)?;
    }
    for (index, one) in progress.iter_mut().enumerate() {
        let place = |problem: Problem| problem.within(&format!("/progress/{index}"));
        check_texts(&mut one.progress)
            .and_then(|()| check_percent(&one.progress))
            .map_err(place)?;
    }
    let services: Vec<_> = connectors.iter().map(|report| report.service.clone()).collect();
    let renew = Renew { worker: worker_id, incarnation, held, connectors, stopping };
    let progress = progress.into_iter().map(|one| (one.job, one.progress)).collect();
    let renewed = app.broker.renew(renew, progress).await?;
    let pointsman_core::command::Renewed { lost, unknown_to_you, cancel, orders, refused } =
        renewed;
    let (epoch, store_id) = (epoch(&app), Some(app.store_id.clone()));
    let place = |index| format!("/connectors/{index}/service");
    let refused = refused.into_iter().map(|why| at_service(why, &services, place)).collect();
    Ok(Json(Renewed { epoch, store_id, lost, unknown_to_you, cancel, orders, refused }))
}

/// Say goodbye: what the worker still holds is given back.
#[utoipa::path(
    post, path = "/api/v1/worker/leave", tag = "worker",
    request_body = LeaveRequest,
    responses((status = 204), Errors),
)]
pub(crate) async fn leave(
    State(app): State<App>,
    extract::Json(request, _share): extract::Json<LeaveRequest>,
) -> Answer<StatusCode> {
    let LeaveRequest { worker_id: worker, incarnation } = request;
    app.broker.execute(Command::Leave { worker, incarnation }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One operation by itself; its refusal is the answer's.
pub(super) async fn single(
    app: &App,
    attempt: &pointsman_api::AttemptRef,
    op: pointsman_core::command::Op,
) -> Answer<Json<pointsman_core::command::OpAnswer>> {
    let op = AttemptOp { job: attempt.job, attempt: attempt.attempt, token: attempt.token, op };
    let request = ExchangeRequest {
        worker_id: attempt.worker_id.clone(),
        incarnation: attempt.incarnation,
        ops: vec![op],
        claim: None,
        wait_s: 0.0,
    };
    let mut exchanged = run(app, request).await?;
    if let Some(why) = exchanged.unconfirmed {
        let detail = format!("it is written, but {why}");
        return Err(Refusal::new(ErrorCode::OutcomeUnknown, detail));
    }
    match exchanged.ops.pop() {
        Some(OpResult::Answer(answer)) => Ok(Json(answer)),
        Some(OpResult::Refused { refused: mut problem }) => {
            // Here the operation is the whole body.
            problem.pointer = problem.pointer.take().map(|place| place.replace("/ops/0", ""));
            Err(problem.into())
        }
        None => Err(Refusal::new(ErrorCode::Internal, "the store did not answer")),
    }
}
