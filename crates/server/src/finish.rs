//! What is checked of an attempt's ending before the store sees it: that the files it lists are
//! there, under names and with figures that may stand in a record.

use pointsman_api::{ErrorCode, Problem, Sha256Hex, check_file_name};
use pointsman_core::{
    command::{AttemptOp, Finish, Op, Outcome},
    record::Artifact,
};

use crate::{
    app::App,
    refusal::{Answer, Refusal},
};

/// Artifacts of one job at most: they stand in its record.
const MAX_ARTIFACTS: usize = 1_000;
/// Bytes of a media type and of a node's id at most.
const MAX_TEXT: usize = 200;

/// Operations that may go to the store, and the others' problems in the order of all.
pub(crate) struct Checked {
    pub ops: Vec<AttemptOp>,
    /// For each operation that was given: why it was refused, or nothing.
    pub refused: Vec<Option<Problem>>,
}

pub(crate) async fn check_ops(app: &App, given: Vec<AttemptOp>) -> Answer<Checked> {
    let mut ops = Vec::with_capacity(given.len());
    let mut refused = Vec::with_capacity(given.len());
    for (index, op) in given.into_iter().enumerate() {
        match check(app, &op).await {
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

async fn check(app: &App, op: &AttemptOp) -> Answer<()> {
    let (Op::Finish(Finish { outcome, .. }) | Op::Late(Finish { outcome, .. })) = &op.op else {
        return Ok(());
    };
    let Outcome::Completed { artifacts, .. } = outcome else { return Ok(()) };
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
    let fine = |text: &str| text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
    if !fine(&artifact.media_type) || !artifact.media_type.is_ascii() {
        let detail = "expected a media type such as image/png";
        return Err(Problem::new(ErrorCode::WrongType, detail).at("/media_type"));
    }
    if !artifact.node.as_deref().is_none_or(fine) {
        let detail = format!("expected at most {MAX_TEXT} bytes without control characters");
        return Err(Problem::new(ErrorCode::TooLong, detail).at("/node"));
    }
    Ok(())
}
