//! From a body to a command: everything about a submission that needs more than itself.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::StreamExt as _;
use pointsman_api::{ErrorCode, InputSource, Problem, Submission, ValidSubmission};
use pointsman_core::{
    JobId, Rejected,
    command::{Idempotency, IdempotencyKey, Submit},
    decide::{Key, Value},
    record::Job,
};
use uuid::Uuid;

use crate::{access::Caller, app::App, refusal::Refusal, waiting::Entering, workflow};

/// Artifacts of a job that are named where another was asked for.
const SHOWN: usize = 10;

/// What a submission comes to.
#[allow(clippy::large_enum_variant, reason = "taken apart at once; almost all are new")]
pub(crate) enum Admitted {
    New(Submit, Entering),
    /// An exact repeat: its job is there.
    Known(Arc<Job>),
}

/// Reads and checks a submission. Nothing is changed but that inline inputs are stored as files.
pub(crate) async fn admit(app: &App, caller: &Caller, body: Bytes) -> Result<Admitted, Refusal> {
    let size = body.len();
    let read = move || Submission::read(&body)?.validate();
    let mut valid = app.reading.of(size, read).await??;
    let asked = valid.spec.customer_id.take();
    let own = caller.own_customer(asked, "submits", "/customer_id");
    valid.spec.customer_id = own.map_err(|problem| {
        problem.cure("leave customer_id out, or use a token without a customer")
    })?;
    match complete(app, caller, &mut valid).await {
        Ok(entering) => {
            let id = JobId::from_uuid(Uuid::now_v7());
            let submit = valid.into_command(id, app.broker.store().now());
            Ok(Admitted::New(submit, entering))
        }
        // What it names was there when its job was taken, and may be gone since; so may the room.
        Err(refusal) => known(app, &valid).await?.map(Admitted::Known).ok_or(refusal),
    }
}

/// Checks what depends on other things, and fills in what follows from them.
async fn complete(
    app: &App,
    caller: &Caller,
    valid: &mut ValidSubmission,
) -> Result<Entering, Refusal> {
    app.services.check(&app.broker, &valid.spec.service).await?;
    if valid.spec.service.as_str() == workflow::COMFYUI {
        let mut given = valid.clone();
        let complete = move || workflow::complete(&mut given).map(|()| given);
        *valid = app.reading.of(valid.payload.len(), complete).await??;
    }
    let entering = app.waiting.admit(&**app.broker.store()).await?;
    settle_inputs(app, caller, valid).await?;
    Ok(entering)
}

/// The job that the submission is an exact repeat of, by its idempotency key, once it is as safe as
/// the first answer promised. One that is no longer kept refuses it.
async fn known(app: &App, valid: &ValidSubmission) -> Result<Option<Arc<Job>>, Refusal> {
    let Some(Idempotency { key, body }) = valid.idempotency.clone() else { return Ok(None) };
    let key = Key::Idempotency(IdempotencyKey { customer: valid.spec.customer_id.clone(), key });
    let store = app.broker.store();
    // Before it is read: in another epoch it may be gone again.
    let epoch = store.epoch();
    let mut values = store.load(vec![key.clone()]).await?.values;
    match values.remove(&key).flatten() {
        Some(Value::Idempotency { job, body: first }) if first == body => {
            let found = app.broker.job(job).await?.ok_or(Rejected::JobGone(job))?;
            store.confirm(&epoch).await?;
            Ok(Some(found))
        }
        _ => Ok(None),
    }
}

/// What a job brings must be there, and stay: what it brings inline becomes a stored file, since
/// records are small; so does another job's result, since that job may be run again or be removed.
async fn settle_inputs(
    app: &App,
    caller: &Caller,
    valid: &mut ValidSubmission,
) -> Result<(), Refusal> {
    let (mut stored, now) = (BTreeMap::new(), app.broker.store().now());
    for (index, source) in valid.sources.iter().enumerate() {
        let from = &valid.spec.inputs[index].from;
        let missing = match source {
            InputSource::Stored(sha256) => {
                let detail = || format!("{from} is not there");
                (!app.files.hold_input(sha256, now).await?).then(|| not_found(detail()))
            }
            InputSource::Artifact { job: id, name } => {
                let job = app.broker.job(*id).await?.filter(|job| caller.sees(job));
                let found = job.as_ref().and_then(|job| app.files.artifact(job, None, name));
                match found {
                    None => Some(no_artifact(*id, job.as_deref(), name)),
                    Some((artifact, reader)) => {
                        let kept = app.files.keep_as_input(&artifact, &reader).await?;
                        let gone = || not_found(app.files.missing(name));
                        let missing =
                            kept.is_none().then(|| gone().cure(ErrorCode::ArtifactGone.cure()));
                        stored.extend(kept.map(|sha256| (index, sha256)));
                        missing
                    }
                }
            }
            InputSource::Inline { bytes } => {
                let bytes = futures::stream::iter([Ok(bytes.clone())]).boxed();
                stored.insert(index, app.files.put_input(bytes).await?.sha256);
                None
            }
        };
        if let Some(problem) = missing {
            return Err(problem.at(format!("/inputs/{index}/from")).into());
        }
    }
    for (index, sha256) in stored {
        valid.spec.inputs[index].from = format!("sha256:{sha256}");
    }
    Ok(())
}

fn not_found(detail: String) -> Problem {
    Problem::new(ErrorCode::InputNotFound, detail)
}

/// Why there is no such artifact, and what there is instead.
fn no_artifact(id: JobId, job: Option<&Job>, name: &str) -> Problem {
    let Some(job) = job else {
        return not_found(format!("there is no job {id}, so it has no artifact")).cure(
            "check the id; ended jobs are removed, with their artifacts, after the time that the \
             server keeps them: a file that is to be used later is kept with POST /api/v1/inputs",
        );
    };
    let Some(ended) = job.ended() else {
        let status = job.status().as_str();
        return not_found(format!("job {id} has no artifacts: it is {status}"))
            .cure("submit this job once that one has completed");
    };
    let problem = not_found(format!("job {id} has no artifact {name:?}"));
    let names: Vec<_> = ended.artifacts.iter().map(|artifact| &*artifact.name).collect();
    let more = match names.len().saturating_sub(SHOWN) {
        _ if names.is_empty() => return problem.cure("name another job: this one has none"),
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = names[..names.len().min(SHOWN)].join(", ");
    problem.cure(format!("name one that it has: {shown}{more}"))
}
