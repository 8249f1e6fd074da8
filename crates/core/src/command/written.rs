//! How a worker's operations are read. They are flat: the fields of each kind stand beside `op`, and
//! those of each outcome beside `outcome`. So that a mistake has its place, and a field that does
//! not belong there is refused like one that nobody knows, all of them are read as one struct.

use serde::Deserialize;
use serde_json::Value;

use super::{AttemptOp, Finish, Op, Outcome};
use crate::{
    failure::{Failure, LossReason},
    ids::{JobId, Token},
    record::{Artifact, Progress},
};

/// The fields of every kind of operation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenOp {
    job: JobId,
    attempt: u32,
    token: Token,
    op: OpKind,
    started: Option<bool>,
    reason: Option<LossReason>,
    message: Option<String>,
    outcome: Option<OutcomeKind>,
    artifacts: Option<Vec<Artifact>>,
    cached: Option<bool>,
    result: Option<Value>,
    failure: Option<Failure>,
    last_progress: Option<Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OpKind {
    Start,
    Finish,
    Release,
    Late,
    Reclaim,
}

/// Which outcome an attempt had.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    Completed,
    Failed,
    Cancelled,
}

/// The fields of every outcome.
#[derive(Default)]
pub struct WrittenFinish {
    pub outcome: Option<OutcomeKind>,
    pub artifacts: Option<Vec<Artifact>>,
    pub cached: Option<bool>,
    pub result: Option<Value>,
    pub failure: Option<Failure>,
    pub last_progress: Option<Progress>,
}

/// A field that is missing, or stands where it does not belong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error("missing field `{0}`")]
    Missing(&'static str),
    #[error("unknown field `{field}`: it does not go with `{kind}`")]
    NotOfKind { field: &'static str, kind: &'static str },
}

fn need<T>(field: Option<T>, name: &'static str) -> Result<T, FieldError> {
    field.ok_or(FieldError::Missing(name))
}

/// The first of these fields that is there does not belong to the kind.
fn none_of(kind: &'static str, fields: &[(&'static str, bool)]) -> Result<(), FieldError> {
    match fields.iter().find(|(_, is_there)| *is_there) {
        Some((field, _)) => Err(FieldError::NotOfKind { field, kind }),
        None => Ok(()),
    }
}

impl TryFrom<WrittenOp> for AttemptOp {
    type Error = FieldError;

    fn try_from(written: WrittenOp) -> Result<Self, FieldError> {
        let WrittenOp { job, attempt, token, op: kind, started, reason, message, .. } = written;
        let WrittenOp { outcome, artifacts, cached, result, failure, last_progress, .. } = written;
        let finish = WrittenFinish { outcome, artifacts, cached, result, failure, last_progress };
        let name = kind.name();
        if kind != OpKind::Reclaim {
            none_of(name, &[("started", started.is_some())])?;
        }
        if kind != OpKind::Release {
            none_of(name, &[("reason", reason.is_some()), ("message", message.is_some())])?;
        }
        if !matches!(kind, OpKind::Finish | OpKind::Late) {
            none_of(name, &finish.fields())?;
        }
        let op = match kind {
            OpKind::Start => Op::Start,
            OpKind::Finish => Op::Finish(finish.try_into()?),
            OpKind::Late => Op::Late(finish.try_into()?),
            OpKind::Release => Op::Release {
                reason: need(reason, "reason")?,
                message: message.unwrap_or_default(),
            },
            OpKind::Reclaim => Op::Reclaim { started: need(started, "started")? },
        };
        Ok(Self { job, attempt, token, op })
    }
}

impl OpKind {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Finish => "finish",
            Self::Release => "release",
            Self::Late => "late",
            Self::Reclaim => "reclaim",
        }
    }
}

impl WrittenFinish {
    /// Its fields, and which are there.
    fn fields(&self) -> [(&'static str, bool); 6] {
        [
            ("outcome", self.outcome.is_some()),
            ("artifacts", self.artifacts.is_some()),
            ("cached", self.cached.is_some()),
            ("result", self.result.is_some()),
            ("failure", self.failure.is_some()),
            ("last_progress", self.last_progress.is_some()),
        ]
    }
}

impl TryFrom<WrittenFinish> for Finish {
    type Error = FieldError;

    fn try_from(written: WrittenFinish) -> Result<Self, FieldError> {
        let [_, artifacts, cached, result, failure, _] = written.fields();
        let outcome = match need(written.outcome, "outcome")? {
            OutcomeKind::Completed => {
                none_of("completed", &[failure])?;
                Outcome::Completed {
                    artifacts: written.artifacts.unwrap_or_default(),
                    cached: written.cached.unwrap_or_default(),
                    result: written.result,
                }
            }
            OutcomeKind::Failed => {
                none_of("failed", &[artifacts, cached, result])?;
                Outcome::Failed { failure: need(written.failure, "failure")? }
            }
            OutcomeKind::Cancelled => {
                none_of("cancelled", &[artifacts, cached, result, failure])?;
                Outcome::Cancelled
            }
        };
        Ok(Self { outcome, last_progress: written.last_progress })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::failure::FailureKind;

    fn held() -> (JobId, Token) {
        (JobId::from_uuid(Uuid::from_u128(1)), Token::from_uuid(Uuid::from_u128(2)))
    }

    fn read(said: Value) -> Result<AttemptOp, String> {
        let (job, token) = held();
        let mut op = json!({"job": job, "attempt": 1, "token": token});
        op.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        serde_json::from_value(op).map_err(|error| error.to_string())
    }

    #[test]
    fn every_operation_is_read_as_it_is_written() {
        let failure = Failure::new(FailureKind::BadJob, "boom", "boom");
        let result = Some(json!({"ok": [null]}));
        let progress = Some(Progress { n: 7, ..Progress::default() });
        let finish = |outcome, last_progress| Finish { outcome, last_progress };
        let completed = Outcome::Completed { artifacts: Vec::new(), cached: true, result };
        for op in [
            Op::Start,
            Op::Release { reason: LossReason::Drained, message: "leaving".into() },
            Op::Reclaim { started: false },
            Op::Late(finish(completed.clone(), None)),
            Op::Finish(finish(completed, progress)),
            Op::Finish(finish(Outcome::Failed { failure }, None)),
            Op::Finish(finish(Outcome::Cancelled, None)),
        ] {
            let (job, token) = held();
            let op = AttemptOp { job, attempt: 1, token, op };
            let text = serde_json::to_string(&op).unwrap();
            assert_eq!(serde_json::from_str::<AttemptOp>(&text).unwrap(), op, "{text}");
        }
    }

    #[test]
    fn what_does_not_belong_to_an_operation_is_refused() {
        for (said, why) in [
            (json!({"op": "start", "reason": "drained"}), "unknown field `reason`"),
            (json!({"op": "start", "outcome": "completed"}), "unknown field `outcome`"),
            (json!({"op": "finish"}), "missing field `outcome`"),
            (json!({"op": "finish", "outcome": "failed"}), "missing field `failure`"),
            (
                json!({"op": "finish", "outcome": "cancelled", "cached": true}),
                "unknown field `cached`",
            ),
            (
                json!({"op": "late", "outcome": "completed", "started": true}),
                "unknown field `started`",
            ),
            (
                json!({"op": "finish", "outcome": "completed", "artefacts": []}),
                "unknown field `artefacts`",
            ),
            (json!({"op": "release"}), "missing field `reason`"),
            (json!({"op": "reclaim"}), "missing field `started`"),
        ] {
            let refused = read(said.clone()).unwrap_err();
            assert!(refused.starts_with(why), "{said}: {refused}");
        }
    }
}
