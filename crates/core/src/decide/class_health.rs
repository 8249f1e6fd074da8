//! What becomes of a job says something about its class.

use crate::{
    event::EventName,
    failure::FailureKind,
    record::{Job, JobState},
    time::Timestamp,
};

/// What a change of a job says about its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassHealth {
    /// It can be run: whatever of it was lost in a row before.
    Proven,
    /// An attempt was lost in a way that speaks against it.
    Lost { claimed: Timestamp, lost: Timestamp },
}

/// Losses in a row speak against a class; a completion speaks for it.
pub fn class_health(name: EventName, job: &Job) -> Option<ClassHealth> {
    let is_loss = match (name, &job.state) {
        (EventName::JobCompleted, _) => return Some(ClassHealth::Proven),
        (EventName::JobReturned, _) => true,
        (_, JobState::Failed(_, failure)) => failure.kind == FailureKind::Lost,
        _ => false,
    };
    let past = job.past.last().filter(|_| is_loss && job.last_loss_is_suspicious())?;
    Some(ClassHealth::Lost { claimed: past.assigned_at, lost: past.ended_at })
}
