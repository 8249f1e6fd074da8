//! What is checked of an operation before the store sees it: that its texts may stand in a record,
//! and of an ending, that the files it lists are there, under fitting names and with true figures.

use pointsman_api::{ErrorCode, Problem, Sha256Hex, check_file_name};
use pointsman_core::{
    Failure, FailureKind,
    bounds::{Bounded, BoundedText, MAX_ARTIFACTS, MAX_LABEL, UnfitResult},
    command::{AttemptOp, Finish, Op, Outcome},
    record::{Artifact, Progress},
};

use crate::{
    app::App,
    files::StoredFile,
    refusal::{Answer, Refusal},
};

/// What is true of an artifact.
const AS_STORED: &str =
    "say the size and the SHA-256 that PUT attempts/{token}/artifacts/{name} answered";

/// Operations that may go to the store, and the others' problems in the order of all.
pub(crate) struct Checked {
    pub ops: Vec<AttemptOp>,
    /// For each operation that was given: why it was refused, or nothing.
    pub refused: Vec<Option<Problem>>,
}

pub(crate) async fn check_ops(app: &App, given: Vec<AttemptOp>) -> Answer<Checked> {
    let mut ops = Vec::with_capacity(given.len());
    let mut refused = Vec::with_capacity(given.len());
    for (index, mut op) in given.into_iter().enumerate() {
        match check(app, &mut op).await {
            Ok(()) => {
                ops.push(op);
                refused.push(None);
            }
            // The store is not to be asked at all when its files cannot be read.
            Err(Refusal(problem)) if problem.status >= 500 => return Err(Refusal(problem)),
            Err(Refusal(problem)) => refused.push(Some(problem.within(&format!("/ops/{index}")))),
        }
    }
    Ok(Checked { ops, refused })
}

/// Refuses a text that is too long.
pub(crate) fn check_texts(what: &mut impl Bounded) -> Result<(), Problem> {
    let Some(BoundedText { place, text, most }) = what.too_long() else { return Ok(()) };
    let field = place.rsplit('/').next().unwrap_or_default();
    let detail = format!("{field} has {} bytes, and {most} is the most", text.len());
    Err(Problem::new(ErrorCode::TooLong, detail).at(place))
}

/// Refuses what is no part of a whole.
pub(crate) fn check_percent(progress: &Progress) -> Result<(), Problem> {
    match progress.percent {
        Some(percent) if !(0.0..=100.0).contains(&percent) => {
            let detail = format!("percent is {percent}, and it goes from 0 to 100");
            Err(Problem::new(ErrorCode::OutOfRange, detail).at("/percent"))
        }
        _ => Ok(()),
    }
}

fn unfit(why: UnfitResult) -> Problem {
    let code = match why {
        UnfitResult::NoObject => ErrorCode::WrongType,
        UnfitResult::TooDeep(_) => ErrorCode::TooDeep,
        UnfitResult::TooLong(_) => ErrorCode::TooLong,
    };
    Problem::new(code, why.to_string()).at("/result")
}

async fn check(app: &App, op: &mut AttemptOp) -> Answer<()> {
    check_texts(&mut op.op)?;
    op.op.check_result().map_err(unfit)?;
    let (Op::Finish(finish) | Op::Late(finish)) = &op.op else { return Ok(()) };
    let Finish { outcome, last_progress } = finish;
    if let Some(progress) = last_progress {
        check_percent(progress).map_err(|problem| problem.within("/last_progress"))?;
    }
    let artifacts = match outcome {
        Outcome::Completed { artifacts, .. } => artifacts,
        Outcome::Failed { failure } => return Ok(check_failure(failure)?),
        Outcome::Cancelled => return Ok(()),
    };
    if artifacts.len() > MAX_ARTIFACTS {
        let detail =
            format!("{} artifacts are too many: {MAX_ARTIFACTS} is the most", artifacts.len());
        return Err(Problem::new(ErrorCode::TooLong, detail).at("/artifacts").into());
    }
    for (index, artifact) in artifacts.iter().enumerate() {
        let place = format!("/artifacts/{index}");
        check_text(artifact).map_err(|problem| problem.within(&place))?;
        if artifacts[..index].iter().any(|other| other.name == artifact.name) {
            let detail = format!("two artifacts are named {:?}", artifact.name);
            let problem = Problem::new(ErrorCode::InvalidName, detail).at(place);
            return Err(problem.cure("list each stored file once").into());
        }
        let stored = app.files.stored_artifact(op.job, op.token, &artifact.name).await?;
        check_stored(artifact, stored).map_err(|problem| problem.within(&place))?;
    }
    Ok(())
}

/// A worker tells what its service did; what becomes of jobs otherwise, the rules know.
fn check_failure(failure: &Failure) -> Result<(), Problem> {
    let cure = match failure.kind {
        FailureKind::Lost => "give the attempt back with …/release instead",
        FailureKind::Cancelled => "say …/cancel-ack, or `outcome: cancelled`, instead",
        _ if !failure.workers.is_empty() => {
            let detail = "`workers` goes with jobs that were lost, and the store fills it in";
            return Err(Problem::new(ErrorCode::WrongType, detail)
                .at("/failure/workers")
                .cure("leave it out"));
        }
        _ => return Ok(()),
    };
    let detail = "a worker hands in wrong_worker, bad_job, service_fault or timeout";
    Err(Problem::new(ErrorCode::WrongType, detail).at("/failure/kind").cure(cure))
}

/// An ending binds what was stored, and says of it what is true.
fn check_stored(artifact: &Artifact, stored: Option<StoredFile>) -> Result<(), Problem> {
    let name = &artifact.name;
    let Some(StoredFile { size, sha256 }) = stored else {
        let detail = format!("{name:?} was not stored by this attempt");
        return Err(Problem::new(ErrorCode::ArtifactMissing, detail).at(""));
    };
    if size != artifact.size {
        let detail = format!("{name:?} was stored with {size} bytes");
        return Err(Problem::new(ErrorCode::ArtifactMissing, detail).at("/size").cure(AS_STORED));
    }
    if sha256.as_str() != artifact.sha256 {
        let detail = format!("{name:?} was stored with the SHA-256 {sha256}");
        return Err(Problem::new(ErrorCode::DigestMismatch, detail).at("/sha256").cure(AS_STORED));
    }
    Ok(())
}

/// Whether a text may stand as a node's id, or a media type, in a record.
fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && !text.chars().any(char::is_control)
}

fn check_text(artifact: &Artifact) -> Result<(), Problem> {
    check_file_name(&artifact.name).map_err(|problem| problem.at("/name"))?;
    if artifact.sha256.parse::<Sha256Hex>().is_err() {
        let problem = Problem::new(ErrorCode::WrongType, "expected 64 lowercase hex digits");
        return Err(problem.at("/sha256").cure(AS_STORED));
    }
    let parts = artifact.media_type.split_once('/');
    let is_whole = parts.is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
    if !is_whole || !is_label(&artifact.media_type) || !artifact.media_type.is_ascii() {
        let detail = "expected a media type such as image/png";
        return Err(Problem::new(ErrorCode::WrongType, detail).at("/media_type"));
    }
    if !artifact.node.as_deref().is_none_or(is_label) {
        let detail = format!("expected at most {MAX_LABEL} bytes without control characters");
        return Err(Problem::new(ErrorCode::TooLong, detail).at("/node"));
    }
    Ok(())
}
