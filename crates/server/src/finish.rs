//! What is checked of an operation before the store sees it: that its texts may stand in a record,
//! and of an ending, that the files it lists are there, under fitting names and with true figures.

use pointsman_api::{ErrorCode, Problem, Sha256Hex, check_file_name};
use pointsman_core::{
    bounds::{Bounded, BoundedText, MAX_ARTIFACTS, MAX_LABEL, UnfitResult},
    command::{AttemptOp, Finish, Op, Outcome},
    record::{Artifact, Job, Progress},
};

use crate::{
    app::App,
    refusal::{Answer, Refusal},
};

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
        Outcome::Failed { failure } if failure.workers.len() > Job::MAX_PAST => {
            let (count, most) = (failure.workers.len(), Job::MAX_PAST);
            let detail = format!("{count} workers are too many: {most} is the most");
            return Err(Problem::new(ErrorCode::TooLong, detail).at("/failure/workers").into());
        }
        Outcome::Failed { .. } | Outcome::Cancelled => return Ok(()),
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
            return Err(Problem::new(ErrorCode::InvalidName, detail).at(place).into());
        }
        let size = app.files.artifact_size(op.job, op.token, &artifact.name).await?;
        if size != Some(artifact.size) {
            let detail = match size {
                None => format!("{:?} was not stored by this attempt", artifact.name),
                Some(size) => format!("{:?} was stored with {size} bytes", artifact.name),
            };
            return Err(Problem::new(ErrorCode::ArtifactMissing, detail).at(place).into());
        }
    }
    Ok(())
}

fn check_text(artifact: &Artifact) -> Result<(), Problem> {
    check_file_name(&artifact.name).map_err(|problem| problem.at("/name"))?;
    artifact.sha256.parse::<Sha256Hex>().map_err(|problem| problem.at("/sha256"))?;
    let fine = |text: &str| text.len() <= MAX_LABEL && !text.chars().any(char::is_control);
    if !fine(&artifact.media_type) || !artifact.media_type.is_ascii() {
        let detail = "expected a media type such as image/png";
        return Err(Problem::new(ErrorCode::WrongType, detail).at("/media_type"));
    }
    if !artifact.node.as_deref().is_none_or(fine) {
        let detail = format!("expected at most {MAX_LABEL} bytes without control characters");
        return Err(Problem::new(ErrorCode::TooLong, detail).at("/node"));
    }
    Ok(())
}
